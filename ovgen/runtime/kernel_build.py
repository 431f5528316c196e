"""Building the native CPU kernels: once for each version of OpenVINO and of the sources, with the C++ compiler at hand.

What is needed besides, headers and libraries, comes with the ``openvino`` package. The result lies in a folder of
``OVGEN_HOME``, named by what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import openvino as ov

from ovgen.env import cxx, home
from ovgen.errors import KernelError
from ovgen.resources import kernel_sources

__all__ = ["KernelBuild", "build", "clean", "find_build", "find_compiler"]

# No fused multiply-add where none is written: results must not depend on the compiler. No traps: NaN raises nothing.
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-trapping-math")
_OWN_FLAGS = "// flags:"  # of a source that the compiler, or the CPU, need not know; in its first line
_COMPILERS = ("g++", "clang++", "c++")
_LIBRARY, _RECORD = "libovgen_kernels.so", "build.json"
_TIMEOUT = 300  # seconds for one source
_TELLING = re.compile("error:|undefined reference|multiple definition|cannot find", re.IGNORECASE)
_SHOWN = 400  # characters of what a compiler says
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class KernelBuild:
    """A library that has been built.

    Attributes:
        path: of the library.
        compiler: what built it, with its version.
        seconds: that it took.
        left_out: sources that the compiler did not take, with what it said.
    """

    path: Path
    compiler: str
    seconds: float
    left_out: Mapping[str, str]


def find_build(sources: Path | None = None) -> KernelBuild | None:
    """The library for these sources (default: ovgen's own) and this OpenVINO, if it has been built.

    Raises:
        KernelError: it is damaged.
    """
    folder = _folder(sources or kernel_sources())
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if record.pop("sha256") != _digest(folder / _LIBRARY):  # loading what is cut off may end the process
            raise ValueError("the library is not as it was built")
        return KernelBuild(folder / _LIBRARY, **record)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{_RECORD} has no {error}" if isinstance(error, KeyError) else error
        raise KernelError(f"the native CPU kernels in {folder} are damaged: {reason}") from error


def build(sources: Path | None = None, *, force: bool = False) -> KernelBuild:
    """Build the library if it has not been; safe with several processes at once, of which one builds.

    Args:
        sources: the folder of the C++ sources; ovgen's own if None.
        force: even if there is one.

    Raises:
        KernelError: it cannot be built here; the message says why and what to do.
    """
    if not force:
        with suppress(KernelError):  # damaged: told below, where it is mended
            found = find_build(sources)
            if found is not None:
                return found
    sources = sources or kernel_sources()
    compiler = find_compiler()
    folder = _folder(sources)
    try:
        with _lock(folder.parent):
            try:
                found = None if force else find_build(sources)  # another process may have built it meanwhile
            except KernelError as error:
                _log.warning("%s; they are built again", error)
                found = None
            return found or _build(sources, compiler, folder)
    except OSError as error:
        raise KernelError(
            f"the native kernels cannot be kept in {folder.parent}: {error}. Set OVGEN_HOME to another folder"
        ) from error


def clean() -> int:
    """Remove all libraries, those of other versions too; returns how many bytes there were. Waits for who builds.

    Raises:
        KernelError: they cannot be removed.
    """
    folder = home() / "kernels"
    if not folder.is_dir():
        return 0
    try:
        with _lock(folder):  # whose file stays: others may wait for it
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            for each in folder.iterdir():
                if each.is_dir():
                    shutil.rmtree(each)
    except OSError as error:
        raise KernelError(f"the native kernels in {folder} cannot be removed: {error}") from error
    return size


def find_compiler() -> list[str]:
    """The command of a C++ compiler: that in the environment variable ``CXX``, or the first that is there.

    Raises:
        KernelError: there is none, or this is not Linux.
    """
    if sys.platform != "linux":
        raise KernelError(f"the native kernels are built on Linux only so far, and this is {platform.system()}")
    wanted = cxx()
    try:
        commands = [shlex.split(wanted)] if wanted else [[name] for name in _COMPILERS]
    except ValueError as error:
        raise KernelError(f"CXX must be the command of a C++ compiler, got {wanted!r}: {error}") from error
    for command in commands:
        if command and shutil.which(command[0]):
            return command
    if wanted:
        raise KernelError(f"CXX={wanted} is no program that can be run: unset CXX, or set it to another compiler")
    raise KernelError(f"there is no C++ compiler ({', '.join(_COMPILERS)}): install g++ or clang")


def _folder(sources: Path) -> Path:
    """Where the library is kept: a name made of all that it depends on but the compiler."""
    digest = hashlib.sha256(json.dumps([ov.__version__, platform.machine(), _FLAGS]).encode())
    for file in sorted(sources.glob("*")):
        if file.is_file():
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return home() / "kernels" / digest.hexdigest()[:16]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process builds at a time; the lock of one that dies is gone with it."""
    import fcntl  # not everywhere, but where this is called

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another process builds the native CPU kernels: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(sources: Path, compiler: Sequence[str], folder: Path) -> KernelBuild:
    """Build in a folder of its own, which gets its name when all is there. The caller holds the lock."""
    _log.warning("building the native CPU kernels with %s, once; it takes some ten seconds", compiler[0])
    begin = time.perf_counter()
    for unfinished in folder.parent.glob("*.tmp"):  # of processes that were killed
        shutil.rmtree(unfinished, ignore_errors=True)
    work = folder.with_suffix(".tmp")
    work.mkdir()
    try:
        left_out = _compile_all(sources, compiler, work)
        seconds = time.perf_counter() - begin
        version = _call([*compiler, "--version"]).stdout.strip().partition("\n")[0]
        built = KernelBuild(folder / _LIBRARY, f"{shlex.join(compiler)}: {version}", round(seconds, 2), left_out)
        told = {name: value for name, value in asdict(built).items() if name != "path"}
        told["sha256"] = _digest(work / _LIBRARY)
        (work / _RECORD).write_text(json.dumps(told), encoding="utf-8")
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for name, reason in left_out.items():
        _log.info("the native CPU kernels are built without %s: %s", name, reason)
    _log.info("built the native CPU kernels in %.1f s", seconds)
    return built


def _compile_all(sources: Path, compiler: Sequence[str], work: Path) -> dict[str, str]:
    """Make the library in ``work``; returns what was left out, and why."""
    package = Path(ov.__file__).parent
    libraries = [*_libraries(package, "libopenvino.so*"), *_libraries(package, "libtbb.so*")]
    include = package / "include"
    if not include.is_dir() or len(libraries) < 2:
        raise KernelError(f"{package} has no headers or no libraries: install openvino from its wheel")
    files = sorted(sources.glob("*.cpp"))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        failures = list(pool.map(partial(_compile, compiler, include, work), files))
    left_out = {file.name: failure for file, failure in zip(files, failures, strict=True) if failure is not None}
    for file in files:
        if file.name in left_out and not _own_flags(file):
            reason = f"{compiler[0]} does not compile {file.name}: {left_out[file.name]}"
            raise KernelError(f"{reason}. Set CXX to another compiler")
    objects = [str(work / f"{file.stem}.o") for file in files if file.name not in left_out]
    link = ["-shared", "-Wl,--no-undefined", f"-Wl,-rpath,{package / 'libs'}", "-o", str(work / _LIBRARY)]
    failure = _run([*compiler, *link, *objects, *libraries])
    if failure is not None:
        raise KernelError(f"{compiler[0]} does not link the native kernels: {failure}. Set CXX to another compiler")
    for each in objects:
        os.unlink(each)
    return left_out


def _libraries(package: Path, pattern: str) -> list[str]:
    """The one file of this pattern that has contents: wheels have no links."""
    return [str(path) for path in sorted((package / "libs").glob(pattern))][-1:]


def _own_flags(source: Path) -> list[str]:
    with open(source, encoding="utf-8") as file:
        first = file.readline()
    return first.removeprefix(_OWN_FLAGS).split() if first.startswith(_OWN_FLAGS) else []


def _compile(compiler: Sequence[str], include: Path, work: Path, source: Path) -> str | None:
    flags, compiled = [*_FLAGS, *_own_flags(source), "-isystem", str(include)], work / f"{source.stem}.o"
    failure = _run([*compiler, *flags, "-c", str(source), "-o", str(compiled)])
    return failure if failure or compiled.exists() else "it wrote nothing"


def _run(command: Sequence[str]) -> str | None:
    """Run a compiler; returns None, or what it said if it failed."""
    done = _call(command)
    if done.returncode == 0:
        return None
    _log.debug("%s\n%s", shlex.join(command), done.stderr)
    lines = [line.strip() for line in done.stderr.splitlines() if _TELLING.search(line)]
    return (lines[0] if lines else done.stderr.strip() or f"it ended with status {done.returncode}")[:_SHOWN]


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler, which speaks English then; that it does not run at all is no matter of a single source."""
    english = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=english, timeout=_TIMEOUT, check=False
        )
    except OSError as error:
        raise KernelError(f"{command[0]} does not run: {error.strerror}. Set CXX to another compiler") from error
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{command[0]} was not done after {_TIMEOUT} s: {shlex.join(command)}") from error
