"""HTML pages from templates with autoescape, so that no generated text becomes markup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.svg import svg_markup
from mondrian_core.errors import BadPhotograph
from mondrian_core.exif import camera_facts, time_taken
from mondrian_core.images import PhotographRejection, jpeg_bytes, read_camera_tags, read_photograph_header
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.serving.critique.routing import MODES
from mondrian_core.serving.http.critique_cards import CritiqueCard, critique_card, critique_cards, format_moment
from mondrian_core.serving.http.photograph_overlay import crop_frame, photograph_overlay
from mondrian_core.serving.http.responses import compared_photographs
from mondrian_core.serving.http.security import in_session
from mondrian_core.serving.jobs.crop_record import offered_crop
from mondrian_core.serving.jobs.feedback import MAX_COMMENT_LENGTH, stored_correction
from mondrian_core.serving.jobs.image_decoding import open_downscaled
from mondrian_core.serving.jobs.job_runner import photograph_path, source_file
from mondrian_core.serving.jobs.score_history import (
    format_day,
    job_scores,
)
from mondrian_core.store import Job
from mondrian_core.store.advice_judgements import judgements_of
from mondrian_core.store.job_search import JobFilter, find_job_ids

if TYPE_CHECKING:
    from mondrian_core.serving.http.service import Service

_FOLDER = Path(__file__).resolve().parent
STATIC = _FOLDER / "static"
SHOWN_SIDE = 1400
COMPARED_SIDE = 480
MAX_OTHERS = 3
TOP_IMPROVEMENTS = 2
_IN_BACKTICKS = re.compile(r"`([^`\n]+)`")
RADAR_LABEL = "Scores by dimension"
MODE_TITLES = {"lora": "Adapter", "rag": "Comparison with portfolio", "baseline": "Base model"}
NAVIGATION = (  # path and title of the pages that every page links to, in this order
    ("/", "New critique"),
    ("/critiques", "Critiques"),
    ("/photographs", "Photographs"),
    ("/write", "Write"),
    ("/advisors", "Advisors"),
    ("/registry", "Registry"),
    ("/runs", "Runs"),
    ("/drift", "Drift"),
    ("/start", "First steps"),
)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A script reads what a template gave it in the order of the Python value: by default Jinja sorts the keys.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.globals.update(
        titles=DIMENSION_TITLES,
        dimensions=DIMENSIONS,
        modes=MODES,
        mode_titles=MODE_TITLES,
        most_text=MAX_COMMENT_LENGTH,
        navigation=NAVIGATION,
        pages=frozenset(path for path, _ in NAVIGATION),
        current_page="",
        has_session=in_session.get,
        version=program_version(),
        command=command_markup,
    )
    environment.filters["with_commands"] = with_commands
    return environment


def command_markup(text: str) -> Markup:
    """A command as HTML whose lines break between words only: without the spans, `--advisor` breaks after `--`."""
    words = (Markup("<span>{}</span>").format(word) if "-" in word else escape(word) for word in text.split())
    return Markup('<code class="command">{}</code>').format(Markup(" ").join(words))


def with_commands(text: str) -> Markup:
    """Sentences as HTML, with the text in backticks as commands. A backtick without a second one stays."""
    parts = _IN_BACKTICKS.split(text)
    return Markup("").join(command_markup(part) if number % 2 else part for number, part in enumerate(parts))


def program_version() -> str:
    """The installed version; "unknown" for a checkout that is not installed."""
    try:
        return metadata.version("mondrian")
    except metadata.PackageNotFoundError:
        return "unknown"


def render_template(template: str, **values: Any) -> str:
    """Render a template; every value is escaped."""
    return _templates().get_template(template).render(**values)


def job_page(service: Service, job: Job) -> str:
    """The page of a job: the critique to read, rate and correct, or the job's progress."""
    advisor_prompt = next(
        (advisor_prompt for advisor_prompt in service.store.advisors() if advisor_prompt.advisor == job.advisor), None
    )
    scores = job_scores(job)
    entries = (job.answer or {}).get("dimensional_analysis", {})
    size, offered = photograph_size(service.root, job), offered_crop(job.details)
    return (
        _templates()
        .get_template("job.html")
        .render(
            job=job,
            advisor=advisor_prompt.name if advisor_prompt else job.advisor,
            scores=scores,
            rewritten=rewritten_scores(job),
            entries=entries,
            radar=Markup(svg_markup(radar_chart({"candidate": scores}, RADAR_LABEL))) if scores else "",
            improvements=improvements_of(job.answer or {}, scores or {}),
            correction=stored_correction(service.store, job),
            judgements={name: str(each.useful).lower() for name, each in judgements_of(job).items()},
            compared=compared_photographs(job),
            day=format_day,
            moment=format_moment,
            card=critique_card(job, {}),
            others=other_critiques(service, job),
            size=size,
            overlay=photograph_overlay(entries, offered["crop"] if offered else None, size) if size else None,
            offered=offered,
            **camera_values(service.root, job),
        )
    )


@dataclass(frozen=True)
class Improvements:
    """What would improve a photograph most: a heading, and (title of a dimension or "", text) for each."""

    title: str
    items: tuple[tuple[str, str], ...]


def improvements_of(answer: Mapping[str, Any], scores: Mapping[str, float]) -> Improvements:
    """The critique's priority improvements; without any, the advice on its two weakest dimensions.

    Dimensions with a recommendation come before those with a comment alone, which only says what is wrong.

    Args:
        answer: a critique's JSON.
        scores: its scores, 0-10, by dimension.
    """
    if priorities := answer.get("priority_improvements"):
        return Improvements("Priority improvements", tuple(("", str(text)) for text in priorities))
    entries = answer.get("dimensional_analysis", {})
    advised = [name for name in scores if entries[name].get("recommendation")]
    weakest = sorted(scores, key=lambda name: (name not in advised, scores[name]))[:TOP_IMPROVEMENTS]
    return Improvements(
        "Top two improvements" if advised else "The two weakest dimensions",
        tuple(
            (DIMENSION_TITLES[name], str(entries[name].get("recommendation") or entries[name].get("comment", "")))
            for name in weakest
        ),
    )


def camera_values(root: Path, job: Job) -> dict[str, Any]:
    """What exif.html shows with a critique; nothing when the photograph is gone."""
    try:
        tags = read_camera_tags(photograph_path(root, job.filename or ""))
    except BadPhotograph:
        tags = {}
    return {"camera": camera_facts(tags), "taken_at": time_taken(tags)}


def photograph_size(root: Path, job: Job) -> tuple[int, int] | None:
    """Width and height in the proportion of a job's upright photograph, to keep its place; None when it is gone."""
    match job.details.get("pixels"):
        case [int(width), int(height)] if width > 0 and height > 0:
            return width, height
    try:
        header = read_photograph_header(photograph_path(root, job.filename or ""))
    except BadPhotograph:
        return None
    return header.width, header.height


def other_critiques(service: Service, job: Job) -> list[CritiqueCard]:
    """The latest other critiques of a job's photograph, to compare with."""
    if not job.photograph_sha256 or not job_scores(job):
        return []
    ids = find_job_ids(service.store, JobFilter(sha256=job.photograph_sha256))
    others = [service.store.job(each) for each in ids if each != job.id][:MAX_OTHERS]
    return critique_cards(service.store, [each for each in others if each is not None and job_scores(each)])


def rewritten_scores(job: Job) -> str:
    """The scores that the model wrote where others are shown: "Lighting 7, Composition 5"; "" without any."""
    shown, written = job_scores(job), job.details.get("written_scores") or {}
    return ", ".join(
        f"{DIMENSION_TITLES[name]} {written[name]:g}"
        for name in DIMENSIONS
        if isinstance(written.get(name), int | float) and name in shown and written[name] != shown[name]
    )


def photograph_jpeg(root: Path, job: Job) -> bytes:
    """A job's photograph as a JPEG without metadata, at most `SHOWN_SIDE` pixels.

    Raises:
        BadPhotograph: the file is gone.
    """
    return jpeg_bytes(open_downscaled(photograph_path(root, job.filename or ""), SHOWN_SIDE).image, quality=88)


def cropped_photograph_jpeg(root: Path, job: Job) -> bytes:
    """The crop that a job's critique offers as a JPEG without metadata, cut from at most `SHOWN_SIDE` pixels.

    Raises:
        BadPhotograph: it offers none, or the file is gone.
    """
    offered = offered_crop(job.details)
    frame = crop_frame(offered["crop"]) if offered else None
    if frame is None:
        raise BadPhotograph("crop", PhotographRejection.MISSING, "this critique offers no crop")
    return jpeg_bytes(frame.cut_from(open_downscaled(photograph_path(root, job.filename or ""), SHOWN_SIDE).image))


def compared_photograph_jpeg(root: Path, job: Job, number: int) -> bytes:
    """Portfolio photograph `number` (from 1) that a critique compared with, as a JPEG without metadata.

    Raises:
        BadPhotograph: there is no such photograph, or its file is gone.
    """
    named = job.details.get("compared_with") or []
    file = source_file(root, str(named[number - 1].get("path", ""))) if number <= len(named) else None
    if file is None:
        raise BadPhotograph(f"comparison {number}", PhotographRejection.MISSING, "there is no such photograph")
    return jpeg_bytes(open_downscaled(file, COMPARED_SIDE).image, quality=85)
