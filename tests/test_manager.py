"""`ModelManager` over models that only pretend: who is loaded, when, and who gives way; and once over a real one."""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import ovgen
from ovgen import manager as module
from ovgen.manager import ModelManager

BYTE = 1 / 2**30  # in GiB: budgets of these tests are counted in bytes
LONG = 20  # seconds that nothing takes, unless threads wait for each other for ever


class World:
    """What the pretended models do, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loads: list[str] = []
        self.alive: weakref.WeakSet[FakeLLM] = weakref.WeakSet()
        self.failures: dict[str, list[BaseException]] = {}
        self.loading = threading.Event()  # set when a load has begun
        self.go = threading.Event()  # loads wait for it
        self.go.set()
        self.at_load: list[list[str]] = []  # who was in memory when each load began

    def paths(self, **sizes: int) -> dict[str, Path]:
        """A file of this many bytes per model."""
        for name, size in sizes.items():
            (self.folder / f"{name}.gguf").write_bytes(bytes(size))
        return {name: self.folder / f"{name}.gguf" for name in sizes}

    def names(self) -> list[str]:
        return sorted(llm.name for llm in self.alive)


class FakeLLM:
    world: World

    def __init__(self, path: Path, **options: Any) -> None:
        self.name, self.options = path.stem, options
        self.world.loads.append(self.name)
        self.world.at_load.append(self.world.names())
        self.world.loading.set()
        assert self.world.go.wait(LONG)
        if self.world.failures.get(self.name):
            raise self.world.failures[self.name].pop()
        self.weights = path.stat().st_size
        self.cache = 0
        self.device, self.form = "CPU", "fake"
        self.default_params = ovgen.SamplingParams()
        self.world.alive.add(self)

    def generate(self, prompt: Any, params: Any = None, **sampling: Any) -> Any:
        return SimpleNamespace(model=self.name, prompt=prompt, params=params or self.default_params, sampling=sampling)

    chat = generate

    def stream(self, prompt: str, params: Any = None, **sampling: Any) -> Generator[str, None, None]:
        if not prompt:
            raise ovgen.RequestError("the prompt is empty")
        return (letter for letter in prompt)

    stream_chat = stream


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(FakeLLM, "world", world, raising=False)
    monkeypatch.setattr(module, "LLM", FakeLLM)
    monkeypatch.setattr(module, "estimated_bytes", lambda spec: Path(spec.path).stat().st_size)
    monkeypatch.setattr(module, "weight_bytes", lambda llm: llm.weights)
    monkeypatch.setattr(module, "cache_bytes", lambda llm: llm.cache)
    return world


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def in_state(manager: ModelManager, state: str) -> list[str]:
    return [row.id for row in manager.status() if row.state == state]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def requests(manager: ModelManager, model_id: str) -> int:
    return next(row.requests for row in manager.status() if row.id == model_id)


def test_a_model_is_loaded_when_it_is_first_used_and_shared(world: World) -> None:
    with ModelManager(world.paths(a=1, b=1)) as manager:
        assert world.loads == []
        first: Any = manager.generate("a", "x", max_new_tokens=3)
        assert (first.model, first.prompt, first.sampling) == ("a", "x", {"max_new_tokens": 3})
        assert manager.load_model("a") is manager.load_model("a")
        assert manager.chat("a", []).model == "a"  # type: ignore[attr-defined]
        assert world.loads == ["a"]


def test_options_reach_the_model_and_sampling_defaults_the_request(world: World) -> None:
    path = world.paths(a=1)["a"]
    spec = ovgen.ModelSpec(path, {"device": ["NPU", "CPU"], "cache_size": 2.0}, {"temperature": 0.5})
    with ModelManager({"a": spec}) as manager:
        assert manager.load_model("a").options == {"device": ["NPU", "CPU"], "cache_size": 2.0}  # type: ignore[attr-defined]
        assert manager.generate("a", "x").params == ovgen.SamplingParams(temperature=0.5)  # type: ignore[attr-defined]


def test_threads_that_ask_for_the_same_model_load_it_once(world: World, pool: ThreadPoolExecutor) -> None:
    world.go.clear()
    with ModelManager(world.paths(a=1)) as manager:
        loads = [pool.submit(manager.load_model, "a") for _ in range(8)]
        until(lambda: requests(manager, "a") == 8)
        assert in_state(manager, "loading") == ["a"]
        world.go.set()
        assert len({id(load.result(LONG)) for load in loads}) == 1
        assert world.loads == ["a"]
        assert requests(manager, "a") == 0


def test_loading_one_does_not_hold_up_another(world: World, pool: ThreadPoolExecutor) -> None:
    with ModelManager(world.paths(a=1, b=1)) as manager:
        manager.load_model("a")
        world.go.clear()
        loading = pool.submit(manager.load_model, "b")
        until(lambda: world.loads == ["a", "b"])
        assert manager.generate("a", "x").prompt == "x"  # type: ignore[attr-defined]
        assert in_state(manager, "loading") == ["b"]
        world.go.set()
        assert loading.result(LONG).name == "b"  # type: ignore[attr-defined]


def test_a_load_that_fails_fails_for_all_that_wait_and_can_be_tried_again(
    world: World, pool: ThreadPoolExecutor
) -> None:
    world.failures["a"] = [ovgen.ModelError("damaged")]
    world.go.clear()
    with ModelManager(world.paths(a=1)) as manager:
        loads = [pool.submit(manager.load_model, "a") for _ in range(3)]
        until(lambda: requests(manager, "a") == 3)
        world.go.set()
        for load in loads:
            with pytest.raises(ovgen.ModelError, match="damaged"):
                load.result(LONG)
        assert in_state(manager, "unloaded") == ["a"]
        assert requests(manager, "a") == 0
        assert manager.load_model("a").name == "a"  # type: ignore[attr-defined]
        assert world.loads == ["a", "a"]


def test_ctrl_c_in_a_load_is_for_its_thread_alone(world: World, pool: ThreadPoolExecutor) -> None:
    world.failures["a"] = [KeyboardInterrupt()]
    world.go.clear()
    with ModelManager(world.paths(a=1)) as manager:
        interrupted = pool.submit(manager.load_model, "a")
        assert world.loading.wait(LONG)
        other = pool.submit(manager.load_model, "a")
        until(lambda: requests(manager, "a") == 2)
        world.go.set()
        assert other.result(LONG).name == "a"  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            interrupted.result(LONG)


def test_the_least_recently_used_gives_way_before_the_next_is_loaded(world: World) -> None:
    sizes = dict.fromkeys("abcde", 10)
    with ModelManager(world.paths(**sizes), memory_budget=30 * BYTE) as manager:
        for model_id in "abcadbe":
            manager.generate(model_id, "x")
        assert world.loads == ["a", "b", "c", "d", "b", "e"]
        # b gave way to d, c to b, a to e; each was gone when the new one began to load
        assert world.at_load == [[], ["a"], ["a", "b"], ["a", "c"], ["a", "d"], ["b", "d"]]
        assert in_state(manager, "loaded") == ["b", "d", "e"]
        assert world.names() == ["b", "d", "e"]


def test_used_is_when_a_request_ends(world: World) -> None:
    with ModelManager(world.paths(a=10, b=10, c=10), memory_budget=20 * BYTE) as manager:
        with manager.use("a"):
            manager.generate("b", "x")
        manager.generate("c", "x")
        assert in_state(manager, "loaded") == ["a", "c"]


def test_a_model_in_use_stays_and_the_budget_is_kept_once_it_ends(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with ModelManager(world.paths(a=10, b=10, c=10), memory_budget=20 * BYTE) as manager:
        with manager.use("a"), manager.use("b"), manager.use("c"):
            assert world.names() == ["a", "b", "c"]
            assert "loading c exceeds memory_budget, until requests to these end: a, b" in caplog.text
        assert in_state(manager, "loaded") == ["a", "b"]  # c ended first


def test_a_model_that_exceeds_the_budget_alone_is_loaded_with_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with ModelManager(world.paths(a=10, big=50), memory_budget=20 * BYTE) as manager:
        manager.generate("a", "x")
        manager.generate("big", "x")
        manager.generate("big", "x")
        assert world.loads == ["a", "big"]
        assert in_state(manager, "loaded") == ["big"]
        assert [record.getMessage()[:15] for record in caplog.records] == ["big alone takes"]
        manager.generate("a", "x")
        assert in_state(manager, "loaded") == ["a"]


def test_a_growing_cache_counts(world: World) -> None:
    with ModelManager(world.paths(a=10, b=10, c=10), memory_budget=30 * BYTE) as manager:
        for model_id in "abc":
            manager.generate(model_id, "x")
        with manager.use("c") as llm:
            llm.cache = 5  # type: ignore[attr-defined]
            assert in_state(manager, "loaded") == ["a", "b", "c"]
        assert in_state(manager, "loaded") == ["b", "c"]
        assert [row.bytes for row in manager.status()] == [0, 10, 15]


def test_what_was_measured_stands_for_the_model_the_next_time(world: World) -> None:
    paths = world.paths(a=10, b=30)
    with ModelManager(paths, memory_budget=20 * BYTE) as manager:
        paths["b"].write_bytes(bytes(5))  # as if it was compressed while loading
        manager.generate("b", "x")
        manager.unload("b")
        paths["b"].write_bytes(bytes(30))
        manager.generate("a", "x")
        world.go.clear()
        world.loading.clear()
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(manager.load_model, "b")
            assert world.loading.wait(LONG)
            assert [(row.state, row.bytes) for row in manager.status()] == [("loaded", 10), ("loading", 5)]
            world.go.set()
            load.result(LONG)


def test_without_a_budget_nothing_gives_way(world: World) -> None:
    with ModelManager(world.paths(a=1 << 20, b=1 << 20)) as manager:
        manager.load_model("a")
        manager.load_model("b")
        assert in_state(manager, "loaded") == ["a", "b"]


def test_unload_waits_for_no_one(world: World) -> None:
    with ModelManager(world.paths(a=1)) as manager:
        assert manager.unload("a")
        manager.load_model("a")
        assert manager.unload("a")
        assert world.names() == []
        with manager.use("a") as llm:
            assert not manager.unload("a")
            with manager.use("a") as same:
                assert same is llm
            assert in_state(manager, "loaded") == ["a"]
            del llm, same
        assert in_state(manager, "unloaded") == ["a"]
        assert world.names() == []
        manager.generate("a", "x")
        assert in_state(manager, "loaded") == ["a"]


def test_a_model_that_is_told_to_go_while_it_is_loading_goes_when_its_request_ends(
    world: World, pool: ThreadPoolExecutor
) -> None:
    world.go.clear()
    with ModelManager(world.paths(a=1)) as manager:
        request = pool.submit(manager.generate, "a", "x")
        assert world.loading.wait(LONG)
        assert not manager.unload("a")
        world.go.set()
        assert request.result(LONG).model == "a"  # type: ignore[attr-defined]
        assert in_state(manager, "unloaded") == ["a"]


@pytest.mark.parametrize("method", ["stream", "stream_chat"])
def test_a_stream_holds_its_model_until_it_ends_or_is_closed(world: World, method: str) -> None:
    with ModelManager(world.paths(a=1)) as manager:
        stream = getattr(manager, method)
        assert list(stream("a", "xyz")) == ["x", "y", "z"]
        assert requests(manager, "a") == 0
        pieces = stream("a", "xyz")
        assert next(pieces) == "x"
        assert not manager.unload("a")
        pieces.close()
        assert in_state(manager, "unloaded") == ["a"]
        never_begun = stream("a", "xyz")
        assert requests(manager, "a") == 1
        del never_begun
        gc.collect()
        assert requests(manager, "a") == 0


def test_a_stream_refuses_at_once_and_lets_go(world: World) -> None:
    with ModelManager(world.paths(a=1)) as manager:
        with pytest.raises(ovgen.RequestError, match="empty"):
            manager.stream("a", "")
        assert requests(manager, "a") == 0


def test_after_closing_what_runs_ends_and_nothing_begins(world: World) -> None:
    manager = ModelManager(world.paths(a=1, b=1))
    manager.load_model("b")
    stream: Iterator[Any] = manager.stream("a", "xy")
    manager.close()
    manager.close()
    assert in_state(manager, "loaded") == ["a"]
    assert list(stream) == ["x", "y"]
    assert world.names() == []
    with pytest.raises(ovgen.RequestError, match="closed"):
        manager.generate("a", "x")


def test_status_is_plain_and_readable(world: World) -> None:
    paths = world.paths(a=3, b=1)
    with ModelManager(paths) as manager:
        with manager.use("a"), manager.use("a"):
            row, other = manager.status()
        assert (row.id, row.path, row.state, row.device, row.form) == ("a", paths["a"], "loaded", "CPU", "fake")
        assert (row.bytes, row.requests, row.last_used) == (3, 2, None)
        assert str(row) == "a: loaded on CPU (fake), 0.0 MiB, 2 requests"
        assert str(other) == "b: unloaded"
        used = manager.status()[0].last_used
        assert used is not None
        assert abs(used.timestamp() - time.time()) < LONG
        assert str(manager.status()[0]).startswith("a: loaded on CPU (fake), 0.0 MiB, last used 2")
        with pytest.raises(FrozenInstanceError):
            row.state = "unloaded"  # type: ignore[misc]


@pytest.mark.parametrize(("count", "shown"), [(3, "0.0 MiB"), (200 << 20, "200.0 MiB"), (3 << 29, "1.50 GiB")])
def test_sizes_are_shown_so_that_they_say_something(world: World, count: int, shown: str) -> None:
    with ModelManager(world.paths(a=1)) as manager:
        manager.load_model("a").cache = count - 1  # type: ignore[attr-defined]
        assert f", {shown}, " in str(manager.status()[0])


def test_a_stream_that_is_closed_waits_for_no_lock(world: World, pool: ThreadPoolExecutor) -> None:
    with ModelManager(world.paths(a=1)) as manager:
        stream = manager.stream("a", "xyz")
        with manager._lock:  # as if the garbage collector ran in a thread that holds another lock, for which we wait
            pool.submit(stream.close).result(LONG)
        assert requests(manager, "a") == 0


def test_a_stream_that_is_freed_in_the_middle_of_something_does_not_interfere(world: World) -> None:
    with ModelManager(world.paths(a=1)) as manager:
        stream = manager.stream("a", "xyz")
        manager.unload("a")
        with manager._lock:
            del stream
            assert manager._slots["a"].users == 1
        assert in_state(manager, "unloaded") == ["a"]
        assert world.names() == []


def test_what_cannot_be_is_refused(world: World) -> None:
    paths = world.paths(story=1)
    with pytest.raises(ovgen.ModelNotFoundError, match=r"no model 'stori'; did you mean 'story'\?"):
        ModelManager(paths).generate("stori", "x")
    with pytest.raises(ovgen.ConfigError, match="models is empty"):
        ModelManager({})
    for budget in (0, -1.0, float("nan"), float("inf"), "x", True):
        with pytest.raises(ovgen.ConfigError, match="memory_budget must be"):
            ModelManager(paths, memory_budget=budget)  # type: ignore[arg-type]
    with pytest.raises(ovgen.ConfigError, match="models must be a mapping from ids to paths"):
        ModelManager([paths["story"]])  # type: ignore[arg-type]
    for model in (3, None, "", ovgen.ModelSpec("")):
        with pytest.raises(ovgen.ConfigError, match="'a' must be a path or a ModelSpec with one"):
            ModelManager({"a": model})  # type: ignore[dict-item]
    for name in (3, ""):
        with pytest.raises(ovgen.ConfigError, match="an id must be text, and not empty"):
            ModelManager({name: paths["story"]})  # type: ignore[dict-item]
    with pytest.raises(ovgen.ConfigError, match="'temprature'; did you mean 'temperature'"):
        ModelManager({"a": ovgen.ModelSpec("a", params={"temprature": 1})})
    assert world.loads == []


def test_many_threads_never_lose_a_model_in_use(world: World, pool: ThreadPoolExecutor) -> None:
    sizes = {"a": 10, "b": 15, "c": 20, "d": 25}
    manager = ModelManager(world.paths(**sizes), memory_budget=40 * BYTE)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            model_id = chance.choice("abcd")
            with manager.use(model_id) as llm:
                assert llm.name == model_id  # type: ignore[attr-defined]
                if chance.random() < 0.3:
                    time.sleep(0.001)
                if chance.random() < 0.1:
                    manager.unload(chance.choice("abcd"))
                assert next(row.state for row in manager.status() if row.id == model_id) == "loaded"

    for worker in [pool.submit(work, seed) for seed in range(8)]:
        worker.result(2 * LONG)
    assert all(row.requests == 0 for row in manager.status())
    assert world.names() == in_state(manager, "loaded")
    assert sum(row.bytes for row in manager.status()) <= 40


class Machine(RuleBasedStateMachine):
    """The manager beside a list: loaded models in the order in which they were last used."""

    SIZES = {"a": 1, "b": 2, "c": 3, "d": 7}  # noqa: RUF012
    BUDGET = 6
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.manager = ModelManager(
            {name: self.folder / f"{name}.gguf" for name in self.SIZES}, memory_budget=self.BUDGET * BYTE
        )
        self.order: list[str] = []  # loaded, last used last
        self.users: dict[str, list[ExitStack]] = {name: [] for name in self.SIZES}
        self.leaving: set[str] = set()

    def shrink(self) -> None:
        while sum(self.SIZES[name] for name in self.order) > self.BUDGET and len(self.order) > 1:
            idle = [name for name in self.order if not self.users[name]]
            if not idle:
                return
            self.order.remove(idle[0])

    @rule(name=st.sampled_from(sorted(SIZES)))
    def begin(self, name: str) -> None:
        request = ExitStack()
        assert request.enter_context(self.manager.use(name)).name == name  # type: ignore[attr-defined]
        self.users[name].append(request)
        if name not in self.order:
            self.order.append(name)
            self.shrink()

    @precondition(lambda self: any(self.users.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, users in self.users.items() if users]))
        self.users[name].pop().close()
        if not self.users[name]:
            self.order.remove(name)
            if name not in self.leaving:
                self.order.append(name)
            self.leaving.discard(name)
        self.shrink()

    @rule(name=st.sampled_from(sorted(SIZES)))
    def unload(self, name: str) -> None:
        assert self.manager.unload(name) == (not self.users[name])
        if self.users[name]:
            self.leaving.add(name)
        elif name in self.order:
            self.order.remove(name)

    @invariant()
    def the_same_models_are_loaded(self) -> None:
        rows = {row.id: row for row in self.manager.status()}
        assert {name for name, row in rows.items() if row.state == "loaded"} == set(self.order)
        assert {name: row.requests for name, row in rows.items()} == {n: len(u) for n, u in self.users.items()}
        assert FakeLLM.world.names() == sorted(self.order)

    def teardown(self) -> None:
        for users in self.users.values():
            for request in users:
                request.close()
        self.manager.close()
        assert FakeLLM.world.names() == []


def test_the_manager_does_as_a_simple_list_would(world: World) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    logging.getLogger("ovgen").setLevel(logging.ERROR)
    try:
        world.paths(**Machine.SIZES)
        Machine.folder = world.folder
        run_state_machine_as_test(Machine, settings=settings(deadline=None, stateful_step_count=30))
    finally:
        logging.getLogger("ovgen").setLevel(logging.NOTSET)


@pytest.mark.parametrize("weights", [None, "int8", ovgen.Compression(weights="int4")])
def test_the_estimate_is_of_what_is_loaded(weights: Any) -> None:
    options = {} if weights is None else {"weights": weights}
    estimate = module.estimated_bytes(ovgen.ModelSpec(ovgen.bundled_model(), options))
    assert estimate == pytest.approx(module.weight_bytes(ovgen.LLM(ovgen.bundled_model(), **options)), rel=0.1)


def test_real_models_come_and_go_and_their_memory_with_them() -> None:
    path = ovgen.bundled_model()
    weights = (path / "model.safetensors").stat().st_size
    with ModelManager({"one": path, "two": path}, memory_budget=1.5 * weights * BYTE) as manager:
        expected = manager.generate("one", "Once upon a time", max_new_tokens=5, temperature=0).text
        assert manager.status()[0].bytes == pytest.approx(weights, rel=0.2)
        assert manager.status()[0].form == "paged"
        first = weakref.ref(manager.load_model("one"))
        pieces = list(manager.stream("two", "Once upon a time", max_new_tokens=5, temperature=0))
        assert "".join(piece.text for piece in pieces) == expected
        assert first() is None
        assert in_state(manager, "loaded") == ["two"]
