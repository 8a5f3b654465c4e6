"""/docs works without any other host."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi.testclient import TestClient

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.security import CONTENT_SECURITY_POLICY
from mondrian_core.serving.http.service import Service


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
    operations = [(path, way) for path, ways in documented.items() for way in ways.items()]
    assert [path for path, (_, operation) in operations if not operation.get("description")] == []
