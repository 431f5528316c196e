"""Building and rewriting ``ov.Model``; nothing here compiles."""

from ovgen.graph.build import build_model, estimate_size
from ovgen.graph.hf_config import read_config
from ovgen.graph.ir import IR_WEIGHTS, IR_XML, read_ir
from ovgen.graph.save import COMPANIONS, check_destination, save_ir
from ovgen.graph.staging import remove_leftovers

__all__ = [
    "COMPANIONS",
    "IR_WEIGHTS",
    "IR_XML",
    "build_model",
    "check_destination",
    "estimate_size",
    "read_config",
    "read_ir",
    "remove_leftovers",
    "save_ir",
]
