"""The real `runner.EvaluationModel`: a base model of `mondrian_core.models` with switchable adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.evaluation.measure.outcomes import ModelAnswer
from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.pixel_files import load_image
from mondrian_core.prompts import AdvisorPrompt, critique_messages

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.base_model import BaseVLM


class MlxModel:
    """Answers with the base model or with an adapter; switching loads only the adapter."""

    def __init__(self, base: BaseVLM, prompt: AdvisorPrompt) -> None:
        from mondrian_core.models import base_model
        from mondrian_core.models.inference import generation
        from mondrian_core.models.lora.adapter_switch import get_adapter_switch

        self._base, self._generation = base, generation
        self._switch = get_adapter_switch(base)
        self._messages = critique_messages(prompt)
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

        return self._generation.generate(
            self._base,
            question.messages,
            load_image(question.image),
            max_tokens=question.max_tokens,
            exact_tokens=question.exact_tokens,
            temperature=question.temperature,
            seed=question.seed,
            constrained=question.constrained,
            on_token=count_token if on_token is not None else None,
        )

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """Mean KL(base || adapter) in nats over the score tokens of `text`."""
        return self._generation.mean_kl(self._base, self._switch, adapter, self._messages, image, text)
