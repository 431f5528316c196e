"""The kernels under sanitizers; `scripts/sanitize_kernels` does it at greater length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.compiling import compiler

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "sanitize_kernels"


@pytest.mark.slow
def test_nothing_is_read_or_written_out_of_bounds() -> None:
    compiler()
    result = subprocess.run([sys.executable, SCRIPT, "500"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "500 cases" in result.stdout
