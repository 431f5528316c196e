import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ovgen.engine.block_pool import BlockPool, blocks_for
from ovgen.engine.sequence import KVSequence
from ovgen.errors import CacheFullError


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_blocks_for_rounds_up(tokens: int, blocks: int) -> None:
    assert blocks_for(tokens, 4) == blocks


def test_ids_go_out_in_ascending_order_and_come_back_last_in_first_out() -> None:
    pool = BlockPool(limit=8)
    assert [pool.allocate() for _ in range(4)] == [0, 1, 2, 3]
    pool.release([1, 2])
    assert [pool.allocate() for _ in range(3)] == [1, 2, 4]


def test_grows_by_doubling_up_to_the_limit_and_then_refuses() -> None:
    pool = BlockPool(limit=40)
    sizes = []
    for _ in range(40):
        pool.allocate()
        sizes.append(pool.size)
    assert sorted(set(sizes)) == [16, 32, 40]
    assert pool.free == 0
    with pytest.raises(CacheFullError, match="all 40 blocks"):
        pool.allocate()


def test_a_shared_block_is_free_only_when_its_last_owner_lets_go() -> None:
    pool = BlockPool(limit=4)
    block = pool.allocate()
    pool.share([block])
    assert pool.is_shared(block)
    pool.release([block])
    assert not pool.is_shared(block)
    assert pool.used == 1
    pool.release([block])
    assert pool.used == 0


def test_reserve_copies_a_shared_block_before_it_is_written() -> None:
    pool = BlockPool(limit=8)
    first = KVSequence(list(range(6)))
    assert first.reserve(pool, 4, 6) == []
    first.computed = 6
    twin = first.fork(pool)
    assert twin.blocks == first.blocks == [0, 1]
    assert twin.reserve(pool, 4, 7) == [(1, 2)]  # block 0 is full and stays shared
    assert twin.blocks == [0, 2]
    assert first.reserve(pool, 4, 7) == []  # block 1 is the first one's own again


def test_reserve_changes_nothing_when_there_is_too_little() -> None:
    pool = BlockPool(limit=2)
    sequence = KVSequence(list(range(20)))
    with pytest.raises(CacheFullError):
        sequence.reserve(pool, 4, 20)
    assert sequence.blocks == []
    assert pool.used == 0


def test_trim_releases_what_holds_no_computed_token() -> None:
    pool = BlockPool(limit=8)
    sequence = KVSequence(list(range(9)))
    sequence.reserve(pool, 4, 9)
    sequence.computed = 9
    sequence.trim(pool, 4, 4)
    assert (sequence.tokens, sequence.computed, sequence.blocks) == ([0, 1, 2, 3], 4, [0])
    pool.check()


class PoolMachine(RuleBasedStateMachine):
    """Random reserve, fork, trim and release of sequences, beside a plain count of who owns what."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(limit=24)
        self.sequences: list[KVSequence] = []

    @rule(length=st.integers(1, 40))
    def add(self, length: int) -> None:
        self.sequences.append(KVSequence(list(range(length))))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        length = data.draw(st.integers(sequence.computed, len(sequence.tokens)))
        free = self.pool.free
        try:
            copies = sequence.reserve(self.pool, 4, length)
        except CacheFullError:
            assert self.pool.free == free
            return
        assert all(not self.pool.is_shared(target) for _, target in copies)
        assert all(not self.pool.is_shared(block) for block in sequence.blocks[sequence.computed // 4 :])
        sequence.computed = length

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        self.sequences.append(data.draw(st.sampled_from(self.sequences)).fork(self.pool))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        sequence.trim(self.pool, 4, data.draw(st.integers(0, len(sequence.tokens))))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        self.sequences.remove(sequence)
        sequence.release(self.pool)

    @invariant()
    def counts_agree(self) -> None:
        self.pool.check()
        owned = {block for sequence in self.sequences for block in sequence.blocks}
        assert self.pool.used == len(owned)
        for sequence in self.sequences:
            assert len(sequence.blocks) >= blocks_for(sequence.computed, 4)


TestPoolMachine = PoolMachine.TestCase
