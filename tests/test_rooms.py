"""The structure that ARCHITECTURE.md draws, held against the imports that are really there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ovgen"

BASE = {"errors", "config", "env", "metrics", "outputs", "resources"}
TOP = {
    "loader",
    "llm",
    "async_engine",
    "manager",
    "probe",
    "prompts",
    "draft",
    "doctor",
    "benchmark",
    "machine",
    "benchmark_plot",
    "explanation",
    "quality",
    "configuration",
    "yaml_file",
    "conversion",
    "model_cache",
    "cli",
    "__init__",
    "__main__",
}
MAY_IMPORT = {
    "weights": set(),
    "sampling": set(),
    "text": set(),
    "graph": {"weights"},
    "runtime": {"graph"},
    "engine": {"sampling"},
}
# Those that tie the engine to a runner: its cache, the steps of requests, sequences outside the schedule, and drafts.
EXCEPTIONS = {(f"engine/{name}.py", "runtime") for name in ("cache", "loop", "engine", "draft_model")}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield node.module or ""
            if node.module in ("ovgen", "openvino"):
                yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_every_module_has_its_room() -> None:
    assert {room(file) for file in FILES} == BASE | TOP | set(MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_point_down(file: Path) -> None:
    own = room(file)
    if own in TOP:
        return
    allowed = BASE if own in BASE else BASE | {own} | MAY_IMPORT[own]
    for module in imports(file):
        if module.startswith("ovgen."):
            target = module.split(".")[1]
            exception = (file.relative_to(PACKAGE).as_posix(), target) in EXCEPTIONS
            assert target in allowed or exception, f"{file.name} imports {module}"


@pytest.mark.parametrize("room_name", ["weights", "sampling", "text", "engine", *sorted(BASE)])
def test_rooms_without_a_device_do_not_import_openvino(room_name: str) -> None:
    for file in FILES:
        if room(file) == room_name:
            assert not any(m.split(".")[0].startswith("openvino") for m in imports(file)), file


def test_only_runtime_compiles_and_infers() -> None:
    for file in FILES:
        if room(file) != "runtime":
            text = file.read_text(encoding="utf-8")
            for call in (".compile_model(", "create_infer_request", ".start_async("):
                assert call not in text, f"{file} has {call}"


def test_private_modules_are_reached_in_one_file() -> None:
    users = {
        file.relative_to(PACKAGE).as_posix()
        for file in FILES
        if any(part.startswith("_") for m in imports(file) if m.startswith("openvino") for part in m.split("."))
    }
    assert users == {"graph/private.py"}


def test_nothing_that_is_for_training_only_is_imported() -> None:
    for file in FILES:
        assert not {m.split(".")[0] for m in imports(file)} & {"torch", "transformers", "optimum", "safetensors"}, file


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_files_are_a_sitting_long(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
