"""Record small models as optimum-intel exports them, for tests of what others' graphs look like.

    pip install optimum-intel[openvino]
    python scripts/record_ir_golden.py

Writes ``tests/golden/ir/*.zip``. Needed again only to follow a newer exporter: the weights are random.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import torch
import transformers
from optimum.intel import OVModelForCausalLM

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "ir"
FILES = ("config.json", "openvino_model.xml", "openvino_model.bin")
COMMON = {"vocab_size": 300, "hidden_size": 16, "bos_token_id": 1, "eos_token_id": 2}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}
LOCAL = {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8}

CONFIGS = {
    "mistral-window": transformers.MistralConfig(**COMMON, **LAYERS, sliding_window=8, max_position_embeddings=64),
    "gpt-neo-local": transformers.GPTNeoConfig(**COMMON, **LOCAL, max_position_embeddings=64),
}


def main() -> None:
    """Export each of ``CONFIGS``."""
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.4)  # so that attention looks somewhere in particular
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(Path(folder, "source"))
            exported = OVModelForCausalLM.from_pretrained(Path(folder, "source"), export=True, compile=False)
            exported.save_pretrained(Path(folder, "ir"))
            with zipfile.ZipFile(OUT / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                for file in FILES:
                    archive.write(Path(folder, "ir", file), file)
        print(f"{name}: {(OUT / f'{name}.zip').stat().st_size} bytes")


if __name__ == "__main__":
    main()
