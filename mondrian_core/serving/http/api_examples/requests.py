"""Examples of requests: parameters and bodies of the routes.

tests/serving/http/test_http_examples.py sends each of them to a real service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.api_examples.sample_values import (
    CANDIDATE,
    CHAMPION,
    COMMENTS,
    GROUP_ID,
    JOB_ID,
    OTHER_JOB_ID,
    OTHER_RUN,
    RUN,
    SCORES,
    SHA256,
)

JSON, MULTIPART, FORM = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
PHOTOGRAPH, CRITIQUE_FILE = "photo.jpg", "critiques.csv"  # files that an example sends
DATA_URL, TOKEN = "data:image/jpeg;base64,BASE64", "TOKEN"
DIGEST, MANIFEST = "DIGEST", "SHA256"  # which the page shows

# of every route whose path has it
PATH_PARAMETERS: Mapping[str, Any] = {
    "job_id": JOB_ID,
    "dimension": "lighting",
    "group_id": GROUP_ID,
    "sha256": SHA256,
    "advisor": "ansel",
    "version": CANDIDATE,
    "first": CHAMPION,
    "second": CANDIDATE,
    "run": RUN,
    "model": "ansel",
    "number": 1,
}
_OF_ANSEL = {"advisor": "ansel"}
QUERIES: Mapping[str, Mapping[str, Any]] = {
    "GET /history": _OF_ANSEL,
    "GET /start": _OF_ANSEL,
    "GET /photographs": {"advisor": "ansel", "critiques": "without"},
    "GET /photographs/import": _OF_ANSEL,
    "GET /photographs/{sha256}/thumbnail": {"side": 640},
    "GET /write": _OF_ANSEL,
    "GET /write/{sha256}": _OF_ANSEL,
    "PUT /write/{sha256}/entry": _OF_ANSEL,
    "POST /write/{sha256}/critique": _OF_ANSEL,
    "POST /write/{sha256}/undo": _OF_ANSEL,
    "PUT /write/{sha256}/state": _OF_ANSEL,
    "POST /write/{sha256}/draft": _OF_ANSEL,
    "GET /write/{sha256}/similar": _OF_ANSEL,
    "GET /write/{sha256}/pixels": _OF_ANSEL,
    "GET /registry/{advisor}/diff": {"first": CHAMPION, "second": CANDIDATE},
    "GET /runs/compare": {"run": [RUN, OTHER_RUN]},
    "GET /drift": _OF_ANSEL,
    "GET /compare": {"days": 7},
    "GET /schema": {"form": "advice"},
    "GET /critiques": {"advisor": "ansel", "lowest": 7, "order": "best"},
    "GET /critiques/compare": {"id": [JOB_ID, OTHER_JOB_ID]},
    "GET /critiques/export": {"advisor": "ansel", "format": "csv"},
    "GET /login": {"next": "/write"},
}
_CRITIQUE = {
    name: {"score": score, "comment": comment}
    for name, score, comment in zip(DIMENSIONS, SCORES, COMMENTS, strict=True)
}
_CHANGE = {"champion": CHAMPION, "champion_manifest": MANIFEST, "shown": DIGEST}
BODIES: Mapping[str, Mapping[str, Any]] = {
    "POST /analyze": {
        MULTIPART: {"image": PHOTOGRAPH, "advisor": "ansel"},
        JSON: {"path": "source/photo.jpg", "advisor": "ansel"},
    },
    "POST /jobs/{job_id}/rating": {JSON: {"rating": 4}},
    "POST /jobs/{job_id}/recommendations/{dimension}/judgement": {JSON: {"useful": True}},
    "POST /jobs/{job_id}/crop/decision": {JSON: {"accepted": True}},
    "POST /jobs/{job_id}/correction": {JSON: {"dimensional_analysis": _CRITIQUE}},
    "POST /advisors": {JSON: {"name": "Edward Weston", "bio": "Forms, close and sharp."}},
    "PATCH /advisors/{advisor}": {JSON: {"bio": "Black and white landscapes."}},
    "POST /advisors/{advisor}": {FORM: {"name": "Ansel Adams", "bio": "Black and white landscapes.", "prompt": ""}},
    "POST /start/training": {FORM: _OF_ANSEL},
    "POST /v1/chat/completions": {
        JSON: {
            "model": "ansel",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URL}}]},
            ],
        }
    },
    "POST /photographs": {MULTIPART: {"photographs": [PHOTOGRAPH], "advisor": "ansel"}},
    "POST /preview": {MULTIPART: {"image": PHOTOGRAPH}},
    "PUT /write/{sha256}/entry": {
        JSON: {"revision": 0, "entry": {"dimensions": {"composition": _CRITIQUE["composition"]}}}
    },
    "POST /write/{sha256}/critique": {JSON: {"revision": 1, "entry": {"dimensions": _CRITIQUE}}},
    "PUT /write/{sha256}/state": {JSON: {"state": "skipped"}},
    "POST /critiques/import": {MULTIPART: {"file": [CRITIQUE_FILE], "advisor": "ansel", "dry_run": "1"}},
    "POST /registry/{advisor}/{version}/promote": {
        FORM: {**_CHANGE, "reason": "better words", "confirmation": CANDIDATE, "force": "yes", "person": "Vera"}
    },
    "POST /registry/{advisor}/rollback": {FORM: {**_CHANGE, "reason": "too kind", "person": "Vera"}},
    "POST /login": {FORM: {"token": TOKEN, "next": "/write"}},
}
