"""Answers about advisors, photographs and critiques that a person writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.api_examples.sample_values import (
    ANALYSIS,
    BY_DIMENSION,
    CHAMPION,
    COMMENTS,
    JOB_ID,
    SCORES,
    SHA256,
    TIME,
    ByKey,
)

_COUNTS = {
    "photographs": 64,
    "critiques": 48,
    "versions": 4,
    "active_version": CHAMPION,
    "other_critiques": 0,
    "own_photographs": 12,
}
_ADVISOR = {
    "id": "ansel",
    "name": "Ansel Adams",
    "bio": "Black and white landscapes.",
    "prompt": None,
    "system_message": "You are Ansel Adams. Black and white landscapes.",
    **_COUNTS,
}
_PHOTOGRAPH_CRITIQUE = {
    "advisor": "Ansel Adams",
    "by": f"adapter {CHAMPION}",
    "at": TIME,
    "overall_grade": "7.9",
    "scores": BY_DIMENSION,
    "rating": 4,
    "link": f"/jobs/{JOB_ID}?format=html",
}
_ENTRY = {
    "dimensions": ByKey(
        {
            name: {"score": score, "comment": comment, "recommendation": ""}
            for name, score, comment in zip(DIMENSIONS, SCORES, COMMENTS, strict=True)
        }
    ),
    "strengths": "",
    "priority_improvements": "",
    "notes": "",
}
_WRITING = {
    "photograph": SHA256,
    "advisor": "ansel",
    "entry": _ENTRY,
    "revision": 2,
    "state": "open",
    "draft_seen": False,
    "updated_at": TIME,
}
_NEXT = {
    "photograph": SHA256,
    "why": "It is the most typical photograph; the next ones will differ from it.",
    "url": f"/write/{SHA256}?advisor=ansel",
}
_PROGRESS = {
    "critiques": 48,
    "deciding": 9,
    "by_folds": False,
    "more_to_decide": 0,
    "more_to_show": 5,
    "sentence": "48 critiques. The gates can decide about an adapter's scores.",
}
_SEEN = {"critiques": 6, "mean": 0.4, "interval": [0.1, 0.7]}
WRITING_ANSWERS: Mapping[str, Any] = {
    "GET /advisors": [
        {"id": "ansel", "name": "Ansel Adams", "bio": "Black and white landscapes.", "adapter_version": CHAMPION}
    ],
    "GET /advisors/{advisor}": _ADVISOR,
    "POST /advisors": _ADVISOR,
    "PATCH /advisors/{advisor}": {**_ADVISOR, "prompt_changed": True},
    "GET /start": {
        "advisor": "ansel",
        "counts": {"advisor": "ansel", **_COUNTS},
        "recipe": None,
        "retraining": None,
        "steps": [
            {"key": "advisor", "state": "done", "text": "Ansel Adams (ansel)", "next_step": "", "title": "Advisor"}
        ],
        "current": "serve",
    },
    "GET /photographs": {
        "total": 64,
        "photographs": [
            {
                "sha256": SHA256,
                "name": "river.jpg",
                "advisors": ["ansel"],
                "portfolio": False,
                "model_critiques": 2,
                "written_critiques": 1,
                "latest": TIME,
                "links": {
                    "self": f"/photographs/{SHA256}",
                    "thumbnail": f"/photographs/{SHA256}/thumbnail?side=640",
                },
            }
        ],
    },
    "GET /photographs/{sha256}": {
        "sha256": SHA256,
        "name": "river.jpg",
        "taken_at": "2026-10-17T17:02:11",
        "camera": {},
        "critiques": [_PHOTOGRAPH_CRITIQUE],
    },
    "POST /photographs": {
        "advisor": "ansel",
        "imported?": 1,
        "files": [
            {
                "file": "river.jpg",
                "outcome": "imported",
                "path": "source/photographs/ansel/river.jpg",
                "sha256": SHA256,
            }
        ],
    },
    "GET /photographs/recording": {"at_work": True, "done?": 120, "total?": 400},
    "GET /write": {
        "next": _NEXT,
        "progress": {**_PROGRESS, "anchoring": {"seen": _SEEN, "unseen": _SEEN, "sentence": "Anchoring: 0.0 points."}},
    },
    "GET /write/{sha256}": _WRITING,
    "PUT /write/{sha256}/entry": _WRITING,
    "POST /write/{sha256}/critique": {**_WRITING, "profile": "p-1", "next": _NEXT, "progress": _PROGRESS},
    "POST /write/{sha256}/undo": _WRITING,
    "PUT /write/{sha256}/state": {**_WRITING, "next": _NEXT},
    "POST /write/{sha256}/draft": {
        "status": "completed",
        "draft?": ByKey(ANALYSIS),
        **{f"{key}?": value for key, value in _WRITING.items()},
    },
    "GET /write/{sha256}/similar": {
        "compared_by": "embedding",
        "photographs": [
            {
                "sha256": SHA256,
                "name": "river.jpg",
                "similarity": 0.83,
                "grade": "7.9",
                "scores": BY_DIMENSION,
                "comments": ByKey(dict(zip(DIMENSIONS, COMMENTS, strict=True))),
            }
        ],
    },
}
