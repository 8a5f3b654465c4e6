"""What came of asking one model about one photograph: valid, unparsable, or failed to run. Three different things.

Everything measured goes line by line into `samples.jsonl`. An evaluation that was interrupted goes on at the next
photograph, and metrics, gates and report can be made again from that file alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.errors import translate_foreign_errors

BASE, CANDIDATE, CHAMPION = "base", "candidate", "champion"
BASE_RAG = "base_rag"  # the base after it has seen the scores of the advisor's similar photographs; a rival, no arm
MINIMUM_PROBABILITY = 1e-30  # so that a logarithm is a number
OutcomeStatus = Literal["valid", "unparsable", "failed"]


class ModelAnswer(Protocol):
    """What a model gives for one photograph; `models.generation.Generation` is one."""

    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def image_tokens(self) -> int: ...
    @property
    def prefill_seconds(self) -> float: ...
    @property
    def decode_seconds(self) -> float: ...
    @property
    def expected_scores(self) -> Mapping[str, float]: ...
    @property
    def score_chances(self) -> Mapping[str, tuple[float, ...]]: ...


@dataclass(frozen=True, kw_only=True)
class EvaluationOutcome:
    """One arm's answer to one photograph.

    Attributes:
        photograph: its lineage, or a name made from its pixels when it has no labels.
        arm: base, candidate or champion.
        status: "valid" is read strictly; "unparsable" is an answer that isn't; "failed" is no answer at all.
        reason: why it is unparsable (`rubric.REASONS`), or the error that stopped it.
        scores: as read (0-10), also from an answer that only the lenient reader accepts; empty when nobody can read it.
        expected_scores: expected value over the score tokens, before any mask.
        score_log_probabilities: by dimension those of 0 to 10 at the score's position, before any mask, in nats.
        repairs: what the lenient reader had to mend.
        kept: True when it came from an earlier evaluation of the same model, prompt and photograph.
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
        """There is an answer, whatever it is worth."""
        return self.status != "failed"

    @property
    def readable(self) -> bool:
        """Its text gives eight scores, strictly or after mending."""
        return bool(self.scores)

    @property
    def truncated(self) -> bool:
        """The limit ended it, not the model."""
        return self.finish_reason == "length"

    @property
    def best_scores(self) -> Mapping[str, float]:
        """Expected scores where the model gave them, else those that were read; a dimension without either is missing.

        An answer whose form is broken may still have said all its scores: that is a failure of format, not of the eye.
        """
        return {**self.scores, **self.expected_scores}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationOutcome:
        """The outcome that `as_dict` wrote."""
        tuples = {"tokens": tuple(values.get("tokens", ())), "repairs": tuple(values.get("repairs", ()))}
        logs = {name: tuple(found) for name, found in values.get("score_log_probabilities", {}).items()}
        return cls(**{**values, **tuples, "score_log_probabilities": logs})


def outcome_from_answer(photograph: str, arm: str, answer: ModelAnswer) -> EvaluationOutcome:
    """Read an answer strictly and leniently; one that was cut is never valid, even if it happens to parse."""
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
    if answer.finish_reason == "length":
        status, reason = "unparsable", "cut"
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
        name: tuple(round(math.log(max(chance, MINIMUM_PROBABILITY)), 4) for chance in found)
        for name, found in chances.items()
    }


def failed_outcome(photograph: str, arm: str, error: BaseException) -> EvaluationOutcome:
    """The model gave no answer."""
    return EvaluationOutcome(
        photograph=photograph, arm=arm, status="failed", reason=f"{type(error).__name__}: {error}"[:500]
    )


class SamplesFile:
    """`samples.jsonl`: one JSON object per line, each with a `kind`, handed to the system as it is written.

    A killed process loses nothing; a power cut may lose the last seconds, which are then measured again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> Iterator[dict[str, Any]]:
        """What is there; a last line that was torn by a crash is left out."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as stream:
            for line in stream:
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if line.endswith("\n") and isinstance(record, dict) and "kind" in record:
                    yield record

    def resume_or_start(self, identity: Mapping[str, Any]) -> bool:
        """Go on with the file when it belongs to the same evaluation, else start it anew; True when it goes on."""
        first = next(self.records(), None)
        if first is not None and first["kind"] == "identity" and first["values"] == dict(identity):
            self._mend()
            return True
        with translate_foreign_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("", encoding="utf-8")
        self.append("identity", {"values": dict(identity)})
        return False

    def _mend(self) -> None:
        """Cut a torn last line off, so that the next one starts on a line of its own."""
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            with self.path.open("rb+") as stream:
                stream.truncate(content.rfind(b"\n") + 1)

    def append(self, kind: str, record: Mapping[str, Any]) -> None:
        """Write one line.

        Raises:
            DiskFull: when there is no room; what was written before stays readable.
        """
        with translate_foreign_errors(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"kind": kind, **record}) + "\n")
