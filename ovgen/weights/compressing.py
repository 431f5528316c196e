"""A checkpoint whose tensors come out compressed, one at a time, when an architecture asks for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.errors import UnsupportedModelError
from ovgen.weights.checkpoint import Checkpoint, Deferred
from ovgen.weights.compress import compress, to_f16
from ovgen.weights.compress_calibrated import compress_calibrated
from ovgen.weights.compressed import Compressed
from ovgen.weights.compression import Compression, Progress, Scheme
from ovgen.weights.weight import FLOATS, Weight

__all__ = ["CompressingCheckpoint", "Compressor", "Statistics", "stored_as"]

_log = logging.getLogger("ovgen")
_Tensor: TypeAlias = Weight | Compressed

Statistics: TypeAlias = Mapping[str, NDArray[np.float32]]
"""What the inputs x of linear layers are like, by the name of the weight: the mean of ``x^T x``,
``(inputs, inputs)``. The mapping may work them out when they are asked for."""


class Compressor:
    """Decides what each tensor of a model is to be stored in, and stores it so.

    Args:
        compression: what is wanted.
        statistics: of the inputs of linear layers, if they were gathered.
        progress: told each tensor.
    """

    def __init__(
        self, compression: Compression, statistics: Statistics | None = None, progress: Progress | None = None
    ) -> None:
        self._compression = compression
        self._statistics = statistics or {}
        self._progress = progress
        self._misfits: list[str] = []
        self._kept: list[str] = []

    def vector(self, name: str, source: _Tensor) -> _Tensor:
        """In float16 where the weights are to be that, else as it is."""
        result = stored_as(None, source, name) if self._compression.weights == "f16" else source
        return self._done(name, source, result)

    def matrix(self, name: str, source: _Tensor, *, transposed: bool = False) -> _Tensor:
        """The weight ``(outputs, inputs)`` of a linear layer; ``transposed``: the source is the other way round.

        Raises:
            UnsupportedModelError: it cannot be compressed.
        """
        columns = source.shape[0 if transposed else 1]
        scheme = self._compression.of_matrix(columns)
        if not self._compression.fits(columns):
            self._misfits.append(f"{name} ({scheme})")
        moments = self._statistics.get(name) if scheme is not None and scheme.bits == 4 else None
        return self._done(name, source, stored_as(scheme, source, name, transposed=transposed, moments=moments))

    def table(self, name: str, source: _Tensor, *, transposed: bool = False) -> _Tensor:
        """An embedding or a head ``(vocabulary, hidden)``; ``transposed``: the source is the other way round.

        Raises:
            UnsupportedModelError: it cannot be compressed.
        """
        scheme = self._compression.of_table(source.shape[0 if transposed else 1])
        return self._done(name, source, stored_as(scheme, source, name, transposed=transposed))

    def warn(self) -> None:
        """Tell the log, in a line for each reason, which matrices are not stored as was asked for."""
        for reason, names in (
            ("rows that groups of that size do not divide", self._misfits),
            ("compressed already, and stored as before", self._kept),
        ):
            if names:
                _log.warning("%s: %d of the matrices, %s", reason, len(names), _first(names))

    def _done(self, name: str, source: _Tensor, result: _Tensor) -> _Tensor:
        if isinstance(source, Weight):
            source.release()
        elif isinstance(result, Compressed) and result.codes is source.codes:
            self._kept.append(name)
        if self._progress is not None:
            self._progress(name, source.nbytes)
        return result


class CompressingCheckpoint(Checkpoint):
    """Another checkpoint, compressed on the way out. The memory of mapped files is given back tensor by tensor."""

    def __init__(self, checkpoint: Checkpoint, compressor: Compressor) -> None:
        self._inner = checkpoint
        self._compressor = compressor

    def stored(self) -> Mapping[str, _Tensor | Deferred]:
        """What is known of every tensor, as the other checkpoint has it."""
        return self._inner.stored()

    def check_unused(self) -> None:
        """As ``Checkpoint.check_unused``, of what was asked for here."""
        self._inner.check_unused()

    def get(self, name: str, shape: tuple[int, ...]) -> _Tensor:
        """A vector; see `Compressor`. Errors are those of ``Checkpoint.get``."""
        return self._compressor.vector(name, self._inner.get(name, shape))

    def matrix(self, name: str, shape: tuple[int, int], *, transposed: bool = False) -> _Tensor:
        """The weight of a linear layer; see `Compressor`. Errors are those of both."""
        source = self._inner.as_stored(name, shape, transposed=transposed)
        return self._compressor.matrix(name, source, transposed=transposed)

    def table(self, name: str, shape: tuple[int, int]) -> _Tensor:
        """An embedding or a head; see `Compressor`. Errors are those of both."""
        return self._compressor.table(name, self._inner.table(name, shape))


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def stored_as(
    scheme: Scheme | None,
    source: _Tensor,
    name: str,
    *,
    transposed: bool = False,
    moments: NDArray[np.float32] | None = None,
) -> _Tensor:
    """A tensor in another precision.

    What is stored in as few bits already stays as it is: compressing it again would only add errors. Numbers that
    float16 cannot hold keep the precision they have, and a line of the log says so.

    Args:
        scheme: what is wanted; None stands for float16.
        source: ``(outputs, inputs)``, or ``(inputs, outputs)`` where it is ``transposed``; or a vector.
        name: what messages call the tensor.
        transposed: whether the transpose of the source is wanted.
        moments: of the inputs of the layer, if they were gathered: 4 bits come out better with them.

    Raises:
        UnsupportedModelError: it cannot be compressed.
    """
    if isinstance(source, Compressed):
        source, transposed = (source.transposed() if transposed else source), False
        if scheme is not None and source.bits <= scheme.bits:
            return source
        if source.flipped:  # blocks of rows would cut through its groups
            source = Weight(np.ascontiguousarray(source.to_f32()), "F32")
    elif source.dtype not in FLOATS or (scheme is None and source.dtype == "F16"):
        return source.transposed() if transposed else source
    if scheme is not None:
        return _compressed(source, scheme, name, transposed, moments)
    half = to_f16(source, flipped=transposed)
    if half is None:
        _log.warning("%s has values that float16 cannot hold: it stays as it is", name)
        same = source if isinstance(source, Weight) else Weight(source.to_f32(), "F32")
        return same.transposed() if transposed else same
    return half


def _compressed(
    source: _Tensor, scheme: Scheme, name: str, transposed: bool, moments: NDArray[np.float32] | None
) -> Compressed:
    if moments is None or scheme.bits == 8:
        result = compress(source, scheme, flipped=transposed)
    else:
        columns_first = source.to_f32() if transposed else source.to_f32().T
        result = compress_calibrated(columns_first.copy(order="C"), scheme, moments)
    if result is None:
        raise UnsupportedModelError(
            f"tensor {name!r} has values that are not finite, or too large for float16 scales: "
            "the model can only be used as it is, without compression"
        )
    return result
