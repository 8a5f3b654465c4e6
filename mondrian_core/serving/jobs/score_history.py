"""Scores over time: one point per photograph and advisor, as values and as charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from mondrian_core.charts.score_history_chart import ScoreDot, score_history_chart, sparkline
from mondrian_core.charts.svg import svg_markup
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, mean_score
from mondrian_core.serving.critique.answer_options import answer_options_from_details
from mondrian_core.serving.jobs.shadow_jobs import is_shadow_job
from mondrian_core.store import Job

MAX_POINTS = 200
TREND_WINDOW = 5  # number of photographs at either end whose means are compared


@dataclass(frozen=True, kw_only=True)
class ScorePoint:
    """One critiqued photograph: the time (ISO 8601), its scores and their mean (0-10), and the adapter used."""

    job_id: str
    photograph: str
    at: str
    scores: dict[str, float]
    adapter_version: str | None

    @property
    def mean(self) -> float:
        """Mean of the scores, 0-10."""
        return mean_score(self.scores)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "job_id": self.job_id,
            "photograph": self.photograph,
            "at": self.at,
            "scores": self.scores,
            "mean": round(self.mean, 3),
            "adapter_version": self.adapter_version,
        }


def score_points(jobs: Iterable[Job], advisor: str) -> list[ScorePoint]:
    """The last `MAX_POINTS` photographs that an advisor critiqued, oldest first, each with its latest critique."""
    latest: dict[str, ScorePoint] = {}
    for job in sorted(jobs, key=lambda one: one.completed_at or ""):
        scores = job_scores(job)
        if job.advisor == advisor and job.completed_at and len(scores) == len(DIMENSIONS) and not is_internal_job(job):
            unit = job.photograph_sha256 or job.id
            latest.pop(unit, None)
            latest[unit] = ScorePoint(
                job_id=job.id,
                photograph=job.filename or "",
                at=job.completed_at,
                scores=scores,
                adapter_version=job.adapter_version,
            )
    return list(latest.values())[-MAX_POINTS:]


def is_internal_job(job: Job) -> bool:
    """True for a job that no page lists: a smoke test of serve/local, a shadow job of a rollout, or an answer in a
    program's own form.
    """
    own_form = answer_options_from_details(job.details).schema is not None
    return (job.idempotency_key or "").startswith("smoke-") or is_shadow_job(job) or own_form


def job_scores(job: Job) -> dict[str, float]:
    """The scores (0-10) in a job's answer; missing ones are left out."""
    entries = (job.answer or {}).get("dimensional_analysis") or {}
    scores = {name: entries.get(name, {}).get("score") for name in DIMENSIONS}
    return {name: float(score) for name, score in scores.items() if isinstance(score, int | float)}


@dataclass(frozen=True, kw_only=True)
class ScoreTrend:
    """One dimension over time: a sparkline, the mean of the latest scores (0-10), and its change since the start."""

    title: str
    picture: Markup
    latest: float
    change: float


@dataclass(frozen=True, kw_only=True)
class ScoreHistory:
    """The charts of one advisor's critiques, as SVG: mean scores, and the trend of each dimension."""

    picture: Markup
    trends: tuple[ScoreTrend, ...]


def score_history_charts(points: Sequence[ScorePoint]) -> ScoreHistory | None:
    """The charts of these points; None below two points.

    Photographs are drawn at equal distances, because many are critiqued in one hour and then none for a week.
    """
    if len(points) < 2:
        return None
    dots = [
        ScoreDot(
            score=point.mean,
            style="tuned" if point.adapter_version else "plain",
            link=f"/jobs/{point.job_id}?format=html",
            tooltip=f"{point.photograph}: {point.mean:.1f} ({format_day(point.at)})",
        )
        for point in points
    ]
    ends = format_day(points[0].at), format_day(points[-1].at)
    chart = score_history_chart(dots, ends, f"Mean score of {len(points)} photographs")
    trends = tuple(_trend(name, [point.scores[name] for point in points]) for name in DIMENSIONS)
    return ScoreHistory(picture=Markup(svg_markup(chart)), trends=trends)


def _trend(dimension: str, scores: Sequence[float]) -> ScoreTrend:
    earlier, latest = _first_and_last_means(scores)
    return ScoreTrend(
        title=DIMENSION_TITLES[dimension],
        picture=Markup(svg_markup(sparkline(scores))),
        latest=latest,
        change=round(latest - earlier, 1),
    )


def format_day(moment: str) -> str:
    """The day of an ISO 8601 time, such as "21 Nov 2026"; any other text is returned unchanged."""
    try:
        return f"{datetime.fromisoformat(moment):%d %b %Y}".lstrip("0")
    except ValueError:
        return moment


def _first_and_last_means(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last few values, without overlap."""
    span = min(TREND_WINDOW, len(values) // 2)
    first, last = values[:span], values[-span:]
    return round(sum(first) / span, 1), round(sum(last) / span, 1)
