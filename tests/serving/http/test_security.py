"""Requests that a browser sends for another site's page are refused, whatever headers identify that site."""

from __future__ import annotations

import pytest

from mondrian_core.serving.http.security import is_cross_site_request

HOST = "127.0.0.1:5100"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},  # a form of another site, in browsers that send no Origin
        {"sec-fetch-site": "same-site"},  # a page of another port of this machine
        {"sec-fetch-site": "cross-site,same-origin"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"origin": "https://127.0.0.1:5100"},
        {"origin": "http://127.0.0.1"},
        {"origin": "http://127.0.0.1:5101"},
        {"origin": "http://localhost:5100"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:5100,http://evil.example"},
        {"origin": "http://127.0.0.1:5100@evil.example"},
        {"origin": "http://127.0.0.1:99999"},
        {"origin": "http://127.0.0.1:5100", "sec-fetch-site": "cross-site"},
    ],
)
def test_cross_site_request_is_refused(headers: dict[str, str]) -> None:
    assert is_cross_site_request("POST", "http", {"host": HOST, **headers})


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("http", {"host": HOST}),
        ("http", {"host": HOST, "origin": "http://127.0.0.1:5100", "sec-fetch-site": "same-origin"}),
        ("http", {"host": HOST, "sec-fetch-site": "none"}),
        ("http", {"host": "LOCALHOST", "origin": "http://localhost"}),
        ("http", {"host": "localhost:80", "origin": "http://localhost"}),
        ("http", {"host": "[::1]:5100", "origin": "http://[::1]:5100"}),
        ("https", {"host": "studio.example", "origin": "https://studio.example"}),
    ],
)
def test_own_pages_and_programs_are_accepted(scheme: str, headers: dict[str, str]) -> None:
    assert not is_cross_site_request("POST", scheme, headers)


def test_links_are_accepted_and_embedding_is_refused() -> None:
    link = {"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert not is_cross_site_request("GET", "http", link)
    assert is_cross_site_request("GET", "http", {**link, "sec-fetch-dest": "iframe"})
    assert is_cross_site_request("GET", "http", {**link, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"})
