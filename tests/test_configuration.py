"""The configuration file: what each key means, which place wins, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeAlias

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import ovgen
from ovgen import env
from ovgen.config import EngineConfig
from ovgen.configuration import Configuration, ModelConfig, Setting, read_configuration

Read: TypeAlias = Callable[[str], Configuration]
MODEL = "models: {m: {path: m.gguf}}\n"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in env.OVERRIDES:
        monkeypatch.delenv(f"OVGEN_{name.upper()}", raising=False)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a text as a configuration, in a folder where there is a ``m.gguf``."""
    (tmp_path / "m.gguf").write_bytes(b"")

    def read(text: str) -> Configuration:
        (tmp_path / "ovgen.yaml").write_text(dedent(text), encoding="utf-8")
        return read_configuration(tmp_path / "ovgen.yaml")

    return read


def only(configuration: Configuration) -> ModelConfig:
    (model,) = configuration.models.values()
    return model


def options(configuration: Configuration) -> dict[str, Any]:
    """What `LLM` gets beyond its defaults."""
    defaults = {f.name: f.default for f in fields(EngineConfig)}
    defaults |= {"device": "CPU", "device_config": {}, "form": "auto", "weights": None}
    given = only(configuration).spec().options
    assert set(given) == set(defaults)
    return {name: value for name, value in given.items() if value != defaults[name]}


def test_yaml_reads_off_as_false(read: Read) -> None:
    given = options(read("models: {a: {path: m.gguf, kernels: off}}"))
    assert ovgen.EngineConfig(kernels=given["kernels"]).kernels == "off"


def test_a_path_is_enough(read: Read, tmp_path: Path) -> None:
    configuration = read(MODEL)
    assert configuration.memory_budget == Setting(None, "default")
    assert only(configuration).path == Setting(tmp_path / "m.gguf", "models.m.path, line 1")
    assert {setting.origin for setting in only(configuration).settings.values()} == {"default"}
    assert only(configuration).spec().path == tmp_path / "m.gguf"
    assert options(configuration) == {}


def test_a_file_as_it_is_written_for_openvino(read: Read, tmp_path: Path) -> None:
    configuration = read("""
        openvino:
          device: CPU
          cache_dir: ./cache
          performance_hint: latency
          num_streams: 2
        optimization:
          backend: openvino
          device: NPU
          fallback: [GPU, CPU]
          openvino:
            performance_hint: THROUGHPUT
          quantization:
            enabled: yes
            format: INT8
        models:
          m:
            path: m.gguf
        """)
    assert options(configuration) == {
        "device": ["NPU", "GPU", "CPU"],
        "device_config": {
            "CACHE_DIR": str(tmp_path / "cache"),
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": "2",
        },
        "weights": "int8",
    }
    origins = {name: s.origin for name, s in only(configuration).settings.items() if s.origin != "default"}
    assert origins == {
        "device": "optimization.device, line 9 + optimization.fallback, line 10",
        "cache_dir": "openvino.cache_dir, line 4",
        "performance_hint": "optimization.openvino.performance_hint, line 12",
        "num_streams": "openvino.num_streams, line 6",
        "weights": "optimization.quantization.format, line 15",
    }


def test_a_model_has_its_own_options(read: Read) -> None:
    configuration = read("""
        memory_budget: 2.5
        optimization: {device: NPU, fallback: [CPU], quantization: {enabled: true, format: int4}}
        models:
          m:
            path: m.gguf
            device: GPU.1
            fallback: []
            form: Paged
            weights: stored
            performance_hint: LATENCY
            device_config: {KV_CACHE_PRECISION: u8, NPU: {PERFORMANCE_HINT: THROUGHPUT}}
            max_model_len: 512
            cache_size: 1
            params: {temperature: 1e-1, stop: ["END"], logit_bias: {7: -1}}
        """)
    assert configuration.memory_budget.value == 2.5
    assert options(configuration) == {
        "device": "GPU.1",
        "form": "paged",
        "device_config": {
            "PERFORMANCE_HINT": "LATENCY",
            "KV_CACHE_PRECISION": "u8",
            "NPU": {"PERFORMANCE_HINT": "THROUGHPUT"},
        },
        "max_model_len": 512,
        "cache_size": 1,
    }
    assert only(configuration).spec().params == {"temperature": 0.1, "stop": ["END"], "logit_bias": {7: -1}}


PLACES = {  # what has precedence first
    "OVGEN_DEVICE": "ENV",
    "models.m.device": "MODEL",
    "optimization.openvino.device": "INNER",
    "optimization.device": "OUTER",
    "openvino.device": "PLAIN",
}


@pytest.mark.parametrize("first", range(len(PLACES) + 1))
def test_the_more_specific_place_wins(read: Read, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    places = dict(list(PLACES.items())[first:])
    if "OVGEN_DEVICE" in places:
        monkeypatch.setenv("OVGEN_DEVICE", places["OVGEN_DEVICE"])

    def device(place: str) -> str:
        return f"device: {places[place]}, " if place in places else ""

    configuration = read(f"""
        openvino: {{{device("openvino.device")}}}
        optimization: {{{device("optimization.device")}openvino: {{{device("optimization.openvino.device")}}}}}
        models: {{m: {{path: m.gguf, {device("models.m.device")}}}}}
        """)
    setting = only(configuration).settings["device"]
    assert setting.value == (next(iter(places.values()), "CPU"),)
    assert setting.origin.split(",")[0] == next(iter(places), "default")


def test_each_variable_goes_before_the_file(read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "device": "npu, gpu.0",
        "cache_dir": "here",
        "performance_hint": "throughput",
        "num_streams": "3",
        "weights": "fp16",
        "form": "stateful",
        "memory_budget": "1.5",
    }
    assert set(values) == set(env.OVERRIDES)
    for name, value in values.items():
        monkeypatch.setenv(f"OVGEN_{name.upper()}", value)
    configuration = read("""
        memory_budget: 3
        optimization: {fallback: [CPU], quantization: {enabled: false}}
        models: {m: {path: m.gguf, device: GPU, form: paged, num_streams: 1, cache_dir: there}}
        """)
    assert configuration.memory_budget == Setting(1.5, "OVGEN_MEMORY_BUDGET")
    assert options(configuration) == {
        "device": ["NPU", "GPU.0"],  # and not what the file falls back on
        "device_config": {
            "CACHE_DIR": str(tmp_path / "here"),
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": "3",
        },
        "weights": "f16",
        "form": "stateful",
    }
    monkeypatch.setenv("OVGEN_NUM_STREAMS", "many")
    with pytest.raises(ovgen.ConfigError, match=r"^OVGEN_NUM_STREAMS must be a whole number of"):
        read(MODEL)
    monkeypatch.setenv("OVGEN_NUM_STREAMS", "")
    assert only(read(MODEL)).settings["num_streams"] == Setting(None)


@pytest.mark.parametrize(
    ("device", "fallback", "expected"),
    [
        ("cpu", "[]", "CPU"),
        ("NPU", "GPU", ["NPU", "GPU"]),
        ("'NPU, GPU'", "[CPU]", ["NPU", "GPU", "CPU"]),
        ("[NPU, GPU]", "[]", ["NPU", "GPU"]),
        ("AUTO", "[]", "AUTO"),
        ("'AUTO:NPU,GPU'", "[]", "AUTO:NPU,GPU"),
        ("'AUTO:NPU,GPU'", "[CPU]", ["NPU", "GPU", "CPU"]),
        ("'HETERO:GPU,CPU'", "[CPU]", ["HETERO:GPU,CPU", "CPU"]),
    ],
)
def test_devices_are_tried_in_order_each_once(read: Read, device: str, fallback: str, expected: Any) -> None:
    configuration = read(f"{MODEL}optimization: {{device: {device}, fallback: {fallback}}}")
    assert only(configuration).spec().options["device"] == expected


@pytest.mark.parametrize(
    ("common", "own", "expected"),
    [
        ("optimization: {device: NPU, fallback: [CPU]}", "", ["NPU", "CPU"]),
        ("optimization: {device: NPU, fallback: [CPU]}", "device: GPU", "GPU"),  # pinned
        ("optimization: {device: NPU, fallback: [CPU]}", "fallback: GPU", ["NPU", "GPU"]),
        ("optimization: {device: NPU, fallback: [CPU]}", "device: CPU, fallback: [GPU]", ["CPU", "GPU"]),
        ("optimization: {fallback: [CPU], openvino: {device: NPU}}", "", ["NPU", "CPU"]),
        ("openvino: {device: NPU}\noptimization: {fallback: [CPU]}", "", ["NPU", "CPU"]),
        ("openvino: {device: NPU}\noptimization: {fallback: [CPU]}", "device: NPU", "NPU"),
    ],
)
def test_device_and_fallback_travel_together(read: Read, common: str, own: str, expected: Any) -> None:
    configuration = read(f"{common}\nmodels: {{m: {{path: m.gguf, {own}}}}}\n")
    assert only(configuration).spec().options["device"] == expected


def test_a_model_may_be_just_a_path(read: Read, tmp_path: Path) -> None:
    configuration = read("models:\n  m: m.gguf\n")
    assert only(configuration).path == Setting(tmp_path / "m.gguf", "models.m.path, line 2")


def test_a_variable_that_is_misspelt_is_told(
    read: Read, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OVGEN_DEVISE", "GPU")
    read(MODEL)
    assert [record.getMessage() for record in caplog.records] == [
        "the environment variable OVGEN_DEVISE has no effect; did you mean 'OVGEN_DEVICE'?"
    ]


def test_models_can_share_what_an_anchor_names(read: Read) -> None:
    models = read("""
        models:
          one: &one {path: m.gguf, params: {temperature: 0.5, top_k: 5}, cache_size: 1}
          two: {<<: *one, cache_size: 2}
        """).models
    assert [model.settings["cache_size"].value for model in models.values()] == [1, 2]
    assert models["one"].spec().params == models["two"].spec().params == {"temperature": 0.5, "top_k": 5}


def test_paths_are_relative_to_the_file(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for path in ("./m.gguf", "~/m.gguf", str(tmp_path / "m.gguf")):
        assert only(read(f"models: {{m: {{path: '{path}'}}}}")).path.value == tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # keys
        ("openvno: {}", "line 2: openvno is not known; did you mean 'openvino'?"),
        ("openvino: {devise: CPU}", "line 2: openvino.devise is not known; did you mean 'device'?"),
        ("openvino: {backend: openvino}", "line 2: openvino.backend is not known; there are: device, cache_dir"),
        ("optimization: {falback: CPU}", "optimization.falback is not known; did you mean 'fallback'?"),
        ("optimization: {openvino: {fallback: CPU}}", "optimization.openvino.fallback is not known"),
        ("optimization:\n  quantization: {enable: true}", "line 3: optimization.quantization.enable is not known"),
        ("models: {m: {path: m.gguf, weigths: int8}}", "models.m.weigths is not known; did you mean 'weights'?"),
        ("models: {m: {path: m.gguf, params: {temp: 1}}}", "models.m.params.temp is not known"),
        ("models: {1: {path: m.gguf}}", "models.1 is not a name, as YAML reads it: put it in quotes"),
        ("on: {}", "True is not a name"),
        ("openvino: {device: CPU}\nopenvino: {}", "line 3: the key 'openvino' occurs twice"),
        ("openvino: {device: CPU, device: GPU}", "line 2: the key 'device' occurs twice"),
        ("openvino: {[1]: 2}", "line 2: a key must be a name"),
        # values
        ("openvino: [CPU]", "openvino must be a section with keys of its own, got ['CPU']"),
        (
            "openvino: {device: 4}",
            "openvino.device must be a device such as CPU, GPU.1 or NPU, or a list of those, got 4",
        ),
        ("openvino: {device: no}", "got False (YAML takes yes, no, on and off for that: put it in quotes)"),
        ("openvino: {device: []}", "openvino.device must be a device, or a list of devices to try, got []"),
        ("openvino: {device: [CPU, 1]}", "openvino.device must be a device such as"),
        ("openvino: {device: '-'}", "openvino.device must be a device such as"),
        ("openvino: {cache_dir: 3}", "openvino.cache_dir must be a path, got 3"),
        ("openvino: {num_streams: 0}", "openvino.num_streams must be a whole number of at least 1, or AUTO, got 0"),
        ("openvino: {num_streams: 1.5}", "num_streams must be a whole number of at least 1, or AUTO, got 1.5"),
        ("openvino: {performance_hint: FAST}", "must be LATENCY, THROUGHPUT or CUMULATIVE_THROUGHPUT, got 'FAST'"),
        ("optimization: {backend: onnx}", "optimization.backend must be openvino, got 'onnx'"),
        ("optimization: {fallback: {a: b}}", "optimization.fallback must be a device such as"),
        ("optimization: {quantization: {enabled: maybe}}", "quantization.enabled must be true or false, got 'maybe'"),
        ("optimization: {quantization: {enabled: true}}", "enabled needs `format`, one of f16, int8, int4"),
        ("optimization: {quantization: {format: int8}}", "format says nothing without `enabled`"),
        (
            "optimization: {quantization: {enabled: true, format: int2}}",
            "optimization.quantization.format must be f16, int8 or int4, got 'int2'",
        ),
        ("memory_budget: 0", "memory_budget must be a number above 0 (GiB), got 0"),
        ("memory_budget: 8GB", "memory_budget must be a number above 0 (GiB), got '8GB'"),
        ("memory_budget: .inf", "memory_budget must be a number above 0 (GiB), got inf"),
        ("memory_budget: true", "memory_budget must be a number above 0 (GiB), got True"),
        ("models: {}", "models is missing: name one at least"),
        ("models: {m: [m.gguf]}", "models.m must be a section with keys of its own, got ['m.gguf']"),
        ("models: {'': {path: m.gguf}}", "line 2: models.'' is no name for a model"),
        ("models: {m: other}", "line 2: models.m.path names no model: there is no model at"),
        ("models: {m: }", "models.m.path is missing"),
        ("models: {m: {path: other}}", "line 2: models.m.path names no model: there is no model at"),
        ("models: {m: {path: ovgen.yaml}}", "ovgen.yaml is a file: give a .gguf, or a folder"),
        ("models: {m: {path: empty}}", "empty has neither openvino_model.xml nor safetensors nor .gguf; it holds:"),
        # what does not go together
        ("openvino: {device: [GPU, GPU]}", "openvino.device must name each device once, got GPU, GPU"),
        (
            "optimization: {device: NPU, fallback: [GPU, NPU]}",
            "optimization.device, line 2 + optimization.fallback, line 2 must name each device once, got NPU, GPU, NPU",
        ),
        ("optimization: {fallback: [CPU]}", "default + optimization.fallback, line 2 must name each device once"),
        ("optimization: {device: AUTO, fallback: [CPU]}", "line 2: AUTO tries all devices by itself"),
        (
            "openvino: {num_streams: 2}\nmodels: {m: {path: m.gguf, device_config: {NUM_STREAMS: 1}}}",
            "line 3: models.m.device_config has NUM_STREAMS, which openvino.num_streams, line 2 sets, too",
        ),
        (
            "models: {m: {path: m.gguf, form: static, device_config: {KV_CACHE_PRECISION: u8}}}",
            "models.m.device_config does not fit: KV_CACHE_PRECISION must be f16 or f32 in the static form, got 'u8'",
        ),
        (
            "models: {m: {path: m.gguf, device: [GPU, NPU], device_config: {NPU: {KV_CACHE_PRECISION: u8}}}}",
            "KV_CACHE_PRECISION must be f16 or f32 in the static form, got 'u8'",
        ),
        (
            "models: {m: {path: m.gguf, device: NPU, form: stateful}}",
            "models.m: NPUs do not take the stateful form (models.m.form, line 2; device from models.m.device, line 2)",
        ),
        ("models: {m: {path: m.gguf, form: page}}", "models.m.form must be auto, paged"),
        ("models: {m: {path: m.gguf, weights: q4}}", "models.m.weights must be f16, int8 or int4, got 'q4'"),
        ("models: {m: {path: m.gguf, device_config: 3}}", "device_config must be OpenVINO properties by name, got 3"),
        ("models: {m: {path: m.gguf, device_config: {A: [1]}}}", "must be OpenVINO properties, each text or a number"),
        (
            "models: {m: {path: m.gguf, device_config: {NPU: {X: {Y: 1}}}}}",
            "device_config must be properties, or sections of properties, and no deeper, got",
        ),
        ("models: {m: {path: m.gguf, device_config: {cpu: {X: 1}}}}", "got 'cpu'; did you mean 'CPU'?"),
        ("models: {m: {path: m.gguf, device_config: {XYZ: {X: 1}}}}", "got 'XYZ'; there are: CPU, GPU, NPU"),
        ("models: {m: {path: m.gguf, max_model_len: -1}}", "line 2: models.m.max_model_len must be a whole number"),
        ("models: {m: {path: m.gguf, max_num_seqs: 999}}", "models.m.max_num_batched_tokens must be at least"),
        (
            "models: {m: {path: m.gguf, params: {top_p: 2}}}",
            "line 2: models.m.params.top_p must be above 0 and at most",
        ),
    ],
)
def test_what_cannot_be_names_file_line_and_key(read: Read, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    rest = "" if "models" in text else MODEL
    with pytest.raises(ovgen.ConfigError, match=re.escape(message)) as caught:
        read(f"# a comment\n{text}\n{rest}")
    assert str(caught.value).startswith(str(tmp_path / "ovgen.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", ", line 1: expected the node content, but found '<stream end>'"),
        ("models: !!python/object/apply:os.getcwd []", ", line 1: could not determine a constructor for the tag"),
        ("a: *b", ", line 1: found undefined alias 'b'"),
        ("a: 2026-13-45", " is not YAML: month must be in 1..12"),
        ("- a", " must hold sections, such as `models:`; it holds ['a']"),
        ("", " must hold sections, such as `models:`; it holds None"),
        ("a: 1\n---\nb: 2", ", line 2: but found another document"),
        ("a: " + "[" * 5000, " is not YAML: maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_yaml_is_refused(read: Read, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ovgen.ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{tmp_path / 'ovgen.yaml'}{message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(read: Read, tmp_path: Path) -> None:
    with pytest.raises(ovgen.ConfigError, match=r"no\.yaml cannot be read: No such file"):
        read_configuration(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\x00\xff\xfe models")
    with pytest.raises(ovgen.ConfigError, match=r"binary\.yaml is not YAML: .*position"):
        read_configuration(tmp_path / "binary.yaml")


KEYS = "openvino optimization models m path device fallback quantization enabled format params device_config weights"
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["CPU", "m.gguf", "int8", "stored", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS.split(), "cache_dir"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(tree=st.dictionaries(st.sampled_from(["openvino", "optimization", "memory_budget"]), TREES), model=TREES)
def test_whatever_it_holds_it_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], model: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "m.gguf").write_bytes(b"")
    model = {"path": "m.gguf", **model} if isinstance(model, dict) else {"path": "m.gguf", "device": model}
    (folder / "ovgen.yaml").write_text(yaml.safe_dump({**tree, "models": {"m": model}}), encoding="utf-8")
    try:
        only(read_configuration(folder / "ovgen.yaml")).spec()
    except ovgen.ConfigError as error:
        message = str(error)
    else:
        message = f"{folder / 'ovgen.yaml'}"
    assert message.startswith(f"{folder / 'ovgen.yaml'}")


def test_the_manager_takes_the_file_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ovgen.yaml").write_text(
        f"""
memory_budget: 1
openvino: {{num_streams: 1, performance_hint: LATENCY}}
models:
  story:
    path: {ovgen.bundled_model()}
    cache_size: 0.5
    params: {{max_new_tokens: 7, temperature: 0}}
""",
        encoding="utf-8",
    )
    with ovgen.ModelManager.from_config(tmp_path / "ovgen.yaml") as manager:
        out = manager.generate("story", "Once upon a time", ignore_eos=True)
        assert len(out.token_ids) == 7
        assert manager.load_model("story").engine.config.cache_size == 0.5
