"""HTML for people: templates with autoescape, so that no text of the model becomes markup."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import Reason, jpeg_bytes
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, TITLES
from mondrian_core.serving.answers import compared_with
from mondrian_core.serving.critic import file_of, photograph_path
from mondrian_core.serving.decoding import small_copy
from mondrian_core.serving.feedback import MOST_TEXT, correction_of
from mondrian_core.serving.history import MOST_POINTS, chart, day, is_nobodys, points_of, scores_of
from mondrian_core.serving.routing import MODES
from mondrian_core.store import Job

if TYPE_CHECKING:
    from mondrian_core.serving.service import Service

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
SHOWN_SIDE = 1400
COMPARED_SIDE = 480
LATEST = 12
RADAR_RADIUS = 100.0
SHORT_TITLES = ("Composition", "Lighting", "Sharpness", "Color", "Isolation", "Depth", "Balance", "Impact")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(titles=TITLES, dimensions=DIMENSIONS, modes=MODES, most_text=MOST_TEXT)
    return environment


def rendered(template: str, **values: Any) -> str:
    """A template filled; every text in it is escaped."""
    return _templates().get_template(template).render(**values)


def front_page(service: Service) -> str:
    """The page to drop photographs on, with one's latest critiques and scores over time."""
    advisors = service.store.advisors()
    jobs = [job for job in service.store.latest_jobs(4 * MOST_POINTS) if not is_nobodys(job)]
    charts = [(voice, chart(points_of(jobs, voice.advisor))) for voice in advisors]
    return (
        _templates()
        .get_template("front.html")
        .render(
            advisors=advisors,
            latest=jobs[:LATEST],
            charts=[(voice, found) for voice, found in charts if found],
            chosen=service.model_mode,
        )
    )


def job_page(service: Service, job: Job) -> str:
    """A critique to read, rate and correct, or how far it is."""
    voice = next((voice for voice in service.store.advisors() if voice.advisor == job.advisor), None)
    scores = scores_of(job)
    return (
        _templates()
        .get_template("job.html")
        .render(
            job=job,
            advisor=voice.name if voice else job.advisor,
            scores=scores,
            entries=(job.answer or {}).get("dimensional_analysis", {}),
            radar=radar(scores) if scores else None,
            weakest=sorted(scores, key=lambda name: scores[name])[:2] if scores else [],
            correction=correction_of(service.store, job),
            compared=compared_with(job),
            day=day,
        )
    )


def photograph_bytes(root: Path, job: Job) -> bytes:
    """A job's photograph as a JPEG for the screen, without metadata.

    Raises:
        BadPhotograph: it isn't there any more.
    """
    return jpeg_bytes(small_copy(photograph_path(root, job.filename or ""), SHOWN_SIDE).image, quality=88)


def compared_bytes(root: Path, job: Job, number: int) -> bytes:
    """The photograph that a critique was compared with, `number` counting from 1, as a JPEG without metadata.

    Raises:
        BadPhotograph: there is none of that number, or its file is gone.
    """
    named = job.details.get("compared_with") or []
    file = file_of(root, str(named[number - 1].get("path", ""))) if number <= len(named) else None
    if file is None:
        raise BadPhotograph(f"comparison {number}", Reason.MISSING, "there is no such photograph")
    return jpeg_bytes(small_copy(file, COMPARED_SIDE).image, quality=85)


def radar(scores: dict[str, float]) -> dict[str, Any]:
    """The eight-dimension radar as SVG values: the polygon's points, rings, and where each label stands."""
    points = [_at(index, scores.get(name, 0.0) / MAX_SCORE * RADAR_RADIUS) for index, name in enumerate(DIMENSIONS)]
    return {**empty_radar(), "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points)}


def empty_radar() -> dict[str, Any]:
    """Rings, spokes and labels."""
    rings = [
        " ".join(f"{x:.1f},{y:.1f}" for x, y in (_at(i, RADAR_RADIUS * share) for i in range(8)))
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    labels = []
    for index, text in enumerate(SHORT_TITLES):
        x, y = _at(index, RADAR_RADIUS + 14)
        anchor = "middle" if abs(x) < 1 else "start" if x > 0 else "end"
        labels.append({"x": round(x, 1), "y": round(y + 4, 1), "anchor": anchor, "text": text})
    spokes = [tuple(round(value, 1) for value in _at(index, RADAR_RADIUS)) for index in range(8)]
    return {"points": "", "rings": rings, "labels": labels, "spokes": spokes}


def _at(index: int, radius: float) -> tuple[float, float]:
    """The point of one of eight spokes, the first one upward, clockwise."""
    angle = 2 * math.pi * index / len(DIMENSIONS)
    return radius * math.sin(angle), -radius * math.cos(angle)
