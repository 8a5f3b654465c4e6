"""/docs works without any other host."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi.testclient import TestClient

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.security import CONTENT_SECURITY_POLICY
from mondrian_core.serving.http.service import Service

MIN_WORDS, MAX_WORDS = 2, 14  # of a summary


def test_api_docs_use_files_of_this_service_under_the_strict_policy(make_service: Callable[..., Service]) -> None:
    with TestClient(create_app(make_service("base")), base_url="http://localhost") as client:
        page = client.get("/docs")
        assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|<style", page.text), "nothing inline"
        used = re.findall(r'(?:src|href)="(/(?:docs|static)/[^"]+)"', page.text)
        assert len(used) >= 6
        assert {client.get(path).status_code for path in used} == {200}
        assert "://" not in page.text
        assert client.get("/docs/files/redoc.standalone.js").status_code == 422


def test_openapi_document_has_every_route_with_a_description(make_service: Callable[..., Service]) -> None:
    app = create_app(make_service("base"))
    documented = app.openapi()["paths"]
    hidden = {"/openapi.json", "/docs/files/{name}", "/static"}
    routes = {getattr(route, "path", "") for route in app.routes}
    assert set(documented) == routes - hidden
    operations = [(path, operation) for path, ways in documented.items() for operation in ways.values()]
    assert [path for path, operation in operations if not operation.get("description")] == []
    unreadable = [
        path for path, operation in operations if not MIN_WORDS <= len(operation["summary"].split()) <= MAX_WORDS
    ]
    assert unreadable == [], "begin the docstring with one short sentence: it is the summary"
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names) and "get_jobs_job_id" in names


def test_openapi_document_groups_routes_by_area(make_service: Callable[..., Service]) -> None:
    document = create_app(make_service("base")).openapi()
    areas = [tag["name"] for tag in document["tags"]]
    used = [operation["tags"] for ways in document["paths"].values() for operation in ways.values()]
    assert {len(tags) for tags in used} == {1} and {tags[0] for tags in used} == set(areas)
    assert all(tag["description"].endswith(".") for tag in document["tags"])
    assert document["paths"]["/analyze"]["post"]["summary"] == "Critique a photograph"
