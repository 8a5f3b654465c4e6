"""What a job says about drift, and what the champion's evaluation said: the same values from both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mondrian_core.drift.signals import DISTANCE, LENGTH, REFUSED, REPAIRED, SignalValues
from mondrian_core.rollout import SHADOW_KEY, job_fault
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import COMPLETED, FAILED, Job

DISTANCE_KEY = "portfolio_distance"  # of a job's details: cosine distance to the nearest photograph of the index
_SMOKE_PREFIX = "smoke-"


@dataclass(frozen=True, kw_only=True)
class DriftObservation:
    """One request that the watched version was asked to answer.

    Attributes:
        job: id.
        photograph: SHA-256, or the job's id where it is unknown.
        folder: of the photograph; "." for uploads.
        at: time of the request, ISO 8601.
        values: of the signals.
    """

    job: str
    photograph: str
    folder: str
    at: str
    values: SignalValues


def drift_observation(job: Job, version: str) -> DriftObservation | None:
    """What a finished job says about a version; None when it says nothing.

    A request counts when it was for an adapter and this version answered or should have. Tests of the service, answers
    for a rollout's comparison, answers in a program's own form or by another version, and photographs that no model
    can answer don't count.
    """
    if job.status not in (COMPLETED, FAILED) or not _asked(job, version):
        return None
    answered = job.status == COMPLETED and job.adapter_version == version
    values: dict[str, float] = {REFUSED: float(not answered)}
    if answered:
        passes = job.details.get("passes") or [{}]
        entries = (job.answer or {}).get("dimensional_analysis") or {}
        written = {name: entries[name].get("score") for name in DIMENSIONS if name in entries}
        values |= _scores(written, job.details.get("expected_scores") or {})
        values[REPAIRED] = float(len(passes) > 1 or bool(job.details.get("repairs")))
        values |= _number(LENGTH, passes[-1].get("tokens")) | _number(DISTANCE, job.details.get(DISTANCE_KEY))
    return DriftObservation(
        job=job.id,
        photograph=job.photograph_sha256 or job.id,
        folder=str(PurePosixPath((job.filename or "").replace("\\", "/")).parent),
        at=job.created_at or "",
        values=values,
    )


def _asked(job: Job, version: str) -> bool:
    mark = job.details.get("rollout") or {}
    options = job.details.get("answer_options") or {}
    internal = (job.idempotency_key or "").startswith(_SMOKE_PREFIX) or mark.get(SHADOW_KEY)
    if internal or options.get("schema") is not None or job_fault(job) == "request":
        return False
    if job.adapter_version is not None:
        return job.adapter_version == version
    return job.requested_mode == "lora" and mark.get("version", version) == options.get("version", version) == version


def evaluation_values(records: Iterable[Mapping[str, Any]], arm: str) -> list[SignalValues]:
    """The values of the answers about labelled photographs: the evaluation's own, else those of cross-validation.

    Args:
        records: of samples.jsonl.
        arm: whose answers.
    """
    labelled: set[Any] = set()
    answers: dict[Any, Mapping[str, Any]] = {}
    folds: dict[Any, Mapping[str, Any]] = {}
    for record in records:
        if record["kind"] == "label":
            labelled.add(record.get("photograph"))
        elif record["kind"] == "answer" and record.get("arm") == arm:
            answers[record.get("photograph")] = record
        elif record["kind"] == "fold" and record.get("arm") == arm:
            folds[record.get("photograph")] = record
    chosen = [answers[name] for name in answers if name in labelled] or list(folds.values())
    return [_evaluated(record) for record in chosen]


def _evaluated(record: Mapping[str, Any]) -> SignalValues:
    answered = record.get("status") != "failed"
    values: dict[str, float] = {REFUSED: float(not answered)}
    if answered:
        values |= _scores(record.get("scores") or {}, record.get("expected_scores") or {})
        values[REPAIRED] = float(record.get("status") != "valid")
        values |= _number(LENGTH, len(record.get("tokens") or ()) or None)
    return values


def _scores(written: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """The expected score of each dimension; the written one where the model gave no other."""
    found: dict[str, float] = {}
    for name in DIMENSIONS:
        found |= _number(name, expected.get(name, written.get(name)))
    return found


def _number(name: str, value: Any) -> dict[str, float]:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return {name: float(value)} if usable else {}
