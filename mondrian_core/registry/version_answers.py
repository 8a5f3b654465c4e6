"""What a version answered when it was evaluated, from `samples.jsonl` in its folder or in that of its run.

Only what two versions are compared by is read: the candidate's answers and the advisor's labels, by photograph. A line
that says something else, or that another release wrote differently, is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.registry.version import AdapterVersion
from mondrian_core.rubric import DIMENSIONS, Critique
from mondrian_core.samples_file import SAMPLES_NAME, SamplesFile


@dataclass(frozen=True)
class VersionAnswer:
    """One answer: its text, the critique in it when it can be read, and its eight scores (0-10; expected values where
    the evaluation has them), empty when there are none."""

    text: str
    critique: Critique | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class VersionAnswers:
    """Answers and the advisor's scores (0-10) by photograph; `source` is the file they came from, None for none."""

    source: Path | None = None
    answers: Mapping[str, VersionAnswer] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_version_answers(version: AdapterVersion, workspace: Path | None = None) -> VersionAnswers:
    """The answers of a version; empty when neither its folder nor its run in `workspace` has them any more."""
    places = [version.path / SAMPLES_NAME]
    run = version.manifest.get("run")
    if workspace is not None and isinstance(run, str) and run == Path(run).name:
        places.append(workspace / "runs" / run / SAMPLES_NAME)
    source = next((place for place in places if place.is_file()), None)
    if source is None:
        return VersionAnswers()
    samples = SamplesFile(source)
    return VersionAnswers(
        source,
        {str(record.get("photograph")): _parse_answer(record) for record in samples.candidate_answers()},
        {
            str(record.get("photograph")): dict(record["scores"])
            for record in samples.labels()
            if _has_all_scores(record.get("scores"))
        },
    )


def _parse_answer(record: Mapping[str, Any]) -> VersionAnswer:
    text = str(record.get("text") or "")
    try:
        critique = parse_critique_lenient(text).critique
    except CritiqueParseError:
        critique = None
    scores = {**(record.get("scores") or {}), **(record.get("expected_scores") or {})}
    return VersionAnswer(text, critique, scores if _has_all_scores(scores) else critique.scores if critique else {})


def _has_all_scores(scores: Any) -> bool:
    return isinstance(scores, Mapping) and all(isinstance(scores.get(name), int | float) for name in DIMENSIONS)
