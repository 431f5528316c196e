"""Record what openvino.genai's text generation can be told, for docs/parity.md: every public name, by class.

pip install openvino-genai==2026.4.1
python scripts/record_parity.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import openvino_genai as genai  # type: ignore[import-not-found,import-untyped,unused-ignore]

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "parity.json"

CLASSES = (
    "GenerationConfig",
    "StopCriteria",
    "StructuredOutputConfig",
    "StructuralTagsConfig",
    "StructuralTagItem",
    "AdapterConfig",
    "AdapterConfig.Mode",
    "SchedulerConfig",
    "CacheEvictionConfig",
    "AggregationMode",
    "KVCrushConfig",
    "KVCrushAnchorPointMode",
    "py_openvino_genai.AdaptiveRKVConfig",
    "SparseAttentionConfig",
    "SparseAttentionMode",
    "LLMPipeline",
    "ContinuousBatchingPipeline",
)
CALLS = (
    "CacheEvictionConfig.__init__",
    "Adapter.__init__",
    "LLMPipeline.__init__",
    "LLMPipeline.generate",
    "ContinuousBatchingPipeline.__init__",
    "ContinuousBatchingPipeline.generate",
    "ContinuousBatchingPipeline.add_request",
    "draft_model",
)
# Keys that the constructors take among the device's properties. They are no attributes of anything, but documented,
# and the library has them as strings.
PROPERTIES = (
    "scheduler_config",
    "draft_model",
    "prompt_lookup",
    "adapters",
    "extensions",
    "sampler_num_threads",
    "ATTENTION_BACKEND",
    "MODEL_PROPERTIES",
    "MAX_PROMPT_LEN",
    "MIN_RESPONSE_LEN",
    "PREFILL_HINT",
    "GENERATE_HINT",
    "PREFILL_CONFIG",
    "GENERATE_CONFIG",
    "SHARED_HEAD_CONFIG",
    "BLOB_PATH",
    "EXPORT_BLOB",
)


def resolve(name: str) -> Any:
    """A class or a function by its dotted name in the package."""
    found: Any = genai
    for part in name.split("."):
        found = getattr(found, part)
    return found


def public(name: str) -> list[str]:
    """What a class has; of an enumeration, its members."""
    cls = resolve(name)
    members = getattr(cls, "__members__", None)
    return sorted(members or (attribute for attribute in dir(cls) if not attribute.startswith("_")))


def arguments(name: str) -> list[str]:
    """The names of all arguments, over all ways to call it, from the signatures in its docstring."""
    names = set()
    for signature in re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> ", resolve(name).__doc__, re.MULTILINE):
        while "[" in signature:
            signature = re.sub(r"\[[^\[\]]*\]", "", signature)
        names |= {argument.split(":")[0].strip().lstrip("*") for argument in signature.split(",")}
    return sorted(names - {"self", ""})


def check_properties() -> None:
    """Refuse a key that the library does not know."""
    library = b"".join(path.read_bytes() for path in Path(genai.__file__).parent.glob("*openvino_genai*.so*"))
    unknown = [key for key in PROPERTIES if key.encode() not in library]
    if unknown:
        raise SystemExit(f"openvino.genai knows no {', '.join(unknown)}")


def main() -> None:
    """Write the recording."""
    check_properties()
    names = {name.removeprefix("py_openvino_genai."): public(name) for name in CLASSES}
    names |= {name.removesuffix(".__init__") + "()": arguments(name) for name in CALLS}
    names["properties"] = sorted(PROPERTIES)
    recording = {"version": genai.get_version(), "names": names}
    OUT.write_text(json.dumps(recording, indent=1) + "\n", encoding="utf-8")
    print(f"{OUT}: {sum(map(len, names.values()))} names of openvino.genai {recording['version']}")


if __name__ == "__main__":
    main()
