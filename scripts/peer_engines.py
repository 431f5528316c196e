"""Engines for `bench_engines.serve` that only the comparison with others has, each behind its own packages.

PyTorch and optimum-intel generate by transformers' own loop; a stopping criterion, which that asks after each token,
reads the clock. ONNX Runtime gets the loop that one would write for it: the cache stays in its own memory, and numpy
finds the likeliest token. On a GPU it is asked for DirectML.
"""

from __future__ import annotations

import json
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from bench_engines import ENGINES, THREADS, properties

__all__ = ["CTranslate2", "OnnxGenAI", "OnnxRuntime", "Optimum", "Transformers"]


class Transformers:
    """transformers with PyTorch on the CPU, in float32."""

    imports: tuple[str, ...] = ("torch", "transformers")

    def __init__(self, path: str, device: str) -> None:
        self._torch: Any = import_module("torch")
        self._torch.set_num_threads(THREADS)
        self._model: Any = self._load(path, device)
        self._model.generation_config.eos_token_id = None  # nothing ends a text

    @staticmethod
    def prepare(path: str) -> None:
        """Make the model without weights, which imports what transformers imports when it is first used."""
        transformers: Any = import_module("transformers")
        config = transformers.AutoConfig.from_pretrained(path)
        with import_module("torch").device("meta"):
            transformers.AutoModelForCausalLM.from_config(config)

    def _load(self, path: str, device: str) -> Any:
        kind = import_module("transformers").AutoModelForCausalLM
        return kind.from_pretrained(path, dtype=self._torch.float32).eval()

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See `bench_engines`."""
        times: list[float] = []

        def clock(ids: Any, scores: Any, **_: Any) -> Any:
            times.append(time.perf_counter())
            return self._torch.zeros(len(prompts), dtype=self._torch.bool)

        ids = self._torch.tensor(prompts)
        criteria = import_module("transformers").StoppingCriteriaList([clock])
        begin = time.perf_counter()
        with self._torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
                stopping_criteria=criteria,
            )
        return {
            "first": times[0] - begin,
            "rest": times[-1] - times[0],
            "ids": out[:, len(prompts[0]) :].tolist(),
        }


class Optimum(Transformers):
    """optimum-intel as it is, but for what all engines on OpenVINO get."""

    imports = ("torch", "optimum.intel")

    @staticmethod
    def prepare(path: str) -> None:
        """Import the class, and what it loads models by."""
        Transformers.prepare(path)
        _ = import_module("optimum.intel").OVModelForCausalLM

    def _load(self, path: str, device: str) -> Any:
        kind = import_module("optimum.intel").OVModelForCausalLM
        options = {name: str(value) for name, value in properties(device).items()}
        return kind.from_pretrained(path, device=device, ov_config=options)


class OnnxRuntime:
    """ONNX Runtime with a graph that optimum-onnx exported."""

    imports = ("onnxruntime",)

    def __init__(self, path: str, device: str) -> None:
        self._ort: Any = import_module("onnxruntime")
        provider, self._memory = ("DmlExecutionProvider", "dml") if device == "GPU" else ("CPUExecutionProvider", "cpu")
        if provider not in self._ort.get_available_providers():
            raise SystemExit(f"onnxruntime has no {provider}: pip install onnxruntime-directml, on Windows")
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        self._session = self._ort.InferenceSession(f"{path}/model.onnx", options, providers=[provider])
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        self._positions = "position_ids" in shapes
        self._past = {name: shape for name, shape in shapes.items() if name.startswith("past_key_values.")}

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See `bench_engines`."""
        rows = len(prompts)
        cache = {name: np.zeros((rows, heads, 0, size), np.float32) for name, (_, heads, _, size) in self._past.items()}
        values: dict[str, Any] = {
            name: self._ort.OrtValue.ortvalue_from_numpy(empty, self._memory) for name, empty in cache.items()
        }
        made = np.empty((rows, tokens), np.int64)
        fresh, past = np.array(prompts, np.int64), 0
        begin = time.perf_counter()
        for number in range(tokens):
            made[:, number], values = self._step(fresh, past, values)
            past += fresh.shape[1]
            fresh = made[:, number : number + 1]
            if not number:
                first = time.perf_counter()
        return {"first": first - begin, "rest": time.perf_counter() - first, "ids": made.tolist()}

    def _step(self, fresh: Any, past: int, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Compute new tokens of all sequences, equally many; the likeliest token of each, and the cache."""
        rows, count = fresh.shape
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(fresh))
        binding.bind_cpu_input("attention_mask", np.ones((rows, past + count), np.int64))
        if self._positions:
            binding.bind_cpu_input("position_ids", np.tile(np.arange(past, past + count), (rows, 1)))
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        presents = [name.replace("past_key_values", "present") for name in values]
        for name in presents:
            binding.bind_output(name, self._memory)
        self._session.run_with_iobinding(binding)
        logits, *cache = binding.get_outputs()
        return logits.numpy()[:, -1].argmax(-1), dict(zip(values, cache, strict=True))


class OnnxGenAI:
    """onnxruntime-genai with a folder that its model builder wrote."""

    imports = ("onnxruntime_genai",)

    def __init__(self, path: str, device: str) -> None:
        self._genai: Any = import_module("onnxruntime_genai")
        config = self._genai.Config(path)
        config.clear_providers()  # computes on the CPU
        model = json.loads(Path(path, "genai_config.json").read_text())["model"]
        session = {"intra_op_num_threads": THREADS}
        # A text must have a token that ends it, and that may not come: one that no other engine is likely to choose.
        rare = model["vocab_size"] - 1
        config.overlay(json.dumps({"model": {"eos_token_id": [rare], "decoder": {"session_options": session}}}))
        self._model = self._genai.Model(config)

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See `bench_engines`."""
        length = len(prompts[0]) + tokens
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=length, min_length=length, batch_size=len(prompts), do_sample=False)
        begin = time.perf_counter()
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(np.array(prompts, np.int32))
        made = np.empty((len(prompts), tokens), np.int64)
        for number in range(tokens):
            generator.generate_next_token()
            made[:, number] = generator.get_next_tokens()
            if not number:
                first = time.perf_counter()
        return {"first": first - begin, "rest": time.perf_counter() - first, "ids": made.tolist()}


class CTranslate2:
    """CTranslate2 with a folder that its converter wrote, in which tokens are called by their numbers."""

    imports = ("ctranslate2",)

    def __init__(self, path: str, device: str) -> None:
        kind: Any = import_module("ctranslate2").Generator
        self._generator = kind(path, device="cpu", intra_threads=THREADS)

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """See `bench_engines`."""
        times: list[float] = []

        def clock(step: Any) -> bool:
            times.append(time.perf_counter())
            return False

        begin = time.perf_counter()
        results = self._generator.generate_batch(
            [[str(token) for token in prompt] for prompt in prompts],
            max_batch_size=len(prompts),
            max_length=tokens,
            end_token=[],
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=clock,
        )
        made = [result.sequences_ids[0] for result in results]
        assert all(len(ids) == tokens for ids in made), "a text has ended before"
        first = times[len(prompts) - 1]  # it calls for each text
        return {"first": first - begin, "rest": times[-1] - first, "ids": made}


ENGINES.update(
    transformers=Transformers,
    optimum=Optimum,
    onnxruntime=OnnxRuntime,
    onnxgenai=OnnxGenAI,
    ctranslate2=CTranslate2,
)
