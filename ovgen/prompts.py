"""From what users write to requests: tokenizing, chat templates, and the words of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

from ovgen.config import SamplingParams
from ovgen.engine.engine import Engine
from ovgen.engine.request import NoText, Request, TextStream
from ovgen.errors import RequestError, TokenizerError
from ovgen.loader import Adapters, Source
from ovgen.sampling import Constraint
from ovgen.text import Detokenizer
from ovgen.text.structured import Constraints

__all__ = ["Message", "Prompt", "Prompts", "is_prompt"]

_TAIL = 8  # tokens of the prompt that can matter for how the first generated one is spelt

Prompt: TypeAlias = "str | Sequence[int]"
"""Text, or token ids as they are."""

Message: TypeAlias = "Mapping[str, Any]"
"""``{"role": "user", "content": "..."}``, and whatever else the model's chat template knows."""


class Prompts:
    """Makes the requests of a model.

    Args:
        source: has the tokenizer and the chat template, if there are any.
        adapters: that requests can choose.
        vocab_size: how many logits the model gives.
    """

    def __init__(self, source: Source, adapters: Adapters, vocab_size: int) -> None:
        self._adapters = adapters
        self._path = source.path
        self._tokenizer = source.tokenizer
        self._template = source.chat_template
        self._constraints = Constraints(source.tokenizer, vocab_size, source.eos_token_ids)

    def request(self, engine: Engine, prompt: Prompt, params: SamplingParams) -> Request:
        """A request, checked and ready to be submitted.

        Raises:
            RequestError: the prompt or an option cannot be used with this model.
        """
        ids = self._encode(prompt, params)
        ids = engine.checked(ids)
        constraint = self._constraint(params)
        adapter = self._adapters.number(params.adapter)
        request = engine.prepare(ids, params, self._text(ids, params), self._bad_words(params), constraint)
        for each in (request, *request.twins):
            each.sequence.adapter = adapter
        return request

    def chat(self, messages: Sequence[Message], *, add_generation_prompt: bool, **variables: Any) -> list[int]:
        """A conversation as token ids, by the model's own template; special tokens are not added a second time.

        Raises:
            TokenizerError: the model has no chat template, or no tokenizer.
            RequestError: the template refuses the messages.
        """
        if self._tokenizer is None or self._template is None:
            lacks = "tokenizer" if self._tokenizer is None else "chat template"
            raise TokenizerError(f"{self._path} has no {lacks}: use generate with a prompt instead")
        text = self._template.render(messages, add_generation_prompt=add_generation_prompt, **variables)
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _encode(self, prompt: Prompt, params: SamplingParams) -> Sequence[int]:
        if self._tokenizer is None:
            if isinstance(prompt, str) or params.stop or any(isinstance(w, str) for w in params.bad_words):
                raise RequestError(
                    f"{self._path} has no tokenizer: put its tokenizer.json there, or give token ids, and no stop "
                    "strings or bad words"
                )
            return prompt
        if isinstance(prompt, str):
            return self._tokenizer.encode(prompt, add_special_tokens=params.add_special_tokens)
        return prompt

    def _constraint(self, params: SamplingParams) -> Constraint | None:
        """``structured_outputs`` at work."""
        if params.structured_outputs is None:
            return None
        return self._constraints.constraint(params.structured_outputs, ignore_eos=params.ignore_eos)

    def _text(self, prompt: Sequence[int], params: SamplingParams) -> Callable[[], TextStream]:
        """Makes what turns tokens into text: with ``structured_outputs`` into the very text that has the form."""
        tokenizer = self._tokenizer
        exact = params.structured_outputs is not None
        if tokenizer is None:
            return NoText

        def make() -> TextStream:
            text = Detokenizer(tokenizer, skip_special_tokens=params.skip_special_tokens, exact=exact)
            text.push(prompt[-_TAIL:])  # so that the output goes on in the middle of a sentence, space and all
            return text

        return make

    def _bad_words(self, params: SamplingParams) -> list[Sequence[int]]:
        """Bad words as token ids: each word as it is and as it stands inside a sentence, after a space."""
        ids: list[Sequence[int]] = []
        for word in params.bad_words:
            if not isinstance(word, str):
                ids.append(word)
                continue
            assert self._tokenizer is not None
            spelt = [self._tokenizer.encode(w, add_special_tokens=False) for w in (word, f" {word}")]
            if not any(spelt):
                raise RequestError(f"bad_words: the tokenizer has no tokens for {word!r}")
            ids += [tokens for tokens in spelt if tokens]
        return ids


def is_prompt(prompt: object) -> bool:
    """Whether this is one prompt (text, token ids) and not a list of prompts.

    Raises:
        RequestError: it is neither.
    """
    if isinstance(prompt, str):
        return True
    if not hasattr(prompt, "__len__") or not hasattr(prompt, "__getitem__") or isinstance(prompt, Mapping):
        raise RequestError(f"a prompt is text or a list of token ids, got {type(prompt).__name__}")
    return len(prompt) == 0 or isinstance(prompt[0], Integral)
