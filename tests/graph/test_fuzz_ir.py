"""Damaged IR folders: one of our errors, never a crash of the process, a hang, or memory without end."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ovgen.graph import save_ir
from tests.fuzzing import CASES
from tests.graph.tools import build
from tests.tiny_models import make

IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
_READ_MUTANTS = """
import resource, sys
from pathlib import Path
from ovgen.errors import ModelError
from ovgen.loader import load
from tests.fuzzing import mutants

folder, cases = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
xml = folder / "openvino_model.xml"
read = refused = 0
for damaged in mutants(xml.read_bytes(), cases):
    xml.write_bytes(damaged)
    try:
        load(folder).build()
        read += 1
    except ModelError as error:
        assert str(folder) in str(error), error
        refused += 1
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
print(read, refused, grown)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on memory are set by the resource module")
@pytest.mark.parametrize("kind", ["stateful", "stateless"])
def test_mutated_ir_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "ir"
    if kind == "stateful":
        save_ir(build(make("llama", tmp_path / "hf", num_hidden_layers=1)), folder)
    else:
        with zipfile.ZipFile(IR / "llama-stateless.zip") as archive:
            archive.extractall(folder)
    command = [sys.executable, "-c", _READ_MUTANTS, str(folder), str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + CASES / 10, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused, grown = map(int, done.stdout.split())
    assert read + refused == CASES
    assert min(read, refused) > CASES / 50  # else the mutations are too mild, or too wild, to tell anything
    assert grown < 500  # MiB
