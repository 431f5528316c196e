"""Record what the logits processors of transformers make of small rows of logits.

Needs the packages of ``ovgen[golden]``; the tests read the recording without them:

    python scripts/record_sampling_golden.py tests/golden/sampling.npz

Each case is one row of a request in mid-generation. Options bear the names of ``ovgen.SamplingParams``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]
from transformers import (  # type: ignore[import-not-found,unused-ignore]
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
)

VOCAB = 64
EOS = [1, 2]
PROMPT = [5, 6, 7, 5, 6, 8, 5, 6]
OUTPUT = [9, 5, 6]

# Options of the case, with where the request stands if that matters.
CASES: list[dict[str, Any]] = [
    {"logit_bias": {3: 2.5, 9: -4.0, 63: 100.0}},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 12},
    {"bad_words": [[1], [10], [9, 5, 6, 11], [6, 12], [7, 13], [2, 2]]},
    {"min_new_tokens": 3},
    {"min_new_tokens": 4},
    {"forced_bos_token_id": 4, "prompt": [5], "output": []},
    {"forced_bos_token_id": 4, "prompt": [5], "output": [4]},
    {"forced_eos_token_id": 2, "max_new_tokens": 4},
    {"forced_eos_token_id": 2, "max_new_tokens": 5},
    {"forced_eos_token_id": 2, "max_new_tokens": 4, "min_new_tokens": 4},
    {"suppress_tokens": [0, 30, 63]},
    {"begin_suppress_tokens": [0, 30], "output": []},
    {"begin_suppress_tokens": [0, 30], "output": [9]},
    {"begin_suppress_tokens": [0, 30], "forced_bos_token_id": 4, "prompt": [5], "output": [4]},
    {"suppress_tokens": [0, 30], "processor": "revive"},
    {"repetition_penalty": 1.3, "processor": "double"},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_k": 7},
    {"temperature": 1.0, "top_k": 200},
    {"temperature": 1.0, "top_p": 0.001},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 1.0, "top_p": 0.99},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 1.0, "min_p": 0.01},
    {"temperature": 1.0, "typical_p": 0.2},
    {"temperature": 1.0, "typical_p": 0.9},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8},
    {"temperature": 1.5, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 1.5, "top_p": 0.9, "typical_p": 0.5},
    {"temperature": 0.8, "top_k": 20, "processor": "revive", "suppress_tokens": [0, 1, 2, 3]},
    {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.5, "logit_bias": {5: 3.0, 6: 3.0, 20: -2.0}},
    {
        "temperature": 1.2,
        "top_k": 30,
        "top_p": 0.95,
        "min_p": 0.02,
        "typical_p": 0.9,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "logit_bias": {7: 4.0, 8: 4.0},
        "bad_words": [[6, 12], [33]],
        "min_new_tokens": 9,
        "suppress_tokens": [40, 41],
        "processor": "double",
    },
]


def double(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """A user's processor: twice the logits."""
    return scores * 2


def revive(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """A user's processor: what was suppressed comes back."""
    return torch.where(scores == -torch.inf, 1.5, scores)


PROCESSORS = {"double": double, "revive": revive}


def expected(case: dict[str, Any], logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The scores that ``generate`` would sample from, ``(vocab,)`` float32."""
    prompt, output = case.get("prompt", PROMPT), case.get("output", OUTPUT)
    options = {key: value for key, value in case.items() if key not in ("prompt", "output", "processor")}
    bias = {(token,): value for token, value in options.pop("logit_bias", {}).items()}
    config = GenerationConfig(
        do_sample="temperature" in options,
        top_k=options.pop("top_k", 0),
        sequence_bias=bias or None,
        bad_words_ids=options.pop("bad_words", None),
        max_length=len(prompt) + options.pop("max_new_tokens", 100),
        **options,
    )
    config._eos_token_tensor = torch.tensor(EOS)
    model = SimpleNamespace(
        config=SimpleNamespace(is_encoder_decoder=False),
        _merge_criteria_processor_list=lambda ours, users: LogitsProcessorList([*ours, *users]),
    )
    users = [PROCESSORS[case["processor"]]] if "processor" in case else []
    chain = GenerationMixin._get_logits_processor(
        model, config, input_ids_seq_length=len(prompt), logits_processor=users, device="cpu"
    )
    scores: torch.Tensor = chain(torch.tensor([prompt + output]), torch.from_numpy(logits[None].copy()))
    return np.asarray(scores[0].numpy())


def main() -> None:
    """Run every case on a row without equal logits and on one where many are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the .npz file to write")
    path: Path = parser.parse_args().output
    rng = np.random.default_rng(20)
    cases, rows, results = [], [], []
    for case in CASES:
        smooth = rng.normal(0, 3, VOCAB).astype(np.float32)
        for row in (smooth, np.round(smooth)):
            cases.append({"prompt": PROMPT, "output": OUTPUT, "eos": EOS, **case})
            rows.append(row)
            results.append(expected(case, row))
    np.savez_compressed(path, cases=json.dumps(cases), logits=np.stack(rows), expected=np.stack(results))
    print(f"{len(cases)} cases, {path.stat().st_size} bytes: {path}")


if __name__ == "__main__":
    main()
