"""Compiled models on disk: what a device exported, checked before it is imported again.

OpenVINO has a cache of its own (``CACHE_DIR``), but takes a blob with damaged weights without a word (2026.4.1). Here
a file carries a digest of what it holds, and a key that stands for all that a compilation depends on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openvino as ov

from ovgen.graph.messages import cause
from ovgen.runtime.properties import spelt

__all__ = ["blob_key", "compile_cached", "keeps_blobs"]

_MAGIC = b"ovgblob1"
_HEADER = struct.Struct("<8s32s32s")  # magic, key, sha256 of the blob
_START = 4096  # of the blob in the file: a page, so that what is mapped is aligned as the plugin wrote it
_SMALL = 1 << 16  # bytes: larger constants are weights, which the identity stands for
_REFUSED = b""  # the blob of a model that its device exports and does not import
_FACTS = (
    "FULL_DEVICE_NAME",
    "DEVICE_ARCHITECTURE",
    "OPTIMIZATION_CAPABILITIES",
    "NPU_DRIVER_VERSION",
    "NPU_COMPILER_VERSION",
)
_log = logging.getLogger("ovgen")


def keeps_blobs(core: ov.Core, device: str, properties: Mapping[str, Any]) -> bool:
    """Whether compiled models are kept here: there is a ``CACHE_DIR``, and the device exports and imports.

    A GPU does, but keeps compiled kernels in ``CACHE_DIR`` too, so that it stays OpenVINO's there; so it does where
    blobs are to be encrypted.
    """
    if not properties.get("CACHE_DIR") or "CACHE_ENCRYPTION_CALLBACKS" in properties or device.startswith("GPU"):
        return False
    try:
        return "EXPORT_IMPORT" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError:  # of a virtual device with a list: "AUTO:CPU"
        return False


def compile_cached(
    core: ov.Core,
    model: ov.Model,
    device: str,
    properties: Mapping[str, Any],
    identity: str,
    compile_model: Callable[[ov.Model, str, Mapping[str, Any]], ov.CompiledModel],
) -> ov.CompiledModel:
    """What ``compile_model`` makes, or made before, from ``CACHE_DIR``.

    A file that is damaged, or that the device does not take back, is made again, with a warning. If the device does
    not take the new one either, a mark is left in its place, and the model is compiled each time.

    Args:
        core: imports.
        model: what to compile.
        device: for which device; `keeps_blobs` is true of it.
        properties: as OpenVINO takes them, with ``CACHE_DIR``.
        identity: stands for the weights; two models whose large constants differ must differ in it.
        compile_model: compiles; what it raises is passed on.

    Raises:
        ConfigError: the value of a property cannot be part of a key.
    """
    folder = Path(properties["CACHE_DIR"]).expanduser()
    properties = {name: value for name, value in properties.items() if name != "CACHE_DIR"}
    key = blob_key(core, model, device, properties, identity)
    path = folder / f"{device.split(':')[0]}-{key.hex()[:32]}.ovgblob"
    blob = _read(path, key)
    if blob is not None and not blob.size:
        _log.info("compiled for %s, which does not take it back from disk: delete %s to try again", device, path)
        return compile_model(model, device, properties)
    refused = None
    if blob is not None:
        try:
            compiled = core.import_model(blob, device, properties)
        except RuntimeError as error:
            refused = cause(error)
        else:
            _log.info("compiled model for %s taken from %s", device, path)
            return compiled
    del blob  # Windows does not replace a file that is mapped
    compiled = compile_model(model, device, properties)
    _keep(compiled, path, key)
    if refused is not None:
        _log.warning("%s does not take back the compiled model in %s: compiled anew: %s", device, path, refused)
        _try_again(core, device, properties, path, key)
    return compiled


def _try_again(core: ov.Core, device: str, properties: Mapping[str, Any], path: Path, key: bytes) -> None:
    """Leave a mark if the device does not even take a blob that it has just made."""
    blob = _read(path, key)
    if blob is None:
        return
    try:
        core.import_model(blob, device, properties)
    except RuntimeError:
        del blob
        _log.warning("nor a new one: this model is compiled each time, until you delete %s", path)
        _write(path, key, _REFUSED)


def blob_key(core: ov.Core, model: ov.Model, device: str, properties: Mapping[str, Any], identity: str) -> bytes:
    """A digest of all that a compiled model depends on.

    Raises:
        ConfigError: the value of a property cannot be part of it.
    """
    facts = [f"openvino {ov.get_version()}", f"ovgen {version('ovgen')}", f"device {device}", f"weights {identity}"]
    facts += [f"{name}={value}" for name, value in sorted(spelt(properties).items())]
    for name in (device, "CPU"):  # an NPU's plugin may use the CPU
        for fact in _FACTS:
            with suppress(RuntimeError):  # it has no such property
                facts.append(f"{name} {fact} {core.get_property(name, fact)}")
    result = hashlib.sha256("\n".join(facts).encode())
    result.update(_structure(model))
    return result.digest()


def _structure(model: ov.Model) -> bytes:
    """A digest of a graph: operations, attributes, connections, types, shapes and small constants.

    Names count only where they are those of inputs and outputs: others are often numbered as they are made.
    """
    result = hashlib.sha256()
    nodes = model.get_ordered_ops()
    numbers = {node.get_name(): number for number, node in enumerate(nodes)}  # get_name() is unique in a process
    for node in nodes:
        kind = node.get_type_info()
        ports = [(port.get_element_type().get_type_name(), str(port.get_partial_shape())) for port in node.outputs()]
        inputs = [(numbers[port.get_node().get_name()], port.get_index()) for port in node.input_values()]
        result.update(f"{kind.name} {kind.version_id} {ports} {inputs}\n".encode())
        if kind.name == "Constant":
            if node.get_byte_size() <= _SMALL:
                result.update(node.data.tobytes())
            continue
        if kind.name in ("Parameter", "Result"):
            given = node.output(0).get_names() - {node.get_name()}  # which a Result without a name gets
            result.update(f"{sorted(given)}\n".encode())
        result.update(f"{sorted(node.get_attributes().items())} {sorted(_notes(node))}\n".encode())
    return result.digest()


def _notes(node: ov.Node) -> Iterator[str]:
    """What passes have noted down on a node: names, and values that Python can read."""
    for name, value in node.get_rt_info().items():
        try:
            content = value.value
        except (RuntimeError, TypeError):  # of a C++ type
            content = None
        yield f"{name} {content if isinstance(content, (bool, int, float, str)) else ''}"


def _read(path: Path, key: bytes) -> ov.Tensor | None:
    """The blob in a file, mapped; None where there is none that is whole and has this key."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ValueError("it is shorter than its header")
            magic, its_key, digest = _HEADER.unpack(header)
            if (magic, its_key) != (_MAGIC, key):
                raise ValueError("its header is of something else")
            file.seek(_START)
            found = hashlib.sha256()
            while piece := file.read(1 << 20):
                found.update(piece)
            if found.digest() != digest:
                raise ValueError("its digest differs")
        whole = ov.tensor_from_file(path)
        return ov.Tensor(whole, [_START], whole.shape)  # the memory lives as long as the compiled model needs it
    except (OSError, ValueError, RuntimeError) as error:
        _log.warning("the compiled model in %s is damaged and made again: %s", path, error)
        return None


def _keep(compiled: ov.CompiledModel, path: Path, key: bytes) -> None:
    try:
        blob = compiled.export_model().getbuffer()
    except RuntimeError as error:
        _log.warning("the compiled model cannot be kept in %s: %s", path.parent, cause(error))
        return
    _write(path, key, blob)


def _write(path: Path, key: bytes, blob: bytes | memoryview) -> None:
    """Write aside and rename: nobody ever finds half a file, and of two writers the last one stays."""
    header = _HEADER.pack(_MAGIC, key, hashlib.sha256(blob).digest())
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            aside = Path(file.name)
            file.write(header.ljust(_START, b"\0"))
            file.write(blob)
        os.replace(aside, path)
    except OSError as error:
        _log.warning("the compiled model cannot be kept as %s: %s", path, error)
        if aside is not None:
            with suppress(OSError):
                aside.unlink()
