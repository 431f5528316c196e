"""The tensors of a model folder, by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ovgen.errors import CorruptFileError, MissingTensorError, ModelNotFoundError, UnsupportedModelError
from ovgen.weights.compressed import Compressed
from ovgen.weights.json_file import read_json
from ovgen.weights.safetensors import read_safetensors
from ovgen.weights.weight import Weight

__all__ = ["Checkpoint", "Deferred", "open_checkpoint"]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_Tensor: TypeAlias = Weight | Compressed
_log = logging.getLogger("ovgen")

# Masks and frequencies that checkpoints used to carry along, and the second copy of a tied table.
_NO_WEIGHT = re.compile(
    r"attn\.(masked_)?bias$|attention\.(masked_)?bias$|rotary_emb\.inv_freq$|^(lm_head|embed_out)\.weight$"
)


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """A tensor that takes no memory before it is made, each time anew.

    Attributes:
        shape: the tensor's.
        nbytes: about what it will take.
        make: makes it.
    """

    shape: tuple[int, ...]
    nbytes: int
    make: Callable[[], _Tensor]


class Checkpoint:
    """Tensors by name, whatever files they came from.

    Args:
        source: what error messages call the checkpoint, e.g. its folder.
        weights: the tensors.
        config: what error messages call the model's configuration.
        strict: whether it is an error if a model does not use all tensors.
    """

    def __init__(
        self,
        source: str,
        weights: Mapping[str, _Tensor | Deferred],
        *,
        config: str = "config.json",
        strict: bool = False,
    ) -> None:
        self._source = source
        self._weights = weights
        self._config = config
        self._strict = strict
        self._used: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, in the order of the files."""
        return tuple(self.stored())

    def items(self) -> Iterator[tuple[str, _Tensor]]:
        """Every tensor with its name, in the order of the files; each is made when it is its turn."""
        return ((name, _made(tensor)) for name, tensor in self.stored().items())

    def stored(self) -> Mapping[str, _Tensor | Deferred]:
        """What is known of every tensor, by name in the order of the files, without making any."""
        return self._weights

    def __contains__(self, name: object) -> bool:
        return name in self.stored()

    def get(self, name: str, shape: tuple[int, ...]) -> _Tensor:
        """The tensor ``name``, which must have the shape that the model's configuration implies.

        Raises:
            MissingTensorError: it is not there, or its shape is another.
        """
        tensor = self._weights.get(name)
        if tensor is None:
            raise MissingTensorError(
                f"{self._source} lacks the tensor {name!r} of shape {shape}: "
                f"do {self._config} and the weights belong together?"
            )
        if tensor.shape != shape:
            raise MissingTensorError(
                f"{self._source}: the tensor {name!r} has shape {tensor.shape}, but by {self._config} it is {shape}"
            )
        self._used.add(name)
        return _made(tensor)

    def check_unused(self) -> None:
        """Tell, in one line, of tensors that nobody has asked for: a bias, say, that the configuration leaves out.

        Raises:
            UnsupportedModelError: there are any, and the checkpoint is strict; else it is a warning in the log.
        """
        unused = [name for name in self.names if name not in self._used and not _NO_WEIGHT.search(name)]
        if not unused:
            return
        shown = ", ".join(unused[:3]) + (", …" if len(unused) > 3 else "")
        message = f"{self._source}: {len(unused)} tensors are not used by a model of this configuration: {shown}"
        if self._strict:
            raise UnsupportedModelError(message)
        _log.warning("%s", message)

    def matrix(self, name: str, shape: tuple[int, int], *, transposed: bool = False) -> _Tensor:
        """The weight ``(outputs, inputs)`` of a linear layer; ``transposed``: it is stored the other way round.

        Raises:
            MissingTensorError: as `get`.
        """
        weight = self.as_stored(name, shape, transposed=transposed)
        return weight.transposed() if transposed else weight

    def as_stored(self, name: str, shape: tuple[int, int], *, transposed: bool) -> _Tensor:
        """What `matrix` gives before it is turned round: ``(inputs, outputs)`` if it is ``transposed``.

        Raises:
            MissingTensorError: as `get`.
        """
        return self.get(name, shape[::-1] if transposed else shape)

    def table(self, name: str, shape: tuple[int, int]) -> _Tensor:
        """``(vocabulary, hidden)``, of an embedding, a head or both.

        Raises:
            MissingTensorError: as `get`.
        """
        return self.as_stored(name, shape, transposed=False)


def _made(tensor: _Tensor | Deferred) -> _Tensor:
    return tensor.make() if isinstance(tensor, Deferred) else tensor


def open_checkpoint(folder: Path) -> Checkpoint:
    """The safetensors checkpoint of a Hugging Face folder, in one file or in shards with an index.

    The files are mapped, not read: see ``read_safetensors`` for who keeps the mappings alive.

    Raises:
        ModelNotFoundError: the folder has no safetensors checkpoint.
        CorruptFileError: a file is not sound, or the index names a file or a tensor that is not there.
        UnsupportedModelError: a tensor has an element type that is not supported.
    """
    if (folder / _SINGLE).is_file():
        return Checkpoint(str(folder), read_safetensors(folder / _SINGLE))
    if not (folder / _INDEX).is_file():
        raise ModelNotFoundError(
            f"{folder} has neither {_SINGLE} nor {_INDEX}; convert other formats to safetensors first"
        )
    return Checkpoint(str(folder), _read_shards(folder))


def _read_shards(folder: Path) -> dict[str, Weight]:
    index = folder / _INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError(f"{index}: weight_map must map tensor names to files, got {weight_map!r:.80}")
    for name, shard in weight_map.items():
        _check_shard(folder, name, shard)
    shards = {shard: read_safetensors(folder / shard) for shard in sorted(set(weight_map.values()))}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise CorruptFileError(
                f"{index}: weight_map places {name!r} in {shard!r}, which does not have it: download it again"
            )
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def _check_shard(folder: Path, name: str, shard: Any) -> None:
    index = folder / _INDEX
    if not isinstance(shard, str) or not shard.endswith(".safetensors") or Path(shard).name != shard:
        raise CorruptFileError(
            f"{index}: weight_map[{name!r}] must be a .safetensors file of the same folder, got {shard!r:.80}"
        )
    if not (folder / shard).is_file():
        raise CorruptFileError(f"{index}: weight_map[{name!r}] names {shard!r}, which is missing: download it")
