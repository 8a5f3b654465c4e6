"""/docs: the API as a page, from files of this machine (Swagger UI of fastapi-offline), and how routes are described.

The first sentence of a route's docstring is its summary.

The strict content security policy holds here too: the script that starts Swagger UI is a file, `static/docs.js`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Literal

import fastapi_offline
from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.routing import APIRoute

from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.service import Service

SwaggerFile = Literal["swagger-ui-bundle.js", "swagger-ui.css"]
AddRoutes = Callable[[FastAPI, Service], None]
AREAS = {  # the groups of /docs, in this order
    "Critiques": "Ask for critiques, follow and find them, rate, judge and correct them, import and export them.",
    "Photographs": "Import photographs, and look through those of the workspace.",
    "Writing": "Write critiques yourself: what is typed is stored at once, and counts when it is saved.",
    "Advisors": "The persons whose eye the model learns, and the way from a folder to an adapter.",
    "Registry": "Versions of adapters: what was measured, what distinguishes them, promotion and rollback.",
    "Runs": "Trainings and evaluations of this workspace, with settings, losses and reports.",
    "Drift": "Whether live answers still look like the champion's evaluation.",
    "Other programs": "The forms of request that programs for OpenAI's API send.",
    "Service": "Pages about the service, its health, its figures, and the session of a browser.",
}


def operation_id(route: APIRoute) -> str:
    """A name of an operation from what clients see, so that it stays when a function is renamed: "get_jobs_job_id"."""
    method = min(route.methods or {"get"}).lower()
    return "_".join([method, *re.findall(r"\w+", route.path_format)])


def add_area(app: FastAPI, service: Service, area: str, add_routes: AddRoutes) -> None:
    """Add the routes of one module and describe them.

    Args:
        app: of the service.
        service: what they answer from.
        area: one of `AREAS`.
        add_routes: adds them.
    """
    before = len(app.routes)
    add_routes(app, service)
    for route in app.routes[before:]:
        if isinstance(route, APIRoute):
            route.tags = [area]
            route.summary = re.split(r"[.:;](?:\s|$)", route.description, maxsplit=1)[0]


def add_api_docs(app: FastAPI, service: Service) -> None:
    """Add /docs and the files that it needs."""

    @app.get("/docs", response_class=HTMLResponse)
    def api_docs() -> str:
        """The API as a page to read and to try."""
        return render_template("docs.html", current_page="/docs")

    @app.get("/docs/files/{name}", response_class=FileResponse, include_in_schema=False)
    def swagger_file(name: SwaggerFile) -> FileResponse:
        """A file of Swagger UI."""
        return FileResponse(Path(str(files(fastapi_offline).joinpath("static", name))))
