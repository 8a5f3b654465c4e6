"""The log of a running service: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from mondrian_core.events import (
    EventListener,
    StageEvent,
    StageFinished,
    StageNotice,
    StageProgressed,
    StageStarted,
    ignore_events,
)
from mondrian_core.store import Job

LOGGER_NAME = "mondrian.service"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        facts = getattr(record, "facts", {})
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage(), **facts}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def json_log_listener(level: str = "INFO", *, quiet: bool = False) -> EventListener:
    """A listener that writes events as log lines, progress by tenths; uvicorn's warnings likewise."""
    if quiet:
        return ignore_events
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    for name in (LOGGER_NAME, "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level.upper() if name == LOGGER_NAME else "WARNING")
    log = logging.getLogger(LOGGER_NAME)
    tenths: dict[str, int] = {}  # of each stage's progress that are logged

    def listen(event: StageEvent) -> None:
        if isinstance(event, StageStarted):
            tenths[event.stage] = 0
            log.info(event.detail or f"{event.stage} started", extra=_about(event))
        elif isinstance(event, StageProgressed) and event.total:
            tenth = 10 * event.done // event.total
            if tenth > tenths.get(event.stage, 0):
                tenths[event.stage] = tenth
                log.info("%d of %d %s", event.done, event.total, event.detail, extra=_about(event))
        elif isinstance(event, StageNotice):
            log.info(event.message, extra=_about(event))
        elif isinstance(event, StageFinished):
            log.info("%s ended", event.stage, extra={"facts": dict(event.summary)})

    return listen


def _about(event: StageStarted | StageProgressed | StageNotice) -> dict[str, Any]:
    return {"facts": {"about": event.stage}}


def job_finished_event(job: Job) -> StageEvent:
    """The event of a job that ended."""
    facts = {
        "job_id": job.id,
        "status": job.status,
        "advisor": job.advisor,
        "requested_mode": job.requested_mode,
        "mode": job.mode,
        "model_used": job.model_used,
        "adapter_version": job.adapter_version,
        "seconds": job.details.get("seconds"),
        "error": job.error,
    }
    return StageFinished("job", {name: value for name, value in facts.items() if value is not None})
