from __future__ import annotations

import pytest

from ovgen.config import EngineConfig
from ovgen.engine.engine import Engine
from ovgen.engine.limits import block_limit
from ovgen.errors import ContextLengthError
from tests.engine.fake import FakeRunner
from tests.engine.test_loop import CONTEXT, submit

MIB = 1 << 20


def test_the_cache_has_the_blocks_that_its_size_holds() -> None:
    assert block_limit(0.5, MIB, None) == 512
    assert block_limit(0.5, MIB, 512) == 512
    assert block_limit(0.5, 1 << 40, None) == 1


def test_a_device_with_room_for_fewer_blocks_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    runner = FakeRunner()
    runner.max_blocks = 3
    engine = Engine(runner, EngineConfig(cache_size=0.5), CONTEXT, frozenset())
    assert [record.message for record in caplog.records] == [
        "the KV cache takes 0.00293 GiB instead of 0.5: the device allocates no more at once"
    ]
    with pytest.raises(ContextLengthError, match="never fit the KV cache of 12"):
        submit(engine, [1] * 6, max_new_tokens=7)
