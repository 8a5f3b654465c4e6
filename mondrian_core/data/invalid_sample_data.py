"""Invalid rows and files for the sample workspace, one of each kind that real workspaces contain."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, Critique
from mondrian_core.store import COMPLETED, FAILED, DimensionalProfile, Job

if TYPE_CHECKING:
    from mondrian_core.mini.scene import Scene

EMPTY_FILE, HTML_FILE, TRUNCATED_FILE, MISSING_FILE = (
    "moonlight.jpg",
    "grand_view.jpg",
    "half_loaded.jpg",
    "does_not_exist.jpg",
)
UNSCORED = ("portfolio_001.jpg", "portfolio_002.jpg")
_FIVE = ("composition", "lighting", "color_harmony", "visual_balance", "emotional_impact")
_CUT_ANALYSIS = '```json\n{\n  "image_description": "",\n  "dimensions": [,\n  "overall_score": null\n}\n```\n'


def write_invalid_files(folder: Path, unscored: Sequence[bytes]) -> None:
    """Write the files that `invalid_profiles` refers to into the portfolio; `unscored` are JPEGs for `UNSCORED`."""
    (folder / EMPTY_FILE).write_bytes(b"")
    (folder / HTML_FILE).write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    (folder / TRUNCATED_FILE).write_bytes(unscored[0][: len(unscored[0]) // 2])
    for name, jpeg in zip(UNSCORED, unscored, strict=True):
        (folder / name).write_bytes(jpeg)


def invalid_profiles(good: Sequence[DimensionalProfile], folder: str) -> list[DimensionalProfile]:
    """Rows that linking excludes, each for a different reason; `good` are the usable rows."""
    if not good:
        return []
    model, other = good[0], good[-1]
    fine, ok = dict.fromkeys(DIMENSIONS, "fine"), dict.fromkeys(DIMENSIONS, "ok")
    eights, none = dict.fromkeys(DIMENSIONS, 8.0), dict.fromkeys(DIMENSIONS, None)
    earlier = {name: max(0.0, score - 1.0) for name, score in other.scores.items()}
    rows = {
        "temporary": replace(model, image_path="/var/folders/px/T/analyze_image_temp.jpg", comments=ok),
        "empty": replace(model, image_path=f"{folder}/{EMPTY_FILE}", scores=eights, comments=fine),
        "html": replace(model, image_path=f"{folder}/{HTML_FILE}", scores=eights, comments=fine),
        "cut": replace(model, image_path=f"{folder}/{TRUNCATED_FILE}"),
        "missing": replace(model, image_path=f"{folder}/{MISSING_FILE}", scores=eights, comments=fine),
        "outside": replace(model, image_path="../../holiday/beach.jpg"),
        "duplicate": replace(model, overall_grade=f"{model.overall_grade}.0"),
        "superseded": replace(other, scores=earlier, created_at="2025-12-01T08:00:00"),
        "out of range": replace(other, scores={**other.scores, "lighting": 85.0}),
        "seven": replace(other, scores={**other.scores, "visual_balance": None}),
        "silent": replace(other, comments={**other.comments, "composition": ""}),
        "placeholders": replace(other, comments=fine),
    }
    for name in UNSCORED:
        rows[name] = replace(model, image_path=f"{folder}/{name}", scores=none, comments={}, overall_grade=None)
    return [replace(row, id=_id(name)) for name, row in rows.items()]


def past_jobs(
    visitors: Sequence[tuple[str, Scene]], analyses: Path, rng: np.random.Generator, began: datetime
) -> list[Job]:
    """Jobs of an earlier model: complete, with five dimensions, truncated, without a file, stuck, failed."""
    from mondrian_core.mini.scene_critic import GENERIC, write_scene_critique

    kinds = ("complete", "complete", "five", "five", "cut", "cut", "cut", "lost", "stuck", "failed")
    jobs = []
    for number, (kind, (path, scene)) in enumerate(zip(kinds, visitors, strict=False)):
        identity = _id(f"job {number}")
        created = began + timedelta(days=20, hours=number)
        job = Job(
            id=identity,
            filename=Path(path).name,
            advisor="ansel",
            status=COMPLETED,
            analysis_markdown=f"analysis-ansel-{identity}.md",
            llm_outputs=None,
            created_at=created.isoformat(),
            started_at=created.isoformat(),
            completed_at=(created + timedelta(seconds=47)).isoformat(),
        )
        if kind in ("stuck", "failed"):
            status = "analyzing" if kind == "stuck" else FAILED
            job = replace(job, status=status, analysis_markdown=None, completed_at=None)
        elif kind != "lost":
            text = (
                _CUT_ANALYSIS
                if kind == "cut"
                else _older_form(write_scene_critique(scene, GENERIC, rng), kind == "five")
            )
            (analyses / str(job.analysis_markdown)).write_text(text)
        jobs.append(job)
    return jobs


def _older_form(critique: Critique, five: bool) -> str:
    """The analysis file of an earlier release: a fenced block with a list of dimensions."""
    dimensions = [
        {
            "name": DIMENSION_TITLES[name],
            "score": critique.assessments[name].score,
            "comment": critique.assessments[name].comment,
            "recommendation": "Go back at another hour.",
        }
        for name in (_FIVE if five else DIMENSIONS)
    ]
    answer = {
        "image_description": "",
        "dimensions": dimensions,
        "overall_score": float(critique.overall_grade),
        "key_strengths": [],
        "priority_improvements": [],
        "technical_notes": "",
    }
    return f"```json\n{json.dumps(answer, indent=2)}\n```\n"


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"mondrian sample {name}"))
