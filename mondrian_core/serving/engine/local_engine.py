"""The model of this process: one base, with layers that switch between adapters and no adapter."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core import accelerator_lock
from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.samples_file import SAMPLES_NAME, SamplesFile
from mondrian_core.serving.engine.interface import Reply

if TYPE_CHECKING:
    from mondrian_core.models.inference.ngram_draft import NgramDrafter

_MAX_NGRAM_MEMORIES = 4  # as many as adapters are kept ready
_MAX_RECORDED_ANSWERS = 32  # of the record; learning an answer of 700 tokens takes 7 ms


class LocalEngine:
    """Loads the base when it is made; to be used on the thread that made it (MLX streams belong to a thread).

    Raises:
        BaseModelUnavailable: when the base can't be loaded.
    """

    def __init__(self, base_name: str) -> None:
        from mondrian_core.models.base_model import load_base

        with accelerator_lock.compute_turn():
            self.base = load_base(base_name)
        self._mounted: Any = None
        self._using: Path | None = None
        self._read: tuple[str, Any] | None = None
        self._memories: OrderedDict[Path | None, NgramDrafter] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """The base's fingerprint."""
        return self.base.fingerprint

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate one answer, between two steps of whatever else works on this machine's accelerator.

        While it waits for that, `on_token` hears that there are 0 tokens.
        """
        with accelerator_lock.compute_turn(alive=lambda: on_token(0) if on_token is not None else None):
            return self._answer(question, on_token)

    def _answer(self, question: Question, on_token: OnToken | None) -> Reply:
        from mondrian_core.models.image_embedding import photo_embedding
        from mondrian_core.models.inference.generation import generate

        began = time.perf_counter()
        self._use(question.adapter)
        switched = time.perf_counter() - began
        prompt, reading = self._prompt(question)
        memory = self._memory_of(question.adapter)
        count = 0

        def heard(*_: Any) -> None:
            nonlocal count
            count += 1
            if on_token is not None:
                on_token(count)

        made = generate(
            self.base,
            question.messages,
            question.image,
            max_tokens=question.max_tokens,
            exact_tokens=question.exact_tokens,
            temperature=question.temperature,
            seed=question.seed,
            constrained=question.constrained,
            on_token=heard,
            prepared=prompt,
            precedents=memory if question.precedents else None,
        )
        if not question.precedents and question.temperature <= 0:
            memory.learn_answer(made.tokens)
        return Reply(
            text=made.text,
            finish_reason=made.finish_reason,
            tokens=len(made.tokens),
            prompt_tokens=made.prompt_tokens,
            image_tokens=made.image_tokens,
            prefill_seconds=reading + made.prefill_seconds,
            decode_seconds=made.decode_seconds,
            switch_seconds=switched,
            expected_scores=dict(made.expected_scores),
            boot=str(os.getpid()),
            embedding=photo_embedding(prompt) if question.embed else (),
            drafted=made.drafted,
            accepted=made.accepted,
        )

    def _memory_of(self, adapter: Path | None) -> NgramDrafter:
        """What this adapter, or the base, answered before: no other writes so much like it.

        An adapter's begins with what it answered when it was evaluated.
        """
        from mondrian_core.models.inference.ngram_draft import NgramDrafter
        from mondrian_core.models.prompt_encoding import tokenize_plain_text

        if adapter not in self._memories:
            self._memories[adapter] = NgramDrafter()
            for text in _recorded_answers(adapter) if adapter else ():
                self._memories[adapter].learn_answer(tokenize_plain_text(self.base, text))
        self._memories.move_to_end(adapter)
        while len(self._memories) > _MAX_NGRAM_MEMORIES:
            self._memories.popitem(last=False)
        return self._memories[adapter]

    def _prompt(self, question: Question) -> tuple[Any, float]:
        """The question as the language model reads it, and the seconds that took.

        The last one is kept: an adapter changes nothing before the language model, so both arms, a second try and a
        comparison of modes ask about the same photograph without looking at it again.
        """
        from mondrian_core.models.inference.generation import prepare_prompt

        began = time.perf_counter()
        words = json.dumps(question.messages, sort_keys=True).encode()
        pixels = f"{question.image.mode} {question.image.size}".encode() + question.image.tobytes()
        key = hashlib.sha256(words + b"\0" + pixels).hexdigest()
        if self._read is None or self._read[0] != key:
            self._read = (key, prepare_prompt(self.base, question.messages, question.image))
        return self._read[1], time.perf_counter() - began

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () is sound."""
        from mondrian_core.models.lora import lora_layers

        with accelerator_lock.compute_turn():
            return lora_layers.validate_adapter_folder(self.base, folder)

    def _use(self, adapter: Path | None) -> None:
        """Switch only when something changes; a version's folder never changes its content."""
        from mondrian_core.models.lora import lora_layers

        if self._mounted is None:
            if adapter is None:
                return  # nothing was ever mounted: the base as it was loaded
            self._mounted = lora_layers.get_adapter_switch(self.base)
        if adapter != self._using:
            self._using = None
            self._mounted.use(adapter)
            self._using = adapter


def _recorded_answers(adapter: Path) -> list[str]:
    """The last answers that the version gave in its evaluation; none where there is no readable record."""
    try:
        answers = [record.get("text") for record in SamplesFile(adapter / SAMPLES_NAME).candidate_answers()]
    except OSError:
        return []  # it only makes the first answers faster
    return [text for text in answers if isinstance(text, str)][-_MAX_RECORDED_ANSWERS:]
