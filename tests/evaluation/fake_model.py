"""A fake model with the protocol of the real one, in which tests can plant faults.

A fake photograph holds its true scores in its pixels (one grey stripe each), so an answer that depends on the
photograph has to read them, as a real one would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.photograph_model import OnToken, Question, answer_one_by_one
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

_STRIPE = 12  # pixels; wide enough that a blurred or recompressed copy can still be read


def photograph(scores: Mapping[str, float], number: int = 0) -> Image.Image:
    """An image whose pixels hold the scores (0-10) and a number that makes it unique."""
    values = [round(scores[name] * 20) for name in DIMENSIONS] + [number % 256, number // 256]
    row = np.repeat(np.array(values, dtype=np.uint8), _STRIPE)
    return Image.fromarray(np.tile(row, (6 * _STRIPE, 1))).convert("RGB")


def scores_in_image(image: Image.Image) -> np.ndarray:
    """(D,) the scores that an image holds."""
    return stripes(image)[: len(DIMENSIONS)] / 20


def stripes(image: Image.Image) -> np.ndarray:
    """(D + 2,) the grey values of an image, read in the middle of each stripe."""
    middle = np.asarray(image.convert("L"), dtype=np.float64)[image.height // 2]
    count = len(DIMENSIONS) + 2
    return middle[[int((k + 0.5) * image.width / count) for k in range(count)]]


def answer_text(scores: np.ndarray, word: str = "Calm") -> str:
    """A canonical answer."""
    whole = [round(float(np.clip(score, 0, 10))) for score in scores]
    comments = {name: f"{word} light on the ridge, {value}." for name, value in zip(DIMENSIONS, whole, strict=True)}
    return canonical_answer(make_critique(dict(zip(DIMENSIONS, whole, strict=True)), comments))


@dataclass(frozen=True, kw_only=True)
class FakeGeneration:
    """Replaces `models.inference.generation.Generation`."""

    text: str
    tokens: tuple[int, ...] = tuple(range(40))
    finish_reason: str = "stop"
    prompt_tokens: int = 100
    image_tokens: int = 64
    prefill_seconds: float = 0.05
    decode_seconds: float = 0.1
    expected_scores: Mapping[str, float] = field(default_factory=dict)
    score_chances: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class FakeLikelihood:
    """Replaces `models.text_likelihood.TextLikelihood`."""

    nats: float
    tokens: int


def _scores_of(answer: str) -> np.ndarray:
    critique = parse_critique_strict(answer)
    return np.array([critique.scores[name] for name in DIMENSIONS])


Critic = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noisy_critic(spread: float, shift: float = 0.0) -> Critic:
    """A critic that returns the true scores with this spread and bias (points)."""
    return lambda truth, rng: truth + shift + rng.normal(0, spread, len(truth))


def constant_critic(score: float) -> Critic:
    """A critic that gives every photograph the same score."""
    return lambda truth, rng: np.full(len(truth), score)


def has_comparison(question: Question) -> bool:
    """True when the question comes with the advisor's similar photographs (retrieval)."""
    return len(question.messages[1]["content"]) > 2


@dataclass(kw_only=True)
class FakeModel:
    """A model whose base and adapters are critics; the name of an adapter's folder selects its critic."""

    critics: dict[str, Critic]
    fingerprint: str = "fake-model"
    metal: bool = False
    nats: float = 0.2
    words: dict[str, float] = field(default_factory=dict)  # factor of the nats of an arm's comments
    slow: dict[str, float] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()
    broken: Callable[[str, int], BaseException | None] = lambda arm, number: None
    asked: list[tuple[str, int]] = field(default_factory=list)
    request_options: list[dict[str, Any]] = field(default_factory=list)
    timed: int = 0
    arm: str = "base"

    def use(self, adapter: Path | None) -> None:
        self.arm = adapter.name if adapter else "base"

    def ask(self, question: Question, on_token: OnToken | None = None) -> FakeGeneration:
        self.use(question.adapter)
        image = question.image
        options = {"constrained": question.constrained, "comparison": has_comparison(question)}
        if not question.exact_tokens:
            options |= {"temperature": question.temperature, "seed": question.seed}
        self.request_options.append({"arm": self.arm, **options})
        number = int(stripes(image)[len(DIMENSIONS)])
        if question.exact_tokens:
            self.timed += 1
            noise = 1 + 0.01 * np.sin(self.timed * 12.9898)
            return FakeGeneration(
                text="",
                decode_seconds=0.1 * self.slow.get(self.arm, 1.0) * noise,
                prefill_seconds=0.05 * self.slow.get(self.arm, 1.0) * noise,
            )
        self.asked.append((self.arm, number))
        error = self.broken(self.arm, number)
        if error is not None:
            raise error
        rng = np.random.default_rng([number, sum(map(ord, self.arm))])
        scores = np.clip(self.critics[self.arm](scores_in_image(image), rng), 0, 10)
        text = answer_text(scores, "Calm" if self.arm == "base" else "Stern")
        if self.arm in self.cut:
            return FakeGeneration(text=text[: len(text) // 2], finish_reason="length")
        return FakeGeneration(text=text, expected_scores=dict(zip(DIMENSIONS, map(float, scores), strict=True)))

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, FakeGeneration | Exception]]:
        return answer_one_by_one(self.ask, questions)

    def comment_likelihoods(self, adapter: Path | None, image: Image.Image, answers: Sequence[str]) -> list[Any]:
        """A comment is likelier the closer its scores are to those in the image; an adapter knows the words better."""
        truth = scores_in_image(image)
        self.use(adapter)
        nats = [1 + 0.1 * np.abs(truth - _scores_of(answer)).mean() - 0.5 * (self.arm != "base") for answer in answers]
        return [FakeLikelihood(-100 * self.words.get(self.arm, 1.0) * value, 100) for value in nats]

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        return self.nats
