"""Routes that bring photographs into the workspace, and their thumbnails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from mondrian_core.errors import BadInput, BadPhotograph
from mondrian_core.images import PHOTOGRAPH_SUFFIXES, PhotographRejection
from mondrian_core.importing.import_report import OUTCOME_TITLES, ImportedFile
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.uploads import MAX_FIELD_BYTES, MAX_UPLOAD_BYTES, only_advisor
from mondrian_core.serving.jobs.job_runner import source_file
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store.photographs import Photographs
from mondrian_core.thumbnails import SIDES, cached_thumbnail, thumbnail_jpeg

MAX_FILES = 100  # of one request
MAX_UPLOAD_NAME = 1000
_YES = ("1", "true", "yes", "on")
# The address contains the hash of the photograph's bytes, so what it answers never changes.
_CACHED = {"Cache-Control": "private, max-age=604800, immutable"}
_RESCAN = "Put it back, or run `mondrian import --rescan`, which finds it in another folder of source/."
_Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
_Side = Annotated[int, Query(ge=1, le=SIDES[-1], description="long side in pixels, rounded up to one that is kept")]
_PAGE = {"description": "A page to drop photographs on", "content": {"text/html": {}}}
_RESULT = {"description": "What happened to each file; as a page if HTML is preferred", "content": {"text/html": {}}}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["photographs"],
                "properties": {
                    "photographs": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "the file name of a part may have folders, which are kept",
                    },
                    "advisor": {
                        "type": "string",
                        "pattern": "^[a-z0-9_-]{1,64}$",
                        "description": "optional when the workspace has exactly one advisor",
                    },
                    "portfolio": {"type": "boolean", "description": "the advisor's own work"},
                },
            }
        }
    },
}


@dataclass(frozen=True)
class PhotographUploads:
    """A parsed POST /photographs: names and bytes of the files, advisor (None: the only one), own work or not."""

    files: list[tuple[str, bytes]]
    advisor: str | None
    portfolio: bool


def add_photograph_import_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get("/photographs/import", response_class=HTMLResponse, responses={200: _PAGE})
    def import_page(advisor: str = "") -> str:
        """The page to import photographs and folders."""
        return _page(service, advisor)

    @app.post(
        "/photographs",
        openapi_extra={"requestBody": _BODY},
        responses={200: _RESULT, **dict.fromkeys((406, 413, 507), PROBLEM_RESPONSE)},
    )
    async def import_photographs(request: Request) -> Response:
        """Import photographs; 200 with what happened to each file, also when none of them is usable."""
        html = wants_html(request)
        async with service.decode_queue.slot():
            wanted = await _read_uploads(request)
            advisor, done = await service.decode_queue.run(lambda: _imported(service, wanted))
        if html:
            return HTMLResponse(await run_in_threadpool(_page, service, advisor, done))
        counts = Counter(str(file.outcome) for file in done)
        return JSONResponse({"advisor": advisor, **counts, "files": [file.as_dict() for file in done]})

    @app.get("/photographs/recording")
    def recording() -> dict[str, int | bool]:
        """How far recording the photographs is that were put under source/."""
        progress = service.recording.progress
        return {"at_work": progress is not None, **({} if progress is None else vars(progress))}

    @app.get(
        "/photographs/{sha256}/thumbnail",
        response_class=Response,
        responses={
            200: {"description": "A JPEG without metadata", "content": {"image/jpeg": {}}},
            **dict.fromkeys((404, 413, 415, 507), PROBLEM_RESPONSE),
        },
    )
    async def thumbnail(sha256: _Sha256, side: _Side = 320) -> Response:
        """The thumbnail of a photograph of the workspace."""
        data = await run_in_threadpool(cached_thumbnail, service.root, sha256, side)
        if data is None:
            data = await service.decode_queue.run(lambda: _new_thumbnail(service, sha256, side))
        return Response(data, media_type="image/jpeg", headers=_CACHED)


async def _read_uploads(request: Request) -> PhotographUploads:
    """Read a multipart form with `photographs`, `advisor` and `portfolio`.

    Raises:
        BadInput: what is missing or wrong.
    """
    send = "Send multipart/form-data with `photographs` and `advisor`."
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadInput("The request is not a multipart form.", send)
    try:
        async with request.form(max_files=MAX_FILES, max_fields=8, max_part_size=MAX_FIELD_BYTES) as form:
            parts = [part for part in form.getlist("photographs") if isinstance(part, UploadFile) and part.filename]
            if not parts:
                raise BadInput("No photograph was sent.", send)
            advisor = form.get("advisor")
            return PhotographUploads(
                [((part.filename or "")[-MAX_UPLOAD_NAME:], await part.read()) for part in parts],
                validate_advisor_id(str(advisor)) if advisor else None,
                str(form.get("portfolio", "")).lower() in _YES,
            )
    except (MultiPartException, HTTPException) as error:
        detail = error.message if isinstance(error, MultiPartException) else str(error.detail)
        raise BadInput(f"The form can't be read: {detail}.", send) from None


def _imported(service: Service, wanted: PhotographUploads) -> tuple[str, list[ImportedFile]]:
    """The advisor, and what happened to each file."""
    advisor = wanted.advisor or only_advisor(service.store)
    settings = ImportSettings(
        root=service.root, advisor=advisor, portfolio=wanted.portfolio, max_pixels=Settings().max_pixels
    )
    one = PhotographImport(service.store, settings)
    return advisor, [one.add_upload(name, data) for name, data in wanted.files]


def _page(service: Service, advisor: str, done: list[ImportedFile] | None = None) -> str:
    advisors = service.store.advisors()
    return render_template(
        "photograph_import.html",
        current_page="/photographs",
        advisors=advisors,
        chosen=advisor,
        done=done,
        outcomes={str(outcome): title for outcome, title in OUTCOME_TITLES.items()},
        suffixes=sorted(PHOTOGRAPH_SUFFIXES),
        most_bytes=MAX_UPLOAD_BYTES - 1_000_000,
    )


def _new_thumbnail(service: Service, sha256: str, side: int) -> bytes:
    """Make a thumbnail from the first of the photograph's known files that still has its bytes."""
    problem = BadPhotograph(sha256, PhotographRejection.MISSING, "this workspace has no such photograph", "Check it.")
    for path in Photographs(service.store).paths(sha256):
        file = FilePath(path) if path.startswith("/") and FilePath(path).is_file() else source_file(service.root, path)
        if file is None:
            problem = BadPhotograph(path, PhotographRejection.MISSING, "the file was moved or deleted", _RESCAN)
            continue
        try:
            return thumbnail_jpeg(service.root, file, sha256, side)
        except BadPhotograph as error:
            problem = BadPhotograph(path, error.reason, error.detail, error.next_step)
    raise problem
