"""Routes for the photographs of the workspace: their thumbnails."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import FastAPI, Path, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from mondrian_core.errors import BadPhotograph
from mondrian_core.images import PhotographRejection
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.job_runner import source_file
from mondrian_core.store.photographs import Photographs
from mondrian_core.thumbnails import SIDES, cached_thumbnail, thumbnail_jpeg

# The address contains the hash of the photograph's bytes, so what it answers never changes.
_CACHED = {"Cache-Control": "private, max-age=604800, immutable"}
_Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
_Side = Annotated[int, Query(ge=1, le=SIDES[-1], description="long side in pixels, rounded up to one that is kept")]


def add_photograph_import_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

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


def _new_thumbnail(service: Service, sha256: str, side: int) -> bytes:
    """Make a thumbnail from the first of the photograph's known files that still has its bytes."""
    problem = BadPhotograph(
        sha256, PhotographRejection.MISSING, "no such photograph in this workspace", "Check the ID."
    )
    for path in Photographs(service.store).paths(sha256):
        file = FilePath(path) if FilePath(path).is_file() and path.startswith("/") else source_file(service.root, path)
        if file is None:
            problem = BadPhotograph(path, PhotographRejection.MISSING, "the file was moved or deleted", _RESCAN)
            continue
        try:
            return thumbnail_jpeg(service.root, file, sha256, side)
        except BadPhotograph as error:
            problem = BadPhotograph(path, error.reason, error.detail, error.next_step)
    raise problem


_RESCAN = "Put it back, or run `mondrian import --rescan`, which finds it in another folder of source/."
