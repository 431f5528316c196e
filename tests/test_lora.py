"""LoRA adapters at work: switched in every form, or merged, against what Hugging Face computes with PEFT."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import ovgen
from ovgen.cli import main
from ovgen.conversion import convert
from ovgen.errors import (
    CacheFileError,
    ConfigError,
    CorruptFileError,
    ModelError,
    ModelNotFoundError,
    RequestError,
    UnsupportedModelError,
)
from ovgen.loader import Adapters, load
from ovgen.runtime.runner import Chunk, Runner
from ovgen.weights import Adapter
from tests.conftest import F32, NPU_ON_CPU
from tests.runtime.test_kernels import needs_compiler
from tests.tiny_lora import ADAPTERS, Golden, golden
from tests.tiny_models import make

FORMS = ("paged", "stateful", "static")


def loaded(variant: str, folder: Path, **options: Any) -> ovgen.LLM:
    """A tiny model with all of its adapters, in float32."""
    adapters = {name: golden(name).folder for name in ADAPTERS[variant]}
    path = folder / variant
    model = path if path.exists() else make(variant, path)
    return ovgen.LLM(model, **{"device_config": F32, "batch_slots": 3, "adapters": adapters, **options})


def step(runner: Runner, case: Golden, adapters: list[int]) -> NDArray[np.float32]:
    """Logits ``(adapters, rows, vocab)`` of the prompt of a case, through each adapter, all in one step."""
    runner.resize(4)
    runner.start([Chunk(number, case.ids, 0, [number], case.rows, adapter) for number, adapter in enumerate(adapters)])
    logits = runner.wait().copy()
    for number in range(len(adapters)):
        runner.release(number)
    return logits.reshape(len(adapters), case.rows, -1)


def written(folder: Path, seed: int) -> Path:
    """An adapter of the storyteller, as PEFT would write it."""
    rng, tensors = np.random.default_rng(seed), {}
    config = json.loads((ovgen.bundled_model() / "config.json").read_text())
    for layer in range(config["num_hidden_layers"]):
        for module, columns, rows in (
            ("self_attn.q_proj", config["hidden_size"], config["hidden_size"]),
            ("mlp.gate_proj", config["hidden_size"], config["intermediate_size"]),
            ("mlp.down_proj", config["intermediate_size"], config["hidden_size"]),
        ):
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = rng.standard_normal((4, columns), np.float32) * np.float32(0.06)
            tensors[f"{name}.lora_B.weight"] = rng.standard_normal((rows, 4), np.float32) * np.float32(0.06)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    return folder


def spread(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The root of the mean square of the errors, relative to the spread of the logits."""
    return float(np.sqrt(np.square(logits - expected).mean()) / expected.std())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", ADAPTERS)
def test_requests_of_a_step_go_through_their_own_adapters(variant: str, form: Any, tmp_path: Path) -> None:
    cases = [golden(name) for name in ADAPTERS[variant]]
    llm = loaded(variant, tmp_path, form=form)
    numbers = [llm.adapters.number(name) for name in (*ADAPTERS[variant], None)]
    together = step(llm.engine.runner, cases[0], numbers)
    expected = [*(case.adapted for case in cases), cases[0].without]
    np.testing.assert_allclose(together, np.stack(expected), rtol=0, atol=1e-4)
    alone = np.concatenate([step(llm.engine.runner, cases[0], [number]) for number in numbers])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_that_follow_go_through_the_same(form: Any, tmp_path: Path) -> None:
    case = golden("llama-patterns")
    llm = loaded("llama", tmp_path, form=form)
    runner, adapter = llm.engine.runner, llm.adapters.number("llama-patterns")
    runner.resize(2)
    first = len(case.ids) - case.rows
    runner.start([Chunk(1, case.ids[:first], 0, [0], 1, adapter), Chunk(2, case.ids[:first], 0, [1], 1, 0)])
    runner.wait()
    given: dict[int, list[NDArray[np.float32]]] = {1: [], 2: []}
    for past in range(first, len(case.ids)):
        token = case.ids[past : past + 1]
        runner.start([Chunk(1, token, past, [0], 1, adapter), Chunk(2, token, past, [1], 1, 0)])
        logits = runner.wait()
        given[1].append(logits[0].copy())
        given[2].append(logits[1].copy())
    np.testing.assert_allclose(np.stack(given[1]), case.adapted, rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.stack(given[2]), case.without, rtol=0, atol=1e-4)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("name", ["llama-attention", "llama-patterns", "gpt2-attention", "phi3-fused"])
def test_a_merged_adapter_computes_the_same(name: str, flag: bool, tmp_path: Path) -> None:
    """Also in square layers, whatever ``fan_in_fan_out`` says: PEFT passes over it where a layer is of another kind."""
    case = golden(name)
    adapter = Path(shutil.copytree(case.folder, tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"fan_in_fan_out": flag}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    source = make(name.split("-")[0], tmp_path / "hf")
    folder = convert(source, tmp_path / "merged", adapter=adapter)
    logits = ovgen.LLM(folder, device_config=F32).session().forward(case.ids, rows=case.rows)
    np.testing.assert_allclose(logits, case.adapted, rtol=0, atol=1e-4)


def test_a_merged_adapter_is_compressed_with_the_weights(tmp_path: Path) -> None:
    case = golden("llama-attention")
    source = make("llama", tmp_path / "hf")
    by_hand = Path(shutil.copytree(source, tmp_path / "by_hand"))
    weights, pairs = (load_file(next(folder.glob("*.safetensors"))) for folder in (source, case.folder))
    for name in (name for name in pairs if "lora_A" in name):
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        weights[f"{module}.weight"] += 2 * pairs[name.replace("lora_A", "lora_B")] @ pairs[name]  # 8 / 4
    save_file(weights, by_hand / "model.safetensors", {"format": "pt"})
    ours = ovgen.LLM(convert(source, tmp_path / "ours", "int8", adapter=case.folder), kernels="off", device_config=F32)
    theirs = ovgen.LLM(convert(by_hand, tmp_path / "theirs", "int8"), kernels="off", device_config=F32)
    np.testing.assert_allclose(ours.session().forward(case.ids), theirs.session().forward(case.ids), rtol=0, atol=1e-3)


def test_a_head_that_shares_the_embedding_cannot_be_merged(tmp_path: Path) -> None:
    source = make("gpt2", tmp_path / "hf")
    with pytest.raises(UnsupportedModelError, match=r"1 of the adapter's \d+ layers are not .*: lm_head"):
        convert(source, tmp_path / "merged", adapter=golden("gpt2-all").folder)
    assert not (tmp_path / "merged").exists()


def test_a_graph_cannot_be_merged_into(tmp_path: Path) -> None:
    folder = convert(make("llama", tmp_path / "hf"), tmp_path / "ir")
    with pytest.raises(UnsupportedModelError, match="merged into a checkpoint: give the folder that it was converted"):
        convert(folder, tmp_path / "merged", adapter=golden("llama-attention").folder)


def test_a_converted_model_takes_adapters(tmp_path: Path) -> None:
    case = golden("llama-attention")
    folder = convert(make("llama", tmp_path / "hf"), tmp_path / "ir")
    llm = ovgen.LLM(folder, device_config=F32, adapters={"a": case.folder})
    np.testing.assert_allclose(step(llm.engine.runner, case, [1, 0])[0], case.adapted, rtol=0, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("form", FORMS)
def test_native_kernels_compute_what_the_plugin_computes(form: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"weights": "int8", "form": form, "device_config": F32, "batch_slots": 3}
    options["adapters"] = {name: written(tmp_path / name, seed) for seed, name in enumerate(("a", "b"))}
    case = replace(golden("llama-attention"), ids=[3, 7, 11, 2, 5, 8, 13, 21, 1, 4])
    plugin, native = (ovgen.LLM(ovgen.bundled_model(), kernels=kernels, **options) for kernels in ("off", "require"))
    expected = step(plugin.engine.runner, case, [1, 2, 0])
    logits = step(native.engine.runner, case, [1, 2, 0])
    for ours, theirs in zip(logits, expected, strict=True):
        assert spread(ours, theirs) < 0.04  # activations are rounded to 8 bits, as in the tests of the kernels
    assert min(spread(expected[0], expected[2]), spread(expected[1], expected[0])) > 0.2
    assert "adapters" in {port.get_any_name() for port in native.model.inputs}  # also where it is read again


def test_compiled_models_are_kept_for_their_adapters(tmp_path: Path) -> None:
    config = {**F32, "CACHE_DIR": str(tmp_path / "cache")}
    model, case = make("llama", tmp_path / "llama"), golden("llama-attention")
    other = golden("llama-patterns")
    for adapters, expected in (({"a": case.folder}, case.adapted), ({"a": other.folder}, other.adapted)):
        for _ in range(2):  # made, and taken from the cache
            llm = ovgen.LLM(model, form="static", device_config=config, adapters=adapters)
            np.testing.assert_allclose(step(llm.engine.runner, case, [1])[0], expected, rtol=0, atol=1e-4)


def test_names_of_adapters_become_numbers(tmp_path: Path) -> None:
    llm = loaded("llama", tmp_path)
    assert llm.adapters.names == ("llama-attention", "llama-patterns")
    assert [llm.adapters.number(name) for name in (None, "llama-attention", "llama-patterns")] == [0, 1, 2]
    with pytest.raises(RequestError, match=r"no adapter 'llama-pattern'; did you mean 'llama-patterns'\?"):
        llm.adapters.number("llama-pattern")
    with pytest.raises(RequestError, match="no adapter 'xyz'; there are: llama-attention, llama-patterns"):
        llm.adapters.number("xyz")
    with pytest.raises(RequestError, match="no adapter 'a'; the model was loaded with none"):
        ovgen.LLM(tmp_path / "llama").adapters.number("a")


def test_adapters_that_cannot_be_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = golden("gpt2-attention").folder
    with pytest.raises(ModelError, match=r"not among the model's linear layers: transformer\.h\.0"):
        ovgen.LLM(tiny_llama, adapters={"a": folder})
    with pytest.raises(ModelNotFoundError, match=r"has no adapter_config\.json"):
        ovgen.LLM(tiny_llama, adapters={"a": tmp_path})
    with pytest.raises(ConfigError, match="adapters must be a mapping of names to folders"):
        ovgen.LLM(tiny_llama, adapters={"": folder})
    with pytest.raises(ConfigError, match="the path of an adapter is empty"):
        ovgen.LLM(tiny_llama, adapters={"a": ""})
    for path in (None, 3):
        with pytest.raises(ConfigError, match=f"path of an adapter must be a string or a Path, got {path}"):
            ovgen.LLM(tiny_llama, adapters={"a": path})  # type: ignore[dict-item]
    nothing: tuple[Any, ...] = ([], "")
    for adapters in nothing:
        with pytest.raises(ConfigError, match="adapters must be a mapping of names to folders"):
            ovgen.LLM(tiny_llama, adapters=adapters)


def test_the_matrices_of_adapters_are_not_kept_beside_the_graph(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(golden("llama-attention").folder, tmp_path / "adapter"))
    adapters = Adapters({"a": folder})
    assert not find_arrays(adapters)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(CorruptFileError, match="adapter has changed since it was loaded"):
        adapters.add_to(load(tiny_llama).build())


def find_arrays(value: Any) -> list[Any]:
    """Arrays, and what has some, anywhere in an object."""
    if isinstance(value, np.ndarray | Adapter):
        return [value]
    inner = value.values() if isinstance(value, dict) else vars(value).values() if hasattr(value, "__dict__") else ()
    return [array for each in inner for array in find_arrays(each)]


@pytest.mark.parametrize("form", FORMS)
def test_a_session_goes_through_an_adapter(form: Any, tmp_path: Path) -> None:
    case = golden("llama-patterns")
    llm = loaded("llama", tmp_path, form=form)
    with llm.session(adapter="llama-patterns") as session:
        session.forward(case.ids[: -case.rows])
        session.save(tmp_path / "s.kv")
        logits = session.fork().forward(case.ids[-case.rows :])
        np.testing.assert_allclose(logits, case.adapted, rtol=0, atol=1e-4)
        session.trim(0)
        np.testing.assert_allclose(session.forward(case.ids, rows=case.rows), case.adapted, rtol=0, atol=1e-4)
    with llm.session(tmp_path / "s.kv", adapter="llama-patterns") as session:
        logits = session.forward(case.ids[-case.rows :])
        np.testing.assert_allclose(logits, case.adapted, rtol=0, atol=1e-4)
    for other in (None, "llama-attention"):
        with pytest.raises(CacheFileError, match=r"another model .*load it with the model, adapter, form"):
            llm.session(tmp_path / "s.kv", adapter=other)
    with pytest.raises(RequestError, match="no adapter 'x'"):
        llm.session(adapter="x")


def test_the_plugins_own_form_has_no_adapters(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="npuw form has no place for adapters: take form='static'"):
        loaded("llama", tmp_path, device="NPU", form="npuw", device_config=NPU_ON_CPU)


def test_the_command_line_merges(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    case = golden("llama-attention")
    source, target = make("llama", tmp_path / "hf"), tmp_path / "merged"
    assert main(["convert", str(source), str(target), "--adapter", str(case.folder)]) == 0
    assert "merged" in capsys.readouterr().out
    logits = ovgen.LLM(target, device_config=F32).session().forward(case.ids, rows=case.rows)
    np.testing.assert_allclose(logits, case.adapted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pairs", [["a"], ["=x"], ["a="], ["a=x", "a=y"]])
def test_the_command_line_names_adapters(pairs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for pair in pairs for word in ("--lora", pair)]
    assert main(["generate", "Once", *options]) == 1
    assert f"--lora takes NAME=PATH, each name once, got {' and '.join(pairs)}" in capsys.readouterr().err.replace(
        "'", ""
    )


@pytest.mark.parametrize("form", FORMS)
def test_each_request_chooses(form: str, tmp_path: Path) -> None:
    """Texts are those of merged models, also where a request begins with what another adapter has computed."""
    folders = {name: written(tmp_path / name, seed) for seed, name in enumerate(("a", "b"))}
    llm = ovgen.LLM(ovgen.bundled_model(), form=form, adapters=folders, device_config=F32, batch_slots=3)  # type: ignore[arg-type]
    prompt, names = [300 + i for i in range(40)], ("a", "b", None)
    params = [ovgen.SamplingParams(adapter=name, max_new_tokens=12, ignore_eos=True) for name in names]
    rounds = [[out.token_ids for out in llm.generate([prompt] * 3, params)] for _ in range(2)]
    expected = []
    for name in names:
        folder = ovgen.bundled_model()
        if name is not None:
            folder = tmp_path / f"merged-{name}"
            convert(ovgen.bundled_model(), folder, adapter=folders[name])
        alone = ovgen.LLM(folder, device_config=F32)
        expected.append(alone.generate(prompt, max_new_tokens=12, ignore_eos=True, temperature=0).token_ids)
    assert rounds == [expected, expected]
    assert len(set(expected)) == 3
    assert llm.metrics.hit_rate  # in the second round
    with pytest.raises(RequestError, match=r"'c'.*a, b"):
        llm.generate(prompt, adapter="c")
