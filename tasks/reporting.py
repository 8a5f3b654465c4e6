"""Report a flow run: log lines, progress bar, one Markdown artifact per stage, and one paragraph per failure."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_HOME, temporary_settings
from prefect.states import Failed

from mondrian_core.errors import BadInput, MondrianError, NegativeOutcome, translate_foreign_errors
from mondrian_core.events import EventListener, StageEvent, StageFinished, StageNotice, StageProgressed, StageStarted
from mondrian_core.portable_paths import home_path_root, known_path_roots, without_absolute_paths
from tasks import liveness, processes
from tasks.events import relay_run_events
from tasks.run_context import settings_from_parameters

UPDATE_SECONDS = 1.0
OUTAGE_PAUSE_SECONDS = 60.0  # without updates of the bar after one that failed
RUNS_LOG = "runs.log"
HASH_PATTERN = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")  # shown as its first 12 digits
LOG_STEP_PERCENT = 10  # percent between two log lines

FlowBody = TypeVar("FlowBody", bound=Callable[..., Any])


def artifact_key(*words: str) -> str:
    """Join words to an artifact key of lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", "-".join(words).lower())


def publish_markdown_artifact(key: str, markdown: str, description: str) -> None:
    """Publish the artifact of a stage, without absolute paths; artifacts of earlier runs share its key.

    When the server is unreachable or its disk is full, only the page is lost: the files are in the run's folder.
    """
    try:
        create_markdown_artifact(without_local_paths(markdown), key=key, description=without_local_paths(description))
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("The page '%s' could not be published: %s", key, error)


def without_local_paths(text: str) -> str:
    """A text for the server, where others may read it, with paths relative to workspace and registry."""
    given = runtime.flow_run.get_parameters() or {}
    try:
        settings = settings_from_parameters(given.get("workspace"), given.get("adapters"))
        places = known_path_roots(settings.root, settings.adapters_root)
    except MondrianError:  # the text may report an error in the settings
        places = home_path_root()
    return without_absolute_paths(text, places)


def retry_only_on(*errors: type[BaseException]) -> Callable[[Any, Any, State[Any]], bool]:
    """A `retry_condition_fn` that retries only after these errors."""
    return lambda _task, _run, state: _failed_with(state, errors)


def retry_unless(*errors: type[BaseException]) -> Callable[[Any, Any, State[Any]], bool]:
    """A `retry_condition_fn` that retries except after these errors."""
    return lambda _task, _run, state: not _failed_with(state, errors)


# Tasks that write to the registry: they resume, so any failure but a refusal is worth another try.
REGISTRY_TASK_OPTIONS: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 10,
    "retry_condition_fn": retry_unless(NegativeOutcome, BadInput),
    "timeout_seconds": 600,
    "cache_policy": NO_CACHE,
}


def _failed_with(state: State[Any], errors: tuple[type[BaseException], ...]) -> bool:
    try:
        state.result()
    except errors:
        return True
    except Exception:  # noqa: BLE001  (any other error is not one of these)
        return False
    return False


def log_listener() -> EventListener:
    """A listener that writes events as log lines of the run; for stages that take seconds."""
    logger = get_run_logger()

    def listen(event: StageEvent) -> None:
        if isinstance(event, StageStarted):
            logger.info("%s: %s", event.stage, event.detail or "started")
        elif isinstance(event, StageNotice):
            logger.warning("%s: %s", event.stage, event.message)

    return listen


class ProgressReporter:
    """A listener that writes log lines and updates one progress bar per stage, which the UI and `make demo` show.

    A stage may have steps with their own counts. Before the stage's own count starts, the bar restarts with each step
    ("encode" before "train"); afterwards steps only change the text ("validate" after an epoch).
    """

    def __init__(self, stage: str, advisor: str) -> None:
        self.stage, self.logger, self.lines = stage, get_run_logger(), log_listener()
        self.key = artifact_key("progress", stage, advisor)
        self.artifact: UUID | None = None
        self.updated, self.counted, self.tenths = 0.0, "", 0
        self.own: float | None = None  # percent of the stage's own count

    def __call__(self, event: StageEvent) -> None:
        """Handle one event."""
        if isinstance(event, StageProgressed):
            self._advance(event)
        elif isinstance(event, StageFinished) and event.stage == self.stage:
            self._show(100.0, "done")
        else:
            self.lines(event)

    def _advance(self, event: StageProgressed) -> None:
        percent = min(100.0, 100.0 * event.done / event.total) if event.total else 0.0
        if event.stage == self.stage:
            self.own = percent
        counted = self.stage if self.own is not None else event.stage
        if counted != self.counted:
            self.counted, self.tenths, self.updated = counted, 0, 0.0
        percent = percent if self.own is None else self.own
        step = "" if event.stage == self.stage else f"{event.stage} "
        text = HASH_PATTERN.sub(r"\1", f"{step}{event.done} of {event.total or '?'} {event.detail}".strip())
        if time.monotonic() - self.updated >= UPDATE_SECONDS:
            self._show(percent, text)
        if percent // LOG_STEP_PERCENT > self.tenths:
            self.tenths = int(percent // LOG_STEP_PERCENT)
            self.logger.info("%s: %s (%.0f %%)", self.stage, text, percent)

    def _show(self, percent: float, text: str) -> None:
        """Update the bar; an unreachable server must not stop the work, so nothing is sent again or soon after."""
        self.updated, text = time.monotonic(), without_local_paths(f"{self.stage}: {text}")
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                if self.artifact is None:
                    made = create_progress_artifact(progress=percent, key=self.key, description=text)
                    self.artifact = made if isinstance(made, UUID) else None
                else:
                    update_progress_artifact(self.artifact, progress=percent, description=text)
        except (httpx.HTTPError, PrefectException) as error:
            self.updated = time.monotonic() + OUTAGE_PAUSE_SECONDS
            self.logger.debug("the progress could not be published: %s", error)


class TracebackFilter(logging.Filter):
    """Removes the traceback of errors whose message already says what happened and what to do.

    Prefect raises `FailedRun` for a flow that returned the state Failed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record; those of our own errors without traceback."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, MondrianError | FailedRun):
            record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
        return True


TRACEBACK_FILTER = TracebackFilter()


def _detach_from_worker() -> None:
    """Keep this run alive when its worker dies: only the broken pipe would end it."""
    home = PREFECT_HOME.value()
    liveness.hold_run_lock(home, str(runtime.flow_run.get_id()))
    with suppress(OSError):  # a full disk: the run keeps the pipe
        processes.redirect_pipe_to_file(home / RUNS_LOG)


def fail_without_traceback(body: FlowBody) -> FlowBody:
    """Decorate a flow: one of our own errors becomes the message of the state Failed, without a traceback.

    The run holds a run lock (tasks/liveness.py), so that `mondrian up` can distinguish it from one without a process.

    The log filter stays installed: Prefect logs the failure again after the body has returned. The body's annotations
    must be objects, not strings (no `from __future__ import annotations`), or Prefect finds no types for the form.
    """

    @functools.wraps(body)
    def run(*arguments: Any, **options: Any) -> Any:
        for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
            logging.getLogger(name).addFilter(TRACEBACK_FILTER)
        try:
            with translate_foreign_errors():
                if runtime.deployment.get_id():
                    _detach_from_worker()
                state = body(*arguments, **options)
        except MondrianError as error:
            state = Failed(message=without_local_paths(str(error)))
        relay_run_events()  # not after a cancellation, which must not wait for a server
        if isinstance(state, State) and state.message:
            state.message = without_local_paths(state.message)
        return state

    return run  # type: ignore[return-value]
