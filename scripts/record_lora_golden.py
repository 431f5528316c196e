"""Record small LoRA adapters as PEFT saves them, and the logits that Hugging Face computes with them.

    pip install -e .[golden] peft
    python scripts/record_lora_golden.py

Writes a folder of ``tests/golden/lora`` for each adapter. Needed again only to follow a newer PEFT: the adapters are
random.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tiny_models import make  # noqa: E402

LENGTH, ROWS = 24, 8  # tokens, and how many of the last have their logits stored


@dataclass(frozen=True)
class Spec:
    """An adapter: of which tiny model, what PEFT is told, and what the matrices are stored in."""

    base: str
    options: dict[str, Any]
    dtype: torch.dtype = torch.float32


ADAPTERS = {
    "llama-attention": Spec("llama", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "llama-patterns": Spec(
        "llama",
        {
            "r": 2,
            "lora_alpha": 5,
            "use_rslora": True,
            "rank_pattern": {"k_proj": 3, r"layers\.1\.mlp\.down_proj": 5},
            "alpha_pattern": {"layers.2.self_attn.o_proj": 9, "up_proj": 2},
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
        torch.float16,
    ),
    "gpt2-attention": Spec("gpt2", {"r": 3, "lora_alpha": 6, "target_modules": ["c_attn"]}, torch.bfloat16),
    "gpt2-all": Spec("gpt2", {"r": 2, "target_modules": ["c_attn", "c_proj", "c_fc", "lm_head"]}),
    "phi3-fused": Spec("phi3", {"r": 2, "lora_alpha": 4, "target_modules": ["qkv_proj", "gate_up_proj"]}),
}


def main() -> None:
    """Write each of ``ADAPTERS``."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    for name, spec in ADAPTERS.items():
        with tempfile.TemporaryDirectory() as folder:
            base = make(spec.base, Path(folder, "base"))
            saved = Path(folder, "adapter")
            _save(spec, base, saved)
            out = ROOT / "tests" / "golden" / "lora" / name
            out.mkdir(parents=True, exist_ok=True)
            config = json.loads((saved / "adapter_config.json").read_text()) | {"base_model_name_or_path": spec.base}
            (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
            (out / "adapter_model.safetensors").write_bytes((saved / "adapter_model.safetensors").read_bytes())
            ids = np.random.RandomState(0).randint(3, 300, (1, LENGTH))
            logits = _logits(base, None, ids), _logits(base, saved, ids)
        np.savez_compressed(out / "logits.npz", ids=ids, without=logits[0], adapted=logits[1], versions=versions)
        print(f"{name}: the adapter changes logits by up to {np.abs(logits[1] - logits[0]).max():.2f}")


def _save(spec: Spec, base: Path, folder: Path) -> None:
    """An adapter of random numbers, by PEFT itself."""
    options = peft.LoraConfig(task_type="CAUSAL_LM", **spec.options)
    model = peft.get_peft_model(_model(base), options)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            rng = np.random.RandomState(zlib.crc32(name.encode()))
            values = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)) * 0.2)
            parameter.data = values.to(spec.dtype)
    model.save_pretrained(folder, save_embedding_layers=False)  # the model has those


def _logits(base: Path, adapter: Path | None, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """``(ROWS, vocab)`` of the last tokens; adapters in 16 bits are computed with in float32."""
    model: Any = _model(base)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, str(adapter)).float()
    with torch.no_grad():
        logits: NDArray[np.float32] = model.eval()(torch.from_numpy(ids)).logits[0, -ROWS:].numpy()
    return logits


def _model(base: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")


if __name__ == "__main__":
    main()
