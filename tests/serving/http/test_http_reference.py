"""The forms of answers in docs/reference/http.md are those of the service."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from tests.architecture.reference.http_answers import ANSWERS, differs, shown_form


def test_answers_have_the_documented_form(
    make_service: Callable[..., Service], promote: Callable[[str | None], None], photograph: Callable[..., bytes]
) -> None:
    promote("v0001")
    client = TestClient(create_app(make_service(records=True)), base_url="http://localhost")
    picture = ("a.jpg", photograph(3))
    sha256 = hashlib.sha256(picture[1]).hexdigest()
    answers = {
        "POST /photographs": client.post("/photographs", files=[("photographs", picture)], data={"advisor": "ansel"}),
        "POST /analyze": client.post(
            "/analyze", files={"image": picture}, data={"advisor": "ansel"}, headers={"Prefer": "respond-async"}
        ),
        "POST /advisors": client.post("/advisors", json={"name": "New One"}),
        "PATCH /advisors/{advisor}": client.patch("/advisors/ansel", json={"bio": "Landscapes"}),
        "GET /critiques": client.get("/critiques?status=queued"),
        "GET /write": client.get("/write?advisor=ansel"),
        "GET /write/{sha256}": client.get(f"/write/{sha256}?advisor=ansel"),
        "GET /write/{sha256}/similar": client.get(f"/write/{sha256}/similar?advisor=ansel"),
        "PUT /write/{sha256}/entry": client.put(
            f"/write/{sha256}/entry?advisor=ansel", json={"revision": 0, "entry": {}}
        ),
        "PUT /write/{sha256}/state": client.put(f"/write/{sha256}/state?advisor=ansel", json={"state": "skipped"}),
        "GET /start": client.get("/start?advisor=ansel"),
        "GET /advisors/{advisor}": client.get("/advisors/ansel"),
        "GET /registry/{advisor}": client.get("/registry/ansel"),
        "GET /registry/{advisor}/{version}": client.get("/registry/ansel/v0001"),
        "GET /registry/{advisor}/diff/{first}/{second}": client.get("/registry/ansel/diff/v0001/v0002"),
        "GET /v1/models/{model}": client.get("/v1/models/ansel"),
    }
    job = answers["POST /analyze"].json()["job_id"]
    answers["GET /jobs/{job_id}"] = client.get(f"/jobs/{job}")
    answers["POST /jobs/{job_id}/cancel"] = client.post(f"/jobs/{job}/cancel")
    for name in ANSWERS.keys() - answers.keys():
        answers[name] = client.get(name.removeprefix("GET "))
    assert {name for name, answer in answers.items() if answer.status_code >= 400} <= {"GET /health"}
    found = {name: differs(ANSWERS[name], answer.json()) for name, answer in answers.items()}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ({"total": 1, "items": [{"a": 1, "b": 2}]}, []),
        ({"total": 1, "items": []}, []),
        ({"total": 1, "items": [{"a": 1}]}, [".items[].b"]),
        ({"items": [], "more": 1}, [".more", ".total"]),
        ([], [": list"]),
    ],
)
def test_an_answer_of_another_form_is_found(value: object, places: list[str]) -> None:
    form = {"total": "", "items": ["a b"]}
    assert differs(form, value) == places
    assert shown_form(form) == "{total, items: [{a, b}]}"
