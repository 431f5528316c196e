from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ovgen.engine.block_pool import BlockPool
from ovgen.engine.kept import KeptSequences, common_prefix
from ovgen.engine.sequence import KVSequence

SIZE = 4


class Kept(KeptSequences):
    """With a runner that notes what it is told."""

    def __init__(self, pool: BlockPool) -> None:
        self.copies: list[tuple[int, int, int]] = []
        self.released: list[int] = []
        super().__init__(pool, SIZE, lambda *copy: self.copies.append(copy), self.released.append)


def computed(pool: BlockPool, tokens: list[int], adapter: int = 0) -> KVSequence:
    sequence = KVSequence(tokens, adapter=adapter)
    sequence.reserve(pool, SIZE, len(tokens))
    sequence.computed = len(tokens)
    return sequence


@given(st.lists(st.integers(0, 1), max_size=20), st.lists(st.integers(0, 1), max_size=20))
def test_common_prefix_counts_equal_tokens(first: list[int], second: list[int]) -> None:
    most = min(len(first), len(second))
    expected = next((i for i in range(most) if first[i] != second[i]), most)
    assert common_prefix(first, second, most) == expected


def test_the_next_turn_of_a_chat_takes_the_last_one_over() -> None:
    pool = BlockPool(8)
    kept = Kept(pool)
    turn = computed(pool, list(range(10)))
    blocks = list(turn.blocks)
    kept.keep(turn)
    after = KVSequence(list(range(15)))
    kept.begin(after)
    assert kept.copies == [(turn.number, turn.number, 10)]
    assert (after.number, after.blocks, after.computed) == (turn.number, blocks, 10)
    assert len(kept) == 0


def test_the_longest_beginning_is_copied_and_its_owner_stays() -> None:
    pool = BlockPool(16)
    kept = Kept(pool)
    short, long = computed(pool, [1, 2, 3, 4, 9, 9]), computed(pool, [1, 2, 3, 4, 5, 9])
    kept.keep(long)
    kept.keep(short)
    new = KVSequence([1, 2, 3, 4, 5, 6, 7])
    kept.begin(new)
    assert kept.copies == [(long.number, new.number, 5)]
    assert (new.computed, len(new.blocks), pool.used, len(kept)) == (5, 2, 6, 2)


def test_the_last_token_is_always_computed() -> None:
    pool = BlockPool(8)
    kept = Kept(pool)
    kept.keep(computed(pool, list(range(8))))
    again = KVSequence(list(range(8)))
    kept.begin(again)
    assert [length for _, _, length in kept.copies] == [7]
    assert again.computed == 7


def test_without_room_for_a_copy_the_kept_one_is_cut() -> None:
    pool = BlockPool(3)
    kept = Kept(pool)
    old = computed(pool, list(range(12)))
    kept.keep(old)
    new = KVSequence([*range(8), 99, 99])
    kept.begin(new)
    assert kept.copies == [(old.number, old.number, 8)]
    assert (new.number, len(new.blocks), pool.free) == (old.number, 2, 1)


def test_short_beginnings_and_other_adapters_are_no_match() -> None:
    pool = BlockPool(8)
    kept = Kept(pool)
    kept.keep(computed(pool, list(range(8)), adapter=1))
    kept.begin(KVSequence(list(range(12))))
    kept.begin(KVSequence([0, 1, 2, 9, 9], adapter=1))
    assert (len(kept), kept.copies) == (1, [])
    kept.begin(KVSequence(list(range(12)), adapter=1))
    assert len(kept.copies) == 1


def test_the_longest_unused_goes_first() -> None:
    pool = BlockPool(6)
    kept = Kept(pool)
    sequences = [computed(pool, [i] * 5) for i in range(2)]
    for sequence in sequences:
        kept.keep(sequence)
    copy = KVSequence([0, 0, 0, 0, 7, 7])
    kept.begin(copy)
    assert kept.copies == [(sequences[0].number, copy.number, 4)]  # used last now
    assert kept.make_room(3)
    assert kept.released == [sequences[1].number]
    assert not kept.make_room(6)
    assert kept.released == [sequences[1].number, sequences[0].number]


def test_a_request_that_ends_twice_is_kept_once_and_keeps_its_tokens() -> None:
    pool = BlockPool(8)
    kept = Kept(pool)
    ended = computed(pool, list(range(8)))
    ended.tokens.append(8)  # sampled, not computed
    kept.keep(ended)
    kept.keep(ended)
    assert (len(kept), kept.released, pool.used) == (1, [], 2)
    assert ended.tokens == list(range(9))


def test_what_fills_no_block_is_not_kept() -> None:
    pool = BlockPool(8)
    kept = Kept(pool)
    short = computed(pool, [1, 2, 3])
    kept.keep(short)
    assert (len(kept), kept.released, pool.used) == (0, [short.number], 0)


class Requests(RuleBasedStateMachine):
    """Requests come and go; ``rows`` is what a runner would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(12)
        self.rows: dict[int, list[int]] = {}
        self.kept = KeptSequences(self.pool, SIZE, self.copy, self.rows.__delitem__)
        self.running: list[KVSequence] = []

    def copy(self, source: int, target: int, length: int) -> None:
        self.rows[target] = self.rows[source][:length]

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=24), adapter=st.integers(0, 1))
    def begin(self, tokens: list[int], adapter: int) -> None:
        sequence = KVSequence([adapter + 5, *tokens], adapter=adapter)
        self.kept.begin(sequence)
        assert sequence.computed < len(sequence.tokens)
        need = -(-len(sequence.tokens) // SIZE) - len(sequence.blocks)
        self.rows.setdefault(sequence.number, [])
        if self.kept.make_room(need):
            assert self.rows[sequence.number] == sequence.tokens[: sequence.computed]
            sequence.reserve(self.pool, SIZE, len(sequence.tokens))
            sequence.computed = len(sequence.tokens)
            self.rows[sequence.number] = list(sequence.tokens)
            self.running.append(sequence)
        else:
            self.kept.drop(sequence)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), keep=st.booleans())
    def end(self, data: st.DataObject, keep: bool) -> None:
        sequence = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        if keep:
            self.kept.keep(sequence)
        else:  # preempted
            self.kept.drop(sequence)

    @rule(blocks=st.integers(0, 12))
    def need(self, blocks: int) -> None:
        assert self.kept.make_room(blocks) == (self.pool.free >= blocks)

    @invariant()
    def every_block_has_one_owner(self) -> None:
        self.pool.check()
        held = [*self.running, *self.kept._kept]
        blocks = [block for sequence in held for block in sequence.blocks]
        assert len(blocks) == len(set(blocks)) == self.pool.used <= 12
        assert {sequence.number: sequence.tokens for sequence in held} == self.rows


TestRequests = Requests.TestCase
