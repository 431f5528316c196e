"""Building the kernels: once, safely, and with errors that name the way out."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import openvino
import pytest

from ovgen.errors import KernelError
from ovgen.resources import kernel_sources
from ovgen.runtime import kernel_build
from ovgen.runtime.kernel_build import build, clean, find_build

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the kernels are built on Linux only"),
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler"),
]

SOURCES = {
    "base.cpp": 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n',
    "fast.cpp": "// flags: -fno-rtti\nint fast() { return 1; }\n",
    "exotic.cpp": "// flags: -mno-such-instructions\nint exotic() { return 1; }\n",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    return folder


def test_a_library_is_built_once(sources: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_build(sources) is None
    first = build(sources)
    assert ctypes.CDLL(str(first.path)).answer() == 42
    assert [record.getMessage() for record in caplog.records if "building" in record.getMessage()]
    caplog.clear()
    again = build(sources)
    assert again == first == find_build(sources)
    assert not caplog.records
    changed = first.path.stat().st_mtime_ns
    assert build(sources, force=True).path.stat().st_mtime_ns > changed


def test_a_source_whose_flags_are_unknown_is_left_out(sources: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ovgen"):
        built = build(sources)
    assert list(built.left_out) == ["exotic.cpp"]
    assert "no-such-instructions" in built.left_out["exotic.cpp"]
    assert "without exotic.cpp" in caplog.text


def test_what_does_not_compile_is_an_error(sources: Path, home: Path) -> None:
    (sources / "base.cpp").write_text("int broken( { }\n")
    with pytest.raises(KernelError, match=r"does not compile base\.cpp: .*error"):
        build(sources)
    assert [path.name for path in (home / "kernels").iterdir()] == ["lock"]


def test_what_does_not_link_is_an_error(sources: Path) -> None:
    (sources / "twice.cpp").write_text(SOURCES["base.cpp"])
    with pytest.raises(KernelError, match=r"does not link the native kernels: .*answer"):
        build(sources)


def test_other_sources_or_another_openvino_are_another_library(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(sources).path
    (sources / "more.h").write_text("// used by nobody\n")
    assert find_build(sources) is None
    assert build(sources).path != first
    (sources / "more.h").unlink()
    monkeypatch.setattr(openvino, "__version__", "2031.1")
    assert find_build(sources) is None


def test_no_compiler_is_an_error(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -x")
    with pytest.raises(KernelError, match="CXX=no-such-compiler -x is no program that can be run: unset CXX"):
        build(sources)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KernelError, match="install g\\+\\+ or clang"):
        build(sources)


@pytest.mark.parametrize(
    "text",
    [
        "no script\n",
        "#!/no/such/interpreter\n",
        "#!/bin/sh\necho 'cannot: no licence' >&2; exit 3\n",
        "#!/bin/sh\nexit 0\n",
    ],
)
def test_a_compiler_that_does_not_work_is_an_error(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "broken").write_text(text)
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "broken"))
    with pytest.raises(
        KernelError, match=r"broken does not (run|compile base\.cpp: (cannot: no licence|it wrote nothing)).*Set CXX"
    ):
        build(sources)


def test_a_command_that_cannot_be_read_is_an_error(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", 'g++ "')
    with pytest.raises(KernelError, match="CXX must be the command of a C\\+\\+ compiler, got 'g\\+\\+ \"'"):
        build(sources)


def test_a_compiler_that_does_not_end_is_an_error(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (tmp_path / "hanging").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "hanging").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "hanging"))
    monkeypatch.setattr(kernel_build, "_TIMEOUT", 0.2)
    with pytest.raises(KernelError, match=r"hanging was not done after 0\.2 s"):
        build(sources)
    assert [path.name for path in (home / "kernels").iterdir()] == ["lock"]


def test_a_compiler_of_ones_own(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho used >> {tmp_path}/log\nshift\nexec {shutil.which("c++")} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"{wrapper} --dropped")
    assert build(sources).compiler.startswith(f"{wrapper} --dropped: ")
    assert len((tmp_path / "log").read_text().splitlines()) == len(SOURCES) + 2  # linked, asked for its version


def test_another_system_is_an_error(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(KernelError, match="Linux only"):
        build(sources)


def test_a_folder_that_cannot_be_written_is_an_error(sources: Path, home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(KernelError, match="Set OVGEN_HOME to another folder"):
        build(sources)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": ""}'])
def test_a_damaged_record_is_built_again(sources: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    folder = build(sources).path.parent
    (folder / "build.json").write_text(text)
    with pytest.raises(KernelError, match="are damaged"):
        find_build(sources)
    build(sources)
    assert caplog.text.count("are damaged") == 1
    assert "they are built again" in caplog.text
    assert json.loads((folder / "build.json").read_text())["compiler"]


@pytest.mark.parametrize("left", [0, 100, 5000, -1])
def test_a_damaged_library_is_built_again(sources: Path, left: int) -> None:
    path = build(sources).path
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(KernelError, match="not as it was built"):
        find_build(sources)
    assert ctypes.CDLL(str(build(sources).path)).answer() == 42


def test_a_library_is_read_from_a_home_that_cannot_be_written(sources: Path, home: Path) -> None:
    built = build(sources)
    folders = [home, home / "kernels", built.path.parent]
    try:
        for folder in folders:
            folder.chmod(0o555)
        assert build(sources) == built
        if os.access(home, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(KernelError, match="cannot be kept"):
            build(sources, force=True)
        with pytest.raises(KernelError, match="cannot be removed"):
            clean()
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_home_that_cannot_be_cleaned_is_an_error(sources: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    build(sources)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(KernelError, match=r"cannot be removed: .*Permission denied"):
        clean()


def test_clean_removes_all(sources: Path, home: Path) -> None:
    size = build(sources).path.stat().st_size
    assert clean() >= size
    assert [path.name for path in (home / "kernels").iterdir()] == ["lock"]
    assert clean() == 0


def test_cleaning_waits_for_who_builds(sources: Path, tmp_path: Path, slow_compiler: str) -> None:
    process = child(sources, slow_compiler)
    wait_for(tmp_path / "calls")
    assert clean() > 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert not Path(out.strip()).exists()


def child(sources: Path, compiler: str) -> subprocess.Popen[str]:
    """A process that builds, and prints the library's path."""
    code = "import sys; from pathlib import Path; from ovgen.runtime.kernel_build import build\n"
    code += "print(build(Path(sys.argv[1])).path)"
    environment = {**os.environ, "CXX": compiler}
    command = [sys.executable, "-c", code, str(sources)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def slow_compiler(tmp_path: Path) -> str:
    """Takes a second for each source, and notes when it is called."""
    wrapper = tmp_path / "slow"
    wrapper.write_text(f'#!/bin/sh\necho called >> {tmp_path}/calls\nsleep 1\nexec {shutil.which("c++")} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def test_of_two_processes_one_builds(sources: Path, tmp_path: Path, slow_compiler: str) -> None:
    processes = [child(sources, slow_compiler) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), results
    assert results[0][0] == results[1][0]
    assert len((tmp_path / "calls").read_text().splitlines()) == len(SOURCES) + 2
    built = [error for _, error in results if "building the native CPU kernels" in error]
    assert len(built) == 1


def test_a_killed_build_leaves_nothing_in_the_way(
    sources: Path, tmp_path: Path, home: Path, slow_compiler: str
) -> None:
    process = child(sources, slow_compiler)
    wait_for(tmp_path / "calls")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert list((home / "kernels").glob("*.tmp"))
    assert find_build(sources) is None
    assert ctypes.CDLL(str(build(sources).path)).answer() == 42
    assert not list((home / "kernels").glob("*.tmp"))


def test_the_sources_come_with_ovgen() -> None:
    assert {"packed.h", "codes.inl", "extension.cpp"} <= {path.name for path in kernel_sources().iterdir()}
