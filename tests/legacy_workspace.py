"""Generates a workspace of the legacy program: its tables, ten usable critiques and sixteen unusable records.

It has the properties of a real workspace that tests rely on, so the suite needs nothing but the repository.
Photographs are rendered; names and sentences are invented.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import ANSEL, write_scene_critique
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, Critique

PORTFOLIO = "source/advisor/photographer/ansel"
FOREIGN_ROOT = "/Users/studio/dev/mondrian"  # prefix of paths that existed on another machine
EXIF_ROTATED = "harbour_neg.jpg"  # stored with its long side horizontal and an EXIF orientation of 6
USED_PHOTOGRAPHS = (
    "dunes.jpg",
    "courtyard.jpg",
    "half_dome.jpg",
    "driftwood.jpg",
    "train.jpg",
    "islands.jpg",
    "waterfall.jpg",
    EXIF_ROTATED,
    "hikers.jpg",
    "ridge.jpg",
)
PHOTOGRAPHS_WITH_FOREIGN_PATHS = (
    "dunes.jpg",
    "driftwood.jpg",
    "waterfall.jpg",
    "ridge.jpg",
)  # their rows contain a path of another machine
UNSCORED = ("tetons.jpg", "archive_print.jpg")
FIVE_DIMENSIONS = tuple(
    name for name in DIMENSIONS if name not in ("focus_sharpness", "subject_isolation", "depth_perspective")
)
CUT_ANALYSIS = '```json\n{\n  "image_description": "",\n  "dimensions": [,\n  "overall_score": null\n}\n```'
EXPECTED_COUNTS = {
    "used": 10,
    "job_not_completed": 1,
    "temporary_file": 1,
    "missing_photograph": 1,
    "empty_photograph": 1,
    "not_a_photograph": 1,
    "unparsable_answer": 5,
    "missing_dimensions": 3,
    "no_scores": 2,
    "duplicate_of": 1,
}

DDL = f"""
CREATE TABLE advisors (id TEXT PRIMARY KEY, name TEXT NOT NULL, bio TEXT NOT NULL, prompt TEXT);
CREATE TABLE jobs (id TEXT PRIMARY KEY, filename TEXT, advisor TEXT, status TEXT, analysis_markdown TEXT,
  llm_outputs TEXT, created_at TEXT, started_at TEXT, completed_at TEXT);
CREATE TABLE dimensional_profiles (id TEXT PRIMARY KEY, advisor_id TEXT NOT NULL, image_path TEXT NOT NULL,
  {", ".join(f"{name}_score REAL" for name in DIMENSIONS)},
  {", ".join(f"{name}_comment TEXT" for name in DIMENSIONS)}, overall_grade TEXT);
"""


def make_legacy_workspace(root: Path) -> None:
    """Write the workspace to the new folder `root`; all files but the database are the same bytes every time."""
    portfolio = root / PORTFOLIO
    portfolio.mkdir(parents=True)
    (root / "analysis_md").mkdir()
    rng = np.random.default_rng(1927)
    critiques = {}
    for name in USED_PHOTOGRAPHS:
        scene = sample_scene(rng)
        critiques[name] = write_scene_critique(scene, ANSEL, rng)
        _save(render_scene(scene), portfolio / name, sideways=name == EXIF_ROTATED)
    for name in UNSCORED:
        _save(render_scene(sample_scene(rng)), portfolio / name)
    for name in ("visitor.jpg", "holiday.jpg"):
        _save(render_scene(sample_scene(rng)), root / "source" / name)
    (portfolio / "moonrise.jpg").write_bytes(b"")
    (portfolio / "canyon.jpg").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    database = sqlite3.connect(root / "mondrian.db")
    with database:
        database.executescript(DDL)
        database.executemany(
            "INSERT INTO advisors VALUES (?, ?, ?, ?)",
            [
                ("ansel", "Ansel Adams", "Landscape photographer.", "You are Ansel Adams. Critique the photograph."),
                ("watkins", "Carleton Watkins", "Large-format photographer of Yosemite.", None),
            ],
        )
        _insert(database, "dimensional_profiles", [*_usable_profiles(critiques), *_unusable_profiles(critiques)])
        _insert(database, "jobs", _jobs(root / "analysis_md", critiques["dunes.jpg"]))
    database.close()


def record_id(name: str) -> str:
    """The ID of the row that this module writes for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"older workspace {name}"))


def _save(picture: Image.Image, path: Path, *, sideways: bool = False) -> None:
    exif = Image.Exif()
    if sideways:
        picture = picture.resize((480, 640)).transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6
    picture.save(path, "JPEG", quality=92, exif=exif)


def _usable_profiles(critiques: dict[str, Critique]) -> list[dict[str, Any]]:
    return [
        _profile(
            name,
            f"{FOREIGN_ROOT}/{PORTFOLIO}/{name}" if name in PHOTOGRAPHS_WITH_FOREIGN_PATHS else f"{PORTFOLIO}/{name}",
            critique,
        )
        for name, critique in critiques.items()
    ]


def _unusable_profiles(critiques: dict[str, Critique]) -> list[dict[str, Any]]:
    model = critiques["courtyard.jpg"]
    rows = [
        {**_profile("copy", f"{PORTFOLIO}/courtyard.jpg", model), "overall_grade": f"{model.overall_grade}.0"},
        _profile("temporary", "/var/folders/px/T/analyze_image_temp.jpg", model),
        _profile("empty", f"{PORTFOLIO}/moonrise.jpg", model),
        _profile("html", f"{PORTFOLIO}/canyon.jpg", model),
        _profile("missing", f"{PORTFOLIO}/does_not_exist.jpg", model),
    ]
    unscored = [
        {"id": record_id(name), "advisor_id": "ansel", "image_path": f"{PORTFOLIO}/{name}"} for name in UNSCORED
    ]
    return [*rows, *unscored]


def _profile(name: str, path: str, critique: Critique) -> dict[str, Any]:
    row: dict[str, Any] = {"id": record_id(name), "advisor_id": "ansel", "image_path": path}
    for dimension, assessment in critique.assessments.items():
        row |= {f"{dimension}_score": assessment.score, f"{dimension}_comment": assessment.comment}
    return {**row, "overall_grade": critique.overall_grade}


def _jobs(analyses: Path, critique: Critique) -> list[dict[str, Any]]:
    """Five truncated answers, three answers with only five dimensions, and one job that never completed."""
    rows = []
    for number, text in enumerate([CUT_ANALYSIS] * 5 + [_with_five_dimensions(critique)] * 3):
        identity, at = record_id(f"job {number}"), f"2026-01-{10 + number}T09:0{number}:0"
        name = f"analysis-ansel-{identity}.md"
        (analyses / name).write_text(text)
        rows.append(
            {
                "id": identity,
                "filename": "visitor.jpg",
                "status": "completed",
                "analysis_markdown": name,
                "created_at": f"{at}0",
                "started_at": f"{at}0",
                "completed_at": f"{at}7",
            }
        )
    stuck = {
        "id": "stuck",
        "filename": "holiday.jpg",
        "status": "analyzing",
        "created_at": "2026-01-19T10:00:00",
        "started_at": "2026-01-19T10:00:01",
    }
    return [{"advisor": "ansel", **row} for row in [*rows, stuck]]


def _with_five_dimensions(critique: Critique) -> str:
    dimensions = [
        {
            "name": DIMENSION_TITLES[name],
            "score": critique.assessments[name].score,
            "comment": critique.assessments[name].comment,
            "recommendation": "Return at another hour.",
        }
        for name in FIVE_DIMENSIONS
    ]
    answer = {
        "image_description": "",
        "dimensions": dimensions,
        "overall_score": 7.5,
        "key_strengths": [],
        "priority_improvements": [],
        "technical_notes": "",
    }
    return f"```json\n{json.dumps(answer, indent=2)}\n```"


def _insert(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        names = ", ".join(row)
        database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
