"""What a machine is and allows, and what this process has taken of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino as ov

from ovgen.llm import LLM

__all__ = ["Limits", "bandwidth", "limits", "machine", "multiplied", "peak_bytes"]

_READ = 256 << 20  # bytes, far more than any cache
_SQUARE = 2048  # rows of the matrices that are multiplied
_BETWEEN = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose", "Unsqueeze")  # a weight and what takes it


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine allows a CPU; measured by numpy, whose reading reaches some nine tenths of what is possible.

    Attributes:
        bandwidth: bytes a second that all cores together read from memory.
        flops: operations a second of a multiplication of float32 matrices.
        weight_bytes: that a step of any number of tokens reads.
        parameters: numbers in the matrices that a token is multiplied with.
        head: those of them in the head, which tokens of a prompt but the last do not reach.
        cache_bytes: that each cached token adds to a step.
    """

    bandwidth: float
    flops: float
    weight_bytes: int
    parameters: int
    head: int
    cache_bytes: int

    def seconds(self, tokens: float) -> float:
        """What a step takes at least, with so many tokens cached altogether."""
        return (self.weight_bytes + tokens * self.cache_bytes) / self.bandwidth


def limits(llm: LLM) -> Limits:
    """What a CPU's memory and arithmetic allow, measured now.

    Raises:
        ModelError: the model's files have changed since it was loaded.
    """
    runner = llm.engine.runner
    weights, parameters, head = multiplied(llm.model, runner.vocab_size)
    return Limits(bandwidth(), _flops(), weights, parameters, head, runner.bytes_per_block // runner.block_size)


def multiplied(model: ov.Model, vocab_size: int) -> tuple[int, int, int]:
    """Bytes of what MatMuls take as weights, how many numbers these are, and how many of them the head's."""
    found: dict[str, ov.Node] = {}
    numbers = head = 0
    for node in model.get_ops():
        if node.get_type_name() == "MatMul":
            constants = _constants(node.input_value(1).get_node())
            if constants:
                shapes = [constant.get_output_shape(0) for constant in constants]
                size = max(int(np.prod(shape)) for shape in shapes)
                numbers += size
                head += size if any(vocab_size in shape for shape in shapes) else 0
                found |= {constant.get_friendly_name(): constant for constant in constants}
    return sum(constant.get_byte_size() for constant in found.values()), numbers, head


def _constants(node: ov.Node) -> list[ov.Node]:
    """What a weight is made of: itself, or codes, scales and zero points; empty if it is none."""
    if node.get_type_name() == "Constant":
        return [node]
    if node.get_type_name() not in _BETWEEN:
        return []
    parts = [_constants(value.get_node()) for value in node.input_values()]
    return [constant for part in parts for constant in part] if all(parts) else []


def bandwidth(threads: int | None = None) -> float:
    """Bytes a second that so many threads read from memory, by default one for each core.

    The best of some times, since whatever disturbs only slows.
    """
    count = threads or os.cpu_count() or 1
    memory = np.ones(_READ // 4, np.int32)
    parts = np.array_split(memory, count)
    with ThreadPoolExecutor(count) as pool:

        def read() -> None:
            list(pool.map(np.max, parts))

        return memory.nbytes / _best(read)


def _flops() -> float:
    """Operations a second of numpy's multiplication of float32 matrices."""
    left = np.ones((_SQUARE, _SQUARE), np.float32)
    return float(2 * _SQUARE**3 / _best(lambda: left @ left))


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def peak_bytes() -> int | None:
    """Most memory that this process has had. (``getrusage`` would count what its parent had before it, too.)"""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def machine() -> dict[str, str]:
    """Versions and the system, by name."""
    versions = {name: version(name) for name in ("ovgen", "openvino", "numpy")}
    return {
        "system": platform.platform(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **versions,
    }
