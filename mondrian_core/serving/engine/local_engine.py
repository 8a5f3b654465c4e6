"""The engine with the model in this process: one base whose layers switch between adapters and no adapter."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core import accelerator_lock
from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.pixel_files import load_image
from mondrian_core.rubric import form_of_schema
from mondrian_core.samples_file import SAMPLES_NAME, SamplesFile
from mondrian_core.serving.engine.interface import AdapterCacheUse, Reply
from mondrian_core.serving.engine.shared_engine import WaitingQuestion

if TYPE_CHECKING:
    from mondrian_core.models.inference.batch_generation import AnswerOrder
    from mondrian_core.models.inference.generation import Generation
    from mondrian_core.models.inference.ngram_draft import NgramDrafter

_MIN_DRAFTERS = 4  # as many as adapters stay loaded, but at least these
_MAX_RECORDED_ANSWERS = 32  # of a version's evaluation; learning an answer of 700 tokens takes 7 ms


class LocalEngine:
    """Loads the base at once. Use it on the thread that created it: MLX streams belong to a thread.

    Raises:
        BaseModelUnavailable: when the base can't be loaded.
        NotEnoughMemory: a training runs that leaves too little memory.
    """

    def __init__(self, base_name: str, *, adapter_cache_bytes: int | None = None) -> None:
        """`adapter_cache_bytes` limits the adapters in memory; None: a default."""
        from mondrian_core.models.base_model import load_base
        from mondrian_core.models.lora.adapter_cache import DEFAULT_CACHE_BYTES
        from mondrian_core.models.service_memory import require_memory_to_serve

        require_memory_to_serve(base_name, DEFAULT_CACHE_BYTES if adapter_cache_bytes is None else adapter_cache_bytes)
        with accelerator_lock.compute_turn():
            self.base = load_base(base_name)
        self._adapter_cache_bytes = adapter_cache_bytes
        self._switch: Any = None
        self._current_adapter: Path | None = None
        self._last_prompt: tuple[str, Any] | None = None
        self._drafters: OrderedDict[Path | None, NgramDrafter] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """The base's fingerprint."""
        return self.base.fingerprint

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate one answer, taking turns with other work on this machine's accelerator.

        While it waits for its turn, `on_token` is called with 0.
        """
        with accelerator_lock.compute_turn(alive=lambda: on_token(0) if on_token is not None else None):
            return self._answer(question, on_token)

    def _answer(self, question: Question, on_token: OnToken | None) -> Reply:
        from mondrian_core.models.inference.generation import generate

        began = time.perf_counter()
        self._use(question.adapter)
        switch_seconds = time.perf_counter() - began
        prompt, encode_seconds = self._prompt(question)
        drafter = self._drafter_for(question.adapter) if form_of_schema(question.schema) is not None else None
        count = 0

        def count_token(*_: Any) -> None:
            nonlocal count
            count += 1
            if on_token is not None:
                on_token(count)

        generation = generate(
            self.base,
            question.messages,
            None,  # `prepared` holds the image already
            max_tokens=question.max_tokens,
            exact_tokens=question.exact_tokens,
            temperature=question.temperature,
            seed=question.seed,
            constrained=question.constrained,
            schema=question.schema,
            on_token=count_token,
            prepared=prompt,
            precedents=drafter if question.precedents else None,
        )
        if drafter is not None and not question.precedents and question.temperature <= 0:
            drafter.learn_answer(generation.tokens)
        return self._reply(generation, prompt, question, (encode_seconds, switch_seconds))

    def _reply(
        self, generation: Generation, prompt: Any, question: Question, more_seconds: tuple[float, float]
    ) -> Reply:
        """The reply; `more_seconds` are those of encoding, unless the generation includes them, and of a switch."""
        from mondrian_core.models.image_embedding import photo_embedding

        return Reply(
            text=generation.text,
            finish_reason=generation.finish_reason,
            tokens=len(generation.tokens),
            prompt_tokens=generation.prompt_tokens,
            image_tokens=generation.image_tokens,
            prefill_seconds=more_seconds[0] + generation.prefill_seconds,
            decode_seconds=generation.decode_seconds,
            switch_seconds=more_seconds[1],
            expected_scores=dict(generation.expected_scores),
            score_deviations={name: score_deviation(chances) for name, chances in generation.score_chances.items()},
            boot=str(os.getpid()),
            embedding=photo_embedding(prompt) if question.embed else (),
            drafted=generation.drafted,
            accepted=generation.accepted,
            adapter_cache=self._cache_use() if self._switch is not None else None,
        )

    def rows_at_once(self, question: Question, waiting: int) -> int:
        """See BatchEngine."""
        from mondrian_core.models.inference.batch_size import rows_at_once

        with accelerator_lock.compute_turn():
            self._use(question.adapter)
            return rows_at_once(self.base, self._prompt(question)[0], question.max_tokens, waiting)

    def ask_each(
        self, next_question: Callable[[], WaitingQuestion | None], rows: int
    ) -> Iterator[tuple[WaitingQuestion, Reply | Exception]]:
        """See BatchEngine. The turn on the accelerator passes on whenever an answer ends."""
        from mondrian_core.models.inference.batch_generation import generate_batch

        prompts: dict[WaitingQuestion, Any] = {}
        switch_seconds = 0.0

        def next_order() -> AnswerOrder[WaitingQuestion] | None:
            nonlocal switch_seconds
            waiting = next_question()
            if waiting is None:
                return None
            began = time.perf_counter()
            self._use(waiting.question.adapter)  # all questions of a batch are about the same one
            switch_seconds = max(switch_seconds, time.perf_counter() - began)
            return self._order(waiting, prompts)

        replies = generate_batch(self.base, next_order, rows)
        while True:
            with accelerator_lock.compute_turn():
                ended = next(replies, None)
            if ended is None:
                return
            waiting, answer = ended
            prompt = prompts.pop(waiting, None)
            if isinstance(answer, Exception):
                yield waiting, answer
            else:
                yield waiting, self._reply(answer, prompt, waiting.question, (0.0, switch_seconds))

    def _order(self, waiting: WaitingQuestion, prompts: dict[WaitingQuestion, Any]) -> AnswerOrder[WaitingQuestion]:
        from mondrian_core.models.inference.batch_generation import AnswerOrder

        question, count = waiting.question, itertools.count(1)

        def encode() -> Any:
            prompts[waiting] = self._prompt(question)[0]
            return prompts[waiting]

        return AnswerOrder(
            key=waiting,
            prompt=encode,
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            seed=question.seed,
            constrained=question.constrained,
            schema=question.schema,
            on_token=lambda _piece: waiting.on_token(next(count)) if waiting.on_token else None,
        )

    def _drafter_for(self, adapter: Path | None) -> NgramDrafter:
        """The n-gram drafter of an adapter (None: the base), which learns from that model's own answers.

        An adapter's drafter starts with its answers in the evaluation.
        """
        from mondrian_core.models.inference.ngram_draft import NgramDrafter
        from mondrian_core.models.prompt_encoding import tokenize_plain_text

        if adapter not in self._drafters:
            self._drafters[adapter] = NgramDrafter()
            for text in _recorded_answers(adapter) if adapter else ():
                self._drafters[adapter].learn_answer(tokenize_plain_text(self.base, text))
        self._drafters.move_to_end(adapter)
        loaded = len(self._switch.cache) if self._switch is not None else 0
        while len(self._drafters) > max(_MIN_DRAFTERS, loaded + 1):
            self._drafters.popitem(last=False)
        return self._drafters[adapter]

    def _prompt(self, question: Question) -> tuple[Any, float]:
        """(encoded prompt, seconds it took).

        The last prompt is kept: an adapter changes nothing before the language model, so both arms, a retry and a
        comparison of modes encode the same photograph once.
        """
        from mondrian_core.models.inference.generation import prepare_prompt

        began = time.perf_counter()
        words = json.dumps(question.messages, sort_keys=True).encode()
        image = load_image(question.image)
        pixels = f"{image.mode} {image.size}".encode() + image.tobytes()
        key = hashlib.sha256(words + b"\0" + pixels).hexdigest()
        if self._last_prompt is None or self._last_prompt[0] != key:
            self._last_prompt = (key, prepare_prompt(self.base, question.messages, image))
        return self._last_prompt[1], time.perf_counter() - began

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () when there are none."""
        from mondrian_core.models.lora import lora_layers

        with accelerator_lock.compute_turn():
            return lora_layers.validate_adapter_folder(self.base, folder)

    def load_adapter(self, folder: Path) -> AdapterCacheUse:
        """Read an adapter, and its evaluation's answers for the drafter, before the first question needs them."""
        with accelerator_lock.compute_turn():
            self._require_switch().load(folder)
            self._drafter_for(folder)
        return self._cache_use()

    def _cache_use(self) -> AdapterCacheUse:
        cache = self._require_switch().cache
        return AdapterCacheUse(len(cache), cache.nbytes, cache.budget)

    def _require_switch(self) -> Any:
        """The base's adapter switch, made when the first adapter is used: until then the base runs as it was loaded."""
        from mondrian_core.models.lora import lora_layers

        if self._switch is None:
            self._switch = lora_layers.get_adapter_switch(self.base)
            if self._adapter_cache_bytes is not None:
                self._switch.cache.budget = self._adapter_cache_bytes
        return self._switch

    def _use(self, adapter: Path | None) -> None:
        """Switch the adapter if it changed; the content of a version's folder never changes."""
        if self._switch is None and adapter is None:
            return  # no adapter was used so far
        self._require_switch()
        if adapter != self._current_adapter:
            self._current_adapter = None
            self._switch.use(adapter)
            self._current_adapter = adapter


def score_deviation(chances: Sequence[float]) -> float:
    """Standard deviation of a score, from the probabilities of 0 to 10 (not all are 0; their sum may be below 1)."""
    total = sum(chances)
    mean = sum(score * chance for score, chance in enumerate(chances)) / total
    return math.sqrt(sum((score - mean) ** 2 * chance for score, chance in enumerate(chances)) / total)


def _recorded_answers(adapter: Path) -> list[str]:
    """The last answers that the version gave in its evaluation; none where there is no readable record."""
    try:
        answers = [record.get("text") for record in SamplesFile(adapter / SAMPLES_NAME).candidate_answers()]
    except OSError:
        return []  # it only makes the first answers faster
    return [text for text in answers if isinstance(text, str)][-_MAX_RECORDED_ANSWERS:]
