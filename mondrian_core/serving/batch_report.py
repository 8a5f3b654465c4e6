"""Batch reports: many critiques as CSV, as a contact sheet in one self-contained HTML page, or as its PDF."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.svg import svg_markup
from mondrian_core.errors import BadPhotograph
from mondrian_core.exif import EXPOSURE_FACTS, camera_line
from mondrian_core.files import write_atomic
from mondrian_core.images import downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.rubric import DIMENSIONS, Critique, int_if_whole
from mondrian_core.serving.batch_analyze import AnalysisResult, printable_path
from mondrian_core.serving.http.pages import STATIC, render_template
from mondrian_core.serving.http.photograph_overlay import crop_frame, photograph_overlay
from mondrian_core.serving.jobs.crop_record import offered_crop
from mondrian_core.serving.pdf_print import Paper, print_to_pdf
from mondrian_core.xmp import grade_number

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_SIDE, PICTURE_SIDE = 360, 800  # long sides in pixels
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
CAMERA_COLUMNS = ("camera", "lens", *EXPOSURE_FACTS)
COLUMNS = (
    "photograph",
    "advisor",
    "requested_mode",
    "mode",
    "model_used",
    "adapter_version",
    "taken_at",
    *CAMERA_COLUMNS,
    "overall_grade",
    *(f"{name}_score" for name in DIMENSIONS),
    *(f"{name}_comment" for name in DIMENSIONS),
    "seconds",
    "job",
    "error",
)


def write_csv(path: Path, results: Sequence[AnalysisResult]) -> None:
    """Write a row per critique, including failed ones.

    Raises:
        DiskFull: no space is left.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerow(_csv_row(result))
    write_atomic(path, stream.getvalue())


def _csv_row(result: AnalysisResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "photograph": printable_path(result.path),
        "advisor": result.advisor,
        "requested_mode": result.requested_mode,
        "mode": result.mode,
        "model_used": result.model_used,
        "adapter_version": result.adapter_version,
        "taken_at": result.taken_at,
        **result.camera,
        "seconds": result.seconds,
        "job": result.job,
        "error": result.error,
    }
    if result.critique is not None:
        row["overall_grade"] = result.critique.overall_grade
        for name, assessment in result.critique.assessments.items():
            row[f"{name}_score"], row[f"{name}_comment"] = int_if_whole(assessment.score), assessment.comment
    return {name: _escape_formula(value) for name, value in row.items()}


def _escape_formula(value: Any) -> Any:
    """Prefix text that a spreadsheet would run as a formula with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_batch_html(path: Path, results: Sequence[AnalysisResult]) -> None:
    """Write a contact sheet with every critique: one page that needs no other file and prints well.

    Raises:
        DiskFull: no space is left.
    """
    write_atomic(path, contact_sheet_page(results))


def write_batch_pdf(path: Path, results: Sequence[AnalysisResult], paper: Paper = "A4") -> None:
    """Write the contact sheet as a PDF; see `print_to_pdf` for the errors."""
    print_to_pdf(contact_sheet_page(results), path, paper)


def contact_sheet_page(results: Sequence[AnalysisResult]) -> str:
    """HTML: a grid of photographs with grade and radar, the best first, and below it each critique."""
    groups: dict[Path, list[AnalysisResult]] = {}
    for result in results:
        groups.setdefault(result.path, []).append(result)
    photographs = [_photograph_values(path, group) for path, group in groups.items()]
    photographs.sort(key=lambda each: -each["grade"])  # the order of the command among equals
    names = ("contact_sheet.js", "photograph_overlay.js")
    script = "\n".join(f"{{\n{(STATIC / name).read_text(encoding='utf-8')}}}" for name in names)
    styles = [
        (STATIC / name).read_text(encoding="utf-8")
        for name in ("mondrian.css", "contact_sheet.css", "photograph_overlay.css")
    ]
    means = [each["critique"].scores for each in photographs if each["critique"]]
    return render_template(
        "batch.html",
        photographs=photographs,
        advisors=sorted({result.advisor for result in results}),
        models=sorted({result.model for result in results if result.critique}),
        grade=statistics.fmean(each["grade"] for each in photographs if each["critique"]) if means else None,
        mean_scores={name: statistics.fmean(scores[name] for scores in means) for name in DIMENSIONS if means},
        modes=mode_summaries(results),
        style="\n".join(styles),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _photograph_values(path: Path, group: Sequence[AnalysisResult]) -> dict[str, Any]:
    """What the template shows of a photograph. The sheet shows the last critique of the group, as a sidecar does."""
    shown = next((result for result in reversed(group) if result.critique), group[-1])
    critique = shown.critique
    pictures = _pictures(path)
    offered = offered_crop(shown.details)
    size = (int(pictures[1]["width"]), int(pictures[1]["height"])) if pictures else None
    entries = critique.as_dict()["dimensional_analysis"] if critique else {}
    return {
        "offered": offered,
        "overlay": photograph_overlay(entries, offered["crop"] if offered else None, size) if size else None,
        "cropped": _cropped_picture(path, offered) if offered else "",
        "name": printable_path(Path(path.name)),
        "pictures": pictures,
        "results": group,
        "shown": shown,
        "critique": critique,
        "grade": grade_number(critique) if critique else -1.0,
        "weakest": min(DIMENSIONS, key=critique.scores.__getitem__) if critique else None,
        "stamp": _radar(critique, names=False),
        "radar": _radar(critique, names=True),
        "camera": camera_line(shown.camera),
        "exposure": camera_line({name: shown.camera[name] for name in EXPOSURE_FACTS if name in shown.camera}),
        "taken_at": shown.taken_at or "",
        "change": change_by_adapter(group),
    }


def _radar(critique: Critique | None, *, names: bool) -> Markup:
    """The radar of a critique; the scores stand next to it as text, so it has no label."""
    return Markup(svg_markup(radar_chart({"candidate": critique.scores}, "", names=names)) if critique else "")


def mode_summaries(results: Sequence[AnalysisResult]) -> list[dict[str, Any]]:
    """Per requested mode: photographs, failures, fallbacks, mean score (0-10), median seconds; None without data."""
    summaries = []
    for mode in dict.fromkeys(result.requested_mode for result in results):
        asked = [result for result in results if result.requested_mode == mode]
        done = [result for result in asked if result.critique is not None]
        seconds = [result.seconds for result in done if result.seconds is not None]
        means = [result.critique.mean for result in done if result.critique is not None]
        summaries.append(
            {
                "mode": mode,
                "n": len(asked),
                "failed": len(asked) - len(done),
                "fell_back": sum(result.mode != mode for result in done),
                "mean": statistics.fmean(means) if means else None,
                "seconds": statistics.median(seconds) if seconds else None,
            }
        )
    return summaries


def change_by_adapter(group: Sequence[AnalysisResult]) -> dict[str, float] | None:
    """Adapter's score minus base's score, by dimension; None unless one advisor has both."""
    if len({each.advisor for each in group}) > 1:
        return None
    adapted = next((each.critique for each in group if each.adapter_version and each.critique), None)
    base = next((each.critique for each in group if each.mode == "baseline" and each.critique), None)
    if adapted is None or base is None:
        return None
    return {name: adapted.scores[name] - base.scores[name] for name in DIMENSIONS}


def _pictures(path: Path) -> list[dict[str, Any]]:
    """A thumbnail and a larger picture as data: URLs, without metadata; none when the file can't be used."""
    try:
        image = open_photograph(path, decoded_side=PICTURE_SIDE).image
    except BadPhotograph:
        return []
    small = [downscale_to_fit(image, side) for side in (THUMBNAIL_SIDE, PICTURE_SIDE)]
    return [{"url": _data_url(each), "width": each.width, "height": each.height} for each in small]


def _cropped_picture(path: Path, offered: Mapping[str, Any]) -> str:
    """The crop as a data: URL without metadata; "" when the file or the frame can't be used."""
    frame = crop_frame(offered["crop"])
    try:
        image = open_photograph(path, decoded_side=PICTURE_SIDE).image
    except BadPhotograph:
        return ""
    return _data_url(downscale_to_fit(frame.cut_from(image), PICTURE_SIDE)) if frame else ""


def _data_url(image: Image.Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(image, quality=80)).decode()
