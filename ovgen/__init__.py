"""Text generation straight on OpenVINO Runtime."""
