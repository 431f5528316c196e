"""The only place that compiles and infers."""
