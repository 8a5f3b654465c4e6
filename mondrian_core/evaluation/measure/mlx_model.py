"""The real `runner.EvaluationModel`: a base model of `mondrian_core.models` with switchable adapters."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.evaluation.measure.outcomes import ModelAnswer
from mondrian_core.photograph_model import OnToken, Question, answer_one_by_one
from mondrian_core.pixel_files import load_image
from mondrian_core.prompts import AdvisorPrompt, ChatMessage, critique_messages

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.base_model import BaseVLM
    from mondrian_core.models.inference.batch_generation import AnswerOrder
    from mondrian_core.models.prompt_encoding import EncodedPrompt
    from mondrian_core.models.text_likelihood import TextLikelihood

KEPT_PROMPT_BYTES = 512 << 20  # of encoded photographs: a large base takes 20 MB for one


class MlxModel:
    """Answers with the base model or with an adapter; switching loads only the adapter."""

    def __init__(self, base: BaseVLM, prompt: AdvisorPrompt) -> None:
        from mondrian_core.models import base_model
        from mondrian_core.models.inference import generation
        from mondrian_core.models.lora.adapter_switch import get_adapter_switch

        self._base, self._generation = base, generation
        self._switch = get_adapter_switch(base)
        self._messages = critique_messages(prompt)
        self._prompts: OrderedDict[str, EncodedPrompt] = OrderedDict()
        self.fingerprint = base.fingerprint
        self.metal = "Metal" in base_model.device_name()

    def use(self, adapter: Path | None) -> None:
        """Switch to this adapter, or to the base model (None), before the next question.

        Raises:
            BadAdapter: when it isn't sound for this base.
        """
        if self._switch.folder != adapter:
            self._switch.use(adapter)

    def ask(self, question: Question, on_token: OnToken | None = None) -> ModelAnswer:
        """Answer a question; no answer uses an earlier one, and none returns an embedding.

        Raises:
            BadAdapter: when the question's adapter isn't sound for this base.
        """
        self.use(question.adapter)
        count = 0

        def count_token(_text: str) -> None:
            nonlocal count
            count += 1
            if on_token is not None:
                on_token(count)

        timed = question.exact_tokens is not None  # its time includes the photograph's
        return self._generation.generate(
            self._base,
            question.messages,
            load_image(question.image),
            prepared=None if timed else self._prompt(question),
            max_tokens=question.max_tokens,
            exact_tokens=question.exact_tokens,
            temperature=question.temperature,
            seed=question.seed,
            constrained=question.constrained,
            on_token=count_token if on_token is not None else None,
        )

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, ModelAnswer | Exception]]:
        """Answer several questions, each adapter's together; a greedy answer equals that of `ask` up to rounding.

        Raises:
            BadAdapter: when an adapter isn't sound for this base.
        """
        by_adapter: dict[Path | None, list[int]] = {}
        for number, question in enumerate(questions):
            by_adapter.setdefault(question.adapter, []).append(number)
        for adapter, numbers in by_adapter.items():
            self.use(adapter)
            asked = [questions[number] for number in numbers]
            for place, answer in self._answer_together(asked):
                yield numbers[place], answer

    def _answer_together(self, questions: Sequence[Question]) -> Iterator[tuple[int, ModelAnswer | Exception]]:
        """The answers of the adapter in use."""
        from mondrian_core.models.inference.batch_generation import generate_batch
        from mondrian_core.models.inference.batch_size import rows_at_once

        rows = 1
        if len(questions) > 1:
            with suppress(Exception):  # a photograph that can't be encoded is its own answer's error
                rows = rows_at_once(self._base, self._prompt(questions[0]), questions[0].max_tokens, len(questions))
        if rows == 1:
            yield from answer_one_by_one(self.ask, questions)
            return
        waiting = iter(enumerate(questions))

        def next_order() -> AnswerOrder[int] | None:
            number, question = next(waiting, (0, None))
            return None if question is None else self._order(number, question)

        yield from generate_batch(self._base, next_order, rows)

    def _order(self, number: int, question: Question) -> AnswerOrder[int]:
        from mondrian_core.models.inference.batch_generation import AnswerOrder

        return AnswerOrder(
            key=number,
            prompt=lambda: self._prompt(question),
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            seed=question.seed,
            constrained=question.constrained,
            schema=question.schema,
        )

    def _prompt(self, question: Question) -> EncodedPrompt:
        return self._encoded(question.messages, load_image(question.image))

    def _encoded(self, messages: list[ChatMessage], image: Image.Image) -> EncodedPrompt:
        """The encoded prompt; the last ones are kept, since every arm is asked about the same photographs."""
        words = json.dumps(messages, sort_keys=True)
        key = hashlib.sha256(f"{words} {image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
        if key not in self._prompts:
            self._prompts[key] = self._generation.prepare_prompt(self._base, messages, image)
            while (
                sum(prompt.nbytes for prompt in self._prompts.values()) > KEPT_PROMPT_BYTES and len(self._prompts) > 1
            ):
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return self._prompts[key]

    def comment_likelihoods(
        self, adapter: Path | None, image: Image.Image, answers: Sequence[str]
    ) -> Sequence[TextLikelihood]:
        """Log-likelihood of the comments of each answer about a photograph; None is the base.

        Raises:
            BadAdapter: when the adapter isn't sound for this base.
        """
        from mondrian_core.models.prompt_encoding import encode_answer
        from mondrian_core.models.text_likelihood import text_likelihoods

        self.use(adapter)
        encoded = [encode_answer(self._base, self._messages, answer) for answer in answers]
        return text_likelihoods(self._base, self._encoded(self._messages, image), answers, encoded)

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """Mean KL(base || adapter) in nats over the score tokens of `text`."""
        return self._generation.mean_kl(self._base, self._switch, adapter, self._messages, image, text)
