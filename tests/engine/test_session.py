from __future__ import annotations

from typing import Any

import pytest

from ovgen.engine.sequence import KVSequence
from ovgen.engine.session import Session
from ovgen.errors import CacheFileError, CacheFullError, ContextLengthError, DeviceError
from tests.engine.fake import VOCAB, continuation, next_token
from tests.engine.test_loop import CONTEXT, fake, generated, make_engine, submit


def test_session_forward_gives_the_rows_asked_for() -> None:
    engine = make_engine(tokens=8)
    prompt = list(range(30))
    best = [next_token(prompt[: i + 1]) for i in range(30)]
    for rows in (None, 30, 13, 8, 1, 0):
        with Session(engine, lambda: "m") as session:
            logits = session.forward(prompt, rows=rows)
            count = 30 if rows is None else rows
            assert logits.shape == (count, VOCAB)
            assert logits.argmax(1).tolist() == best[30 - count :]
    assert engine.pool.used == 0


def test_session_trim_and_fork_do_not_disturb_each_other() -> None:
    engine = make_engine()
    session = Session(engine, lambda: "m")
    session.forward(list(range(10)))
    twin = session.fork()
    third = twin.fork()
    session.trim(6)
    assert session.forward([50]).argmax() == next_token([*range(6), 50])
    assert twin.forward([60]).argmax() == next_token([*range(10), 60])
    assert third.forward([70, 71]).argmax(1).tolist() == [
        next_token([*range(10), 70]),
        next_token([*range(10), 70, 71]),
    ]
    assert session.token_ids == (*range(6), 50)
    for each in (session, twin, third):
        each.close()
    assert engine.pool.used == 0


def test_sessions_and_requests_share_the_device() -> None:
    engine = make_engine(blocks=8)
    requests = [submit(engine, [i] * 5, max_new_tokens=8) for i in range(3)]
    session = Session(engine, lambda: "m")
    tokens: list[int] = []
    while not all(request.done for request in requests):
        engine.step()
        if len(tokens) < 12:
            token = len(tokens)
            tokens.append(token)
            assert session.forward([token]).argmax() == next_token(tokens)
    assert [generated(r) for r in requests] == [continuation([i] * 5, 8) for i in range(3)]


def test_a_session_that_does_not_fit_is_as_before() -> None:
    engine = make_engine(blocks=3)
    session = Session(engine, lambda: "m")
    session.forward([1, 2])
    with pytest.raises(CacheFullError, match="raise cache_size"):
        session.forward([3] * 20)
    assert session.forward([3]).argmax() == next_token([1, 2, 3])
    with pytest.raises(ContextLengthError, match="trim the session"):
        session.forward([3] * CONTEXT)


def test_session_survives_a_failed_device() -> None:
    engine = make_engine()
    session = Session(engine, lambda: "m")
    session.forward([1, 2])
    fake(engine).fail["wait"] = DeviceError("it broke")
    with pytest.raises(DeviceError):
        session.forward([3, 4])
    assert session.forward([5]).argmax() == next_token([1, 2, 5])


def test_session_save_and_load(tmp_path: Any) -> None:
    engine = make_engine()
    session = Session(engine, lambda: "m")
    session.forward(list(range(11)))
    session.save(tmp_path / "s.kv")
    assert [file.name for file in tmp_path.iterdir()] == ["s.kv"]
    other = make_engine()
    loaded = Session.load(other, lambda: "m", tmp_path / "s.kv")
    assert loaded.token_ids == tuple(range(11))
    assert loaded.forward([40]).argmax() == next_token([*range(11), 40])


def test_a_file_of_another_model_or_a_damaged_one_is_refused(tmp_path: Any) -> None:
    engine = make_engine()
    session = Session(engine, lambda: "one")
    session.forward(list(range(11)))
    path = tmp_path / "s.kv"
    session.save(path)
    with pytest.raises(CacheFileError, match="another model"):
        Session.load(engine, lambda: "two", path)
    with pytest.raises(CacheFileError, match="no saved session"):
        Session.load(engine, lambda: "one", tmp_path / "none.kv")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 255
    for content in (whole[:-200], whole[:100], b"", b"hello", b"\x93NUMPY", bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(CacheFileError, match="damaged"):
            Session.load(engine, lambda: "one", path)
    assert engine.pool.used == len(session._sequence.blocks)


def test_what_is_loaded_goes_through_the_adapter_of_before(tmp_path: Any) -> None:
    engine = make_engine()
    session = Session(engine, lambda: "m", KVSequence([], adapter=2))
    session.forward(list(range(11)))
    session.save(tmp_path / "s.kv")
    loaded = Session.load(engine, lambda: "m", tmp_path / "s.kv", 2)
    assert [each._sequence.adapter for each in (session, session.fork(), loaded)] == [2, 2, 2]


def test_a_saved_session_that_finds_no_memory_takes_no_blocks() -> None:
    engine = make_engine()
    fake(engine).fail["resize"] = CacheFullError("no memory")
    with pytest.raises(CacheFullError, match="no memory"):
        engine.adopt([1, 2, 3, 4, 5], [])
    assert engine.pool.used == 0
