"""The history, two critiques compared, and the pages of photographs, as answers of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.history_routes import PAGE_SIZE
from mondrian_core.serving.http.service import Service
from mondrian_core.store import DimensionalProfile, Job, Store

PAGE = {"Accept": "text/html"}
SHA = "ab" * 32


def job(number: int, **values: Any) -> Job:
    moment = f"2026-03-01T12:{number // 60:02}:{number % 60:02}.000000"
    entries = {name: {"score": 1 + number % 9, "comment": f"remark {number}"} for name in DIMENSIONS}
    facts: dict[str, Any] = {
        "filename": f"frame-{number}.jpg",
        "advisor": "ansel",
        "status": "completed",
        "mode": "baseline",
        "model_used": "base",
        "completed_at": moment,
        "answer": {"dimensional_analysis": entries, "overall_grade": f"{1 + number % 9}.0"},
    }
    return Job(id=f"job-{number}", **{**facts, **values})


@pytest.fixture
def client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    with TestClient(create_app(make_service("base")), base_url="http://localhost") as found:
        yield found


def test_history_has_every_critique_once_over_its_pages(client: TestClient, settings: Any) -> None:
    with Store(settings.database) as store:
        store.import_jobs(job(number) for number in range(2 * PAGE_SIZE + 3))
    seen = [
        each["job_id"]
        for page in (1, 2, 3)
        for each in client.get("/critiques", params={"page": page}).json()["critiques"]
    ]
    assert seen == [f"job-{number}" for number in reversed(range(2 * PAGE_SIZE + 3))]
    last = client.get("/critiques?page=999&q=frame", headers=PAGE).text
    assert "97 to 99 of 99" in last and 'rel="next"' not in last
    assert 'href="/critiques?q=frame&amp;page=2"' in last, "a page keeps the search"


def test_empty_fields_of_the_form_are_no_conditions_and_wrong_ones_are_problems(
    client: TestClient, settings: Any
) -> None:
    with Store(settings.database) as store:
        store.import_jobs([job(1)])
    form = (
        "q=&advisor=&order=newest&dimension=&lowest=&highest=&since=&until=&mode=&rating=&corrected=&status=completed"
    )
    assert client.get(f"/critiques?{form}").json()["total"] == 1
    for wrong in ("lowest=high", "since=yesterday", "rating=6", "order=random", "page=0", "lowest=nan"):
        answer = client.get(f"/critiques?{wrong}")
        name, _, value = wrong.partition("=")
        assert answer.status_code == 422, wrong
        told = answer.json()["detail"]  # says what is wrong and what was given, in words of the page
        assert told.startswith(f"{name}: ") and f"not '{value}'" in told and "Input" not in told, told
        assert "parse" not in told and told.endswith("/docs lists what each address takes."), told


def test_names_and_searches_with_markup_stay_text(client: TestClient, settings: Any) -> None:
    evil = '"><img src=x onerror=alert(1)>'
    with Store(settings.database) as store:
        store.import_jobs([job(1, filename=evil, photograph_sha256=SHA)])
    for path in (f"/critiques?q={evil}", f"/photographs?q={evil}", f"/photographs/{SHA}", "/"):
        page = client.get(path, headers=PAGE)
        assert page.status_code == 200 and "<img src=x" not in page.text, path
        assert "img src=x onerror=alert(1)&gt;" in page.text, path


def test_comparison_shows_both_and_their_differences(client: TestClient, settings: Any) -> None:
    with Store(settings.database) as store:
        store.import_jobs([job(1), job(4), job(5, status="failed", answer=None)])
    page = client.get("/critiques/compare?id=job-1&id=job-4", headers=PAGE).text
    assert "The second grade is 3.0 higher than the first." in page
    assert page.count(">+3</span>") == len(DIMENSIONS)
    assert 'class="arm first"' in page and 'class="arm second"' in page
    for wrong, status in (("id=job-1", 422), ("id=job-1&id=job-5", 422), ("id=job-1&id=none", 404), ("", 422)):
        assert client.get(f"/critiques/compare?{wrong}", headers=PAGE).status_code == status, wrong


def test_photograph_has_critiques_by_models_and_by_people(client: TestClient, settings: Any) -> None:
    written = DimensionalProfile(
        id="mine",
        advisor="ansel",
        image_path="source/frame-1.jpg",
        scores=dict.fromkeys(DIMENSIONS, 9.0),
        comments=dict.fromkeys(DIMENSIONS, "by hand"),
        overall_grade="9.0",
    )
    withdrawn = DimensionalProfile(
        id="gone",
        advisor="ansel",
        image_path="source/frame-1.jpg",
        scores={},
        comments={},
        overall_grade=None,
        details={"withdrawn": True},
    )
    with Store(settings.database) as store:
        store.import_jobs([job(1, photograph_sha256=SHA), job(2, photograph_sha256="cd" * 32)])
        for profile in (written, withdrawn):
            store.save_profile(profile)
    listed = {each["name"]: each for each in client.get("/photographs").json()["photographs"]}
    assert (listed["frame-1.jpg"]["model_critiques"], listed["frame-1.jpg"]["written_critiques"]) == (1, 1)
    critiques = client.get(f"/photographs/{SHA}").json()["critiques"]
    assert [(each["by"], each["overall_grade"]) for each in critiques] == [("a person", "9.0"), ("base model", "2.0")]
    page = client.get(f"/photographs/{SHA}", headers=PAGE).text
    assert "by hand" in page and "remark 1" in page and "remark 2" not in page
    assert client.get("/photographs?critiques=without").json()["total"] == 0
    assert client.get("/photographs?critiques=written").json()["total"] == 1
    told = client.get("/critiques", headers=PAGE).text
    assert 'href="/photographs?critiques=written"' in told and "People wrote about 1 photograph:" in told
    assert client.get("/photographs?q=FRAME-2&advisor=ansel").json()["total"] == 1
    assert client.get("/photographs?portfolio=yes").json()["total"] == 0
    assert client.get(f"/photographs/{'0' * 64}", headers=PAGE).status_code == 404
    assert client.get("/photographs/../../etc", headers=PAGE).status_code in (404, 422)
