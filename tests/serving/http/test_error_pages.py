"""Errors are pages for browsers and problem details for programs, wherever in the service they arise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.errors import DatabaseBusy
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.problem_details import PROBLEM_MEDIA_TYPE
from mondrian_core.serving.http.responses import parse_accept_header, prefers_html
from mondrian_core.serving.http.service import Service

PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}  # Chromium's
Answer = tuple[str, str, dict[str, Any]]
ERRORS: dict[int, Answer] = {
    404: ("GET", "/nothing/here", {}),
    405: ("DELETE", "/", {}),
    413: ("POST", "/analyze", {"headers": {"Content-Length": "99999999999"}, "content": b"x"}),
    415: ("POST", "/analyze", {"files": {"image": ("x.jpg", b"no photograph")}, "data": {"advisor": "ansel"}}),
    422: ("GET", "/compare?days=many", {}),
    401: ("GET", "/", {"headers": {"Host": "evil.example"}}),
}


@pytest.fixture
def client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    with TestClient(
        create_app(make_service("base")), base_url="http://localhost", raise_server_exceptions=False
    ) as found:
        yield found


def ask(client: TestClient, status: int, **headers: str) -> Any:
    method, path, options = ERRORS[status]
    given_headers = {**options.get("headers", {}), **headers}
    return client.request(method, path, **{**options, "headers": given_headers})


@pytest.mark.parametrize("status", ERRORS)
def test_error_is_a_page_or_a_problem_with_the_same_status_and_words(client: TestClient, status: int) -> None:
    problem, page = ask(client, status), ask(client, status, **PAGE)
    assert (problem.status_code, page.status_code) == (status, status)
    assert problem.headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert escape(problem.json()["title"]).replace("&#x27;", "&#39;") in page.text
    assert page.text.count("<h1>") == 1 and 'class="button primary"' in page.text, "says what to do next"
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("/secret/path"), 500), (DatabaseBusy("x.db"), 503)])
def test_failing_route_is_a_page_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Service, "job", fail)
    page, problem = client.get("/jobs/x", headers=PAGE), client.get("/jobs/x")
    assert (page.status_code, problem.status_code) == (status, status)
    assert page.headers["content-type"].startswith("text/html") and "/secret/path" not in page.text
    assert problem.headers["content-type"] == PROBLEM_MEDIA_TYPE
    for answer in (page, problem):
        assert answer.headers["x-content-type-options"] == "nosniff", "an unexpected error has these headers too"


def test_text_of_a_request_never_becomes_markup(client: TestClient) -> None:
    page = client.get("/jobs/<img src=x onerror=alert(1)>", headers=PAGE)
    assert page.status_code == 404
    assert "<img src=x" not in page.text and "&lt;img src=x onerror" in page.text


def test_format_decides_before_the_header(client: TestClient) -> None:
    assert client.get("/nothing?format=json", headers=PAGE).headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert client.get("/nothing?format=html").headers["content-type"].startswith("text/html")


HOSTILE = (
    "text/html;q=9e999",
    "text/html;q=",
    "text/html;q=nan,*/*;q=-1",
    ",;,;q=,=;;",
    "text/html" + ";q=0.5" * 5000,
    ",".join(f"a/{number}" for number in range(5000)),
    "text/html\x00",
    "\xff\xfe",
    "TEXT/HTML; Q=1.000",
    "text/html;q=1.٣",
)


@pytest.mark.parametrize("accept", HOSTILE)
def test_hostile_accept_header_gets_the_error_itself(client: TestClient, accept: str) -> None:
    answer = client.get("/nothing", headers=[(b"accept", accept.encode("utf-8"))])
    assert answer.status_code in (404, 406)
    assert answer.headers["content-type"].startswith((PROBLEM_MEDIA_TYPE, "text/html"))


@given(st.text(max_size=200), st.text(max_size=10))
def test_any_header_can_be_read(accept: str, form: str) -> None:
    assert prefers_html(accept, form) in (True, False, None)
    assert all(0 < weight <= 2 for weight in parse_accept_header(accept).values())
