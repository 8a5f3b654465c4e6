"""Where the advisor's present adapter erred: from the recorded answers of its evaluation, and from stored jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mondrian_core.registry import AdapterVersion, Registry, read_version_answers
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE, SamplesFile
from mondrian_core.store import COMPLETED, Store

Scores = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AdapterErrors:
    """How far an adapter's scores are from the advisor's, on photographs that it was not trained on.

    Attributes:
        version: of the adapter; "" when there is none.
        distances: photograph (SHA-256) -> mean distance over the dimensions, in points.
        base_errors: photograph -> mean squared error of the base, where both were measured.
        own_errors: photograph -> mean squared error of the adapter, for the same photographs.
    """

    version: str = ""
    distances: Mapping[str, float] = field(default_factory=dict)
    base_errors: Mapping[str, float] = field(default_factory=dict)
    own_errors: Mapping[str, float] = field(default_factory=dict)


def present_version(registry: Registry, advisor: str) -> AdapterVersion | None:
    """The champion; without one the newest version that is not quarantined."""
    champion = registry.champion(advisor)
    if champion is not None:
        return champion
    usable = [version for version in registry.versions(advisor) if version.state != "quarantined"]
    return usable[-1] if usable else None


def adapter_errors(version: AdapterVersion, store: Store, root: Path, written: Mapping[str, Scores]) -> AdapterErrors:
    """The errors of a version on critiqued photographs. Those of cross-validation count where it has folds.

    Args:
        version: of the adapter.
        store: with the jobs that it answered.
        root: the workspace, whose runs hold the answers of evaluations.
        written: the advisor's scores by photograph (SHA-256).
    """
    source = read_version_answers(version, root).source
    labels, answers = _recorded(source, source.stat().st_mtime_ns) if source else ({}, {})
    distances = _compared(answers.get(CANDIDATE, {}), labels, score_distance)
    for job in store.jobs(version.advisor, status=COMPLETED):
        sha256 = job.photograph_sha256 or ""
        if sha256 in written and sha256 not in distances and job.adapter_version == version.version:
            found = score_distance(answer_scores(job.answer or {}), written[sha256])
            distances |= {} if found is None else {sha256: found}
    own, base = (_compared(answers.get(arm, {}), labels, _squared_error) for arm in (CANDIDATE, BASE))
    both = own.keys() & base.keys()
    return AdapterErrors(
        version=version.version,
        distances=distances,
        base_errors={name: base[name] for name in sorted(both)},
        own_errors={name: own[name] for name in sorted(both)},
    )


@lru_cache(maxsize=4)  # a page asks after every critique, and the file holds megabytes of thumbnails
def _recorded(source: Path, written_at: int) -> tuple[dict[str, Scores], dict[str, dict[str, Scores]]]:
    """The advisor's scores by photograph, and by arm those of the answers; expected scores where there are any.

    `written_at` is the file's time of modification: another one is another content.
    """
    labels: dict[str, Scores] = {}
    answers: dict[str, dict[str, Scores]] = {}
    for record in SamplesFile(source).records():
        name, scores = str(record.get("photograph")), record.get("scores")
        if not isinstance(scores, Mapping):
            continue
        if record["kind"] in ("label", "fold_label"):
            labels[name] = scores
        elif record["kind"] in ("answer", "fold"):
            expected = record.get("expected_scores")
            known = {**scores, **(expected if isinstance(expected, Mapping) else {})}
            answers.setdefault(str(record.get("arm")), {})[name] = known
    return labels, answers


def _compared(answers: Mapping[str, Scores], labels: Mapping[str, Scores], measure: Any) -> dict[str, float]:
    pairs = ((name, measure(scores, labels[name])) for name, scores in answers.items() if name in labels)
    return {name: value for name, value in pairs if value is not None}


def answer_scores(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The scores in a job's answer, by dimension; missing ones are left out."""
    entries = answer.get("dimensional_analysis") or {}
    return {name: entry["score"] for name, entry in entries.items() if isinstance(entry, Mapping) and "score" in entry}


def score_distance(first: Scores, second: Scores, names: Iterable[str] = DIMENSIONS) -> float | None:
    """Mean distance (points of 10) over those dimensions that both have a number for; None when there is none."""
    gaps = _gaps(first, second, names)
    return sum(gaps) / len(gaps) if gaps else None


def _squared_error(first: Scores, second: Scores) -> float | None:
    """Mean squared error over the dimensions; None when a score is missing."""
    gaps = _gaps(first, second, DIMENSIONS)
    return sum(gap * gap for gap in gaps) / len(gaps) if len(gaps) == len(DIMENSIONS) else None


def _gaps(first: Scores, second: Scores, names: Iterable[str]) -> list[float]:
    return [
        abs(float(one) - float(other))
        for name in names
        if isinstance(one := first.get(name), int | float) and isinstance(other := second.get(name), int | float)
    ]
