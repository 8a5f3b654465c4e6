"""Batch reports: many critiques as CSV, or as one self-contained HTML page."""

from __future__ import annotations

import base64
import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadPhotograph
from mondrian_core.files import write_atomic
from mondrian_core.images import downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.rubric import DIMENSIONS, int_if_whole
from mondrian_core.serving.batch_analyze import AnalysisResult
from mondrian_core.serving.http.pages import STATIC, render_template

THUMBNAIL_SIDE = 360
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = (
    "photograph",
    "advisor",
    "requested_mode",
    "mode",
    "model_used",
    "adapter_version",
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
        "photograph": str(result.path),
        "advisor": result.advisor,
        "requested_mode": result.requested_mode,
        "mode": result.mode,
        "model_used": result.model_used,
        "adapter_version": result.adapter_version,
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
    """Write a page with a summary per mode, and each photograph with its critiques side by side.

    Raises:
        DiskFull: no space is left.
    """
    groups: dict[Path, list[AnalysisResult]] = {}
    for result in results:
        groups.setdefault(result.path, []).append(result)
    photographs = [
        {
            "name": path.name,
            "picture": _thumbnail_data_url(path),
            "results": group,
            "change": change_by_adapter(group),
        }
        for path, group in groups.items()
    ]
    write_atomic(
        path,
        render_template(
            "batch.html",
            photographs=photographs,
            modes=mode_summaries(results),
            style=(STATIC / "mondrian.css").read_text(encoding="utf-8"),
        ),
    )


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


def _thumbnail_data_url(path: Path) -> str | None:
    """A small copy as a data: URL, without metadata; None when the file can't be used."""
    try:
        image = downscale_to_fit(open_photograph(path).image, THUMBNAIL_SIDE)
    except BadPhotograph:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(image, quality=80)).decode()
