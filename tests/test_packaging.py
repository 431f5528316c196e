"""What `pip install .` puts on a machine."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    away = shutil.ignore_patterns(".*", "tests", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=away)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    with zipfile.ZipFile(next(folder.glob("ovgen-*.whl"))) as archive:
        return archive.namelist()


def test_the_only_top_level_package_is_ovgen(wheel: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"ovgen"}


def test_every_module_and_bundled_file_is_in_it(wheel: list[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("ovgen/**/*.py")}
    assert modules <= set(wheel)
    assert "ovgen/py.typed" in wheel
    for model in ("storyteller", "storyteller-draft"):
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            assert f"ovgen/_models/{model}/{file}" in wheel
    kernels = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("kernels/cpu/*.*")}
    assert {"kernels/cpu/api.h", "kernels/cpu/codes.inl", "kernels/cpu/extension.cpp"} <= kernels
    assert {f"ovgen/_{name}" for name in kernels} <= set(wheel)
    assert any(name.endswith("/licenses/LICENSE") for name in wheel)
