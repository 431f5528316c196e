"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685) in the files of Hugging Face's PEFT.

A folder has ``adapter_config.json``, and ``adapter_model.safetensors`` with two matrices for each linear layer that the
adapter changes: ``base_model.model.MODULE.lora_A.weight`` ``(rank, inputs)`` and ``….lora_B.weight``
``(outputs, rank)``. The layer gives ``x @ W.T + scaling * (x @ A.T) @ B.T`` then. Which layers those are, and their
ranks, the tensors tell by themselves; what the configuration asks for and is not known here is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.weights.checkpoint import Checkpoint
from ovgen.weights.compressed import Compressed
from ovgen.weights.json_file import read_json
from ovgen.weights.safetensors import read_safetensors
from ovgen.weights.weight import FLOATS, Weight

__all__ = ["Adapter", "LowRank", "MergedCheckpoint", "read_adapter"]

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PART = 1 << 20  # bytes of a file read at once
_LARGEST = 1e30  # of a factor, so that it is a number in float32
# What a model's own names of its modules may begin with, or not: they differ between a model with a head, one without,
# and one that others contain. What is behind other roots (vision_tower) is another model.
_ROOTS = re.compile(r"((base_model|model|transformer|gpt_neox|language_model)\.)*")
_NAME = re.compile(r"(base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_Tensor: TypeAlias = Weight | Compressed

# What is read here, what only training goes by, and what the tensors tell.
_KNOWN = {
    *("peft_type", "bias", "init_lora_weights", "lora_alpha", "alpha_pattern", "use_rslora", "fan_in_fan_out"),
    *("r", "rank_pattern", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "inference_mode", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
    *("peft_version", "megatron_config", "megatron_core", "loftq_config", "eva_config", "qalora_group_size"),
    *("runtime_config", "ensure_weight_tying"),
}
_KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")  # ways to begin that leave the model's own weights


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """What an adapter adds to the weight ``(outputs, inputs)`` of a linear layer: ``up @ down``.

    Attributes:
        down: ``(rank, inputs)``, PEFT's A.
        up: ``(outputs, rank)``, PEFT's B times the scaling.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]

    @property
    def rank(self) -> int:
        """How many numbers the layer's input is brought down to."""
        return len(self.down)

    @property
    def shape(self) -> tuple[int, int]:
        """That of the weight."""
        return self.up.shape[0], self.down.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An adapter as its folder has it.

    Attributes:
        source: what messages call it: its folder.
        layers: by module, in Hugging Face's names: ``model.layers.0.self_attn.q_proj``.
        digest: of its files.
    """

    source: str
    layers: Mapping[str, LowRank]
    digest: str

    def placed(self, modules: Collection[str]) -> dict[str, LowRank]:
        """The layers by the model's own names of their modules, whose roots may differ.

        Args:
            modules: the model's linear layers.

        Raises:
            UnsupportedModelError: the model lacks one.
        """
        own = {_place(module): module for module in modules}
        missing = [module for module in self.layers if _place(module) not in own]
        if missing:
            raise UnsupportedModelError(
                f"{self.source}: {len(missing)} of the adapter's {len(self.layers)} layers are not among the model's "
                f"linear layers: {_some(missing)}; those are called {_some(modules) or 'by no names of Hugging Face'}"
            )
        return {own[_place(module)]: layer for module, layer in self.layers.items()}

    def check_shape(self, module: str, layer: LowRank, shape: tuple[int, int]) -> None:
        """Refuse a layer where the model's has another shape ``(outputs, inputs)``.

        Raises:
            UnsupportedModelError: it has.
        """
        if layer.shape != shape:
            raise UnsupportedModelError(
                f"{self.source}: the adapter is for another model: its {module} is {layer.shape}, "
                f"and the model's {shape}"
            )


class MergedCheckpoint(Checkpoint):
    """Another checkpoint with an adapter added to its weights, each when it is asked for, in the precision it has.

    Raises:
        UnsupportedModelError: the adapter does not fit the model, or the weights are compressed.
    """

    def __init__(self, checkpoint: Checkpoint, adapter: Adapter) -> None:
        super().__init__(adapter.source, checkpoint.stored())
        self._inner = checkpoint
        self._adapter = adapter
        stored = checkpoint.stored().items()
        matrices = [name.removesuffix(".weight") for name, tensor in stored if _is_matrix(name, tensor.shape)]
        self._layers = {f"{module}.weight": layer for module, layer in adapter.placed(matrices).items()}
        self._merged: set[str] = set()

    def check_unused(self) -> None:
        """As ``Checkpoint.check_unused``.

        Raises:
            UnsupportedModelError: also if the model has not asked for a weight that the adapter changes.
        """
        unused = self._layers.keys() - self._merged
        if unused:
            raise UnsupportedModelError(
                f"{self._adapter.source}: the adapter cannot be merged: the model has no weight of its own for "
                f"{_some(sorted(unused))} (a head that shares the embedding's, say); LLM(adapters=...) takes it"
            )
        self._inner.check_unused()

    def get(self, name: str, shape: tuple[int, ...]) -> _Tensor:
        """As the other checkpoint has it."""
        return self._inner.get(name, shape)

    def as_stored(self, name: str, shape: tuple[int, int], *, transposed: bool) -> _Tensor:
        """As ``Checkpoint.as_stored``, with what the adapter adds.

        The model tells which way round its weights are stored; the adapter's ``fan_in_fan_out`` does not: PEFT writes
        one for all layers, and passes over it where a layer is of the other kind.

        Raises:
            UnsupportedModelError: the adapter changes it, and it is compressed, has another shape, or has no room for
                the sum.
        """
        tensor = self._inner.as_stored(name, shape, transposed=transposed)
        layer = self._layers.get(name)
        if layer is None:
            return tensor
        self._adapter.check_shape(name.removesuffix(".weight"), layer, shape)
        if not isinstance(tensor, Weight) or tensor.dtype not in FLOATS:
            raise UnsupportedModelError(
                f"{self._adapter.source}: {name} is compressed, and merging would compress it again: merge the adapter "
                "into the original model, or give it to LLM(adapters=...)"
            )
        self._merged.add(name)
        with np.errstate(over="ignore", invalid="ignore"):
            change = layer.up @ layer.down
            merged = _stored(tensor.to_f32() + (change.T if transposed else change), tensor.dtype)
        if not np.isfinite(merged.to_f32()).all():
            raise UnsupportedModelError(
                f"{self._adapter.source}: {name} with the adapter is too large for {tensor.dtype}, in which the model "
                "has it: give the adapter to LLM(adapters=...)"
            )
        tensor.release()
        return merged


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder that PEFT has saved.

    Raises:
        ModelNotFoundError: a file is missing.
        CorruptFileError: a file is damaged.
        UnsupportedModelError: it is not LoRA, or asks for something that is not implemented.
    """
    if not (folder / _CONFIG).is_file():
        raise ModelNotFoundError(f"{folder} has no {_CONFIG}: give the folder of a LoRA adapter, as PEFT saves it")
    if not (folder / _TENSORS).is_file():
        raise ModelNotFoundError(f"{folder} has no {_TENSORS}: save the adapter with safe_serialization=True")
    config = _Config(folder / _CONFIG)
    sides: dict[str, dict[str, NDArray[np.float32]]] = {}  # by module: A and B
    for name, tensor in read_safetensors(folder / _TENSORS).items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise UnsupportedModelError(
                f"{folder / _TENSORS}: {name!r:.120} is no matrix of a linear layer's LoRA, and nothing else is known"
            )
        sides.setdefault(found["module"], {})[found["side"]] = _values(f"{folder / _TENSORS}: {name}", tensor)
    layers = {module: _layer(folder / _TENSORS, module, pair, config) for module, pair in sides.items()}
    if len({_place(module) for module in layers}) < len(layers) or not layers:
        raise CorruptFileError(f"{folder / _TENSORS}: the adapter has no layers, or has one twice")
    return Adapter(str(folder), layers, _digest(folder))


def _digest(folder: Path) -> str:
    result = hashlib.sha256()
    for name in (_CONFIG, _TENSORS):
        with (folder / name).open("rb") as file:
            while part := file.read(_PART):
                result.update(part)
    return result.hexdigest()


class _Config:
    """``adapter_config.json``, checked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config = config = read_json(path)
        if config.get("peft_type") != "LORA":
            raise UnsupportedModelError(f"{path}: peft_type must be LORA, got {config.get('peft_type')!r:.80}")
        unknown = [name for name, value in config.items() if name not in _KNOWN and value]
        if config.get("bias", "none") != "none":
            unknown.append("bias")
        if config.get("init_lora_weights", True) not in _KEEPS_BASE:  # it has changed the model's weights
            unknown.append("init_lora_weights")
        if unknown:
            told = ", ".join(f"{name}={config[name]!r:.40}" for name in unknown[:3])
            raise UnsupportedModelError(f"{path}: {told} is not implemented; merge the adapter with PEFT instead")
        self._patterns = self._read_patterns()

    def scaling(self, module: str, rank: int) -> float:
        """What the product of A and B is multiplied by."""
        alphas = (alpha for pattern, alpha in self._patterns if pattern.match(module))
        alpha = next(alphas, None)
        alpha = self._number("lora_alpha", self._config.get("lora_alpha", 8)) if alpha is None else alpha
        return alpha / (sqrt(rank) if self._config.get("use_rslora") is True else rank)

    def _read_patterns(self) -> list[tuple[re.Pattern[str], float]]:
        given = self._config.get("alpha_pattern") or {}
        try:
            return [
                (re.compile(rf"(.*\.)?({pattern})$"), self._number("alpha_pattern", alpha))
                for pattern, alpha in given.items()
            ]
        except (AttributeError, re.error) as error:
            raise CorruptFileError(f"{self._path}: alpha_pattern is {given!r:.80}: {error}") from error

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _LARGEST:
            raise CorruptFileError(f"{self._path}: {name} must be a number, got {value!r:.80}")
        return float(value)


def _layer(source: Path, module: str, pair: Mapping[str, NDArray[np.float32]], config: _Config) -> LowRank:
    down, up = pair.get("A"), pair.get("B")
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1] or not len(down):
        shapes = {f"lora_{side}": matrix.shape for side, matrix in sorted(pair.items())}
        raise CorruptFileError(f"{source}: {module:.120} has {shapes}, and not (rank, inputs) and (outputs, rank)")
    with np.errstate(over="ignore"):
        up = up * np.float32(config.scaling(module, len(down)))
    if not (np.isfinite(down).all() and np.isfinite(up).all()):  # others multiply B by 0, which would make NaN
        raise CorruptFileError(f"{source}: {module:.120} has values that are not finite")
    return LowRank(down, up)


def _values(name: str, tensor: Weight) -> NDArray[np.float32]:
    if tensor.dtype not in FLOATS:
        raise UnsupportedModelError(f"{name} is stored as {tensor.dtype}; there are: {', '.join(FLOATS)}")
    return tensor.to_f32()


def _place(module: str) -> str:
    """A module's path without its root: ``layers.0.self_attn.q_proj``."""
    return _ROOTS.sub("", module, count=1)


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return name.endswith(".weight") and len(shape) == 2


def _stored(values: NDArray[np.float32], dtype: str) -> Weight:
    """Values in one of ``FLOATS``, rounded to nearest, ties to even."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        return Weight(((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16), dtype)
    return Weight(np.ascontiguousarray(values, np.float16 if dtype == "F16" else np.float32), dtype)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
