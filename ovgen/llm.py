"""`LLM`: a model that has been loaded, and what one does with it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import openvino as ov

from ovgen.config import EngineConfig, SamplingParams, fields_set, override
from ovgen.draft import load_draft
from ovgen.engine.engine import Engine
from ovgen.engine.group import Group
from ovgen.engine.request import Request
from ovgen.engine.sequence import KVSequence
from ovgen.engine.session import Session
from ovgen.engine.watch import OnStep
from ovgen.errors import CorruptFileError, ModelNotFoundError, RequestError
from ovgen.explanation import explain
from ovgen.graph.passes import settle_longrope
from ovgen.loader import Adapters, Source, digest, load
from ovgen.metrics import EngineMetrics
from ovgen.model_cache import compressed_copy
from ovgen.outputs import GenerationOutput, Piece
from ovgen.probe import try_in_child
from ovgen.prompts import Message, Prompt, Prompts, is_prompt
from ovgen.runtime.device import check_device
from ovgen.runtime.device_list import check_sections, device_order, device_properties
from ovgen.runtime.forms import Attempt, Form, Runners, check_form
from ovgen.runtime.kernels import KernelChoice
from ovgen.weights import Compression, Precision

__all__ = ["LLM", "Message", "Prompt"]

_UNKNOWN_CONTEXT = 2048  # tokens, where a model does not say what it was trained on
_log = logging.getLogger("ovgen")


class LLM:
    """A causal language model on a device, ready to generate.

    Args:
        path: a folder with an OpenVINO IR (``openvino_model.xml``), a Hugging Face one with safetensors, or a GGUF
            file.
        device: an OpenVINO device; ``ovgen devices`` lists those that are here. One name is strict. Several are tried
            in order, as is ``"AUTO"`` (GPU, NPU, CPU), and the next one takes over, with a warning, where one fails,
            even in the middle of a generation.
        device_config: OpenVINO properties for compiling (``INFERENCE_PRECISION_HINT``, ``KV_CACHE_PRECISION``,
            ``CACHE_DIR``, ...), passed on as they are; those under the name of a device, ``{"NPU": {...}}``, to it.
        form: ``"paged"`` (KV blocks that ovgen owns), ``"stateful"`` (the plugin keeps the cache), ``"static"`` (fixed
            lengths, what NPUs take), or ``"auto"``: static on an NPU, elsewhere paged, and stateful with a warning
            where that cannot be built.
        weights: ``"int8"``, ``"int4"`` or ``"f16"``, or a `Compression` with more to say, stores the weights so: in a
            copy of the model in ``OVGEN_HOME`` (the user's cache folder if not set), made the first time.
        adapters: LoRA adapters that requests choose by these names (``SamplingParams.adapter``): the folder of each,
            as PEFT saves it.
        draft_model: a smaller model with the same tokenizer, on the same devices, which proposes tokens that this one
            checks several at a time. It changes no text.
        probe: try each device and form in a child process first, so that one that aborts is passed over like any other
            that fails. It takes as long as loading does, unless there is a ``CACHE_DIR``.
        engine_options: fields of `EngineConfig`, such as ``kernels``.

    Attributes:
        path: where the model was loaded from: its folder or file, or the compressed copy.
        config: its ``config.json``.
        adapters: that it was loaded with.
        tokenizer: None where the folder has none; prompts are token ids then.
        default_params: what ``generate`` does if told nothing: from ``generation_config.json``, else greedy.
        load_time: seconds that loading took.

    Raises:
        ConfigError: an option is unknown or its value cannot be used.
        ModelError: there is no model at ``path``, it is damaged, or it is not supported.
        DeviceError: the device is absent or refuses the model.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str | Sequence[str] = "CPU",
        device_config: Mapping[str, Any] | None = None,
        form: Form = "auto",
        weights: Precision | Compression | None = None,
        adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        draft_model: str | os.PathLike[str] | None = None,
        probe: bool = False,
        **engine_options: Any,
    ) -> None:
        begin = time.perf_counter()
        engine_config = override(EngineConfig(), engine_options)
        if not os.fspath(path):  # a variable that is not set, most likely; it would be the current folder
            raise ModelNotFoundError("the path of the model is empty")
        devices = device_order(device)  # what can be refused is refused before anything long begins
        check_form(form, devices)
        config = device_config or {}
        properties = device_properties(config, devices[0])
        check_sections(config, devices)
        if len(devices) == 1:
            check_device(devices[0], properties)
        self.adapters = Adapters({} if adapters is None else adapters)
        compression = Compression.of(weights)
        place = Path(path).expanduser() if compression is None else compressed_copy(Path(path), compression)
        keeps = "CACHE_DIR" in str(device_config)  # under a device's name, perhaps
        self._digest = digest(place, times=True)  # before the weights are mapped
        source = load(place)
        self.path = source.path
        self._compression = compression
        model = source.build()
        self.adapters.add_to(model)
        self.config = source.config
        self.tokenizer = source.tokenizer
        self.default_params = source.params
        self._source = replace(source, checkpoint=None)  # the graph has the weights
        self._length = length = _length(source, engine_config)
        self._longrope = settle_longrope(model, length)
        _report_longrope(self._longrope, length)
        self._check_unchanged()
        self._runners = Runners(
            model,
            devices,
            config,
            form,
            engine_config,
            length,
            f"{self._digest} {self.adapters.identity()}" if keeps else None,
            partial(try_in_child, source.path, engine_config, self.adapters.folders) if probe else None,
        )
        runner = self._runners.make()
        self._prompts = Prompts(self._source, self.adapters, runner.vocab_size)
        draft = None
        if draft_model is not None:
            draft = load_draft(draft_model, source, runner.vocab_size, devices, config, engine_config, length)
        self.engine = Engine(runner, engine_config, length, source.eos_token_ids, self._runners.after, draft)
        lowered = self.kernels.native and self.kernels.model is model
        self._model = None if lowered else model
        self.load_time = time.perf_counter() - begin
        if _log.isEnabledFor(logging.INFO):
            for name, text in self.explain().items():
                _log.info("%s: %s", name, text)

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.engine.runner.device

    @property
    def form(self) -> str:
        """The form in use."""
        return self.engine.runner.form

    @property
    def model(self) -> ov.Model:
        """Its graph in the causal LM form; read again from `path` where the native kernels have taken the weights.

        Raises:
            ModelError: there, it has changed or gone meanwhile.
        """
        if self._model is None:
            self._check_unchanged()
            self._model = load(self.path).build()
            self.adapters.add_to(self._model)
            settle_longrope(self._model, self._length)
        return self._model

    @property
    def metrics(self) -> EngineMetrics:
        """What it has done so far."""
        return self.engine.metrics

    @property
    def on_step(self) -> OnStep | None:
        """Called with a `StepMetrics` after each step, by the thread that took it, while the device works on the next.

        It must be quick, and cannot generate. If it raises anything, that is logged, and it is not called again.
        """
        return self.engine.watch.hook

    @on_step.setter
    def on_step(self, hook: OnStep | None) -> None:
        self.engine.watch.hook = hook

    @property
    def kernels(self) -> KernelChoice:
        """What computes compressed layers, and why."""
        assert self._runners.kernels is not None
        return self._runners.kernels

    @property
    def device_report(self) -> tuple[Attempt, ...]:
        """Devices and forms in the order in which they were tried, and what became of each."""
        return tuple(self._runners.report)

    @property
    def fallbacks(self) -> tuple[Attempt, ...]:
        """What is not as wanted, and why: the attempts that failed."""
        return tuple(attempt for attempt in self._runners.report if attempt.reason is not None)

    def explain(self) -> dict[str, str]:
        """What was chosen when it was loaded, and why, by name: model, weights, device, form, kernels, precision ..."""
        return explain(self, self._compression, self._runners)

    @overload
    def generate(
        self, prompt: Prompt, params: SamplingParams | None = None, *, progress: bool = False, **sampling: Any
    ) -> GenerationOutput: ...

    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = False,
        **sampling: Any,
    ) -> list[GenerationOutput]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = False,
        **sampling: Any,
    ) -> GenerationOutput | list[GenerationOutput]:
        """Generate to the end.

        Args:
            prompt: text, or a list of token ids, gives one output; a list of either gives a list, batched continuously.
            params: how to sample, one for all prompts or one each; None takes `default_params`.
            progress: show a progress bar over the prompts.
            sampling: fields of `SamplingParams` that override those of ``params``.

        Raises:
            ConfigError: an option is unknown or its value cannot be used.
            RequestError: a prompt cannot be processed; none has been then.
            GenerationError: the model's logits could not be sampled from.
            DeviceError: the device failed.
        """
        single = is_prompt(prompt)
        prompts: list[Any] = [prompt] if single else list(prompt)
        outputs = self._generate(prompts, self._params(params, sampling, len(prompts)), progress)
        return outputs[0] if single else outputs

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> Generator[Piece, None, None]:
        """Generate piece by piece, as `generate` does; the next token is computed while the caller uses this one.

        Closing the iterator, or leaving its loop, ends the request and frees its cache.
        """
        group = Group(self.engine, self.request(prompt, params, **sampling))
        group.check_stream()
        return _stream(group)

    def request(self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any) -> Request:
        """What `generate` would do, checked and not begun: for `Engine.submit`. It raises what `generate` does."""
        return self._prompts.request(self.engine, prompt, self._params(params, sampling, 1)[0])

    def chat(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **sampling: Any
    ) -> GenerationOutput:
        """Generate the next message of a conversation.

        Raises:
            TokenizerError: the model has no chat template.
            RequestError: the template refuses the messages, or they do not fit the context.
        """
        return self.generate(self.apply_chat_template(messages), params, **sampling)

    def stream_chat(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **sampling: Any
    ) -> Generator[Piece, None, None]:
        """`chat`, piece by piece."""
        return self.stream(self.apply_chat_template(messages), params, **sampling)

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
    ) -> list[int]:
        """A conversation as token ids, by the model's own template; special tokens are not added a second time.

        Raises:
            TokenizerError: the model has no chat template, or no tokenizer.
            RequestError: the template refuses the messages.
        """
        return self._prompts.chat(messages, add_generation_prompt=add_generation_prompt, **variables)

    def session(self, path: str | os.PathLike[str] | None = None, *, adapter: str | None = None) -> Session:
        """A cache of one's own: empty, or as `Session.save` wrote it to ``path``.

        Args:
            path: the file.
            adapter: the LoRA adapter that its tokens go through, by its name; a file must be of the same.

        Raises:
            RequestError: there is no such adapter.
            CacheFileError: the file is missing, damaged, or of another model, adapter or cache precision.
        """
        number = self.adapters.number(adapter)
        identity = partial(self._identity, adapter)
        if path is None:
            return Session(self.engine, identity, KVSequence([], adapter=number))
        return Session.load(self.engine, identity, path, number)

    def _check_unchanged(self) -> None:
        if digest(self.path, times=True) != self._digest:
            raise CorruptFileError(f"{self.path} has changed since it was loaded: load it again")

    def _identity(self, adapter: str | None) -> str:
        """What a saved cache belongs to: the model, its adapter, and the factors that its keys were turned with."""
        factors = "".join(f", {'long' if long else 'short'} factors" for long in self._longrope.values())
        adapted = "" if adapter is None else f", adapter {self.adapters.digest(adapter)}"
        return self._source.identity() + factors + adapted

    def _params(
        self,
        params: SamplingParams | Sequence[SamplingParams] | None,
        sampling: Mapping[str, Any],
        count: int,
    ) -> list[SamplingParams]:
        if params is None or isinstance(params, SamplingParams):
            if params is None and sampling.get("num_beams", 1) != 1:  # which draws nothing, whatever the model prefers
                sampling = {"temperature": 0.0, **sampling}
            chosen = override(params or self.default_params, sampling)
            self._report_ignored(chosen, sampling if params is None else fields_set(chosen))
            return [chosen] * count
        if len(params) != count:
            raise RequestError(f"{len(params)} params were given for {count} prompts: give one for all, or one each")
        return [override(each, sampling) for each in params]

    def _report_ignored(self, params: SamplingParams, asked: Iterable[str]) -> None:
        without_effect = {
            "temperature is 0 (greedy)": ("top_k", "top_p", "min_p", "typical_p") if params.greedy else (),
            "num_beams is 1": ("length_penalty", "early_stopping") if params.num_beams == 1 else (),
            "prompt_lookup_num_tokens is 0": () if params.prompt_lookup_num_tokens else ("max_matching_ngram_size",),
            "there is no draft model": () if self.engine.has_draft_model else ("num_assistant_tokens",),
        }
        for why, names in without_effect.items():
            ignored = [name for name in names if name in asked]
            if ignored:
                _log.warning("%s: no effect, since %s", ", ".join(ignored), why)

    def _generate(
        self, prompts: Sequence[Prompt], params: Sequence[SamplingParams], progress: bool
    ) -> list[GenerationOutput]:
        requests = [
            self._prompts.request(self.engine, prompt, each) for prompt, each in zip(prompts, params, strict=True)
        ]
        groups = [Group(self.engine, request) for request in requests]
        try:
            for group in groups:
                group.submit()
            return [group.output(list(group.drive())) for group in (_bar(groups) if progress else groups)]
        finally:
            for group in groups:
                group.abort()  # does nothing, unless one of them failed


def _stream(group: Group) -> Generator[Piece, None, None]:
    try:
        group.submit()
        yield from group.drive()
    finally:
        group.abort()


def _length(source: Source, config: EngineConfig) -> int:
    """The longest sequence: the model's context, or less if that is wanted."""
    if source.context_length is not None:
        if config.max_model_len is not None and config.max_model_len > source.context_length:
            text = "max_model_len=%d exceeds the context of the model, %d tokens, which is taken"
            _log.warning(text, config.max_model_len, source.context_length)
        return min(source.context_length, config.max_model_len or source.context_length)
    if config.max_model_len is None:
        _log.warning("config.json names no context length; %d is taken, max_model_len sets it", _UNKNOWN_CONTEXT)
    return config.max_model_len or _UNKNOWN_CONTEXT


def _report_longrope(chosen: Mapping[int, bool], length: int) -> None:
    for original, long in chosen.items():
        if long:
            why = "longrope: long factors, since the context of %d exceeds %d; max_model_len=%d takes the short ones"
            _log.info(why, length, original, original)
        else:
            _log.info("longrope: short factors, since the context of %d does not exceed %d", length, original)


def _bar(groups: list[Group]) -> Iterable[Group]:
    from tqdm import tqdm

    return tqdm(groups, unit="prompt", desc="Generating")
