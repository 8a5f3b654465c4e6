"""How one's scores changed over time: one point per photograph and advisor, as values and as the lines of a chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, MAX_SCORE, mean_score
from mondrian_core.serving.jobs.shadow_jobs import is_shadow_job
from mondrian_core.store import Job

MAX_POINTS = 200
WIDTH, HEIGHT = 600.0, 150.0
SMALL_WIDTH, SMALL_HEIGHT = 120.0, 32.0
TREND_WINDOW = 5  # photographs at either end of the time that are set against each other


@dataclass(frozen=True, kw_only=True)
class ScorePoint:
    """One critiqued photograph: when (ISO 8601), its eight scores and their mean (0-10), and what answered."""

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
    """The last `MOST_POINTS` photographs that an advisor critiqued, oldest first; of several critiques the last one."""
    latest: dict[str, ScorePoint] = {}
    for job in sorted(jobs, key=lambda each: each.completed_at or ""):
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
    """True for a job that no person sent: of the smoke set of serve/local, or made for a rollout's comparison."""
    return (job.idempotency_key or "").startswith("smoke-") or is_shadow_job(job)


def job_scores(job: Job) -> dict[str, float]:
    """The scores (0-10) of a job's answer, those that are there."""
    entries = (job.answer or {}).get("dimensional_analysis") or {}
    scores = {name: entries.get(name, {}).get("score") for name in DIMENSIONS}
    return {name: float(score) for name, score in scores.items() if isinstance(score, int | float)}


def score_chart(points: Sequence[ScorePoint]) -> dict[str, Any] | None:
    """The SVG values of the line of means and of a small line per dimension; None below two points.

    Photographs stand at equal distances: many are critiqued in one hour, then none for a week.
    """
    if len(points) < 2:
        return None
    means = [point.mean for point in points]
    dots = [
        {"x": x, "y": y, "point": point, "title": f"{point.photograph}: {point.mean:.1f} ({format_day(point.at)})"}
        for (x, y), point in zip(_line_points(means, WIDTH, HEIGHT), points, strict=True)
    ]
    small = [
        {
            "title": DIMENSION_TITLES[name],
            "points": _svg_points(_line_points(values, SMALL_WIDTH, SMALL_HEIGHT)),
            "last": recent,
            "change": round(recent - earlier, 1),
        }
        for name in DIMENSIONS
        for values in [[point.scores[name] for point in points]]
        for earlier, recent in [_first_and_last_means(values)]
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "small_width": SMALL_WIDTH,
        "small_height": SMALL_HEIGHT,
        "points": _svg_points(_line_points(means, WIDTH, HEIGHT)),
        "dots": dots,
        "dimensions": small,
        "first": format_day(points[0].at),
        "last": format_day(points[-1].at),
        "count": len(points),
        "grid": [(score, HEIGHT - score / MAX_SCORE * HEIGHT) for score in (0, 5, 10)],
    }


def format_day(moment: str) -> str:
    """The day of an ISO 8601 moment, "21 Nov 2026"; the text itself where it is none."""
    try:
        return f"{datetime.fromisoformat(moment):%d %b %Y}".lstrip("0")
    except ValueError:
        return moment


def _first_and_last_means(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last few values; they don't overlap."""
    span = min(TREND_WINDOW, len(values) // 2)
    first, last = values[:span], values[-span:]
    return round(sum(first) / span, 1), round(sum(last) / span, 1)


def _line_points(values: Sequence[float], width: float, height: float) -> list[tuple[float, float]]:
    step = width / (len(values) - 1)
    return [
        (round(index * step, 1), round(height - value / MAX_SCORE * height, 1)) for index, value in enumerate(values)
    ]


def _svg_points(line: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in line)
