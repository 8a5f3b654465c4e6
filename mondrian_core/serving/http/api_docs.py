"""/docs: the API as a page, from files of this machine (Swagger UI of fastapi-offline).

The strict content security policy holds here too: the script that starts Swagger UI is a file, `static/docs.js`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

import fastapi_offline
from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.service import Service

SwaggerFile = Literal["swagger-ui-bundle.js", "swagger-ui.css"]


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
