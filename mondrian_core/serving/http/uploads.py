"""Uploads: size limits while streaming, parsing POST /analyze, decoding and storing the photograph before the job."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mondrian_core.errors import BadInput, BadPhotograph
from mondrian_core.files import write_atomic
from mondrian_core.images import OpenedPhotograph
from mondrian_core.next_steps import add_advisor_step
from mondrian_core.serving.http.problem_details import UploadTooLarge, response_for_error
from mondrian_core.serving.jobs.image_decoding import open_downscaled
from mondrian_core.serving.jobs.job_runner import job_filename, path_inside_workspace
from mondrian_core.settings import ALL_ADVISORS, validate_advisor_id
from mondrian_core.store import Store

if TYPE_CHECKING:
    from PIL import Image

MAX_UPLOAD_BYTES = 64_000_000
MAX_FIELD_BYTES = 4096
MAX_FIELDS = 72  # advisors may be repeated
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"II": ".tif", b"MM": ".tif", b"RI": ".webp"}


@dataclass(frozen=True, kw_only=True)
class AnalyzeRequest:
    """A parsed POST /analyze. Exactly one of `data` (uploaded bytes) and `path` (under the workspace) is set.

    `advisor` None stands for the workspace's only advisor (see `only_advisor`). `group` names the advisors when several
    are asked; it is () for all of them, and None when one is asked. `crops` asks for a crop that scores higher.
    """

    advisor: str | None
    mode: str | None
    group: tuple[str, ...] | None = None
    data: bytes | None = None
    name: str = "photograph"
    path: str | None = None
    crops: bool = False


@dataclass(frozen=True)
class StoredPhotograph:
    """A photograph of the workspace that was decoded: `filename` as a job names it, `image` scaled for the model."""

    filename: str
    sha256: str
    image: Image.Image


class BodyLimit:
    """ASGI middleware: refuses a body of more than `most` bytes, whatever its Content-Length."""

    def __init__(self, app: ASGIApp, most: int = MAX_UPLOAD_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the bytes while they arrive."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        claimed = dict(scope["headers"]).get(b"content-length", b"0")
        if not claimed.isdigit() or int(claimed) > self._most:
            await response_for_error(UploadTooLarge(self._most))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise UploadTooLarge(self._most)
            return message

        await self._app(scope, counted, send)


async def read_analyze_request(request: Request) -> AnalyzeRequest:
    """Read POST /analyze: multipart with `image`, `advisor`, `mode`, `crops`, or JSON with `path` instead of `image`.

    JSON may use `image` for the path, as in the older service. `crops` may also be in the query.

    Raises:
        BadInput: with what is missing or wrong.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    crops = _parse_switch(request.query_params.get("crops"))
    if kind == "application/json":
        wanted = _from_json(await request.body())
        return replace(wanted, crops=wanted.crops or crops)
    if kind == "multipart/form-data":
        wanted = await _from_form(request)
        return replace(wanted, crops=wanted.crops or crops)
    raise BadInput(f"The content type '{kind[:80]}' can't be read.", "Send multipart/form-data or application/json.")


def _from_json(body: bytes) -> AnalyzeRequest:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadInput("The request is not valid JSON.", 'Send {"path": "...", "advisor": "..."}.') from None
    if not isinstance(value, dict):
        raise BadInput("The request must be a JSON object.", 'Send {"path": "...", "advisor": "..."}.')
    unknown = sorted(set(value) - {"path", "image", "advisor", "mode", "crops"})
    if unknown:
        raise BadInput(f"Unknown keys: {', '.join(unknown)[:200]}.", "The keys are path, advisor, mode and crops.")
    if "path" in value and "image" in value:
        raise BadInput("`path` and `image` mean the same.", "Send only one of them.")
    path, advisor, mode = value.get("path", value.get("image")), value.get("advisor"), value.get("mode")
    if not isinstance(path, str) or not path or "\0" in path or not (mode is None or isinstance(mode, str)):
        raise BadInput(
            "`path` must be the path of a photograph in the workspace, `mode` a string.", "Correct the request."
        )
    one, group = _parse_advisors(advisor if isinstance(advisor, list) else [advisor], listed=isinstance(advisor, list))
    crops = _parse_switch(value.get("crops"))
    return AnalyzeRequest(advisor=one, mode=mode, group=group, path=path, crops=crops)


async def _from_form(request: Request) -> AnalyzeRequest:
    try:
        async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise BadInput(
                    "The part `image` with the photograph is missing.", "Send it: curl -F image=@photo.jpg ..."
                )
            mode = form.get("mode")
            name = image.filename or "photograph"
            one, group = _parse_advisors(form.getlist("advisor"))
            return AnalyzeRequest(
                advisor=one,
                group=group,
                mode=str(mode) if mode else None,
                data=await image.read(),
                name=name,
                crops=_parse_switch(form.get("crops")),
            )
    except (MultiPartException, HTTPException) as error:
        detail = error.message if isinstance(error, MultiPartException) else str(error.detail)
        raise BadInput(
            f"The form can't be read: {detail}.", "Send multipart/form-data with `image` and `advisor`."
        ) from None


def _parse_advisors(values: Sequence[Any], *, listed: bool = False) -> tuple[str | None, tuple[str, ...] | None]:
    """(the one advisor, None), or (None, the advisors of a group): for "all", several, or a JSON list (`listed`).

    Raises:
        BadInput: a value is not an advisor's ID, or "all" is named with others.
    """
    named = tuple(dict.fromkeys(one for value in values if (one := _parse_advisor(value)) is not None))
    if ALL_ADVISORS in named:
        if len(named) > 1:
            raise BadInput(f"`{ALL_ADVISORS}` includes every advisor.", "Send it alone, or name the advisors.")
        return None, ()
    if listed and not named:
        raise BadInput("The list of advisors is empty.", f'Name some, or send "{ALL_ADVISORS}".')
    return (None, named) if listed or len(named) > 1 else (named[0] if named else None, None)


def _parse_advisor(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadInput("`advisor` is not a string.", "Send an ID such as ansel; GET /advisors lists them.")
    return validate_advisor_id(value)


def _parse_switch(value: Any) -> bool:
    """The value of `crops`: a JSON boolean, or the text of a form or query; a checkbox sends "on".

    Raises:
        BadInput: it is neither on nor off.
    """
    if value is None or value is False or value is True:
        return bool(value)
    text = value.strip().lower() if isinstance(value, str) else None
    if text in ("1", "true", "on", "yes"):
        return True
    if text in ("", "0", "false", "off", "no"):
        return False
    raise BadInput("`crops` is neither true nor false.", "Send crops=true to look for a better crop, or leave it out.")


def only_advisor(store: Store) -> str:
    """The advisor of a workspace that has exactly one, for a request that names none.

    Raises:
        BadInput: there are several, or none.
    """
    known = [advisor_prompt.advisor for advisor_prompt in store.advisors()]
    if not known:
        raise BadInput("This workspace has no advisor yet.", f"{add_advisor_step()} The page /advisors does it too.")
    if len(known) != 1:
        raise BadInput("The advisor is missing.", f"Send `advisor`: one of {', '.join(known)[:200]}.")
    return known[0]


def store_photograph(root: Path, wanted: AnalyzeRequest) -> StoredPhotograph:
    """Decode the photograph once, and store it in the workspace if it was uploaded.

    Raises:
        BadPhotograph: with its reason.
        DiskFull: it can't be stored.
    """
    if wanted.path is not None:
        path = path_inside_workspace(root, Path(wanted.path))
        if not _exists(path):  # names of the older service were relative to source/
            path = path_inside_workspace(root, Path("source") / wanted.path)
        if not _exists(path):
            raise BadPhotograph(wanted.path[:200], "missing", "no such file in the workspace")
        photograph = _decode(path, wanted.path)
        return StoredPhotograph(job_filename(root, path), photograph.sha256, photograph.image)
    data = wanted.data or b""
    photograph = _decode(data, "the upload")
    filename = f"{safe_stem(wanted.name)}-{photograph.sha256[:8]}{suffix_from_content(data)}"
    target = root / "source" / filename
    if not target.exists():
        write_atomic(target, data)
    return StoredPhotograph(filename, photograph.sha256, photograph.image)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long or not allowed
        return False


def _decode(source: Path | bytes, name: str) -> OpenedPhotograph:
    try:
        return open_downscaled(source)
    except BadPhotograph as error:
        # without the full path of the workspace
        raise BadPhotograph(name, error.reason, error.detail, error.next_step) from None


def safe_stem(name: str) -> str:
    """The name without folders and suffix, with only letters, digits, "_" and "-"; at most 60 characters."""
    stem = Path(name.replace("\\", "/")).name.rsplit(".", 1)[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:60] or "photograph"


def suffix_from_content(data: bytes) -> str:
    """The suffix that fits the content; the suffix of the uploaded name is ignored."""
    return _SUFFIXES.get(data[:2], ".heic")
