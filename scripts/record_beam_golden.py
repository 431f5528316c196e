"""Record what beam search in transformers finds: over models that are but tables, and over real ones.

Needs the packages of ``ovgen[golden]``; the tests read the recording without them:

    python scripts/record_beam_golden.py tests/golden/beams.json
    PYTHONPATH=OLD python scripts/record_beam_golden.py tests/golden/beams_diverse.json --diverse

Transformers 5 has no diverse groups any more, so those are recorded with release 4.52 (in a folder OLD of its own:
``pip install --target OLD transformers==4.52.4``). They stop early: otherwise 4.52 compares finished texts with the
best of all successors and 5 with the best that go on, which is no matter of groups.
Options bear the names of ``ovgen.SamplingParams``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found,unused-ignore]
import transformers  # type: ignore[import-not-found,unused-ignore]
from transformers import (  # type: ignore[import-not-found,unused-ignore]
    GenerationMixin,
    LlamaConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import (  # type: ignore[import-not-found,unused-ignore]
    CausalLMOutputWithPast,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.sampling.tables import END, PAD, PROMPT, VOCAB, table  # noqa: E402
from tests.tiny_models import make  # noqa: E402

Case = dict[str, Any]

OPTIONS: list[Case] = [
    *(
        {"num_beams": beams, "length_penalty": penalty, "early_stopping": early}
        for beams, penalty, early in itertools.product((2, 3, 4, 8), (0.0, 1.0, 2.0, -1.0), (False, True, "never"))
    ),
    {"num_beams": 4, "min_new_tokens": 5},
    {"num_beams": 4, "repetition_penalty": 1.5},
    {"num_beams": 4, "no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 3, "suppress_tokens": [3, 4, 5]},
    {"num_beams": 3, "forced_eos_token_id": END},
    {"num_beams": 3, "logit_bias": {7: 1.5, 8: -1.5}},
    {"num_beams": 4, "max_new_tokens": 1},
    {"num_beams": 4, "max_new_tokens": 3},
    {"num_beams": 2, "eos_token_id": [END, 9, 11]},
    {"num_beams": 4, "eos_token_id": [END, 9, 11], "early_stopping": True},
    {"num_beams": 8, "eos_token_id": [END, 9, 11], "early_stopping": "never"},
]
DIVERSE: list[Case] = [
    {"num_beams": beams, "num_beam_groups": groups, "diversity_penalty": penalty, "early_stopping": True, **more}
    for beams, groups in ((2, 2), (4, 2), (6, 3), (6, 2), (4, 4))
    for penalty in (0.3, 1.0, 5.0)
    for more in ({}, {"length_penalty": 0.0})
]
STORIES: list[Case] = [
    {"num_beams": 2},
    {"num_beams": 3, "early_stopping": True},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
    {"num_beams": 4, "length_penalty": -1.0},
    {"num_beams": 8, "length_penalty": 0.0},
    {"num_beams": 4, "repetition_penalty": 1.3},
    {"num_beams": 4, "no_repeat_ngram_size": 2, "min_new_tokens": 10},
]
DIVERSE_STORIES: list[Case] = [
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "early_stopping": True},
    {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "early_stopping": True, "no_repeat_ngram_size": 2},
]
STORY = "Once upon a time, there was a little"


class Table(PreTrainedModel, GenerationMixin):  # type: ignore[misc,unused-ignore]
    """A model whose logits stand in a table."""

    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig, seed: int) -> None:
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.table = torch.from_numpy(table(seed))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutputWithPast:
        """Logits of the last position."""
        return CausalLMOutputWithPast(logits=self.table[input_ids[:, -2], input_ids[:, -1]][:, None])

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, attention_mask: Any = None, **_: Any
    ) -> dict[str, Any]:
        """The whole sequence each time."""
        return {"input_ids": input_ids}


def record(model: Any, prompt: list[int], options: Case) -> Case:
    """All texts that ``generate`` finds, without the prompt and what fills them up, and their scores."""
    given = {"max_new_tokens": 12, "eos_token_id": [END], **options}
    theirs = dict(given)
    if bias := theirs.pop("logit_bias", None):
        theirs["sequence_bias"] = {(token,): value for token, value in bias.items()}
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        do_sample=False,
        pad_token_id=PAD,
        num_return_sequences=theirs["num_beams"],
        return_dict_in_generate=True,
        output_scores=True,
        use_cache=not isinstance(model, Table),
        **theirs,
    )
    texts = [_cut(row[len(prompt) :], given["eos_token_id"]) for row in out.sequences.tolist()]
    return {**given, "prompt": prompt, "texts": texts, "scores": [round(s, 6) for s in out.sequences_scores.tolist()]}


def _cut(tokens: list[int], eos: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(tokens, 1) if token in eos]
    return tokens[: ends[0]] if ends else tokens


def table_cases(options: list[Case]) -> list[Case]:
    """All options over several tables."""
    models = [Table(LlamaConfig(vocab_size=VOCAB, num_hidden_layers=1), seed).eval() for seed in range(3)]
    return [{"model": seed, **record(model, PROMPT, each)} for seed, model in enumerate(models) for each in options]


def model_cases(options: list[Case]) -> list[Case]:
    """The bundled model, to its own ends and to earlier ones; and a random one, which knows no text."""
    folder = ROOT / "models" / "storyteller"
    load = transformers.AutoModelForCausalLM.from_pretrained
    story = load(folder).float().eval()
    story.generation_config = transformers.GenerationConfig(bos_token_id=0)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    prompt, full_stop = tokens(STORY)["input_ids"], tokens(".", add_special_tokens=False)["input_ids"][-1]
    told = [{**each, "max_new_tokens": 24, "eos_token_id": [1]} for each in options]
    ended = [{**each, "max_new_tokens": 40, "eos_token_id": [full_stop]} for each in options]
    cases = [{"model": "storyteller", **record(story, prompt, each)} for each in told + ended]
    with tempfile.TemporaryDirectory() as path:
        llama = load(make("llama", Path(path))).float().eval()
    random = [{**each, "eos_token_id": [231]} for each in options]
    return cases + [{"model": "llama", **record(llama, [5, 6, 7], each)} for each in random]


def main() -> None:
    """Write all cases as JSON, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the .json file to write")
    parser.add_argument("--diverse", action="store_true", help="diverse groups, by transformers 4.52")
    args = parser.parse_args()
    torch.manual_seed(0)
    tables, stories = (DIVERSE, DIVERSE_STORIES) if args.diverse else (OPTIONS, STORIES)
    cases = table_cases(tables) + model_cases(stories)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    args.output.write_text(f"[\n{lines}\n]\n", "utf-8")
    print(f"{len(cases)} cases by transformers {transformers.__version__}: {args.output}")


if __name__ == "__main__":
    main()
