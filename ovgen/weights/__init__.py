"""Checkpoints read into numpy, tensor by tensor."""

from ovgen.weights.checkpoint import Checkpoint, open_checkpoint
from ovgen.weights.compressed import Compressed
from ovgen.weights.json_file import read_json
from ovgen.weights.weight import Weight

__all__ = ["Checkpoint", "Compressed", "Weight", "open_checkpoint", "read_json"]
