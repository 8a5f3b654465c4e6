"""The base model's own look at a photograph: an embedding and, when wanted, a critique with expected scores."""

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
    paraphrase_messages,
)
from mondrian_core.rubric import Critique, make_critique

TEMPERATURE = 0.7


@dataclass(frozen=True)
class BaseModelOutput:
    """What the base saw. `critique` has expected values as scores (0-10, fractions kept); None: not asked for, or
    `problem` says why there is none."""

    embedding: tuple[float, ...]
    critique: Critique | None = None
    problem: str | None = None


class PhotographCritic(Protocol):
    """Whoever looks at photographs for the index and for drafts; `fingerprint` is that of the base."""

    fingerprint: str

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        """Look at a photograph once."""
        ...

    def critique_with_references(self, image: Image.Image, comparison: PortfolioComparison) -> Critique | None:
        """Look again, beside photographs of the advisor; None when the answer can't be read."""
        ...


class BaseModelCritic:
    """A loaded base without adapter; its answers are greedy."""

    def __init__(self, base: BaseVLM, voice: AdvisorPrompt, max_tokens: int) -> None:
        self.fingerprint = base.fingerprint
        self._base, self._voice, self._max_tokens = base, voice, max_tokens

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        """Embedding and, if wanted, a critique held to the rubric's schema; one pass through the vision tower."""
        messages = critique_messages(self._voice)
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
        """The critique after a comparison with photographs of the advisor; None when it can't be read.

        Not held to the schema: a base that can't follow the longer prompt shows it by its form, which a schema hides.
        """
        messages = comparison_messages(self._voice, comparison)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens)
        try:
            return _with_expected_scores(answer)
        except CritiqueParseError:
            return None


class BaseRewriter:
    """A loaded base that says comments in other words; sampled, so that another seed gives another wording."""

    def __init__(self, base: BaseVLM) -> None:
        self.name = f"base {base.fingerprint}"
        self._base = base

    def reword(self, dimension: str, comment: str, seed: int) -> str:
        """A proposal of at most about twice the comment's length."""
        room = 2 * len(self._base.tokenizer.encode(comment, add_special_tokens=False)) + 8
        messages = paraphrase_messages(dimension, comment)
        return generate(
            self._base, messages, None, max_tokens=room, temperature=TEMPERATURE, seed=seed % 2**31
        ).text.strip()


def _with_expected_scores(answer: Generation) -> Critique:
    critique = parse_critique_strict(answer.text)
    comments = {name: each.comment for name, each in critique.assessments.items()}
    return make_critique({**critique.scores, **answer.expected_scores}, comments)
