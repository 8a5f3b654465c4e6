"""The real model behind `asking.Model`: a base of `mondrian_core.models` with adapters mounted on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.evaluation.measure.outcomes import ModelAnswer
from mondrian_core.prompts import AdvisorPrompt, PortfolioComparison, comparison_messages, critique_messages

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.base_model import BaseVLM


class MlxModel:
    """Answers with the base or an adapter; swapping is cheap, nothing is loaded twice."""

    def __init__(self, base: BaseVLM, voice: AdvisorPrompt) -> None:
        from mondrian_core.models import base_model as bases
        from mondrian_core.models.inference import generation
        from mondrian_core.models.lora.adapter_switch import get_adapter_switch

        self._base, self._generation = base, generation
        self._mounted = get_adapter_switch(base)
        self._voice, self._messages = voice, critique_messages(voice)
        self.fingerprint = base.fingerprint
        self.metal = "Metal" in bases.device_name()

    def use(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on; None: as the base.

        Raises:
            BadAdapter: when it isn't sound for this base.
        """
        if self._mounted.folder != adapter:
            self._mounted.use(adapter)

    def answer(
        self,
        image: Image.Image,
        *,
        max_tokens: int,
        exact_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        constrained: bool = False,
        comparison: PortfolioComparison | None = None,
    ) -> ModelAnswer:
        """An answer; see `asking.Model`."""
        messages = self._messages if comparison is None else comparison_messages(self._voice, comparison)
        return self._generation.generate(
            self._base,
            messages,
            image,
            max_tokens=max_tokens,
            exact_tokens=exact_tokens,
            temperature=temperature,
            seed=seed,
            constrained=constrained,
        )

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """Mean KL(base || adapter) in nats over the score tokens of `text`."""
        return self._generation.mean_kl(self._base, self._mounted, adapter, self._messages, image, text)
