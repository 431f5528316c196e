"""The plugin's own form for language models (``NPUW_LLM``) at work: it keeps the cache, for one sequence.

The plugin takes a prompt from its beginning or a single token, and gives logits of the last token only. What it holds
can be rewound, but not taken out or put in. So this runner remembers each sequence's token ids, and what the plugin
has computed last; a step goes on from what the two have in common, or computes the sequence from its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import ConfigError, DeviceError, UnsupportedModelError
from ovgen.graph.passes import ADAPTERS_INPUT
from ovgen.runtime.device import base_name, compile_model, device_errors, wait_before_freeing, wait_quietly
from ovgen.runtime.properties import spelt
from ovgen.runtime.runner import PLUGIN, Chunk

__all__ = ["NpuwRunner"]

_PROMPT = 1024  # tokens that the plugin takes at once, if the context is that long
_STEP = 6  # a token by itself costs as much as so many in a prompt


_GENAI_NAMES = ("MAX_PROMPT_LEN", "MIN_RESPONSE_LEN", "PREFILL_HINT", "GENERATE_HINT", "PREFILL_CHUNK_SIZE")


@dataclass(frozen=True, slots=True)
class _Pass:
    """One inference.

    Attributes:
        token_ids: a whole prompt, or one token.
        past: how many tokens are before them; 0 for a prompt.
        row: the step's row that the logits of the last of them are; None: they are not wanted.
    """

    token_ids: list[int]
    past: int
    row: int | None


class NpuwRunner:
    """Runs the causal LM form in the NPU plugin's own mode for such models. A `Runner`.

    Args:
        model: the causal LM form, stateful.
        windows: by attention: how many tokens it sees, 0 for all, None where its mask does more.
        device: ``NPU``.
        config: OpenVINO properties, such as ``NPUW_LLM_MAX_PROMPT_LEN``, ``NPUW_LLM_MIN_RESPONSE_LEN`` and
            ``NPUW_LLM_PREFILL_CHUNK_SIZE``.
        chunk: tokens of a prompt that the plugin computes at once, if ``config`` does not say.
        longest: tokens of the longest sequence.

    Raises:
        ConfigError: the lengths in ``config`` are not numbers, or do not hold the longest sequence; it has names of
            openvino.genai's, or a precision that the cache cannot have.
        UnsupportedModelError: the plugin would compute something else than the model.
        DeviceError: the device has no such mode, or refuses the model.
    """

    form = "npuw"
    kernels = PLUGIN
    slots: int | None = 1
    depth = 1
    shares_blocks = False
    block_size = 32  # for the engine's accounting only
    max_blocks: int | None = None
    cache_layout = "npuw: token ids"

    def __init__(
        self,
        model: ov.Model,
        windows: Mapping[str, int | None],
        device: str,
        config: Mapping[str, Any],
        *,
        chunk: int,
        longest: int,
    ) -> None:
        self.device = device
        _check(model, windows, device, longest)
        _check_config(config)
        self._prompt = _count(config, "NPUW_LLM_MAX_PROMPT_LEN", min(longest, _PROMPT))
        response = _count(config, "NPUW_LLM_MIN_RESPONSE_LEN", max(longest - self._prompt, 1))
        if self._prompt + response < longest:
            raise ConfigError(
                f"NPUW_LLM_MAX_PROMPT_LEN and NPUW_LLM_MIN_RESPONSE_LEN hold {self._prompt} + {response} tokens, and "
                f"the longest sequence has {longest}: raise one of them, or set max_model_len"
            )
        properties: dict[str, Any] = {
            "NPU_USE_NPUW": "YES",
            "NPUW_LLM": "YES",
            "NPUW_LLM_MAX_PROMPT_LEN": self._prompt,
            "NPUW_LLM_MIN_RESPONSE_LEN": response,
            "NPUW_LLM_PREFILL_CHUNK_SIZE": 1 << (chunk.bit_length() - 1),  # a power of two
        }
        if config.get("CACHE_DIR"):
            properties["CACHE_MODE"] = "OPTIMIZE_SPEED"  # without weights in it, the second start failed in trials
        try:
            self.compiled = compile_model(model, device, {**properties, **config})
            with device_errors(device):
                self._request = self.compiled.create_infer_request()
        except DeviceError as error:
            raise DeviceError(f"{error} (the plugin's mode NPUW_LLM; form='static' does without it)") from error
        wait_before_freeing(self, self._request)
        self.vocab_size = self.compiled.output("logits").partial_shape[2].get_length()
        self.bytes_per_block = 2 * self.block_size * _width(model)  # float16
        self.cache_bytes = (self._prompt + response) * self.bytes_per_block // self.block_size  # from the beginning
        self._tokens: dict[int, list[int]] = {}  # by sequence
        self._held: list[int] = []  # the tokens whose keys and values the plugin has
        self._stepped = True  # the plugin has taken a token since the last prompt: before, it cannot be rewound
        self._marked = 0  # columns of the plugin's mask for single tokens that are set
        self._passes: deque[_Pass] = deque()
        self._flying: _Pass | None = None
        self._logits = np.empty((0, self.vocab_size), np.float32)

    def start(self, chunks: Sequence[Chunk]) -> None:
        """Cut the step into passes and start the first; with no logits wanted there is none, and the tokens wait."""
        self._forget_passes()
        (chunk,) = chunks
        tokens = self._tokens.setdefault(chunk.sequence, [])
        assert chunk.past <= len(tokens), "the sequence has fewer tokens than its past"
        tokens[chunk.past :] = chunk.token_ids
        self._logits = np.empty((chunk.rows, self.vocab_size), np.float32)
        self._passes.extend(self._cut(tokens, chunk.rows))
        self._launch()

    def wait(self) -> NDArray[np.float32]:
        """Logits ``(rows, vocab)``."""
        try:
            while self._flying is not None:
                self._land(self._flying)
                self._launch()
        except BaseException:
            self._forget_passes()
            raise
        return self._logits

    def resize(self, num_blocks: int) -> None:
        """Nothing to do: the plugin's cache is of one size."""

    def copy_block(self, source: int, target: int) -> None:
        """Nothing to do: `fork` copied the tokens."""

    def fork(self, source: int, target: int) -> None:
        """Whichever of the two goes on first does so from the cache; the other is computed again."""
        if source in self._tokens:
            self._tokens[target] = list(self._tokens[source])

    def trim(self, sequence: int, length: int) -> None:
        """Keep the first ``length`` tokens."""
        del self._tokens.get(sequence, [])[length:]

    def release(self, sequence: int) -> None:
        """Forget the sequence; its cache serves the next that begins with the same tokens."""
        self._tokens.pop(sequence, None)

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """The sequence's token ids, as bytes: the plugin does not give its cache away."""
        return [np.array(self._tokens[sequence], np.int32).view(np.uint8)]

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]], length: int) -> None:
        """Remember token ids, whose cache is computed when the sequence goes on."""
        (ids,) = data
        self._tokens[sequence] = ids.view(np.int32).reshape(length).tolist()

    def _cut(self, tokens: list[int], rows: int) -> Iterator[_Pass]:
        """The passes that give logits of the last ``rows`` tokens."""
        if not rows:
            return
        first = len(tokens) - rows  # the token whose logits are the first row
        known = min(_common(self._held, tokens), first)
        if known < len(self._held) and not self._stepped:
            known = 0
        prompt = min(first + 1, self._prompt)
        if 1 < prompt < _STEP * (prompt - known):  # a prompt of one token is a single token to the plugin
            yield _Pass(tokens[:prompt], 0, 0 if prompt > first else None)
            known = prompt
        for past in range(known, len(tokens)):
            yield _Pass([tokens[past]], past, past - first if past >= first else None)

    def _launch(self) -> None:
        if not self._passes:
            return
        work = self._passes.popleft()
        count, end = len(work.token_ids), work.past + len(work.token_ids)
        if count > 1:
            self._marked = 0  # the plugin begins anew
        # In single steps it copies all of the mask but its end, and what is not copied stays as it was: columns that
        # were set before it was rewound must be unset.
        mask = np.zeros((1, max(end, self._marked + 1)), np.int64)
        mask[0, : work.past] = 1
        mask[0, -count:] = 1
        self._marked = work.past
        self._stepped = count == 1
        del self._held[work.past :]
        with device_errors(self.device):
            self._set("input_ids", np.array([work.token_ids], np.int64))
            self._set("attention_mask", mask)
            self._set("position_ids", np.arange(work.past, end)[None])
            self._request.start_async()
        self._held += work.token_ids
        self._flying = work

    def _land(self, work: _Pass) -> None:
        """Wait for a pass and keep its logits."""
        with device_errors(self.device):
            self._request.wait()
            if work.row is not None:
                self._logits[work.row] = self._request.get_tensor("logits").data[0, -1]  # of (1, rows, vocab)
        self._flying = None

    def _set(self, name: str, values: NDArray[Any]) -> None:
        self._request.set_tensor(name, ov.Tensor(values))

    def _forget_passes(self) -> None:
        """After a failure: the rest of the step will not be computed, and what was, is not relied on."""
        if self._flying is not None:
            wait_quietly(self._request)
            self._flying = None
            self._held.clear()
        self._passes.clear()


def _check(model: ov.Model, windows: Mapping[str, int | None], device: str, longest: int) -> None:
    if base_name(device) != "NPU":
        raise DeviceError(f"{device} has no npuw form: it is a mode of the NPU's plugin")
    if any(window is None or 0 < window < longest for window in windows.values()):  # it gave wrong logits in trials
        raise UnsupportedModelError(
            "in the npuw form every token sees all before it, and in this model some do not, as in a sliding window: "
            "take form='static', or set max_model_len to no more than the window"
        )
    names = {port.get_any_name() for port in model.inputs}
    if ADAPTERS_INPUT in names:
        raise UnsupportedModelError("the npuw form has no place for adapters: take form='static'")
    if "position_ids" not in names:
        raise UnsupportedModelError("the npuw form needs a model with position_ids: take form='static'")


def _check_config(config: Mapping[str, Any]) -> None:
    """Refuse what the plugin takes without a word and does not obey."""
    for name in config:
        if name in _GENAI_NAMES:
            raise ConfigError(f"{name} is openvino.genai's name: in device_config it is NPUW_LLM_{name}")
    precision = spelt(config.get("KV_CACHE_PRECISION"))
    if precision not in (None, "f16", "f32"):  # u8 made NaN of every logit in trials
        raise ConfigError(f"in the npuw form KV_CACHE_PRECISION is 'f16' or 'f32', got {precision!r}")


def _count(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be a number of tokens, got {value!r}") from None


def _width(model: ov.Model) -> int:
    """Numbers that a token has in the cache."""
    shapes = [sink.get_input_partial_shape(0) for sink in model.get_sinks()]  # (batch, heads, length, d)
    return sum(shape[1].get_length() * shape[3].get_length() for shape in shapes)


def _common(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
