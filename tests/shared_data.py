"""Where real inputs lie that are read by tests but are no part of the project."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real models, tokenizers and texts; see its README. Absent from most checkouts."""

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"real test data is not at {SHARED}")
