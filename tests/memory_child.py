"""What a fresh process needs in memory, as JSON; run by ``tests.test_memory``.

``python -m tests.memory_child growth MODEL '{"form": "static"}' stream``
``python -m tests.memory_child peak MODEL '{"kernels": "require"}'``
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import ovgen

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
PROMPT = [3, 7, 11]
WARM_UP, STRETCH = 1000, 400  # steps
ENDLESS: dict[str, Any] = {"max_new_tokens": 1 << 20, "ignore_eos": True, "context_shift": 32}
TOGETHER: list[dict[str, Any]] = [{"n": 2, "temperature": 1.0, "seed": 1}, {"num_beams": 3}]


def stream(llm: ovgen.LLM) -> Iterator[object]:
    """One request whose text outgrows the context many times."""
    return llm.stream(PROMPT, temperature=1.0, seed=1, **ENDLESS)


def session(llm: ovgen.LLM) -> Iterator[object]:
    """Single tokens through a session, rewound where the context ends."""
    with llm.session() as ours:
        ours.forward(PROMPT)
        while True:
            if len(ours) == 200:
                ours.trim(len(PROMPT))
            yield ours.forward([len(ours) % 50])


def together(llm: ovgen.LLM) -> Iterator[object]:
    """Requests that come and go: two texts of a prompt beside a beam search."""
    from ovgen.engine.group import Group

    while True:
        groups = [
            Group(llm.engine, llm.request(PROMPT, max_new_tokens=60, ignore_eos=True, **kind)) for kind in TOGETHER
        ]
        for group in groups:
            group.submit()
        while not all(group.done for group in groups):
            llm.engine.step()
            yield None


def leaking_python(llm: ovgen.LLM) -> Iterator[object]:
    """`stream`, and an object of 1 kB that is kept at each step."""
    held = []
    for piece in stream(llm):
        held.append(bytes(1000))
        yield piece


def leaking_native(llm: ovgen.LLM) -> Iterator[object]:
    """`stream`, and 1 kB that is allocated at each step, written to and lost, unseen by Python."""
    for piece in stream(llm):
        ctypes.memset(LIBC.malloc(1000), 1, 1000)
        yield piece


LOADS: dict[str, Callable[[ovgen.LLM], Iterator[object]]] = {
    load.__name__: load for load in (stream, session, together, leaking_python, leaking_native)
}


def growth(llm: ovgen.LLM, load: str) -> dict[str, float]:
    """Bytes by which a step makes Python's objects, and the process without its KV cache, larger.

    The median of five stretches: what leaks does so in each, a thread that comes to its memory late in one.
    """
    tracemalloc.start()
    steps = LOADS[load](llm)

    def sizes_after(count: int) -> tuple[int, int]:
        assert sum(1 for _ in islice(steps, count)) == count
        gc.collect()
        LIBC.malloc_trim(0)  # freed memory that a leak could hide in
        return tracemalloc.get_traced_memory()[0], in_memory("VmRSS") - llm.engine.runner.cache_bytes

    sizes = [sizes_after(WARM_UP), *(sizes_after(STRETCH) for _ in range(5))]
    python, process = (median(b - a for a, b in pairwise(column)) / STRETCH for column in zip(*sizes, strict=True))
    return {"python": python, "process": process}


def peak(folder: Path, options: dict[str, Any]) -> dict[str, int]:
    """Bytes of the process with OpenVINO imported, the most when the model is loaded, and when it has generated."""
    load_model = ovgen.LLM  # which imports OpenVINO
    imported = in_memory("VmRSS")
    llm = load_model(folder, **options)
    loaded = in_memory("VmHWM")
    llm.generate(PROMPT * 20, max_new_tokens=64, ignore_eos=True)
    return {
        "imported": imported,
        "loaded": loaded,
        "generated": in_memory("VmHWM"),
        "cache": llm.engine.runner.cache_bytes,
        "weights": (llm.path / "openvino_model.bin").stat().st_size,
    }


def in_memory(field: str) -> int:
    """Bytes of the process: ``VmRSS``, those it has in memory, or ``VmHWM``, the most that it ever had.

    (``getrusage`` would count what its parent had before it, too.)
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    _, _what, _folder, _options, *_load = sys.argv
    if _what == "growth":
        print(json.dumps(growth(ovgen.LLM(_folder, **json.loads(_options)), *_load)))
    else:
        print(json.dumps(peak(Path(_folder), json.loads(_options))))
