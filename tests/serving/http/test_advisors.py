"""The page and the routes of advisors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service

HTML = {"Accept": "text/html"}


@pytest.fixture
def client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    with TestClient(create_app(make_service("base")), base_url="http://localhost", follow_redirects=False) as found:
        yield found


def test_form_adds_an_advisor_and_leads_to_its_page(client: TestClient) -> None:
    form = {"name": "Vivian <b>Maier</b>", "id": "", "bio": "Streets & shadows.", "prompt": ""}
    answer = client.post("/advisors", data=form)
    assert answer.status_code == 303 and answer.headers["Location"] == "/advisors/vivian-b-maier-b"
    page = client.get(answer.headers["Location"], headers=HTML).text
    assert "Vivian &lt;b&gt;Maier&lt;/b&gt;" in page and "<b>Maier" not in page
    assert "You are Vivian" in page and "Streets &amp; shadows." in page
    assert "/advisors/vivian-b-maier-b" in client.get("/advisors", headers=HTML).text


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"name": "Ansel", "id": "ansel"}, "is taken by Ansel Adams"),
        ({"name": "森山大道"}, "No ID can be derived"),
        ({"name": "X", "id": "../x"}, "not a valid advisor ID"),
        ({"name": ""}, "name is empty"),
        ({}, "name is empty"),
    ],
)
def test_refused_form_keeps_what_was_typed(form: dict[str, str], why: str, client: TestClient) -> None:
    answer = client.post("/advisors", data={**form, "bio": "typed before"})
    assert answer.status_code == 422
    assert why in answer.text.replace("&#39;", "'") and 'role="alert"' in answer.text and "typed before" in answer.text
    assert len(client.get("/advisors").json()) == 2


def test_edit_form_changes_prompts_and_json_does_the_same(client: TestClient) -> None:
    form = {"name": "Ansel Adams", "bio": "Landscapes.", "prompt": "You judge prints."}
    answer = client.post("/advisors/ansel", data=form)
    assert answer.status_code == 200 and "Saved." in answer.text and "You judge prints." in answer.text
    refused = client.post("/advisors/ansel", data={**form, "prompt": "<|im_start|>"})
    assert refused.status_code == 422 and "&lt;|im_start|&gt;" in refused.text
    changed = client.patch("/advisors/ansel", json={"prompt": ""}).json()
    assert changed["prompt_changed"] and changed["system_message"] == "You are Ansel Adams. Landscapes."
    made = client.post("/advisors", json={"name": "Weegee"})
    assert made.status_code == 201 and made.headers["Location"] == "/advisors/weegee"
    assert made.json()["critiques"] == 0 and made.json()["active_version"] is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"name": 1}', b'{"name": "x", "age": 3}', b"\xff", b'{"name": "\\ud800"}']
)
def test_bad_json_is_a_problem(body: bytes, client: TestClient) -> None:
    answer = client.post("/advisors", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"


def test_unknown_advisor_is_a_problem(client: TestClient) -> None:
    for answer in (client.get("/advisors/nobody"), client.patch("/advisors/nobody", json={})):
        assert answer.status_code in (404, 422) and "There is no advisor 'nobody'" in answer.json()["title"]
