"""The kernels, built for the tests."""

from __future__ import annotations

import pytest

from tests.kernels.compiling import emulating_library, users_library
from tests.kernels.library import Kernels, Library


@pytest.fixture(scope="session")
def library(home: None) -> Library:
    """The library as users get it."""
    return users_library()


@pytest.fixture(scope="session")
def every_set(library: Library, tmp_path_factory: pytest.TempPathFactory) -> list[Kernels]:
    """All instruction sets that run here, and those with VNNI in any case where AVX2 is."""
    sets = [Kernels(name, library, number) for name, number in library.sets().items()]
    if "avx2" in library.sets():
        emulating = emulating_library(tmp_path_factory.mktemp("kernels"))
        names = ("avx_vnni", "avx512_vnni")
        sets += [Kernels(f"{name}, emulated", emulating, emulating.sets()[name]) for name in names]
    return sets
