"""Building and rewriting ``ov.Model``; nothing here compiles."""

from ovgen.graph.build import build_model
from ovgen.graph.hf_config import read_config
from ovgen.graph.ir import read_ir
from ovgen.graph.save import save_ir

__all__ = ["build_model", "read_config", "read_ir", "save_ir"]
