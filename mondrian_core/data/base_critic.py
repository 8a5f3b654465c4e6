"""The base model's own look at a photograph: an embedding and, when wanted, a critique with expected scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from mondrian_core.models.base import Base
from mondrian_core.models.embedding import embedding
from mondrian_core.models.generation import Generation, generate, prepare
from mondrian_core.prompts import Comparison, Voice, comparison_messages, critique_messages, rewording_messages
from mondrian_core.rubric import Critique, Unparsable, make_critique, read_strict

TEMPERATURE = 0.7


@dataclass(frozen=True)
class Look:
    """What the base saw. `critique` has expected values as scores (0-10, fractions kept); None: not asked for, or
    `problem` says why there is none."""

    vector: tuple[float, ...]
    critique: Critique | None = None
    problem: str | None = None


class Critic(Protocol):
    """Whoever looks at photographs for the index and for drafts; `fingerprint` is that of the base."""

    fingerprint: str

    def look(self, image: Image.Image, *, critique: bool) -> Look:
        """Look at a photograph once."""
        ...

    def compare(self, image: Image.Image, comparison: Comparison) -> Critique | None:
        """Look again, beside photographs of the advisor; None when the answer can't be read."""
        ...


class BaseCritic:
    """A loaded base without adapter; its answers are greedy."""

    def __init__(self, base: Base, voice: Voice, max_tokens: int) -> None:
        self.fingerprint = base.fingerprint
        self._base, self._voice, self._max_tokens = base, voice, max_tokens

    def look(self, image: Image.Image, *, critique: bool) -> Look:
        """Embedding and, if wanted, a critique held to the rubric's schema; one pass through the vision tower."""
        messages = critique_messages(self._voice)
        prompt = prepare(self._base, messages, image)
        vector = embedding(prompt)
        if not critique:
            return Look(vector)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens, constrained=True, prepared=prompt)
        try:
            return Look(vector, _with_expected_scores(answer))
        except Unparsable as error:
            return Look(vector, problem=f"the base model's answer can't be read ({error})")

    def compare(self, image: Image.Image, comparison: Comparison) -> Critique | None:
        """The critique after a comparison with photographs of the advisor; None when it can't be read.

        Not held to the schema: a base that can't follow the longer prompt shows it by its form, which a schema hides.
        """
        messages = comparison_messages(self._voice, comparison)
        answer = generate(self._base, messages, image, max_tokens=self._max_tokens)
        try:
            return _with_expected_scores(answer)
        except Unparsable:
            return None


class BaseRewriter:
    """A loaded base that says comments in other words; sampled, so that another seed gives another wording."""

    def __init__(self, base: Base) -> None:
        self.name = f"base {base.fingerprint}"
        self._base = base

    def reword(self, dimension: str, comment: str, seed: int) -> str:
        """A proposal of at most about twice the comment's length."""
        room = 2 * len(self._base.tokenizer.encode(comment, add_special_tokens=False)) + 8
        messages = rewording_messages(dimension, comment)
        return generate(
            self._base, messages, None, max_tokens=room, temperature=TEMPERATURE, seed=seed % 2**31
        ).text.strip()


def _with_expected_scores(answer: Generation) -> Critique:
    critique = read_strict(answer.text)
    comments = {name: each.comment for name, each in critique.assessments.items()}
    return make_critique({**critique.scores, **answer.expected_scores}, comments)
