"""Files of critiques over HTTP: a page that previews an import and confirms it, and exports to download."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from mondrian_core.critique_files.exporting import ExportCounts, exported_bytes, exported_records
from mondrian_core.critique_files.formats import (
    CRITIQUE_FORMATS,
    CSV,
    LABEL_STUDIO,
    WRITTEN_FORMATS,
    CritiqueFile,
    written_format,
)
from mondrian_core.critique_files.importing import CritiqueImport, CritiqueImportOptions, import_critiques
from mondrian_core.critique_files.label_studio import labeling_config
from mondrian_core.critique_files.planning import BAD_OUTCOMES, OUTCOME_MEANINGS, PlannedRow, RowOutcome
from mondrian_core.errors import BadInput
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.uploads import MAX_UPLOAD_BYTES
from mondrian_core.settings import validate_advisor_id

MAX_FILES = 200
MAX_ROWS_RETURNED = 200
IMPORT_PAGE = "/critiques/import"
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    "advisor": {
                        "type": "string",
                        "pattern": "^[a-z0-9_-]{1,64}$",
                        "description": "of rows without one",
                    },
                    "format": {"type": "string", "enum": list(CRITIQUE_FORMATS), "description": "default: recognized"},
                    "dry_run": {"type": "string", "enum": ["0", "1"], "description": "1: write nothing"},
                    "replace": {"type": "string", "enum": ["0", "1"], "description": "1: also over newer critiques"},
                    "skip_bad": {"type": "string", "enum": ["0", "1"], "description": "1: save the good rows"},
                    "expected": {"type": "string", "description": "`signature` of the preview that is confirmed"},
                },
            }
        }
    },
}
_FILE = {"description": "The file", "content": {"text/csv": {}, "application/json": {}, "application/jsonl": {}}}
_XML = {"description": "The labeling configuration", "content": {"application/xml": {}}}


def add_critique_file_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    one_at_a_time = CapacityLimiter(1)  # an import uses memory and the database

    @app.get(IMPORT_PAGE, response_class=HTMLResponse)
    def page() -> str:
        """The page to import and export files of critiques, with a preview."""
        return render_template(
            "critique_files.html",
            current_page="/critiques",
            advisors=service.store.advisors(),
            formats=CRITIQUE_FORMATS.values(),
            written=[CRITIQUE_FORMATS[name] for name in WRITTEN_FORMATS],
            label_studio=LABEL_STUDIO,
            meanings={outcome.value: meaning for outcome, meaning in OUTCOME_MEANINGS.items()},
            accepted=",".join(sorted({suffix for each in CRITIQUE_FORMATS.values() for suffix in each.suffixes})),
            most_megabytes=MAX_UPLOAD_BYTES // 1_000_000,
        )

    @app.post(IMPORT_PAGE, openapi_extra={"requestBody": _FORM}, responses={413: PROBLEM_RESPONSE})
    async def take(request: Request) -> Response:
        """Import files of critiques: all rows or, unless `skip_bad` is 1, none. With `dry_run` 1 nothing is written."""
        try:
            async with request.form(max_files=MAX_FILES, max_fields=8, max_part_size=4096) as form:
                done = await to_thread.run_sync(_import, service, form, limiter=one_at_a_time)
        except (MultiPartException, HTTPException) as error:
            detail = error.message if isinstance(error, MultiPartException) else str(error.detail)
            raise BadInput(f"The form can't be read: {detail}.", "Send multipart/form-data with `file`.") from None
        return JSONResponse(_import_json(done))

    @app.get("/critiques/export", response_class=Response, responses={200: _FILE, 422: PROBLEM_RESPONSE})
    def export(
        advisor: Annotated[str | None, Query(pattern=r"^[a-z0-9_-]{0,64}$")] = None,
        format: Annotated[str, Query(max_length=40)] = CSV,  # noqa: A002  the parameter's name in the address
    ) -> Response:
        """All complete critiques of an advisor, or of all, as a file."""
        kind = written_format(format)
        if advisor:
            service.store.advisor(advisor)
        pieces: Iterator[bytes] = exported_bytes(
            kind, exported_records(service.store, service.root, advisor or None, ExportCounts())
        )
        tool = "" if kind.suffixes[0] == f".{kind.name}" else kind.name
        named = "-".join(part for part in ("critiques", advisor, tool) if part)
        headers = {"Content-Disposition": f'attachment; filename="{named}{kind.suffixes[0]}"'}
        return StreamingResponse(pieces, media_type=kind.media_type, headers=headers)

    @app.get("/critiques/labeling-config", response_class=Response, responses={200: _XML})
    def config() -> Response:
        """The labeling configuration for Label Studio."""
        headers = {"Content-Disposition": 'attachment; filename="labeling.xml"'}
        return Response(labeling_config(), media_type="application/xml", headers=headers)


def _import(service: Service, form: FormData) -> CritiqueImport:
    uploads = [each for each in form.getlist("file") if isinstance(each, UploadFile)]
    if not uploads:
        raise BadInput("No file was sent.", "Choose a file of critiques, or send it: curl -F file=@critiques.csv ...")
    advisor = _field(form, "advisor")
    options = CritiqueImportOptions(
        advisor=validate_advisor_id(advisor) if advisor else None,
        dry_run=_field(form, "dry_run") == "1",
        replace=_field(form, "replace") == "1",
        skip_bad=_field(form, "skip_bad") == "1",
        format=_field(form, "format"),
        expected=_field(form, "expected"),
    )
    with tempfile.TemporaryDirectory(prefix="mondrian-import-") as folder:
        files = []
        for number, upload in enumerate(uploads):
            path = Path(folder) / str(number)
            with path.open("wb") as stream:
                shutil.copyfileobj(upload.file, stream)
            files.append(CritiqueFile(path, _file_name(upload)))
        return import_critiques(service.store, service.root, files, options)


def _field(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


def _file_name(upload: UploadFile) -> str:
    return Path((upload.filename or "").replace("\\", "/")).name[:200] or "the file"


def _import_json(done: CritiqueImport) -> dict[str, Any]:
    """The result with at most `MAX_ROWS_RETURNED` rows: those that need a look first."""
    rows = sorted(done.rows, key=_urgency)[:MAX_ROWS_RETURNED]
    return {
        **done.as_dict(),
        "rows": [row.as_dict() for row in rows],
        "rows_total": len(done.rows),
        "bad": done.bad,
        "to_write": done.to_write,
    }


def _urgency(row: PlannedRow) -> int:
    if row.outcome in BAD_OUTCOMES:
        return 0
    return 2 if row.outcome is RowOutcome.SAME else 1
