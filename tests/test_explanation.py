"""What a model says of itself: what was chosen, and by whom."""

import logging
from pathlib import Path

import pytest

import ovgen
from ovgen.cli import main
from tests.tiny_models import make

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16", "INFERENCE_NUM_THREADS": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("models"))


def test_what_nobody_asked_for(folder: Path) -> None:
    lines = ovgen.LLM(folder).explain()
    assert lines["model"] == f"{folder.name} (llama), no tokenizer"
    assert lines["weights"] == "as stored"
    assert lines["form"] == "paged: the default, but for NPUs"
    assert lines["device"].startswith("CPU (")
    assert lines["device"].endswith("): the only one asked for")
    for name in ("precision", "threads", "KV precision"):
        assert "the plugin's choice" in lines[name]
    assert "8 bits" not in lines["precision"]
    assert not {"adapters", "drafts", "not in use"} & set(lines)


def test_what_was_asked_for(folder: Path) -> None:
    llm = ovgen.LLM(folder, form="stateful", device_config=EXACT, max_model_len=32, weights="int8", kernels="off")
    lines = llm.explain()
    assert lines["form"] == "stateful: as asked"
    assert lines["precision"] == "f32: as asked (INFERENCE_PRECISION_HINT)"
    assert lines["KV precision"] == "f16: as asked (KV_CACHE_PRECISION)"
    assert lines["threads"] == "1: as asked (INFERENCE_NUM_THREADS)"
    assert lines["context"] == "32 tokens (max_model_len)"
    assert lines["kernels"] == "plugin: kernels='off'"
    assert lines["weights"] == f"int8, kept in {llm.path}"


def test_native_kernels_say_what_they_round(folder: Path) -> None:
    lines = ovgen.LLM(folder, weights=ovgen.Compression(weights="int4", group_size=32), kernels="require").explain()
    assert lines["weights"].startswith("int4, group_size=32, kept in ")
    assert lines["kernels"].startswith("native (")
    assert lines["precision"].startswith("f32: the plugin's choice")
    assert "in 8 bits" in lines["precision"]


def test_devices_that_were_passed_over(folder: Path) -> None:
    lines = ovgen.LLM(folder, device=["NPU", "CPU"]).explain()
    assert lines["device"].endswith(": number 2 of 2")
    assert "the static form on NPU: device 'NPU' is not available" in lines["not in use"]


def test_the_static_form_describes_its_own_cache(folder: Path) -> None:
    lines = ovgen.LLM(folder, form="static").explain()
    assert "KV precision" not in lines
    assert lines["KV cache"].startswith("float16[")
    assert lines["KV cache"].count("float16[") == 1  # layers that are alike are told once


def test_it_is_logged_where_it_is_wanted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ovgen"):
        llm = ovgen.LLM(folder)
    for name, text in llm.explain().items():
        assert f"{name}: {text}" in caplog.messages
    caplog.clear()
    ovgen.LLM(folder)
    assert not caplog.messages


def test_verbose_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("ovgen")
    try:
        assert main(["generate", "--verbose", "--max-new-tokens", "1"]) == 0
    finally:
        logger.setLevel(logging.NOTSET)
    assert "form: paged: the default, but for NPUs" in caplog.messages
