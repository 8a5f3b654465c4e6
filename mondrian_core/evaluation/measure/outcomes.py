"""Outcome of asking one model about one photograph: valid, unparsable or failed to run. The three are distinct."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.photograph_model import PhotographAnswer

BASE_RAG = "base_rag"  # a baseline: the base model shown scores of the advisor's similar photographs (retrieval)
LOOP = "loop"  # finish reason, and reason, of an answer that only repeated itself
MINIMUM_PROBABILITY = 1e-30  # keeps logarithms finite
OutcomeStatus = Literal["valid", "unparsable", "failed"]


class ModelAnswer(PhotographAnswer, Protocol):
    """An answer with its tokens and score probabilities; `models.inference.generation.Generation` is one."""

    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def score_chances(self) -> Mapping[str, tuple[float, ...]]: ...


@dataclass(frozen=True, kw_only=True)
class EvaluationOutcome:
    """One arm's answer to one photograph.

    Attributes:
        photograph: its ID, or a name derived from its pixels when it has no labels.
        arm: base, candidate or champion.
        status: "valid" when the strict reader accepts it, "unparsable" when not, "failed" without an answer.
        reason: why it is unparsable (`PARSE_ERROR_REASONS`, or "loop"), or the error that prevented an answer.
        scores: as written (0-10), also from an answer that only the lenient reader accepts; empty when neither does.
        expected_scores: by dimension the expected value over the score tokens (0-10), before any mask.
        score_log_probabilities: by dimension those of 0 to 10 at the score's position, before any mask, in nats.
        repairs: the lenient reader's corrections.
        kept: True when the answer comes from the cache of an earlier evaluation.
    """

    photograph: str
    arm: str
    status: OutcomeStatus
    reason: str | None = None
    text: str = ""
    tokens: tuple[int, ...] = ()
    finish_reason: str = ""
    prompt_tokens: int = 0
    image_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    expected_scores: Mapping[str, float] = field(default_factory=dict)
    score_log_probabilities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    kept: bool = False

    @property
    def ran(self) -> bool:
        """True when there is an answer, readable or not."""
        return self.status != "failed"

    @property
    def readable(self) -> bool:
        """True when the strict or the lenient reader finds the scores."""
        return bool(self.scores)

    @property
    def truncated(self) -> bool:
        """True when the token limit or a loop ended the answer, not the model."""
        return self.finish_reason in ("length", LOOP)

    @property
    def best_scores(self) -> Mapping[str, float]:
        """Expected scores where the model gave them, otherwise the written ones; a dimension with neither is missing.

        An answer in a broken format may still give all scores: that is a failure of format, not of judgement.
        """
        return {**self.scores, **self.expected_scores}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationOutcome:
        """The outcome that `as_dict` wrote."""
        tuples = {"tokens": tuple(values.get("tokens", ())), "repairs": tuple(values.get("repairs", ()))}
        logs = {name: tuple(row) for name, row in values.get("score_log_probabilities", {}).items()}
        return cls(**{**values, **tuples, "score_log_probabilities": logs})


def outcome_from_answer(photograph: str, arm: str, answer: ModelAnswer) -> EvaluationOutcome:
    """Read an answer strictly, then leniently; a truncated one is never valid, even if it parses."""
    status: OutcomeStatus = "valid"
    reason: str | None = None
    scores: dict[str, float] = {}
    repairs: tuple[str, ...] = ()
    try:
        scores = parse_critique_strict(answer.text).scores
    except CritiqueParseError as unparsable:
        status, reason = "unparsable", unparsable.reason
        try:
            reading = parse_critique_lenient(answer.text)
            scores, repairs = reading.critique.scores, reading.repairs
        except CritiqueParseError:
            pass
    if answer.finish_reason in ("length", LOOP):
        status, reason = "unparsable", LOOP if answer.finish_reason == LOOP else "cut"
    return EvaluationOutcome(
        photograph=photograph,
        arm=arm,
        status=status,
        reason=reason,
        text=answer.text,
        tokens=tuple(answer.tokens),
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        image_tokens=answer.image_tokens,
        prefill_seconds=answer.prefill_seconds,
        decode_seconds=answer.decode_seconds,
        scores=scores,
        expected_scores=dict(answer.expected_scores),
        score_log_probabilities=_logarithms(answer.score_chances),
        repairs=repairs,
    )


def _logarithms(chances: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(round(math.log(max(chance, MINIMUM_PROBABILITY)), 4) for chance in row)
        for name, row in chances.items()
    }


def failed_outcome(photograph: str, arm: str, error: BaseException) -> EvaluationOutcome:
    """The outcome when `error` prevented an answer."""
    return EvaluationOutcome(
        photograph=photograph, arm=arm, status="failed", reason=f"{type(error).__name__}: {error}"[:500]
    )
