"""Routes for writing critiques: the page of a photograph, autosave, save, undo, skip, the base's draft on request."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from mondrian_core.errors import BadPhotograph
from mondrian_core.exif import camera_line
from mondrian_core.images import PhotographRejection, jpeg_bytes
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.problem_details import problem_response
from mondrian_core.serving.http.responses import wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.uploads import StoredPhotograph, only_advisor
from mondrian_core.serving.jobs.background_recording import RecordingProgress
from mondrian_core.serving.jobs.image_decoding import open_at_full_size, open_downscaled
from mondrian_core.serving.jobs.job_runner import job_filename, source_file
from mondrian_core.store import CANCELED, COMPLETED, FAILED, Job
from mondrian_core.store.photographs import Photograph
from mondrian_core.writing.adapter_errors import answer_scores
from mondrian_core.writing.critique_entry import CritiqueEntry
from mondrian_core.writing.teaching_order import NextPhotograph
from mondrian_core.writing.unfinished_critiques import ChangedElsewhere, UnfinishedCritique, WritingState
from mondrian_core.writing.writing_desk import WritingDesk

_Advisor = Annotated[
    str | None,
    Query(pattern=r"^[a-z0-9_-]{1,64}$", description="optional when the workspace has exactly one advisor"),
]
_Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="of the photograph's bytes")]
_Earlier = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="the photograph before, for its undo")]
_CACHED = {"Cache-Control": "private, max-age=604800, immutable"}  # the address names the bytes
_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "As JSON; as a page if HTML is preferred", "content": {"text/html": {}}},
    404: PROBLEM_RESPONSE,
}
_CHANGED: dict[int | str, dict[str, Any]] = {
    404: PROBLEM_RESPONSE,
    409: {**PROBLEM_RESPONSE, "description": "Changed elsewhere; `current` is what is stored"},
}


class EntryChange(BaseModel):
    """A critique as typed so far, and the revision that it was made from."""

    model_config = ConfigDict(extra="forbid")

    revision: int = Field(strict=True, ge=0, description="of the stored entry; 0 when there is none")
    entry: CritiqueEntry


class StateChange(BaseModel):
    """What to do with a photograph: skip it for now, exclude it, or put it back."""

    model_config = ConfigDict(extra="forbid")

    state: WritingState = Field(description="`skipped`, `excluded` or `open`")


def add_write_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    _add_pages(app, service)
    _add_changes(app, service)
    _add_aids(app, service)


def _desk(service: Service, advisor: str | None) -> WritingDesk:
    chosen = advisor or only_advisor(service.store)
    return WritingDesk(service.store, service.root, chosen, service.adapters.registry_of(chosen))


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/write", responses=_PAGE)
    def write(request: Request, advisor: _Advisor = None, earlier: _Earlier = None) -> Response:
        """The photograph to write about next, and why; a browser is sent to its page."""
        html = wants_html(request)
        advisors = service.store.advisors()
        if html and advisor is None and len(advisors) != 1:
            return HTMLResponse(
                render_template(
                    "write_start.html", current_page="/write", advisors=advisors, recording=service.recording.look()
                )
            )
        desk = _desk(service, advisor)
        found = desk.next_photograph()
        if not html:
            progress = {**desk.progress().as_dict(), "anchoring": desk.anchoring().as_dict()}
            return JSONResponse({"next": _next_json(desk, found), "progress": progress})
        if found is None:
            return HTMLResponse(_finished_page(desk, service.recording.look()))
        return RedirectResponse(_page_url(desk, found.sha256, earlier), 303)

    @app.get("/write/{sha256}", responses=_PAGE)
    def write_about(request: Request, sha256: _Sha256, advisor: _Advisor = None, earlier: _Earlier = None) -> Response:
        """What is stored about a photograph: the unfinished critique, or the saved one to change."""
        desk = _desk(service, advisor)
        if wants_html(request):
            return HTMLResponse(_writing_page(desk, sha256, earlier))
        return JSONResponse(_entry_json(desk.current(sha256)))


def _add_changes(app: FastAPI, service: Service) -> None:
    @app.put("/write/{sha256}/entry", responses=_CHANGED)
    def store_entry(sha256: _Sha256, change: EntryChange, advisor: _Advisor = None) -> Response:
        """Store what was typed so far. It is not a critique yet, and counts for nothing."""
        desk = _desk(service, advisor)
        try:
            return JSONResponse(_entry_json(desk.store_entry(sha256, change.entry, change.revision)))
        except ChangedElsewhere as error:
            return _changed_elsewhere(error)

    @app.post("/write/{sha256}/critique", responses=_CHANGED)
    def save_critique(sha256: _Sha256, change: EntryChange, advisor: _Advisor = None) -> Response:
        """Save the complete critique: the next dataset uses it. Earlier versions stay."""
        desk = _desk(service, advisor)
        try:
            saved = desk.save(sha256, change.entry, change.revision, "page")
        except ChangedElsewhere as error:
            return _changed_elsewhere(error)
        service.event_relay.advisor_changed(saved.profile.advisor)
        found = desk.next_photograph(but=sha256)
        body = {"profile": saved.profile.id, "next": _next_json(desk, found, sha256)}
        return JSONResponse({**_entry_json(saved.unfinished), **body, "progress": desk.progress().as_dict()})

    @app.post("/write/{sha256}/undo", responses=_CHANGED)
    def undo(sha256: _Sha256, advisor: _Advisor = None) -> Response:
        """Undo the last save: the version before it counts again, and the text can be changed and saved again."""
        return JSONResponse(_entry_json(_desk(service, advisor).undo(sha256)))

    @app.put("/write/{sha256}/state", responses=_CHANGED)
    def set_state(sha256: _Sha256, change: StateChange, advisor: _Advisor = None) -> Response:
        """Skip a photograph for now, exclude it, or put it back."""
        desk = _desk(service, advisor)
        if change.state == WritingState.SAVED:
            return problem_response(422, "bad-input", "A critique is saved with its text.", "Send it to /critique.")
        changed = desk.set_state(sha256, change.state)
        found = desk.next_photograph(but=sha256)
        return JSONResponse({**_entry_json(changed), "next": _next_json(desk, found, sha256)})


def _add_aids(app: FastAPI, service: Service) -> None:
    @app.post("/write/{sha256}/draft", responses={**_CHANGED, 202: {"description": "The base is drafting; ask again"}})
    async def draft(sha256: _Sha256, advisor: _Advisor = None) -> Response:
        """The base model's draft. It is recorded before it is shown, so that anchoring can be measured."""
        desk = await run_in_threadpool(_desk, service, advisor)
        photograph = await run_in_threadpool(desk.photograph, sha256)
        job = await run_in_threadpool(_latest_base_job, service, desk.advisor, sha256)
        if job is None or job.status in (FAILED, CANCELED):
            await service.decode_queue.run(lambda: _start_draft(service, photograph))
            return JSONResponse({"status": "queued"}, 202)
        if job.status != COMPLETED:
            return JSONResponse({"status": job.status}, 202)
        answer = job.answer or {}
        shown = await run_in_threadpool(desk.record_draft, sha256, job.id, answer_scores(answer))
        return JSONResponse(
            {"status": COMPLETED, "draft": answer.get("dimensional_analysis", {}), **_entry_json(shown)}
        )

    @app.get("/write/{sha256}/similar", responses={404: PROBLEM_RESPONSE})
    def similar(sha256: _Sha256, advisor: _Advisor = None) -> dict[str, Any]:
        """The advisor's critiqued photographs that are most like this one; those of the portfolio first."""
        desk = _desk(service, advisor)
        found = desk.similar(sha256)
        return {
            "compared_by": found.kind,
            "photographs": [
                {
                    "sha256": each.sha256,
                    "name": each.reference.name,
                    "similarity": round(each.similarity, 3),
                    "grade": each.reference.grade,
                    "scores": dict(each.reference.scores),
                    "comments": dict(each.reference.comments),
                }
                for each in found.found
            ],
        }

    @app.get(
        "/write/{sha256}/pixels",
        response_class=Response,
        responses={
            200: {"description": "A JPEG without metadata", "content": {"image/jpeg": {}}},
            404: PROBLEM_RESPONSE,
        },
    )
    async def pixels(sha256: _Sha256, advisor: _Advisor = None) -> Response:
        """The photograph with all of its pixels, upright, as a JPEG without metadata."""
        photograph = await run_in_threadpool(lambda: _desk(service, advisor).photograph(sha256))
        file = await run_in_threadpool(_file_of, service, photograph)
        data = await service.decode_queue.run(lambda: jpeg_bytes(open_at_full_size(file).image, quality=92))
        return Response(data, media_type="image/jpeg", headers=_CACHED)


def _latest_base_job(service: Service, advisor: str, sha256: str) -> Job | None:
    """The last job in which the base was asked about a photograph for an advisor."""
    jobs = service.store.jobs(advisor)
    asked = [job for job in jobs if job.photograph_sha256 == sha256 and job.requested_mode == "baseline"]
    return asked[-1] if asked else None


def _start_draft(service: Service, photograph: Photograph) -> None:
    service.worker.require_room()
    file = _file_of(service, photograph)
    opened = open_downscaled(file)
    stored = StoredPhotograph(job_filename(service.root, file), opened.sha256, opened.image)
    service.accept(stored, photograph.advisor, "baseline", None)


def _file_of(service: Service, photograph: Photograph) -> FilePath:
    file = source_file(service.root, photograph.image_path)
    if file is None:
        detail, again = "the file was moved or deleted", "Put it back, or run `mondrian import --rescan`."
        raise BadPhotograph(photograph.image_path, PhotographRejection.MISSING, detail, again)
    return file


def _changed_elsewhere(error: ChangedElsewhere) -> Response:
    current = _entry_json(error.current)
    return problem_response(409, "changed-elsewhere", error.problem, error.next_step, current=current)


def _entry_json(found: UnfinishedCritique) -> dict[str, Any]:
    return {
        "photograph": found.sha256,
        "advisor": found.advisor,
        "entry": found.entry.model_dump(),
        "revision": found.revision,
        "state": found.state.value,
        "draft_seen": bool(found.draft),
        "updated_at": found.updated_at,
    }


def _page_url(desk: WritingDesk, sha256: str, earlier: str | None = None) -> str:
    return f"/write/{sha256}?advisor={desk.advisor}" + (f"&earlier={earlier}" if earlier else "")


def _next_json(desk: WritingDesk, found: NextPhotograph | None, earlier: str | None = None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"photograph": found.sha256, "why": found.why, "url": _page_url(desk, found.sha256, earlier)}


def _finished_page(desk: WritingDesk, recording: RecordingProgress | None) -> str:
    return render_template(
        "write_finished.html",
        current_page="/write",
        prompt=desk.prompt,
        photographs=len(desk.photographs),
        recording=recording,
        progress=desk.progress(),
        first=next(iter(desk.photographs), None),
    )


def _writing_page(desk: WritingDesk, sha256: str, earlier: str | None) -> str:
    photograph, current = desk.photograph(sha256), desk.current(sha256)
    before, after = desk.neighbors(sha256)
    chosen = desk.next_photograph()
    following = desk.next_photograph(but=sha256)
    done = desk.unfinished.get(desk.advisor, earlier, "").state if earlier in desk.photographs and earlier else None
    return render_template(
        "write.html",
        current_page="/write",
        prompt=desk.prompt,
        photograph=photograph,
        name=FilePath(photograph.image_path).name,
        position=list(desk.photographs).index(sha256) + 1,
        total=len(desk.photographs),
        current=current,
        stored=_entry_json(current),
        why=_why(desk, current, chosen),
        progress=desk.progress(),
        before=_page_url(desk, before) if before else None,
        after=_page_url(desk, after) if after else None,
        following=following.sha256 if following else None,
        earlier=earlier if done in (WritingState.SAVED, WritingState.EXCLUDED) else None,
        earlier_state=done.value if done else "",
        earlier_name=FilePath(desk.photographs[earlier].image_path).name if done and earlier else "",
        camera=camera_line(photograph.camera),
    )


def _why(desk: WritingDesk, current: UnfinishedCritique, chosen: NextPhotograph | None) -> str:
    """Why this photograph is on the screen, in one sentence."""
    if current.state == WritingState.SAVED:
        return "You have saved a critique of it. Saving again adds a version."
    if current.state == WritingState.EXCLUDED:
        return "You excluded it: it is never suggested. Saving a critique puts it back."
    if current.sha256 in desk.critiqued:
        return "It has a saved critique. What you changed here is stored, and counts when you save it."
    if chosen is not None and chosen.sha256 == current.sha256:
        return chosen.why
    return "You chose it; the suggested order continues with the next one."
