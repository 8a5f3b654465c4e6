"""The log of a running service: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from mondrian_core.events import EventListener, StageEvent, StageFinished, StageNotice, ignore_events
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
    """A listener that writes events as log lines; uvicorn's warnings are logged the same way."""
    if quiet:
        return ignore_events
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    for name in (LOGGER_NAME, "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level.upper() if name == LOGGER_NAME else "WARNING")
    log = logging.getLogger(LOGGER_NAME)

    def listen(event: StageEvent) -> None:
        if isinstance(event, StageNotice):
            log.info(event.message, extra={"facts": {"about": event.stage}})
        elif isinstance(event, StageFinished):
            log.info("%s ended", event.stage, extra={"facts": dict(event.summary)})

    return listen


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
