"""One file per rewriting of the causal LM form; each works in place on the model it is given."""

from ovgen.graph.passes.compress import compress_model, compressed_size
from ovgen.graph.passes.paged import to_paged
from ovgen.graph.passes.rows import ROWS_INPUT, select_rows
from ovgen.graph.passes.stateful import to_stateful

__all__ = ["ROWS_INPUT", "compress_model", "compressed_size", "select_rows", "to_paged", "to_stateful"]
