"""What a running service writes down: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from mondrian_core.events import Event, Finished, Listener, Noticed, ignore
from mondrian_core.store import Job

NAME = "mondrian.service"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        facts = getattr(record, "facts", {})
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage(), **facts}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def listener(level: str = "INFO", *, quiet: bool = False) -> Listener:
    """A listener that writes events as log lines; uvicorn's warnings go the same way."""
    if quiet:
        return ignore
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in (NAME, "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level.upper() if name == NAME else "WARNING")
    log = logging.getLogger(NAME)

    def listen(event: Event) -> None:
        if isinstance(event, Noticed):
            log.info(event.message, extra={"facts": {"about": event.stage}})
        elif isinstance(event, Finished):
            log.info("%s ended", event.stage, extra={"facts": dict(event.summary)})

    return listen


def ended(job: Job) -> Event:
    """The event of a job's end."""
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
    return Finished("job", {name: value for name, value in facts.items() if value is not None})
