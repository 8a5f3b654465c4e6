"""The base model without an adapter: embeds a photograph and optionally critiques it, for the index and for drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.image_embedding import photo_embedding
from mondrian_core.models.inference.generation import Generation, generate, prepare_prompt
from mondrian_core.prompts import (
    AdvisorPrompt,
    PortfolioComparison,
    comparison_messages,
    critique_messages,
)
from mondrian_core.rubric import Critique, CritiqueParseError, make_critique, parse_critique_strict


@dataclass(frozen=True)
class BaseModelOutput:
    """What the base model made of a photograph.

    Attributes:
        embedding: of length 1.
        critique: with expected values as scores (0-10, fractions kept); None when not requested or unreadable.
        problem: why the critique is unreadable.
    """

    embedding: tuple[float, ...]
    critique: Critique | None = None
    problem: str | None = None


class PhotographCritic(Protocol):
    """A model that examines photographs for the index and for drafts; `fingerprint` identifies the base."""

    fingerprint: str

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        """Embed a photograph, and critique it if `critique` is set."""
        ...

    def critique_with_references(self, image: Image.Image, comparison: PortfolioComparison) -> Critique | None:
        """Critique again after a comparison with the advisor's photographs; None when the answer can't be parsed."""
        ...


class BaseModelCritic:
    """A loaded base without adapter; its answers are greedy."""

    def __init__(self, base: BaseVLM, voice: AdvisorPrompt, max_tokens: int) -> None:
        self.fingerprint = base.fingerprint
        self._base, self._voice, self._max_tokens = base, voice, max_tokens

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        """Embedding and optionally a critique constrained to the rubric's schema; one pass through the vision tower."""
        messages = critique_messages(self._voice)
        prompt = prepare_prompt(self._base, messages, image)
        vector = photo_embedding(prompt)
        if not critique:
            return BaseModelOutput(vector)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens, constrained=True, prepared=prompt)
        try:
            return BaseModelOutput(vector, _with_expected_scores(answer))
        except CritiqueParseError as error:
            return BaseModelOutput(vector, problem=f"the base model's answer can't be parsed ({error})")

    def critique_with_references(self, image: Image.Image, comparison: PortfolioComparison) -> Critique | None:
        """The critique after a comparison with photographs of the advisor; None when it can't be parsed.

        Not constrained to the schema: a base that can't follow the longer prompt breaks the form, which a schema would
        hide.
        """
        messages = comparison_messages(self._voice, comparison)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens)
        try:
            return _with_expected_scores(answer)
        except CritiqueParseError:
            return None


def _with_expected_scores(answer: Generation) -> Critique:
    critique = parse_critique_strict(answer.text)
    comments = {name: each.comment for name, each in critique.assessments.items()}
    return make_critique({**critique.scores, **answer.expected_scores}, comments)
