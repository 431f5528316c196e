"""Blocks of the KV cache wherever they lie. A GPU's memory is played by tensors of the CPU that numpy cannot see."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

import ovgen
from ovgen.errors import CacheFullError, UnsupportedModelError
from ovgen.runtime import block_memory, kv_blocks, paged
from ovgen.runtime.block_memory import BlockMemory, BlockShape, HostBlocks, RemoteBlocks, block_memories, in_context
from tests.conftest import F32
from tests.runtime.fake_context import DeviceContext

TAIL = (2, 3, 4)
PLACES: dict[str, Callable[[BlockShape], BlockMemory]] = {
    "host": HostBlocks,
    "shared": lambda shape: HostBlocks(shape, DeviceContext()),
    "device": lambda shape: RemoteBlocks(shape, DeviceContext()),
}


KINDS = ("f32", "f16", "bf16", "u8", "i8", "u4")


@pytest.mark.parametrize(("place", "kind"), [p for p in product(PLACES, KINDS) if p != ("device", "u4")])
def test_blocks_keep_their_bytes_and_fresh_ones_are_zero(place: str, kind: str) -> None:
    shape = BlockShape(getattr(ov.Type, kind), TAIL)
    size = shape.bytes
    memory = PLACES[place](shape)
    expected = np.zeros((7, size), np.uint8)
    memory.resize(3)
    assert memory.read([0, 1, 2]).tolist() == expected[:3].tolist()
    expected[[2, 0]] = np.random.default_rng(0).integers(0, 256, (2, size))
    memory.write([2, 0], expected[[2, 0]])
    memory.resize(7)
    memory.resize(7)
    memory.copy(2, 5)
    expected[5] = expected[2]
    assert memory.read(range(7)).tolist() == expected.tolist()
    assert memory.read([5, 0]).tolist() == expected[[5, 0]].tolist()
    assert list(memory.tensor.get_shape()) == [7, *TAIL]


class Compiled:
    """What `block_memories` asks of a compiled model on a GPU."""

    def __init__(self, devices: list[str], large: bool | None = False) -> None:
        self._properties = {"EXECUTION_DEVICES": devices, "GPU_ENABLE_LARGE_ALLOCATIONS": large}

    def get_property(self, name: str) -> Any:
        value = self._properties[name]
        if value is None:
            raise RuntimeError(f"no property {name}")
        return value


class Core:
    """What `block_memories` asks of OpenVINO."""

    def __init__(self, context: DeviceContext | None) -> None:
        self._context = context

    def get_default_context(self, device: str) -> DeviceContext:
        assert device == "GPU"
        if self._context is None:
            raise RuntimeError("Not Implemented")
        return self._context

    def get_property(self, device: str, name: str) -> int:
        assert (device, name) == ("GPU", "GPU_DEVICE_MAX_ALLOC_MEM_SIZE")
        return 1000


SHAPES = [BlockShape(ov.Type.f16, TAIL), BlockShape(ov.Type.f32, TAIL)]  # 48 and 96 bytes


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> DeviceContext:
    context = DeviceContext()
    monkeypatch.setattr(block_memory, "core", lambda: Core(context))
    return context


def test_a_gpu_has_the_blocks_in_its_own_memory_as_many_as_an_allocation_holds(context: DeviceContext) -> None:
    memories, most = block_memories(Compiled(["GPU.0"]), "GPU", SHAPES)
    assert [type(memory) for memory in memories] == [RemoteBlocks, RemoteBlocks]
    assert most == 1000 // 96
    assert block_memories(Compiled(["GPU.0"], large=True), "GPU", SHAPES)[1] is None
    assert block_memories(Compiled(["GPU.0"], large=None), "GPU", SHAPES)[1] == most


def test_other_devices_have_them_in_ours(context: DeviceContext) -> None:
    memories, most = block_memories(Compiled(["CPU"]), "CPU", SHAPES)
    assert [type(memory) for memory in memories] == [HostBlocks, HostBlocks]
    assert most is None
    assert not context.made


def test_a_gpu_beside_others_or_without_a_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_memory, "core", lambda: Core(None))
    with pytest.raises(UnsupportedModelError, match=r"several devices: GPU\.0, CPU"):
        block_memories(Compiled(["GPU.0", "CPU"]), "HETERO:GPU,CPU", SHAPES)
    with pytest.raises(UnsupportedModelError, match=r"GPU shares no memory .*Not Implemented"):
        block_memories(Compiled(["GPU.0"]), "GPU", SHAPES)


@pytest.mark.parametrize(
    ("shapes", "room", "reason"),
    [
        ([*SHAPES, BlockShape(ov.Type.u4, TAIL)], 1000, "no parts of u4 tensors"),
        (SHAPES, 50, "Exceeded max size"),
    ],
)
def test_what_a_device_refuses_lies_in_host_memory_that_it_shares(
    shapes: list[BlockShape], room: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = DeviceContext(room)
    memories = in_context(context, shapes)
    for memory in memories:
        memory.resize(2)
    assert [type(memory) for memory in memories] == [HostBlocks] * len(shapes)
    assert context.made[-len(shapes) :] == ["host"] * len(shapes)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.message


def on_a_device(monkeypatch: pytest.MonkeyPatch, context: DeviceContext) -> None:
    """From here on the CPU is taken for a GPU, whose memory the blocks lie in, with two steps in flight."""
    monkeypatch.setattr(paged, "on_gpu", lambda compiled: True)
    monkeypatch.setattr(
        kv_blocks, "block_memories", lambda compiled, device, shapes: (in_context(context, shapes), None)
    )


@pytest.mark.parametrize("precision", ["f32", "f16", "u8"])
@pytest.mark.parametrize("room", [1 << 30, 0], ids=["device", "shared"])
def test_a_model_computes_the_same_with_blocks_in_a_devices_memory(
    tiny_llama: Path, tmp_path: Path, precision: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**F32, "KV_CACHE_PRECISION": precision}
    llms = [ovgen.LLM(tiny_llama, device_config=config, form="paged")]
    on_a_device(monkeypatch, context := DeviceContext(room))
    llms.append(ovgen.LLM(tiny_llama, device_config=config, form="paged"))
    results = []
    for i, llm in enumerate(llms):
        rng = np.random.default_rng(1)
        vocabulary = llm.engine.runner.vocab_size
        prompts = [rng.integers(0, vocabulary, n).tolist() for n in (3, 40, 100, 200, 33)]
        tokens = [out.token_ids for out in llm.generate(prompts, max_new_tokens=40, ignore_eos=True)]
        session = llm.session()
        logits = [session.forward(prompts[1])]
        twin = session.fork()  # in the middle of a block
        logits += [session.forward([1, 2]), twin.forward([3])]
        session.trim(17)
        logits.append(session.forward([4]))
        session.save(tmp_path / f"{i}.kv")
        logits.append(llm.session(tmp_path / "0.kv").forward([5]))
        results.append((tokens, np.concatenate(logits)))
    (tokens, logits_), (others, same) = results
    assert others == tokens
    np.testing.assert_array_equal(same, logits_)
    assert set(context.made) == {"device" if room else "host"}


def test_memory_that_runs_out_is_told(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_device(monkeypatch, context := DeviceContext())
    llm = ovgen.LLM(tiny_llama, device_config=F32, form="paged")
    session = llm.session()
    first = session.forward([1, 2, 3])
    one, other = llm.session(), llm.session()
    one.forward([1] * 240)  # most of the first 16 blocks
    context.room = 0
    with pytest.raises(CacheFullError, match="lower cache_size"):
        other.forward([1] * 240)
    context.room = 1 << 30
    session.trim(0)
    np.testing.assert_array_equal(session.forward([1, 2, 3]), first)
    assert other.forward([1] * 240, rows=1).shape[0] == 1


class Copied(HostBlocks):
    """Blocks that a plugin copies before each inference, as it does with foreign memory."""

    def resize(self, count: int) -> None:
        super().resize(count)
        self.tensor = ov.Tensor(np.zeros(self.tensor.get_shape(), np.float32)) if self.tensor else None


def test_a_plugin_that_computes_on_a_copy_of_the_blocks_is_refused(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_device(monkeypatch, DeviceContext())
    monkeypatch.setattr(
        kv_blocks, "block_memories", lambda compiled, device, shapes: ([Copied(shape) for shape in shapes], None)
    )
    with pytest.raises(UnsupportedModelError, match="CPU does not write into the blocks"):
        ovgen.LLM(tiny_llama, device_config=F32, form="paged")
    assert ovgen.LLM(tiny_llama, device_config=F32).form == "stateful"
