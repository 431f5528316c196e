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


def computed(pool: BlockPool, tokens: list[int]) -> KVSequence:
    """A sequence that has been computed, with blocks of four tokens that others may begin with."""
    sequence = KVSequence(tokens)
    sequence.reserve(pool, 4, len(tokens))
    sequence.computed = len(tokens)
    sequence.keep(pool, 4)
    return sequence


def test_a_sequence_begins_with_the_full_blocks_of_another() -> None:
    pool = BlockPool(limit=8)
    first = computed(pool, list(range(10)))
    twin = KVSequence([*range(9), 50, 51])
    twin.reuse(pool, 4)
    assert (twin.blocks, twin.computed) == ([0, 1], 8)
    assert twin.reserve(pool, 4, 11) == []
    assert twin.blocks == [0, 1, 3]
    other = KVSequence([0, 1, 2, 50, 4, 5, 6, 7, 8])  # its second block has the same tokens, but not what is before
    other.reuse(pool, 4)
    assert (other.blocks, other.computed) == ([], 0)
    first.release(pool)
    twin.release(pool)
    late = KVSequence(list(range(10)))
    late.reuse(pool, 4)  # of sequences that are gone
    assert (late.blocks, late.computed) == ([0, 1], 8)
    pool.check()


def test_of_a_sequence_that_is_known_as_a_whole_the_last_token_is_computed() -> None:
    pool = BlockPool(limit=8)
    first = computed(pool, list(range(8)))
    twin = KVSequence(list(range(8)))
    twin.reuse(pool, 4)
    assert (twin.blocks, twin.computed) == ([0, 1], 7)
    assert twin.reserve(pool, 4, 8) == [(1, 2)]  # what another one reads is not written to
    twin.release(pool)
    first.release(pool)
    late = KVSequence(list(range(8)))
    late.reuse(pool, 4)
    assert late.reserve(pool, 4, 8) == []  # nobody else reads it
    assert late.blocks == [0, 1]
    late.computed = 8
    late.keep(pool, 4)
    assert pool.find(late.prefixes[0], (4, 5, 6, 7)) is not None


def test_what_is_kept_goes_after_all_else_and_the_longest_unused_first() -> None:
    pool = BlockPool(limit=18)
    pool.release([pool.allocate()])  # 16 blocks exist
    old, young = computed(pool, list(range(8))), computed(pool, list(range(20, 28)))
    old.release(pool)
    young.release(pool)
    assert pool.used == 0
    out = [pool.allocate() for _ in range(14)]
    assert out == [*range(4, 16), 16, 17]  # the pool grows before anything is forgotten
    again = KVSequence([0, 1, 2, 3, 99])
    again.reuse(pool, 4)
    assert again.blocks == [0]
    again.release(pool)
    assert [pool.allocate() for _ in range(4)] == [1, 3, 2, 0]  # ends before beginnings, and what was used last, last
    pool.check()


def test_a_block_that_is_written_to_is_not_kept() -> None:
    pool = BlockPool(limit=8)
    sequence = computed(pool, list(range(8)))
    sequence.trim(pool, 4, 6)
    sequence.tokens += [60, 61]
    sequence.reserve(pool, 4, 8)
    twin = KVSequence(list(range(9)))
    twin.reuse(pool, 4)
    assert twin.blocks == [0]
    sequence.computed = 8
    sequence.keep(pool, 4)
    changed = KVSequence([0, 1, 2, 3, 4, 5, 60, 61, 62])
    changed.reuse(pool, 4)
    assert changed.blocks == [0, 1]


class PoolMachine(RuleBasedStateMachine):
    """Random reserve, reuse, fork, trim and release of sequences, beside a plain count of who owns what.

    The blocks have contents: the tokens up to each one's end, as far as they are computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[int, list[int]] = {}
        self.pool = BlockPool(limit=24)
        self.sequences: list[KVSequence] = []

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=40), reuses=st.booleans())
    def add(self, tokens: list[int], reuses: bool) -> None:
        sequence = KVSequence(tokens)
        if reuses:
            sequence.reuse(self.pool, 4)
            assert sequence.computed < len(tokens)
        self.sequences.append(sequence)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), tokens=st.lists(st.integers(0, 1), max_size=6))
    def extend(self, data: st.DataObject, tokens: list[int]) -> None:
        data.draw(st.sampled_from(self.sequences)).tokens += tokens

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.sequences)).keep(self.pool, 4)

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
        for source, target in copies:
            self.memory[target] = self.memory[source]
        for i in range(sequence.computed // 4, blocks_for(length, 4)):
            if length > sequence.computed:
                self.memory[sequence.blocks[i]] = sequence.tokens[: min(length, 4 * i + 4)]
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
            for i in range(blocks_for(sequence.computed, 4)):
                end = min(sequence.computed, 4 * i + 4)
                assert self.memory[sequence.blocks[i]][:end] == sequence.tokens[:end]


TestPoolMachine = PoolMachine.TestCase
