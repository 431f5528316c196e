"""Engines that run with torch, for `bench_engines.serve`: PyTorch by transformers, and OpenVINO by optimum-intel.

Both generate by transformers' own loop; a stopping criterion, which that asks after each token, reads the clock.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from bench_engines import ENGINES, PROPERTIES, THREADS

__all__ = ["Optimum", "Transformers"]


class Transformers:
    """transformers with PyTorch on the CPU, in float32."""

    imports: tuple[str, ...] = ("torch", "transformers")

    def __init__(self, path: str) -> None:
        self._torch: Any = import_module("torch")
        self._torch.set_num_threads(THREADS)
        self._model: Any = self._load(path)

    def _load(self, path: str) -> Any:
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
                min_new_tokens=tokens,
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
    """optimum-intel on the CPU, as it is, but for what all engines on OpenVINO get."""

    imports = ("torch", "optimum.intel")

    def _load(self, path: str) -> Any:
        kind = import_module("optimum.intel").OVModelForCausalLM
        return kind.from_pretrained(
            path, device="CPU", ov_config={name: str(value) for name, value in PROPERTIES.items()}
        )


ENGINES.update(transformers=Transformers, optimum=Optimum)
