"""The loop that ties requests to a runner: start a step, emit what the one before it said, wait."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from ovgen.config import EngineConfig, SamplingParams
from ovgen.engine.block_pool import BlockPool
from ovgen.engine.cache import KVCache
from ovgen.engine.drafts import Drafts, DraftSource
from ovgen.engine.kept import KeptSequences
from ovgen.engine.leftovers import Leftovers
from ovgen.engine.limits import checked_ids, length_limit, shortened
from ovgen.engine.request import Request, TextStream, make_request
from ovgen.engine.results import Results
from ovgen.engine.scheduler import Plan, Scheduler
from ovgen.engine.sequence import KVSequence
from ovgen.engine.watch import Watch
from ovgen.errors import CacheFullError, ContextLengthError, DeviceError, OvgenError, RequestError
from ovgen.metrics import EngineMetrics
from ovgen.runtime.runner import Chunk, Runner
from ovgen.sampling import Constraint, Sampler

__all__ = ["Loop"]


class Loop:
    """Runs requests on one runner. Thread-safe: whoever waits for a result may drive the loop.

    Args:
        runner: the compiled model with its cache.
        config: budgets and limits.
        max_model_len: the longest sequence that the model takes.
        eos_token_ids: tokens that end a request, unless it ignores them.
        spare: what makes another runner of the same model when the device has failed; None: there is none.
        draft_model: guesses what requests will say.
    """

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        max_model_len: int,
        eos_token_ids: frozenset[int],
        spare: Callable[[DeviceError], Runner | None] = lambda error: None,
        draft_model: DraftSource | None = None,
    ) -> None:
        self.config = config
        self.max_model_len = max_model_len
        self.eos_token_ids = eos_token_ids
        self.lock = threading.RLock()
        self._left = Leftovers(self.lock, self._free)
        self.scheduler = Scheduler(config)
        self.metrics = EngineMetrics()
        self._spare = spare
        self._sampler = Sampler()
        self._computed: weakref.WeakSet[KVSequence] = weakref.WeakSet()  # those of sessions
        self._flying: deque[Plan] = deque()  # the steps that the device works on, oldest first
        self._busy = False  # a step is being taken: its logits are still in use
        self._unemitted: dict[Request, None] = {}  # in order; they have sampled tokens that are not text yet
        self._drafts = Drafts(draft_model)
        self.has_draft_model = draft_model is not None
        self._results = Results(self._sampler, self.scheduler, self._drafts, self._unemitted)
        self.watch = Watch(self.metrics, self.scheduler, self._results)
        self._use(runner)

    def _use(self, runner: Runner) -> None:
        """Go on with a runner whose cache is empty; nothing is running."""
        for sequence in self._computed:  # computed again when their sessions go on
            sequence.lose()
        self.runner = runner
        self.cache = KVCache(runner, self.config.cache_size)
        kept = None
        if self.config.enable_prefix_caching and not runner.shares_blocks and runner.depth == 1:
            kept = KeptSequences(self.pool, runner.block_size, self.cache.copy, runner.release)
        self.scheduler.use(
            self.pool, runner.block_size, runner.slots, runner.depth, shared=runner.shares_blocks, kept=kept
        )
        for request in list(self.scheduler.waiting):  # it was checked for another runner
            try:
                self._fit(request)
            except RequestError as error:
                request.fail(type(error)(f"{runner.device}, which took over, cannot go on with it: {error}"))
                self._end(request)

    def _fit(self, request: Request) -> None:
        """Let a request that waits keep to what the runner can do.

        Raises:
            RequestError: it cannot.
        """
        beams, shift = request.params.num_beams, request.params.context_shift
        self._check_beams(beams)
        tokens, room = request.sequence.tokens, self.cache.tokens // beams
        for each in (request, *request.twins):
            each.limit = min(each.limit, room)
        if shift is not None:
            tokens[:] = shortened(tokens, shift, request.limit)
        elif len(tokens) >= request.limit:
            raise ContextLengthError(f"{len(tokens)} tokens do not fit the KV cache of {room}: raise cache_size")

    @property
    def pool(self) -> BlockPool:
        """Hands out the blocks of the KV cache."""
        return self.cache.pool

    def prepare(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        text: Callable[[], TextStream],
        bad_words_ids: Sequence[Sequence[int]] = (),
        constraint: Constraint | None = None,
    ) -> Request:
        """A request for a prompt, checked and ready to `submit`; its ``twins`` are for further texts.

        Args:
            prompt: token ids.
            params: what to do.
            text: makes what turns tokens into text; each text takes one.
            bad_words_ids: ``params.bad_words`` as token ids.
            constraint: ``params.structured_outputs`` at work.

        Raises:
            RequestError: the prompt is empty, or a token id is out of range.
            ContextLengthError: the prompt is longer than the context, or it could never fit the KV cache.
        """
        prompt = kept = self.checked(prompt)
        self._check_beams(params.num_beams)
        room = self.cache.tokens // params.num_beams  # beams may share nothing in the end
        capacity = min(self.max_model_len, room)
        if params.context_shift is None:
            limit = length_limit(len(prompt), params.max_new_tokens, self.max_model_len, room)
        else:
            kept, limit = shortened(prompt, params.context_shift, capacity), capacity
        request = make_request(kept, params, text, limit, self.eos_token_ids, bad_words_ids, constraint)
        request.metrics.dropped_tokens = len(prompt) - len(kept)
        return request

    def _check_beams(self, count: int) -> None:
        most, option = self.config.max_num_seqs, "max_num_seqs"
        if self.runner.slots is not None and self.runner.slots < most:
            most, option = self.runner.slots, "batch_slots"
        if count > most:
            raise RequestError(f"num_beams={count} is more than a step computes: {option}={count} is needed")

    def submit(self, request: Request) -> None:
        """Queue a request; `step` computes it."""
        with self.lock:
            for each in (request, *request.twins):
                each.metrics.kernels = self.runner.kernels
            if not request.finished:  # it may have been aborted before
                self.scheduler.add(request)

    def abort(self, request: Request) -> None:
        """End a request now and free its blocks, once the device is done with them; twins that have begun go on.

        One that has finished already stays as it is.
        """
        for each in (request, *request.twins):
            if not each.finished:
                each.finish_reason = "abort"
        self.leave(request)

    def leave(self, left: Request | KVSequence) -> None:
        """Free what a request or a session holds that nobody will go on with; finalisers may call this at any time."""
        self._left.leave(left)

    def _free(self, left: Request | KVSequence) -> None:
        self._forget(left) if isinstance(left, Request) else self.cache.release(left)

    def step(self) -> None:
        """Take the results of the oldest step in flight, start the next one, and emit meanwhile.

        Where the runner takes several steps at a time, the device works on another one all along.
        What it emits is in `Request.pieces`. A request that fails has its `Request.error` set and the others go on.
        If the device fails, or the caller is interrupted, every running request is put back to be computed again, on
        the next device if there is one.

        Raises:
            DeviceError: the device failed, and there is no other.
        """
        self._on_some_device(self._step)

    def _step(self) -> None:
        with self._turn():
            self._land()
            self._launch()
            self._emit()

    def drain(self) -> None:
        """Take the results of all steps in flight, and leave the device idle.

        Raises:
            DeviceError: the device failed, and there is no other; running requests are put back to be computed again.
            RequestError: called from inside a step, by a logits processor.
        """
        self._on_some_device(self._drain)

    def _drain(self) -> None:
        with self._turn():
            while self._flying:
                self._land()
            self._emit()

    def checked(self, token_ids: Iterable[int]) -> list[int]:
        """The ids as a list of our own.

        Raises:
            RequestError: there are none, or one is no id of the model's vocabulary.
        """
        return checked_ids(token_ids, self.runner.vocab_size)

    def _on_some_device(self, work: Callable[[], None]) -> None:
        """Do ``work``, and if the device fails, again on the next one."""
        with self.lock:  # all along: nobody else may begin anything on a device that has failed
            while True:
                try:
                    return work()
                except DeviceError as error:
                    spare = self._spare(error)
                    if spare is None:
                        raise
                    self._recover()
                    self._use(spare)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The lock, for one step from its beginning to its end; what fails in between puts all requests back."""
        with self.lock:
            if self._busy:
                raise RequestError("a logits processor cannot run the model that it is called from")
            self._left.free()
            self._busy = True
            try:
                yield
            except BaseException:
                self._recover()
                raise
            finally:
                self._busy = False
            self._left.free()

    def _launch(self) -> None:
        """Start steps until the device has as many as it takes, or nothing is left to compute for now."""
        while len(self._flying) < self.runner.depth:
            flying = self._in_flight()
            self._propose(flying)
            plan = self.scheduler.plan(flying)
            self.metrics.preemptions += len(plan.preempted)
            for request in plan.preempted:
                self.runner.release(request.sequence.number)
            if plan.items:
                self._start(plan)
            elif not plan.preempted:  # else there is room now
                if not self._flying:
                    self._refuse_stuck()
                return

    def _propose(self, flying: Collection[Request]) -> None:
        """Let those that are to get a token have a draft, where anybody can have one."""
        running = self.scheduler.running
        if not self.has_draft_model and not any(request.guesses for request in running):
            return
        # Where other texts or beams begin, they would begin with the guesses, too.
        ready = [r for r in running if r.remaining == 1 and not r.twins and r not in flying]
        for request in ready:
            request.draft = request.sampler.forced()
        self._drafts.propose(ready)

    def _start(self, plan: Plan) -> None:
        self.cache.prepare(plan.copies)
        chunks = []
        for request, length, rows, draft in plan.items:
            sequence = request.sequence
            past = sequence.computed
            tokens = sequence.tokens[past : past + length]
            tokens += draft
            chunks.append(Chunk(sequence.number, tokens, past, sequence.blocks, rows, sequence.adapter))
        self._flying.append(plan)
        plan.started = time.perf_counter()
        self.runner.start(chunks)

    def _in_flight(self) -> set[Request]:
        return {item.request for plan in self._flying for item in plan.items}

    def _refuse_stuck(self) -> None:
        """Nothing can run: if requests wait all the same, sessions hold the blocks that the first of them needs."""
        if self.scheduler.waiting:
            request = self.scheduler.waiting[0]
            error = (
                f"open sessions hold {self.pool.used} of {self.pool.limit} blocks of the KV cache, and a request of "
                f"{len(request.sequence.tokens)} tokens finds no room: close sessions, or raise cache_size"
            )
            request.fail(CacheFullError(error))
            self._end(request)

    def _land(self) -> None:
        """Wait for the oldest step in flight and commit it."""
        if not self._flying:
            return
        asked = time.perf_counter()
        logits = self.runner.wait()  # (rows, vocab) float32
        landed = time.perf_counter()
        plan = self._flying.popleft()
        self.metrics.steps += 1
        served = self._results.commit(plan, logits, self.cache)
        self.scheduler.landed(plan)
        for request in served:
            if request.finished:  # now, or while the device worked
                self._forget(request)
        self.watch.note(plan, asked, landed, self.pool)

    def _emit(self) -> None:
        """Turn new tokens into text; a stop string found there ends a request that is already in the next step."""
        while self._unemitted:
            request = next(iter(self._unemitted))
            del self._unemitted[request]
            try:
                request.emit()
                if not request.finished:
                    request.sampler.prepare()
            except OvgenError as error:  # a detokenizer that runs on a device of its own
                request.error = error
            if request.finished:
                self._forget(request)
        self.watch.tell()

    def _end(self, request: Request) -> None:
        """Free what a request holds that has failed, and its twins."""
        for each in (request, *request.twins):
            self._forget(each)

    def _forget(self, request: Request) -> None:
        """Free what a request that has ended holds; where others could get it too early, when its step has landed."""
        if request.forgotten or (self.runner.depth > 1 and request in self._in_flight()):
            return
        request.forgotten = True
        kept = self.scheduler.kept
        if kept is not None and request.error is None and request.beams is None:
            kept.keep(request.sequence)  # and what is kept has nothing left to be freed here
        else:
            self.runner.release(request.sequence.number)
        self.scheduler.remove(request)
        self._drafts.forget(request)
        if request.metrics.generated_tokens:
            self.metrics.add(request.metrics, first=request.index == 0)

    def _recover(self) -> None:
        """After a failure in mid-step: leave the device idle and have every running request computed again."""
        self._flying.clear()
        self._settle()
        if self.scheduler.kept is not None:
            self.scheduler.kept.clear()
        for request in reversed(list(self.scheduler.running)):
            if request.finished:
                self._forget(request)
            else:
                self.scheduler.preempt(request)
                self.runner.release(request.sequence.number)

    def _settle(self) -> None:
        """Leave the device idle after a failure, which is the one that is raised."""
        for _ in range(self.runner.depth):
            with contextlib.suppress(DeviceError):
                self.runner.wait()
