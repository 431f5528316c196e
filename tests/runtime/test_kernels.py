"""When the native kernels are taken, and that a model computes the same with them."""

from __future__ import annotations

import gc
import logging
import shutil
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.graph.passes import to_paged
from ovgen.runtime import kernels as module
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.runner import Chunk
from ovgen.runtime.windows import attention_windows
from ovgen.weights import Compression
from tests.conftest import F32
from tests.tiny_models import make

NO_COMPILER = sys.platform != "linux" or not any(map(shutil.which, ("g++", "clang++", "c++")))
needs_compiler = pytest.mark.skipif(NO_COMPILER, reason="the kernels cannot be built: no Linux, or no C++ compiler")
IDS = [3, 7, 11, 2, 5, 8, 13, 21, 1, 4]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in INT8."""
    folder = tmp_path_factory.mktemp("int8")
    return ovgen.convert(make("llama", folder / "llama"), folder / "ir", weights="int8")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine that cannot build the kernels, and has not."""
    monkeypatch.setenv("OVGEN_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    module._loaded_library.cache_clear()
    yield
    module._loaded_library.cache_clear()


@needs_compiler
def test_compressed_weights_are_computed_natively(int8: Path) -> None:
    llm = ovgen.LLM(int8)
    assert llm.kernels.native
    assert llm.kernels.name.startswith("native (")
    assert "linear layers in" in str(llm.kernels)
    kinds = [node.get_type_name() for node in llm.kernels.model.get_ops()]
    assert "PackedLinear" in kinds
    assert "MatMul" not in {node.get_type_name() for node in llm.kernels.model.get_ops() if "proj" in str(node)}
    out = llm.generate(IDS, max_new_tokens=3, ignore_eos=True)
    assert out.metrics.kernels == llm.kernels.name
    assert "PackedLinear" not in {node.get_type_name() for node in llm.model.get_ops()}  # what is saved is standard


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernels": "off"}, "off"),
        ({"device_config": {"EXECUTION_MODE_HINT": "ACCURACY"}}, "ACCURACY"),
        ({"device_config": {"EXECUTION_MODE_HINT": ov.properties.hint.ExecutionMode.ACCURACY}}, "ACCURACY"),
    ],
)
def test_float32_activations_on_request(int8: Path, options: dict[str, Any], reason: str) -> None:
    llm = ovgen.LLM(int8, **options)
    assert llm.kernels.name == "plugin"
    assert reason in llm.kernels.reason
    assert llm.generate(IDS, max_new_tokens=1).metrics.kernels == "plugin"
    if "kernels" not in options:
        with pytest.raises(ovgen.KernelError, match=f"require.*{reason}"):
            ovgen.LLM(int8, kernels="require", **options)


@needs_compiler
@pytest.mark.parametrize("form", ["paged", "stateful", "static"])
@pytest.mark.parametrize("weights", [None, "f16"])
@pytest.mark.parametrize("variant", ["storyteller", "gpt2"])
def test_floats_are_computed_natively_in_all_forms(variant: str, weights: Any, form: Any, tmp_path: Path) -> None:
    folder = make(variant, tmp_path / variant) if variant == "gpt2" else ovgen.bundled_model(variant)
    options: dict[str, Any] = {"weights": weights, "form": form, "device_config": F32}
    expected = ovgen.LLM(folder, kernels="off", **options).session().forward(IDS)
    llm = ovgen.LLM(folder, kernels="require", **options)
    assert not llm.kernels.rounds
    session = llm.session()
    logits = np.concatenate([session.forward(IDS[:5]), *(session.forward([token]) for token in IDS[5:])])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.std())


@needs_compiler
def test_floats_are_left_to_a_plugin_that_computes_in_less(tiny_llama: Path) -> None:
    model = ovgen.LLM(tiny_llama, kernels="off").model

    def choose(device_config: dict[str, Any]) -> module.KernelChoice:
        return module.choose_kernels(model, "auto", "CPU", device_config)

    assert choose({}).native
    assert choose({"INFERENCE_PRECISION_HINT": "f32"}).native
    assert choose({"INFERENCE_PRECISION_HINT": "bf16", "EXECUTION_MODE_HINT": "ACCURACY"}).native
    choice = choose({"INFERENCE_PRECISION_HINT": ov.Type.bf16})
    assert not choice.native
    assert choice.reason == "weights are not compressed, and are multiplied in bf16"


@needs_compiler
def test_layers_that_are_left_are_reported_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"weights": ovgen.Compression(weights="int4", group_size=16)}
    llm = ovgen.LLM(ovgen.bundled_model("storyteller"), **options)
    assert llm.kernels.native
    told = [record.getMessage() for record in caplog.records if "left to OpenVINO's own" in record.getMessage()]
    assert len(told) == 1
    assert "groups of 16 would be filled up to multiples of 32" in told[0]
    with pytest.raises(ovgen.KernelError, match=r"'require' cannot be: \d+ operations.*groups of 16"):
        ovgen.LLM(ovgen.bundled_model("storyteller"), kernels="require", **options)


def test_an_unknown_choice_is_an_error(tiny_llama: Path) -> None:
    with pytest.raises(ovgen.ConfigError, match="kernels must be one of auto, off, require, got 'on'"):
        ovgen.LLM(tiny_llama, kernels="on")


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_one_line_says_so(int8: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ovgen"):
        llm = ovgen.LLM(int8)
    assert llm.kernels.name == "plugin"
    lines = [record.getMessage() for record in caplog.records if "OpenVINO's own kernels" in record.getMessage()]
    assert len(lines) == 1
    assert "unset CXX" in lines[0] or "Linux" in lines[0]
    assert len(llm.generate(IDS, max_new_tokens=3, ignore_eos=True).token_ids) == 3


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_required_kernels_are_an_error(int8: Path) -> None:
    with pytest.raises(ovgen.KernelError, match=r"'require' cannot be: .*(unset CXX|Linux).*kernels='auto' takes"):
        ovgen.LLM(int8, kernels="require")
    with pytest.raises(ovgen.DeviceError):  # its kind: the next device of a list may do
        ovgen.LLM(int8, kernels="require", device=["CPU"])


@needs_compiler
@pytest.mark.parametrize("form", ["paged", "stateful", "static"])
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("variant", ["storyteller", "gpt2"])
def test_all_forms_compute_what_the_plugin_computes(variant: str, weights: Any, form: Any, tmp_path: Path) -> None:
    folder = make(variant, tmp_path / variant) if variant == "gpt2" else ovgen.bundled_model(variant)
    options: dict[str, Any] = {"weights": Compression(weights=weights, group_size=32 if weights == "int4" else None)}
    options |= {"form": form, "device_config": {"KV_CACHE_PRECISION": "f32", "INFERENCE_PRECISION_HINT": "f32"}}
    expected = ovgen.LLM(folder, kernels="off", **options).session().forward(IDS)
    session = ovgen.LLM(folder, kernels="require", **options).session()
    logits = np.concatenate([session.forward(IDS[:5]), *(session.forward([token]) for token in IDS[5:])])
    error = np.sqrt(np.square(logits - expected).mean())
    assert error < 0.04 * expected.std()  # activations are rounded to 8 bits


@needs_compiler
def test_steps_of_the_same_tokens_give_the_same_in_any_graph(int8: Path) -> None:
    llm = ovgen.LLM(int8, device_config={"KV_CACHE_PRECISION": "f32"})
    together = llm.session().forward(IDS)
    session = llm.session()
    alone = np.concatenate([session.forward([token]) for token in IDS])
    np.testing.assert_allclose(alone, together, atol=1e-4 * together.std(), rtol=0)
    for _ in range(6):  # often enough for a graph of four tokens
        session.trim(len(IDS) - 4)
        np.testing.assert_allclose(session.forward(IDS[-4:]), together[-4:], atol=1e-4 * together.std(), rtol=0)


@needs_compiler
@pytest.mark.parametrize("form", ["stateful", "static"])
def test_compiled_models_come_back_from_the_cache(int8: Path, form: Any, tmp_path: Path) -> None:
    config = {"CACHE_DIR": str(tmp_path / "cache")}
    first = ovgen.LLM(int8, form=form, device_config=config, kernels="require")
    expected = first.generate(IDS, max_new_tokens=8, ignore_eos=True).token_ids
    assert any((tmp_path / "cache").iterdir())
    again = ovgen.LLM(int8, form=form, device_config=config, kernels="require")
    assert again.generate(IDS, max_new_tokens=8, ignore_eos=True).token_ids == expected


@needs_compiler
def test_a_lowered_model_can_be_saved_and_read(int8: Path, tmp_path: Path) -> None:
    from ovgen.runtime.device import core

    lowered = ovgen.LLM(int8, kernels="require").kernels.model
    ov.save_model(lowered, tmp_path / "native.xml", compress_to_fp16=False)
    again = core().read_model(tmp_path / "native.xml")
    inputs = {
        "input_ids": np.array([IDS]),
        "attention_mask": np.ones((1, len(IDS)), np.int64),
        "position_ids": np.arange(len(IDS))[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    ours, theirs = (core().compile_model(model, "CPU")(inputs)["logits"] for model in (lowered, again))
    np.testing.assert_array_equal(ours, theirs)


@needs_compiler
def test_the_graph_is_read_again_unless_it_has_changed(int8: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(int8, tmp_path / "model")
    assert ovgen.LLM(folder).model.get_sinks()
    llm = ovgen.LLM(folder)
    with (folder / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ovgen.ModelError, match="has changed since it was loaded"):
        _ = llm.model


@needs_compiler
def test_without_fixed_shapes_the_others_are_used(
    int8: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(model: ov.Model, tokens: int) -> ov.Model:
        raise RuntimeError("no such shape")

    expected = ovgen.LLM(int8).generate(IDS, max_new_tokens=9, ignore_eos=True).token_ids
    monkeypatch.setattr("ovgen.runtime.paged.of_tokens", refuse)
    llm = ovgen.LLM(int8)
    assert llm.generate(IDS, max_new_tokens=9, ignore_eos=True).token_ids == expected
    settle(llm)
    assert llm.generate(IDS, max_new_tokens=9, ignore_eos=True).token_ids == expected
    assert caplog.text.count("no such shape") == 1


def settle(llm: ovgen.LLM) -> PagedRunner:
    runner = llm.engine.runner
    assert isinstance(runner, PagedRunner)
    runner.settle()
    return runner


def decoded(runner: PagedRunner, steps: int) -> NDArray[np.float32]:
    """Logits ``(steps, vocab)`` of single tokens behind a prompt."""
    runner.resize(1)
    runner.start([Chunk(0, IDS, 0, [0], 1)])
    runner.wait()
    logits = []
    for past in range(len(IDS), len(IDS) + steps):
        runner.start([Chunk(0, [past], past, [0], 1)])
        logits.append(runner.wait()[0].copy())
    return np.array(logits)


@needs_compiler
def test_fixed_shapes_are_compiled_in_the_background_and_compute_the_same(int8: Path) -> None:
    llm = ovgen.LLM(int8, kernels="require")
    form = to_paged(llm.kernels.model, attention_windows(llm.kernels.model))
    runner, plain = (PagedRunner(form, "CPU", {}, fixed=fixed) for fixed in (1, 0))
    expected = decoded(plain, 12)
    assert list(runner._lanes[0].graphs) == [0]  # loading does not wait for them, nor does the first token
    np.testing.assert_array_equal(decoded(runner, 12), expected)  # somewhere there the other graph takes over
    runner.settle()
    assert list(runner._lanes[0].graphs) == [0, 1]
    np.testing.assert_array_equal(decoded(runner, 12), expected)
    assert runner._lanes[0].request is runner._lanes[0].graphs[1].request
    assert list(plain._lanes[0].graphs) == [0]


def test_one_graph_of_fixed_shapes_takes_a_copy_of_weights_that_are_not_packed() -> None:
    llm = ovgen.LLM(ovgen.bundled_model(), kernels="off")
    assert llm.kernels.most_fixed == 1
    form = to_paged(llm.kernels.model, attention_windows(llm.kernels.model))
    expected = decoded(PagedRunner(form, "CPU", {}), 12)
    runner = llm.engine.runner
    assert isinstance(runner, PagedRunner)
    decoded(runner, 4)
    runner.settle()
    assert list(runner._lanes[0].graphs) == [0, 1]
    np.testing.assert_array_equal(decoded(runner, 12), expected)
    for _ in range(5):  # two tokens at once are left to the graph of any shape
        runner.start([Chunk(0, IDS[:2], 0, [0], 2)])
        runner.wait()
    runner.settle()
    assert list(runner._lanes[0].graphs) == [0, 1]


@pytest.mark.parametrize(
    ("nbytes", "packed", "most"), [(8, 7, 8), (8, 6, 1), (1 << 30, 0, 1), ((1 << 30) + 1, 0, 0), (9 << 30, 8 << 30, 8)]
)
def test_graphs_of_fixed_shapes_are_for_weights_that_are_shared_or_few(
    nbytes: int, packed: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.KernelChoice, "nbytes", nbytes)
    assert module.KernelChoice(ov.Model([], []), "plugin", "", packed=packed).most_fixed == most


@needs_compiler
def test_a_runner_can_go_while_its_fixed_shapes_are_compiled(int8: Path) -> None:
    llm = ovgen.LLM(int8, kernels="require")
    form = to_paged(llm.kernels.model, attention_windows(llm.kernels.model))
    runner = PagedRunner(form, "CPU", {}, fixed=1)
    decoded(runner, 4)
    assert runner._coming is not None
    reference, future = weakref.ref(runner), runner._coming[1]
    del runner
    gc.collect()
    assert reference() is None
    assert isinstance(future.result(), ov.CompiledModel)


@needs_compiler
def test_without_threads_there_are_no_fixed_shapes(
    int8: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    llm = ovgen.LLM(int8, kernels="require")
    monkeypatch.setattr("ovgen.runtime.paged.ThreadPoolExecutor.submit", refuse)
    llm.generate(IDS, max_new_tokens=9, ignore_eos=True)
    assert caplog.text.count("can't start new thread") == 1
    assert list(settle(llm)._lanes[0].graphs) == [0]
