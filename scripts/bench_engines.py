"""Engines side by side, each in a process of its own that computes when it is told to and otherwise sleeps.

`Worker` is the near end of such a process, `serve` the far one. A line of JSON goes in, and one comes out:

- ``{"do": "generate", "prompts": [[1, 2], ...], "tokens": 8}``: greedy, prompts of one length in a batch.
  Answer: seconds to the first token (of all prompts), and from there to the last one, ``{"first": ..., "rest": ...}``,
  and the tokens, ``"ids"``.
- ``{"do": "step", "tokens": 4, "past": 64}``: so many tokens in one pass, seconds; `Ovgen` only.
- ``{"do": "read"}``: bytes a second that are read from memory; `Memory` only.

Every answer says also what the process has taken: ``load`` (seconds), ``peak`` (bytes of memory), and ``idle`` (how
much of a core it kept busy while it waited for the request).

The far end runs in the Python of an engine, which may have nothing of ovgen. An engine has ``imports``, what it needs;
``prepare(path)`` where more is imported when it is first used; and is made with a path and a device.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

__all__ = ["ENGINES", "MOST_IDLE", "THREADS", "Worker", "WorkerError", "in_turns", "properties", "serve"]

THREADS = int(os.environ.get("BENCH_THREADS") or os.cpu_count() or 1)
"""That every engine computes with."""

MOST_IDLE = 0.05
"""Of a core, on average, that an engine may keep busy when it has nothing to do."""

_Name = TypeVar("_Name")
_PATIENCE = 900.0  # seconds for an answer; drivers have been seen to hang
_PAUSE = 0.05  # seconds before a turn, for threads of the one before that wait in a loop for a while


def properties(device: str) -> dict[str, Any]:
    """What every engine on OpenVINO gets: the threads, and with ``BENCH_EXACT`` float32 throughout.

    Devices other than the CPU are left as they are.
    """
    if device != "CPU":
        return {}
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    return {"INFERENCE_NUM_THREADS": THREADS} | (exact if os.environ.get("BENCH_EXACT") else {})


class WorkerError(Exception):
    """An engine cannot be had, or has ended; the message is the last that it said."""


class Worker:
    """A process that serves an engine.

    Args:
        command: what starts it; it comes to `serve`.
        log: file for what it says on stderr.
        environment: variables that it has besides ours.

    Raises:
        WorkerError: it cannot be started, or the engine cannot be loaded.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._log = log
        try:
            with log.open("w") as stderr:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    env={**os.environ, **environment},
                )
        except OSError as error:
            raise WorkerError(str(error)) from error
        self._answer()  # when it has been loaded

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """One piece of work, done.

        Raises:
            WorkerError: the process has ended.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; what it said last tells why
            self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process, and wait until its memory is free."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # something was left to be written
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        limit = Timer(_PATIENCE, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        hung = not limit.is_alive()
        limit.cancel()
        if not line:
            self.close()
            if hung:
                raise WorkerError(f"it gave no answer within {_PATIENCE:g} s (more in {self._log})")
            said = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise WorkerError(f"{said[-1]} (exit status {self._process.returncode}; more in {self._log})")
        answer: dict[str, Any] = json.loads(line)
        return answer


def in_turns(names: Iterable[_Name], number: int) -> Iterator[_Name]:
    """The names in the order of a round, another one first each time, each after a pause."""
    order = list(names)
    first = number % len(order) if order else 0
    for name in order[first:] + order[:first]:
        time.sleep(_PAUSE)
        yield name


def serve(engine: str, path: str, device: str = "CPU") -> None:
    """Load an engine of `ENGINES` with a model, and do what comes in by stdin until that ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    served = ENGINES[engine]
    for name in served.imports:
        import_module(name)  # is not counted as loading
    if hasattr(served, "prepare"):
        served.prepare(path)
    begin = time.perf_counter()
    loaded: Any = served(path, device)
    state = {"load": time.perf_counter() - begin, "idle": 0.0}
    answer: dict[str, Any] = {}
    while True:
        answers.write(json.dumps({**answer, **state, "peak": _peak_bytes()}) + "\n")
        answers.flush()
        wall, busy = time.perf_counter(), time.process_time()
        line = sys.stdin.readline()
        state["idle"] = (time.process_time() - busy) / (time.perf_counter() - wall)
        if not line:
            return
        request = json.loads(line)
        answer = getattr(loaded, request.pop("do"))(**request)


class Ovgen:
    """ovgen with native kernels, and with OpenVINO's own (`OvgenPlugin`)."""

    imports = ("ovgen.llm",)
    kernels = "require"

    def __init__(self, path: str, device: str) -> None:
        self._llm: Any = import_module("ovgen").LLM(
            path,
            device=device,
            kernels=self.kernels,
            enable_prefix_caching=False,
            device_config=properties(device),
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See the module."""
        begin = time.perf_counter()
        outputs = self._llm.generate(prompts, max_new_tokens=tokens, temperature=0, ignore_eos=True)
        runner = self._llm.engine.runner
        if runner.form == "paged":
            runner.settle()  # what it compiles in the background must not disturb the next
        first = max(output.metrics.first_token for output in outputs)
        last = max(output.metrics.last_token for output in outputs)
        return {"first": first - begin, "rest": last - first, "ids": [list(output.token_ids) for output in outputs]}

    def step(self, tokens: int, past: int, repeat: int = 8) -> dict[str, Any]:
        """The runner's time alone, the median of some steps."""
        chunk_of = import_module("ovgen.runtime.runner").Chunk
        runner, sequence = self._llm.engine.runner, -1
        self.generate([[7] * past], tokens + 1)  # the engine makes room for that many tokens
        blocks = range(-(-(past + tokens) // runner.block_size))
        seconds = []
        for count, before, rows in [(past, 0, 0)] + (repeat + 1) * [(tokens, past, tokens)]:
            runner.settle()
            runner.trim(sequence, before)
            begin = time.perf_counter()
            runner.start([chunk_of(sequence, [7] * count, before, blocks, rows)])
            runner.wait()
            seconds.append(time.perf_counter() - begin)
        runner.release(sequence)
        return {"step": statistics.median(seconds[2:])}


class OvgenPlugin(Ovgen):
    """ovgen with OpenVINO's own kernels."""

    kernels = "off"


class OvgenAuto(Ovgen):
    """ovgen as it is without any options but for prefix caching, as prompts come twice."""

    kernels = "auto"


class GenAI:
    """openvino.genai as it is without any options but for the number of threads; times are those that it gives."""

    imports = ("openvino_genai",)

    def __init__(self, path: str, device: str) -> None:
        self._genai: Any = import_module("openvino_genai")
        self._tensor: Any = import_module("openvino").Tensor
        self._pipeline = self._genai.LLMPipeline(path, device, **properties(device))

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See the module."""
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = tokens, False, True
        ids = np.array(prompts, np.int64)
        inputs = self._genai.TokenizedInputs(self._tensor(ids), self._tensor(np.ones_like(ids)))
        results = self._pipeline.generate(inputs, config)
        metrics = results.perf_metrics
        times = metrics.raw_metrics.m_new_token_times  # of the steps, ms
        assert len(times) == tokens
        made = [list(tokens) for tokens in results.tokens]
        return {"first": metrics.get_ttft().mean / 1000, "rest": (times[-1] - times[0]) / 1000, "ids": made}


class LlamaCpp:
    """llama.cpp through the functions of its C interface; the likeliest token is found by numpy."""

    imports = ("llama_cpp",)
    _context: Any = None
    _batch: Any = None

    def __init__(self, path: str, device: str) -> None:
        self._lib: Any = import_module("llama_cpp")
        self._lib.llama_backend_init()
        self._model = self._lib.llama_model_load_from_file(path.encode(), self._lib.llama_model_default_params())
        assert self._model, "llama.cpp does not take the model"
        self._vocab_size = self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(self._model))
        self._sizes = (0, 0, 0)
        self._make_room(1, 512, 1024)

    def _make_room(self, rows: int, batch: int, length: int) -> None:
        """A context for so many sequences, tokens in a step, and tokens over all sequences."""
        if all(wanted <= there for wanted, there in zip((rows, batch, length), self._sizes, strict=True)):
            return
        if self._context:
            self._lib.llama_batch_free(self._batch)
            self._lib.llama_free(self._context)
        options = self._lib.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.kv_unified = length, rows, True
        options.n_batch, options.n_ubatch = batch, 512
        options.n_threads = options.n_threads_batch = THREADS
        self._context = self._lib.llama_init_from_model(self._model, options)
        assert self._context, "llama.cpp makes no context"
        self._batch = self._lib.llama_batch_init(batch, 0, 1)
        self._sizes = (rows, batch, length)

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See the module."""
        rows, length = len(prompts), len(prompts[0])
        self._make_room(rows, rows * length, rows * (length + tokens))
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        begin = time.perf_counter()
        fresh, past = prompts, 0
        made: list[list[int]] = [[] for _ in prompts]
        for number in range(tokens):
            likeliest = self._step(fresh, past)
            for ids, token in zip(made, likeliest, strict=True):
                ids.append(token)
            past += len(fresh[0])
            fresh = [[token] for token in likeliest]
            if not number:
                first = time.perf_counter()
        return {"first": first - begin, "rest": time.perf_counter() - first, "ids": made}

    def _step(self, fresh: list[list[int]], past: int) -> list[int]:
        """Compute new tokens of all sequences, equally many; the likeliest token of each."""
        batch, count = self._batch, 0
        for sequence, tokens in enumerate(fresh):
            for index, token in enumerate(tokens):
                batch.token[count], batch.pos[count] = token, past + index
                batch.n_seq_id[count], batch.seq_id[count][0] = 1, sequence
                batch.logits[count] = index == len(tokens) - 1
                count += 1
        batch.n_tokens = count
        assert self._lib.llama_decode(self._context, batch) == 0, "llama.cpp could not compute"
        logits = self._lib.llama_get_logits(self._context)
        shape = (len(fresh), self._vocab_size)
        return [int(token) for token in np.ctypeslib.as_array(logits, shape).argmax(-1)]


class Memory:
    """The machine's memory: how fast all cores read it when they do nothing else."""

    imports = ("ovgen.machine",)

    def __init__(self, path: str, device: str) -> None:
        self._bandwidth: Any = import_module("ovgen.machine").bandwidth

    def read(self) -> dict[str, Any]:
        """Bytes a second."""
        return {"bandwidth": self._bandwidth(THREADS)}


ENGINES: dict[str, Any] = {
    "ovgen": OvgenAuto,
    "native": Ovgen,
    "plugin": OvgenPlugin,
    "genai": GenAI,
    "llamacpp": LlamaCpp,
    "memory": Memory,
}
"""What can be served, by name."""


def _peak_bytes() -> int:
    """Most memory that the process has had; 0 if unknown. (``getrusage`` would count its parent's, too.)"""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
