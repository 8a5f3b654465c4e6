"""Logging in with a browser: what opens a session, what a session opens, and what an attacker tries instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.login_routes import WRONG_TOKEN_SECONDS, WRONG_TOKENS, own_path
from mondrian_core.serving.http.security import WRONG_HEADERS
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.sessions import MAX_SESSIONS, SESSION_SECONDS, FailureLimit, Sessions

TOKEN = "a long and random token"
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    """A client that keeps cookies, of a service with a token."""
    service = make_service("base")
    service.token = TOKEN
    with TestClient(create_app(service), base_url="http://localhost", follow_redirects=False) as client:
        yield client


def log_in(browser: TestClient, token: str = TOKEN, goal: str = "/", **headers: str) -> Any:
    return browser.post("/login", data={"token": token, "next": goal}, headers={**PAGE, **OWN, **headers})


def test_session_opens_pages_until_the_person_logs_out(browser: TestClient) -> None:
    refused = browser.get("/?a=1", headers=PAGE)
    assert refused.status_code == 401 and 'href="/login?next=' in refused.text
    opened = log_in(browser, goal="/jobs/x?format=html")
    assert (opened.status_code, opened.headers["location"]) == (303, "/jobs/x?format=html")
    page = browser.get("/", headers=PAGE)
    assert page.status_code == 200 and "Log out" in page.text
    thief = TestClient(browser.app, base_url="http://localhost", cookies=dict(browser.cookies))
    assert thief.get("/advisors").status_code == 200
    assert browser.post("/logout", headers=OWN).status_code == 303
    assert browser.get("/", headers=PAGE).status_code == 401
    assert thief.get("/advisors").status_code == 401, "a copy of the cookie has ended too"


def test_cookie_is_hidden_from_scripts_and_other_sites_and_is_not_the_token(browser: TestClient) -> None:
    cookies = [log_in(browser).headers["set-cookie"] for _ in range(2)]
    assert cookies[0].split(";")[0] != cookies[1].split(";")[0], "each log-in has its own session"
    for cookie in cookies:
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
        assert TOKEN not in cookie
    https = TestClient(browser.app, base_url="https://localhost", follow_redirects=False)
    assert "Secure" in log_in(https, Origin="https://localhost").headers["set-cookie"]


def test_token_header_of_programs_still_works(browser: TestClient) -> None:
    assert browser.get("/advisors", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    refused = browser.get("/advisors", headers={"Authorization": "Bearer wrong"})
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"
    assert browser.get("/health").json()["status"] == "starting", "open, as a monitor has no token"


@pytest.mark.parametrize(
    "path", ["/advisors", "/", "/docs", "/openapi.json", "/static/../advisors", "/login/x", "/static"]
)
def test_nothing_but_the_form_and_its_style_is_open(browser: TestClient, path: str) -> None:
    assert browser.get(path, headers=PAGE).status_code == 401


def test_form_has_its_style_before_the_person_logs_in(browser: TestClient) -> None:
    assert browser.get("/login", headers=PAGE).status_code == 200
    for name in ("mondrian.css", "frame.js", "icon.svg"):
        assert browser.get(f"/static/{name}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no browser of today: neither header
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:5101", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_cookie_alone_changes_nothing(browser: TestClient, headers: dict[str, str]) -> None:
    log_in(browser)
    assert browser.post("/jobs/none/cancel", headers=headers).status_code == 401
    assert browser.post("/jobs/none/cancel", headers=OWN).status_code == 404


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
def test_another_site_can_neither_log_in_nor_out(browser: TestClient, headers: dict[str, str]) -> None:
    forced = browser.post("/login", data={"token": TOKEN}, headers=headers)
    assert forced.status_code == 401 and "set-cookie" not in forced.headers
    log_in(browser)
    assert browser.post("/logout", headers=headers).status_code == 401
    assert browser.get("/").status_code == 200


def test_session_that_someone_else_chose_is_never_opened(browser: TestClient) -> None:
    name = log_in(browser).headers["set-cookie"].split("=")[0]
    planted = "planted-by-an-attacker"
    victim = TestClient(browser.app, base_url="http://localhost", cookies={name: planted}, follow_redirects=False)
    assert victim.get("/advisors").status_code == 401
    assert planted not in log_in(victim).headers["set-cookie"]
    fresh = TestClient(browser.app, base_url="http://localhost", cookies={name: planted})
    assert fresh.get("/advisors").status_code == 401


@pytest.mark.parametrize(
    "goal",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "http:/evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " /x",
        "evil.example",
        "/x\r\nSet-Cookie: a=b",
        "///evil.example",
        "/login?next=/login",
        "/logout",
        "//[",
        "",
    ],
)
def test_redirect_stays_in_the_service(browser: TestClient, goal: str) -> None:
    assert own_path(goal) == "/"
    assert log_in(browser, goal=goal).headers["location"] == "/"
    assert browser.get("/login", params={"next": goal}, headers=PAGE).text.count('name="next" value="/"') == 1


def test_wrong_tokens_are_refused_and_then_limited(browser: TestClient) -> None:
    for _ in range(WRONG_TOKENS):
        answer = log_in(browser, token="wrong")
        assert answer.status_code == 401 and "This is not the token." in answer.text
        assert "set-cookie" not in answer.headers
    answer = log_in(browser)
    assert answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= WRONG_TOKEN_SECONDS + 1
    assert "Too many attempts" in answer.text
    assert browser.get("/advisors", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_wrong_token_headers_are_limited_and_sessions_are_not(browser: TestClient) -> None:
    log_in(browser)
    guesser = TestClient(browser.app, base_url="http://localhost")
    statuses = [
        guesser.get("/advisors", headers={"Authorization": f"Bearer {number}"}).status_code
        for number in range(WRONG_HEADERS + 1)
    ]
    assert statuses == [401] * WRONG_HEADERS + [429]
    assert guesser.get("/advisors", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 429
    assert browser.get("/advisors").status_code == 200


@pytest.mark.parametrize("body", [b"\xff=\xfe", b"token=" + b"a" * 9000, b"&".join([b"a=b"] * 99), b""])
def test_malformed_forms_are_problems(browser: TestClient, body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = browser.post("/login", content=body, headers={**OWN, **kind})
    assert answer.status_code in (401, 413, 422) and "set-cookie" not in answer.headers


def test_sessions_end_with_time_and_the_oldest_ends_first() -> None:
    now = 0.0
    sessions = Sessions(TOKEN, "one", lambda: now)
    first = sessions.open()
    assert sessions.is_open(first) and not sessions.is_open("") and not sessions.is_open(first + "x")
    now = SESSION_SECONDS - 1.0
    assert sessions.is_open(first)
    now = SESSION_SECONDS + 1.0
    assert not sessions.is_open(first)
    opened = [sessions.open() for _ in range(MAX_SESSIONS + 1)]
    assert [sessions.is_open(each) for each in opened[:2]] == [False, True]


def test_cookies_of_two_services_on_one_host_have_different_names() -> None:
    one, two = Sessions(TOKEN, "one"), Sessions(TOKEN, "two")
    assert one.cookie_name != two.cookie_name
    header = f"odd[]name=1; {one.cookie_name}=mine; {two.cookie_name}=theirs"
    assert (one.secret_in(header), two.secret_in(header)) == ("mine", "theirs")


def test_failures_are_forgotten_after_their_window() -> None:
    now = 0.0
    limit = FailureLimit(2, 10.0, lambda: now)
    limit.record("a")
    now = 4.0
    limit.record("a")
    assert (limit.seconds_left("a"), limit.seconds_left("b")) == (6, 0)
    now = 10.5
    assert limit.seconds_left("a") == 0
