"""The guided first hour as a page: six steps with their state, one next action each, and the start of a training."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from mondrian_core.advisors import MAX_BIO_LENGTH, MAX_NAME_LENGTH
from mondrian_core.errors import BadInput
from mondrian_core.first_hour import MANUAL_WARNING, FirstHour, look_at_first_hour
from mondrian_core.next_steps import retrain_step
from mondrian_core.recipe_choice import FIRST_CRITIQUES
from mondrian_core.retraining_runs import start_retraining
from mondrian_core.serving.http.feedback_routes import PROBLEM_RESPONSE
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import wants_html
from mondrian_core.settings import validate_advisor_id

if TYPE_CHECKING:
    from mondrian_core.prompts import AdvisorPrompt
    from mondrian_core.serving.http.service import Service

PAGE, IMPORT_PAGE = "/start", "/photographs/import"
_AdvisorQuery = Annotated[
    str | None,
    Query(pattern=r"^[a-z0-9_-]{1,64}$", description="default: the only advisor, or the first without an adapter"),
]
_PAGE_RESPONSE = {"description": "The steps; as a page if HTML is preferred", "content": {"text/html": {}}}
_TRAINING_FORM = {
    "required": True,
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {"type": "object", "required": ["advisor"], "properties": {"advisor": {"type": "string"}}}
        }
    },
}
_TRAINING: dict[int | str, dict[str, Any]] = {
    303: {"description": "Started, or at work already; `Location` shows the progress"},
    422: PROBLEM_RESPONSE,
}


class RetrainingProcesses:
    """The retrainings that this service started, by advisor; they survive it."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def child(self, advisor: str) -> subprocess.Popen[bytes] | None:
        """The last process for this advisor; None when this service started none."""
        with self._lock:
            return self._children.get(advisor)

    def start(self, service: Service, advisor: str) -> None:
        """Start a retraining unless one is at work.

        Raises:
            BadInput: there are too few critiques.
        """
        with self._lock:
            shown = service.store.advisor(advisor)
            found = look(service, shown, self._children.get(advisor))
            if found.retraining is not None and found.retraining.at_work:
                return
            critiques = found.counts.critiques if found.counts else 0
            if critiques < FIRST_CRITIQUES:
                raise BadInput(
                    f"'{advisor}' has {critiques} critiques; a first training needs {FIRST_CRITIQUES}.",
                    f"Write more on the page /write. To train all the same: {retrain_step(advisor)}",
                )
            self._children[advisor] = start_retraining(service.settings, advisor)


def look(service: Service, advisor: AdvisorPrompt | None, child: subprocess.Popen[bytes] | None) -> FirstHour:
    """Where the way of an advisor stands, with the registry that the service uses."""
    name = "" if advisor is None else advisor.advisor
    return look_at_first_hour(service.store, service.adapters.registry_of(name), service.root, advisor, child)


def add_start_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    processes = RetrainingProcesses()

    @app.get(PAGE, responses={200: _PAGE_RESPONSE, 422: PROBLEM_RESPONSE})
    def start(request: Request, advisor: _AdvisorQuery = None) -> Response:
        """The way to an adapter: which steps are done, and what comes next."""
        known = service.store.advisors()
        chosen = service.store.advisor(advisor) if advisor else _first_to_guide(service, known)
        found = look(service, chosen, None if chosen is None else processes.child(chosen.advisor))
        if not wants_html(request):
            return JSONResponse(found.as_dict())
        page = render_template(
            "start.html",
            current_page=PAGE,
            way=found,
            known=known,
            recording=service.recording.look(),
            import_page=IMPORT_PAGE if _has_page(request, IMPORT_PAGE) else "",
            warning=MANUAL_WARNING,
            wanted=FIRST_CRITIQUES,
            limits={"name": MAX_NAME_LENGTH, "bio": MAX_BIO_LENGTH},
        )
        return HTMLResponse(page)

    @app.post(f"{PAGE}/training", status_code=303, responses=_TRAINING, openapi_extra={"requestBody": _TRAINING_FORM})
    async def train(request: Request) -> Response:
        """Start a training. It is of the advisor that the form names, and runs in a process of its own."""
        form = await request.form(max_files=0, max_fields=4)
        advisor = validate_advisor_id(str(form.get("advisor", "")))
        await run_in_threadpool(processes.start, service, advisor)
        return RedirectResponse(f"{PAGE}?advisor={advisor}", 303)


def _has_page(request: Request, path: str) -> bool:
    return any(getattr(route, "path", "") == path for route in request.app.routes)


def _first_to_guide(service: Service, known: list[AdvisorPrompt]) -> AdvisorPrompt | None:
    """The first advisor without a promoted version, else the first; None when there is none."""
    open_ones = (each for each in known if not service.adapters.has_promoted(each.advisor))
    return next(open_ones, known[0] if known else None)
