"""One file per rewriting of the causal LM form; each works in place on the model it is given."""

from ovgen.graph.passes.compress import compress_model, compressed_size
from ovgen.graph.passes.longrope import settle_longrope
from ovgen.graph.passes.lora import ADAPTERS_INPUT, add_adapters
from ovgen.graph.passes.native import NativeOps, NativeReport, Packed, Projection, to_native
from ovgen.graph.passes.paged import of_tokens, to_paged
from ovgen.graph.passes.rows import ROWS_INPUT, select_rows
from ovgen.graph.passes.stateful import to_stateful
from ovgen.graph.passes.static import StaticShape, mask_name, to_static

__all__ = [
    "ADAPTERS_INPUT",
    "ROWS_INPUT",
    "NativeOps",
    "NativeReport",
    "Packed",
    "Projection",
    "StaticShape",
    "add_adapters",
    "compress_model",
    "compressed_size",
    "mask_name",
    "of_tokens",
    "select_rows",
    "settle_longrope",
    "to_native",
    "to_paged",
    "to_stateful",
    "to_static",
]
