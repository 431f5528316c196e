"""Checkpoints read into numpy, tensor by tensor."""

from ovgen.weights.checkpoint import Checkpoint, open_checkpoint
from ovgen.weights.compressed import Compressed
from ovgen.weights.compressing import CompressingCheckpoint, Compressor, Statistics
from ovgen.weights.compression import Compression, Precision, Progress, Scheme
from ovgen.weights.json_file import read_json
from ovgen.weights.lora import Adapter, LowRank, MergedCheckpoint, read_adapter
from ovgen.weights.weight import FLOATS, Weight

__all__ = [
    "FLOATS",
    "Adapter",
    "Checkpoint",
    "Compressed",
    "CompressingCheckpoint",
    "Compression",
    "Compressor",
    "LowRank",
    "MergedCheckpoint",
    "Precision",
    "Progress",
    "Scheme",
    "Statistics",
    "Weight",
    "open_checkpoint",
    "read_adapter",
    "read_json",
]
