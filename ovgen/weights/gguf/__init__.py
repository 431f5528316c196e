"""Models in GGUF, the format of llama.cpp, as Hugging Face's configuration and tensors.

The reader is our own. The ``gguf`` package, with which our tests compare, reads versions 2 and 3 only, makes several
objects for every string of a vocabulary (a hundred times our time), and believes every length: an array that claims
2^61 numbers keeps it busy for ever. OpenVINO's GGUF front end refuses version 1 as well, and gives a graph of ggml's
operations: a batch of one, cache and mask as inputs, outputs without names, no tokenizer. Tensors by Hugging Face's
names lead to the graph that every form of running, every pass and every compression knows already.
"""

from ovgen.weights.gguf.config import gguf_config
from ovgen.weights.gguf.file import GGUF, gguf_files, read_gguf
from ovgen.weights.gguf.tensors import gguf_checkpoint

__all__ = ["GGUF", "gguf_checkpoint", "gguf_config", "gguf_files", "read_gguf"]
