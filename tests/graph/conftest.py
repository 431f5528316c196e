"""Tiny models, made once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_models import make


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a variant, made when it is first asked for."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(variant: str) -> Path:
        path = root / variant
        return path if path.exists() else make(variant, path)

    return folder
