"""One photograph by several advisors: all rows or none, one ID, and a page with the critiques side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.advisors import add_advisor
from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import Settings
from mondrian_core.store import Store

Make = Callable[..., Service]
Photograph = Callable[..., bytes]


def scored(lighting: int) -> str:
    """An answer whose scores are 5, but for the lighting."""
    scores = {**dict.fromkeys(DIMENSIONS, 5), "lighting": lighting}
    return canonical_answer(make_critique(scores, dict.fromkeys(DIMENSIONS, "<b>plain</b> words of some length")))


@pytest.fixture
def client(make_service: Make) -> Any:
    with TestClient(create_app(make_service()), base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


def send(client: TestClient, data: bytes, advisor: Any, **headers: str) -> Any:
    return client.post("/analyze", files={"image": ("a.jpg", data)}, data={"advisor": advisor}, headers=headers)


def test_all_advisors_critique_one_photograph(
    client: TestClient, photograph: Photograph, control: Callable[..., None], settings: Settings
) -> None:
    control(texts=[scored(3), scored(8)])
    answer = send(client, photograph(), "all")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["advisors"] == ["ansel", "dorothea"] and body["status"] == "completed"
    assert body["spread"]["lighting"] == {"scores": {"ansel": 3.0, "dorothea": 8.0}, "mean": 5.5, "range": 5.0}
    assert client.get(body["links"]["self"]).json() == body
    assert {job["group"] for job in body["jobs"]} == {body["group_id"]}
    assert all(client.get(job["links"]["self"]).json() == job for job in body["jobs"])
    assert client.get(body["links"]["photograph"]).headers["content-type"] == "image/jpeg"
    with Store(settings.database, read_only=True) as store:
        assert [job.id for job in store.jobs()] == [f"{body['group_id']}-{number}" for number in (1, 2)]
    page = client.get(body["links"]["self"], headers={"Accept": "text/html"}).text
    assert "They differ most on lighting: 5 points apart." in page
    assert "Ansel Adams" in page and "Dorothea Lange" in page and "<b>plain" not in page


@pytest.mark.parametrize("listed", [["dorothea"], ["dorothea", "ansel", "dorothea"]])
def test_a_json_list_names_the_advisors(client: TestClient, listed: list[str]) -> None:
    body = client.post("/analyze", json={"path": "one.jpg", "advisor": listed}).json()
    assert body["advisors"] == list(dict.fromkeys(listed))


def test_a_repeated_form_field_names_the_advisors_and_one_stays_one_job(
    client: TestClient, photograph: Photograph
) -> None:
    assert send(client, photograph(), ["ansel", "dorothea"]).json()["advisors"] == ["ansel", "dorothea"]
    single = send(client, photograph(), "ansel").json()
    assert "group_id" not in single and single["group"] is None


@pytest.mark.parametrize(
    ("advisor", "says"),
    [
        (["ansel", "nobody"], "no advisor 'nobody'"),
        (["all", "ansel"], "includes every advisor"),
        ([], "The list of advisors is empty."),
        (["ansel", 7], "not a string"),
        (["../x", "ansel"], "not a valid advisor ID"),
    ],
)
def test_wrong_advisors_add_no_row(client: TestClient, advisor: list[Any], says: str, settings: Settings) -> None:
    answer = client.post("/analyze", json={"path": "one.jpg", "advisor": advisor})
    assert answer.status_code == 422 and says in answer.text, answer.text
    with Store(settings.database, read_only=True) as store:
        assert list(store.jobs()) == []


def test_a_group_waits_with_its_location(
    client: TestClient, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(hang=5.0)  # longer than the page takes on a busy machine
    answer = send(client, photograph(), "all", Prefer="respond-async")
    assert answer.status_code == 202 and answer.headers["Location"] == answer.json()["links"]["self"]
    assert "0 of 2 critiques are ready" in client.get(answer.headers["Location"] + "?format=html").text
    canceled = client.post(f"{answer.headers['Location']}/cancel")
    assert canceled.status_code == 202


def test_a_key_answers_with_the_same_group_and_refuses_another(client: TestClient, photograph: Photograph) -> None:
    key = {"Idempotency-Key": "once"}
    first = send(client, photograph(), "all", **key).json()
    assert send(client, photograph(), "all", **key).json() == first
    fewer = client.post(
        "/analyze", files={"image": ("a.jpg", photograph())}, data={"advisor": ["ansel", "other"]}, headers=key
    )
    assert fewer.status_code == 422
    listed = client.post("/analyze", json={"path": "one.jpg", "advisor": ["ansel"]}, headers=key)
    assert listed.status_code == 422 and "idempotency key" in listed.text


def test_a_queue_without_places_for_all_takes_none(
    make_service: Make, photograph: Photograph, settings: Settings
) -> None:
    service = make_service(longest_queue=1)
    with TestClient(create_app(service), base_url="http://localhost") as client:
        answer = send(client, photograph(), "all")
        assert answer.status_code == 422 and "2 advisors are more than the queue of 1 holds" in answer.text
    with Store(settings.database, read_only=True) as store:
        assert list(store.jobs()) == []


def test_one_failed_advisor_leaves_the_others(
    client: TestClient, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(texts=["nonsense", "nonsense", scored(8)])
    body = send(client, photograph(), "all").json()
    assert [job["status"] for job in body["jobs"]] == ["failed", "completed"] and body["status"] == "completed"
    assert body["spread"] == {}
    page = client.get(body["links"]["self"], headers={"Accept": "text/html"})
    assert page.status_code == 200 and "failed</span>" in page.text


@pytest.mark.parametrize("group", ["g" + "0" * 32, "nothing", "..%2f..%2fx"])
def test_an_unknown_group_is_not_found(client: TestClient, group: str) -> None:
    assert client.get(f"/groups/{group}").status_code in (404, 422)


def test_no_advisor_can_be_called_all(settings: Settings) -> None:
    with Store(settings.database) as store, pytest.raises(BadInput, match="stands for all advisors"):
        add_advisor(store, "All")
