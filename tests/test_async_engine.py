"""`AsyncEngine`: many coroutines, one model."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import ovgen
from ovgen.runtime.runner import Chunk

PROMPTS = ["Once upon a time", "One day, a little fox", "In", "The dog and the bird went to the park"]
GREEDY: dict[str, Any] = {"max_new_tokens": 20, "temperature": 0, "ignore_eos": True}
LONG: dict[str, Any] = {**GREEDY, "max_new_tokens": 400}


@pytest.fixture
def engine(storyteller: ovgen.LLM) -> ovgen.AsyncEngine:
    return ovgen.AsyncEngine(storyteller)


async def idle(llm: ovgen.LLM) -> None:
    """Wait until nothing is held any more."""
    for _ in range(2000):
        if not (llm.engine.pool.used or [thread for thread in threading.enumerate() if thread.name == "ovgen"]):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("blocks are held, or the thread goes on")


def test_a_stream_is_what_it_is_without_asyncio(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    async def pieces() -> list[ovgen.Piece]:
        return [piece async for piece in engine.stream(PROMPTS[0], **GREEDY)]

    got = asyncio.run(pieces())
    assert len(got) == 20
    assert got[-1].finish_reason == "length"
    assert "".join(piece.text for piece in got) == storyteller.generate(PROMPTS[0], **GREEDY).text


def test_clients_are_computed_together_and_get_what_each_gets_alone(
    storyteller: ovgen.LLM, engine: ovgen.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    start = storyteller.engine.runner.start

    def note(chunks: Sequence[Chunk]) -> None:
        sizes.append(len(chunks))
        start(chunks)

    monkeypatch.setattr(storyteller.engine.runner, "start", note)

    async def all_of_them() -> list[ovgen.GenerationOutput]:
        return await asyncio.gather(*(engine.generate(prompt, **GREEDY) for prompt in PROMPTS))

    outputs = asyncio.run(all_of_them())
    assert max(sizes) == len(PROMPTS)
    assert [out.token_ids for out in outputs] == [storyteller.generate(p, **GREEDY).token_ids for p in PROMPTS]
    assert [out.finish_reason for out in outputs] == ["length"] * 4


def test_leaving_the_loop_frees_the_cache(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    async def leave() -> None:
        async for piece in engine.stream(PROMPTS[0], **LONG):
            assert piece.token_ids
            break
        await idle(storyteller)

    asyncio.run(leave())


def test_cancelling_a_task_frees_the_cache_and_others_go_on(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    async def cancel() -> ovgen.GenerationOutput:
        doomed = asyncio.create_task(engine.generate(PROMPTS[0], **LONG))
        other = asyncio.create_task(engine.generate(PROMPTS[1], **GREEDY))
        await asyncio.sleep(0.01)
        doomed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doomed
        output = await other
        await idle(storyteller)
        return output

    assert asyncio.run(cancel()).token_ids == storyteller.generate(PROMPTS[1], **GREEDY).token_ids


def test_the_event_loop_does_not_wait_for_a_step(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    async def go_on() -> int:
        with storyteller.engine.lock:  # as another thread does that takes a long step
            task = asyncio.create_task(engine.generate(PROMPTS[0], **GREEDY))
            other = asyncio.create_task(engine.generate(PROMPTS[1], **LONG))
            await asyncio.sleep(0.02)
            assert not task.done()
            other.cancel()  # neither does ending a request
        output = await task
        await idle(storyteller)
        return len(output.token_ids)

    assert asyncio.run(asyncio.wait_for(go_on(), 60)) == 20


def test_what_is_wrong_with_a_request_is_raised_before_anything_is_computed(engine: ovgen.AsyncEngine) -> None:
    async def first() -> ovgen.Piece:
        return await anext(engine.stream(PROMPTS[0], temprature=1))

    with pytest.raises(ovgen.ConfigError, match="did you mean 'temperature'"):
        asyncio.run(first())
    with pytest.raises(ovgen.RequestError, match="empty"):
        asyncio.run(engine.generate([]))


def test_a_request_that_fails_leaves_the_others_alone(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    def no_numbers(token_ids: Sequence[int], logits: Any) -> Any:
        return np.full_like(logits, np.nan)

    async def both() -> list[Any]:
        bad = engine.generate(PROMPTS[0], **GREEDY, logits_processors=[no_numbers])
        return list(await asyncio.gather(bad, engine.generate(PROMPTS[1], **GREEDY), return_exceptions=True))

    failed, output = asyncio.run(both())
    assert isinstance(failed, ovgen.GenerationError)
    assert output.token_ids == storyteller.generate(PROMPTS[1], **GREEDY).token_ids
    assert storyteller.engine.pool.used == 0


def test_a_device_that_fails_is_told_to_all_and_works_again(
    storyteller: ovgen.LLM, engine: ovgen.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = storyteller.engine.runner.wait

    def fail() -> None:
        wait()
        raise ovgen.DeviceError("the device is gone")

    async def both() -> list[Any]:
        tasks = [engine.generate(prompt, **GREEDY) for prompt in PROMPTS[:2]]
        return await asyncio.gather(*tasks, return_exceptions=True)

    with monkeypatch.context() as patched:
        patched.setattr(storyteller.engine.runner, "wait", fail)
        assert [str(error) for error in asyncio.run(both())] == ["the device is gone"] * 2
    assert all(isinstance(output, ovgen.GenerationOutput) for output in asyncio.run(both()))
    assert storyteller.engine.pool.used == 0


def test_an_event_loop_that_is_closed_leaves_nothing_behind(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    loop = asyncio.new_event_loop()
    stream = engine.stream(PROMPTS[0], **LONG)
    assert loop.run_until_complete(anext(stream)).token_ids
    loop.close()
    asyncio.run(idle(storyteller))
    del stream
    gc.collect()


def test_several_texts_and_searches_come_as_they_do_without_asyncio(
    storyteller: ovgen.LLM, engine: ovgen.AsyncEngine
) -> None:
    drawn: dict[str, Any] = {**GREEDY, "n": 3, "temperature": 1.0, "seed": 4}

    async def all_of_them() -> tuple[ovgen.GenerationOutput, ovgen.GenerationOutput, set[int]]:
        streamed = {piece.index async for piece in engine.stream(PROMPTS[0], **drawn)}
        searched, several = await asyncio.gather(
            engine.generate(PROMPTS[1], num_beams=3, n=2, max_new_tokens=10), engine.generate(PROMPTS[0], **drawn)
        )
        await idle(storyteller)
        return searched, several, streamed

    searched, several, streamed = asyncio.run(all_of_them())
    assert streamed == {0, 1, 2}
    texts = [out.text for out in storyteller.generate(PROMPTS[0], **drawn).outputs]
    assert [out.text for out in several.outputs] == texts
    assert len(searched.outputs) == 2
    assert (searched.score or 0) >= (searched.others[0].score or 0)


def test_the_event_loop_goes_on_while_a_request_is_made(
    storyteller: ovgen.LLM, engine: ovgen.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, going = storyteller.request, threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        assert going.wait(60), "the event loop stands still"
        return make(*arguments, **options)

    monkeypatch.setattr(storyteller, "request", slow)

    async def both() -> ovgen.GenerationOutput:
        asyncio.get_running_loop().call_later(0.01, going.set)
        return await engine.generate(PROMPTS[0], **GREEDY)

    assert len(asyncio.run(both()).token_ids) == 20


def test_what_is_chosen_at_the_end_is_not_streamed(engine: ovgen.AsyncEngine) -> None:
    async def first() -> ovgen.Piece:
        return await anext(engine.stream(PROMPTS[0], num_beams=2))

    with pytest.raises(ovgen.RequestError, match="num_beams: texts are chosen at the end"):
        asyncio.run(first())


def test_leaving_the_loop_ends_all_texts(storyteller: ovgen.LLM, engine: ovgen.AsyncEngine) -> None:
    async def leave() -> None:
        async with contextlib.aclosing(engine.stream(PROMPTS[0], **{**LONG, "n": 3, "temperature": 1.0})) as pieces:
            seen = 0
            async for _ in pieces:
                seen += 1
                if seen == 10:
                    break
        await idle(storyteller)

    asyncio.run(leave())
