"""What the documentation shows is run: every Python block, in order, and every script that is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*.md")])
INSTALLED = ("ovgen/_models", "ovgen/_kernels")  # where folders of the repository lie in a wheel
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        exec(compile(block, str(page), "exec"), names)  # blocks of a page build on one another


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:scripts|tests|models|ovgen)/[\w/.-]*\w", text):
        assert (ROOT / name).exists() or (ROOT / "ovgen" / name).exists() or name in INSTALLED, name
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    assert not re.search(r"@[A-Z_]+@", text), "a figure is missing"


def test_the_readme_begins_with_the_two_commands_and_a_program() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("scripts/demo") < text.index("scripts/test") < text.index("```python")
