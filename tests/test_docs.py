"""What the documentation shows is run: every Python block, in order, and every script that is named."""

import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovgen.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*.md")])
INSTALLED = ("ovgen/_models", "ovgen/_kernels")  # where folders of the repository lie in a wheel
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


@pytest.fixture
def log_level() -> Iterator[None]:
    """Puts the level of the logger ``ovgen`` back, which a page sets."""
    logger = logging.getLogger("ovgen")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("log_level")
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


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_to_headings_find_them(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in headings(page.parent / target if target else page), f"{target}#{anchor}"


COMMANDS = sorted(
    {
        line.split(" #")[0].strip()
        for page in PAGES
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for line in re.findall(r"^(?:[A-Z_]+=\S+ )*ovgen (.+)$", block, re.MULTILINE)
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_are_there(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *given = shlex.split(" ".join(shlex.split(line)))  # also what is quoted: options for another model
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    offered = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert {word.partition("=")[0] for word in given if word.startswith("--")} <= offered


SCRIPTS = sorted(
    {
        (name, option)
        for page in PAGES
        for command in re.findall(
            r"((?:^| |`)scripts/[\w/]+\.py [^`]*?)(?:`|$)",  # in backticks it may go on in the next line
            re.sub(r"`[^`\n]*\n[^`\n]*`", lambda m: m[0].replace("\n", " "), page.read_text(encoding="utf-8")),
            re.MULTILINE,
        )
        for name in re.findall(r"scripts/[\w/]+\.py", command)[:1]
        for option in re.findall(r" (--[\w-]+)", command)
    }
)


@pytest.mark.parametrize(("name", "option"), SCRIPTS)
def test_options_of_scripts_are_there(name: str, option: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    imported = [ROOT / "scripts" / f"{module}.py" for module in re.findall(r"^from (\w+) import", source, re.MULTILINE)]
    texts = [source, *(path.read_text(encoding="utf-8") for path in imported if path.exists())]
    assert any(f'"{option}"' in text for text in texts)


def test_the_readme_begins_with_the_two_commands_and_a_program() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("scripts/demo") < text.index("scripts/test") < text.index("```python")
