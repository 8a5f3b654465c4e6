"""The base model as a critic: embeddings and critiques of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.image_embedding import photo_embedding
from mondrian_core.models.inference.generation import Generation, generate, prepare_prompt
from mondrian_core.prompts import (
    AdvisorPrompt,
    PortfolioComparison,
    comparison_messages,
    critique_messages,
)
from mondrian_core.rubric import Critique, make_critique


@dataclass(frozen=True)
class BaseModelOutput:
    """The base model's output for one photograph.

    Attributes:
        embedding: (D,) of length 1.
        critique: with expected values as scores (0-10, fractions kept); None when not requested or unreadable.
        problem: why the requested critique is missing.
    """

    embedding: tuple[float, ...]
    critique: Critique | None = None
    problem: str | None = None


class PhotographCritic(Protocol):
    """Analyzes photographs for the retrieval index and for drafts; `fingerprint` is that of the base model.

    It returns critiques and embeddings, while a `photograph_model.PhotographModel` answers in text.
    """

    fingerprint: str

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        """Embedding of a photograph and, with `critique`, a critique."""
        ...

    def critique_with_references(self, image: Image.Image, comparison: PortfolioComparison) -> Critique | None:
        """Critique in comparison with the advisor's photographs; None when the answer can't be read."""
        ...


class BaseModelCritic:
    """A loaded base model without adapter; it decodes greedily."""

    def __init__(self, base: BaseVLM, prompt: AdvisorPrompt, max_tokens: int) -> None:
        self.fingerprint = base.fingerprint
        self._base, self._advisor_prompt, self._max_tokens = base, prompt, max_tokens

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        """Embedding and, with `critique`, a critique constrained to the schema; one pass through the vision encoder."""
        messages = critique_messages(self._advisor_prompt)
        prompt = prepare_prompt(self._base, messages, image)
        vector = photo_embedding(prompt)
        if not critique:
            return BaseModelOutput(vector)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens, constrained=True, prepared=prompt)
        try:
            return BaseModelOutput(vector, _with_expected_scores(answer))
        except CritiqueParseError as error:
            return BaseModelOutput(vector, problem=f"the base model's answer can't be read ({error})")

    def critique_with_references(self, image: Image.Image, comparison: PortfolioComparison) -> Critique | None:
        """Critique in comparison with the advisor's photographs; None when the answer can't be read.

        Decoding is unconstrained: a base that can't follow the longer prompt breaks the format, which a schema hides.
        """
        messages = comparison_messages(self._advisor_prompt, comparison)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens)
        try:
            return _with_expected_scores(answer)
        except CritiqueParseError:
            return None


def _with_expected_scores(answer: Generation) -> Critique:
    """The critique in an answer, with expected scores where there are any."""
    critique = parse_critique_strict(answer.text)
    comments = {name: assessment.comment for name, assessment in critique.assessments.items()}
    return make_critique({**critique.scores, **answer.expected_scores}, comments)
