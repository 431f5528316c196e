"""What the comparison with other engines computes and says: by hand, and with small models and the engines at hand."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import bench_engines
import bench_models
import bench_peers
import peer_formats
import peer_report
from bench_engines import WorkerError, in_turns

import ovgen
from ovgen.runtime.forms import Form
from tests import tiny_models

OVGEN, GENAI, OPTIMUM = ("ovgen", "CPU"), ("genai", "CPU"), ("optimum", "GPU")


def answer(rest: float, ids: list[int], first: float = 0.5) -> dict[str, Any]:
    return {"first": first, "rest": rest, "ids": [ids], "load": 2.0, "peak": 3e6, "idle": 0.0}


@pytest.mark.parametrize(
    ("found", "share"), [([1, 2, 3, 4], 1.0), ([1, 2, 9, 4], 0.5), ([9, 2, 3, 4], 0.0), ([1, 2, 3, 9], 0.75)]
)
def test_agreement_ends_with_the_first_difference(found: list[int], share: float) -> None:
    assert bench_peers.agreement([1, 2, 3, 4], found) == share


def test_ratios_are_those_within_rounds() -> None:
    rounds = [
        {OVGEN: answer(1.0, [1, 2, 3, 4, 5]), GENAI: answer(2.0, [1, 2, 3, 4, 5])},
        {OVGEN: answer(2.0, [1, 2, 3, 4, 5]), GENAI: answer(8.0, [1, 9, 3, 4, 5])},
        {OVGEN: answer(3.0, [1, 2, 3, 4, 5]), GENAI: answer(9.0, [1, 2, 3, 4, 5])},
    ]
    first, second, third = bench_peers.summary(rounds, [OVGEN, GENAI, OPTIMUM], 5, {OPTIMUM: "no GPU"})
    assert (first["engine"], first["ratio"], first["same"]) == ("ovgen", 1.0, 1.0)
    assert first["decode"] == 0.5  # four tokens after the first one, in two seconds
    assert first["speed"] == 2.0
    assert second["ratio"] == pytest.approx(1 / 3)
    assert (second["ratio_least"], second["ratio_most"]) == (0.25, 0.5)
    assert second["same"] == pytest.approx((1 + 0.2 + 1) / 3)
    assert {first["against"], second["against"]} == {"ovgen on CPU"}
    assert third == {"engine": "optimum-intel", "device": "GPU", "missing": "no GPU"}
    lines = list(peer_report.table([first, second, third]))
    *_, reason = peer_report.absent([first, second, third, {**third, "device": "NPU"}])
    assert reason == "- optimum-intel on GPU, optimum-intel on NPU: no GPU"
    assert "0.33 (0.25 - 0.50)" in lines[3]
    assert "73 %" in lines[3]
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1


def test_the_first_that_is_there_is_compared_with() -> None:
    rounds = [{GENAI: answer(2.0, [1, 2]), ("llamacpp", "CPU"): answer(1.0, [1, 2])}]
    keys = [OVGEN, GENAI, ("llamacpp", "CPU")]
    rows = bench_peers.summary(rounds, keys, 2, {OVGEN: "no ovgen"})
    assert rows[2]["ratio"] == 2.0
    header, *_ = peer_report.table(rows)
    assert "as fast as openvino.genai on CPU" in header


def test_an_engine_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_engines, "_PATIENCE", 0.2)
    with pytest.raises(WorkerError, match=r"no answer within 0.2 s"):
        bench_engines.Worker([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")


def test_all_texts_of_a_batch_count() -> None:
    batch = {"first": 0.5, "rest": 2.0, "load": 1.0, "peak": 3e6}
    rounds = [{OVGEN: batch | {"ids": [[1, 2], [3, 4]]}, GENAI: batch | {"ids": [[1, 2], [3, 9]]}}]
    _, row = bench_peers.summary(rounds, [OVGEN, GENAI], 2, {})
    assert row["speed"] == 1.0  # two tokens in two seconds
    assert row["same"] == 0.75


def test_turns_begin_with_another_one_each_time() -> None:
    assert [list(in_turns("abc", number)) for number in range(4)] == [
        list("abc"),
        list("bca"),
        list("cab"),
        list("abc"),
    ]
    assert list(in_turns("", 3)) == []


def options(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", *arguments])
    return bench_peers.arguments()


def test_an_engine_that_ends_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Fails:
        closed = False

        def ask(self, do: str, **_: Any) -> dict[str, Any]:
            raise WorkerError("it ran out of memory")

        def close(self) -> None:
            self.closed = True

    class Works:
        def ask(self, do: str, **_: Any) -> dict[str, Any]:
            return answer(1.0, [1, 2])

    fails = Fails()
    comparison = bench_peers.Comparison(tmp_path, "gpt2", "f32", options(monkeypatch))
    workers: dict[Any, Any] = {OVGEN: Works(), GENAI: fails}
    monkeypatch.setattr(comparison, "_workers", workers)
    answers = comparison._round([[1]], 1)
    assert list(answers) == list(workers) == [OVGEN]
    assert comparison._missing == {GENAI: "it ran out of memory"}
    assert fails.closed


def test_the_whole_comparison(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ovgen beside itself with OpenVINO's kernels: the tokens of weights in float32 are the same."""
    monkeypatch.setattr(bench_models, "MODELS", {"gpt2": {}})
    monkeypatch.setitem(bench_peers.PEERS, "plugin", bench_peers.Peer("OpenVINO's kernels", ("ir",)))
    given = tiny_models.make("llama", tmp_path / "given")
    choice = ["--models", "gpt2", str(given), "--precisions", "f32", "--engines", "ovgen", "plugin", "llamacpp"]
    sizes = [
        "--batch",
        "1",
        "3",
        "--rounds",
        "2",
        "--prompt-tokens",
        "8",
        "--new-tokens",
        "4",
        "--devices",
        "CPU",
        "GPU",
    ]
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "png")}
    outputs = ["--json", str(files["json"]), "--csv", str(files["csv"]), "--plot", str(files["png"])]
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", *choice, *sizes, *outputs, "--work", str(tmp_path / "work")])
    bench_peers.main()
    rows = json.loads(files["json"].read_text())
    measured = [row for row in rows if "missing" not in row]
    about = [(row["model"], row["batch"], row["engine"]) for row in measured]
    engines = ("ovgen", "OpenVINO's kernels")
    assert about == [(model, batch, name) for model in ("gpt2", "given") for batch in (1, 3) for name in engines]
    assert all(row["same"] == 1.0 and row["ratio"] > 0 and row["first"] > 0 for row in measured)
    absent = {(row["engine"], row["device"]) for row in rows} - {(row["engine"], row["device"]) for row in measured}
    assert ("llama.cpp", "CPU") in absent or "llama_cpp" in sys.modules
    assert ("ovgen", "GPU") in absent or "GPU" in capsys.readouterr().out
    with files["csv"].open(newline="") as table:
        assert len(list(csv.DictReader(table))) == len(rows)
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    assert "given, f32, 3 prompts of 8 tokens, 4 new ones" in text
    assert "- ovgen on GPU: OpenVINO finds no GPU" in text or ("ovgen", "GPU") not in absent


@pytest.mark.parametrize("form", ["static", "stateful", "paged"])
def test_ovgen_is_served_in_every_form(tmp_path: Path, form: Form) -> None:
    folder = tiny_models.make("llama", tmp_path / "llama")
    served = bench_engines.ENGINES["ovgen"](str(folder), "CPU")
    served._llm = ovgen.LLM(folder, form=form)
    answer = served.generate([[1, 2, 3]], 4)
    assert len(answer["ids"][0]) == 4
    assert answer["first"] > 0


def test_models_of_like_names_are_different_models(tmp_path: Path) -> None:
    small = tiny_models.make("llama", tmp_path / "a" / "Llama-3.2-1B")
    large = tiny_models.make("llama", tmp_path / "b" / "Llama-3.2-1B", vocab_size=310)
    sources = [bench_models.Source(tmp_path, str(folder), "f32") for folder in (small, large)]
    assert [source.name for source in sources] == ["Llama-3.2-1B"] * 2
    first, second = (source.path("ir") for source in sources)
    assert first != second
    assert [source.vocabulary() for source in sources] == [300, 310]


def test_what_is_stored_has_no_other_precisions(tmp_path: Path) -> None:
    folder = tiny_models.make("llama", tmp_path / "llama")
    ir = bench_models.Source(tmp_path, str(folder), "int8").path("ir")
    assert not bench_models.is_stored("gpt2")
    assert not bench_models.is_stored(str(folder))
    assert bench_models.is_stored(str(ir))


@pytest.mark.parametrize("form", ["hf", "ir", "gguf"])
def test_what_is_given_is_taken_as_it_is(tmp_path: Path, form: str) -> None:
    folder = tiny_models.make("llama", tmp_path / "hf")
    written = bench_models.Source(tmp_path, str(folder), "f32")
    given = written.path(form)
    assert given is not None
    source = bench_models.Source(tmp_path / "nowhere", str(given), "int4")
    assert source.path(form) == given
    assert source.vocabulary() == 300
    if form != "hf":
        assert [source.path(other) for other in ("hf", "ir", "gguf", "onnx") if other != form] == [None] * 3


def test_a_format_that_cannot_be_written_tells_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_models, "MODELS", {"gpt2": {}})

    def written(packages: tuple[str, ...], precision: str) -> str:
        forms = {"ctranslate2": (peer_formats.ctranslate2, packages, ("f32",))}
        monkeypatch.setattr(peer_formats, "FORMATS", forms)
        comparison = bench_peers.Comparison(tmp_path, "gpt2", precision, options(monkeypatch))
        with pytest.raises(WorkerError) as caught:
            comparison._written(bench_peers.PEERS["ctranslate2"], bench_models.Source(tmp_path, "gpt2", precision))
        return str(caught.value)

    assert written(("no_such_package",), "f32") == "its format could not be written: that takes no_such_package"
    assert "precision" in written(("json",), "int4")
    if not bench_peers.having([sys.executable], ["ctranslate2"]):
        assert "No module named 'ctranslate2'" in written(("json",), "f32")
    assert not list(tmp_path.glob("*ctranslate2"))  # half of it is no model


def test_models_without_a_tokenizer_get_one_of_numbers(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source = tiny_models.make("llama", tmp_path / "source")
    (tmp_path / "numbered").mkdir()
    folder = peer_formats.numbered(source, tmp_path / "numbered")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.id_to_token(number) for number in (0, 7, 299, 300)] == ["0", "7", "299", None]
    assert (folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "gpt5"], "there is no model gpt5: give one of gpt2, "),
        (["--models", "README.md"], "there is no model README.md"),
        (["--json", "no/such/folder/out.json"], "there is no folder for no/such/folder/out.json"),
        (["--batch", "1", "0"], "--batch must be at least 1"),
        (["--new-tokens", "1"], "--new-tokens must be at least 2"),
        (["--plot", "peers.doc"], "must end in .png, .svg, .pdf"),
    ],
)
def test_what_cannot_be_is_refused_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        options(monkeypatch, *arguments)
    assert said in capsys.readouterr().err


def test_figures_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    rows: list[dict[str, Any]] = [{"engine": "ovgen", "load": 1.0}, {"engine": "optimum-intel", "missing": "why"}]
    peer_report.write_whole(file, peer_report.as_csv(rows))
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert file.read_text("utf-8").split() == ["engine,load,missing", "ovgen,1.0,", "optimum-intel,,why"]
