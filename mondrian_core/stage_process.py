"""Run one stage as a process: `python -m mondrian_core.stage_process STAGE CONTEXT.json [LOCK]`.

A stage on the accelerator can then be stopped, time out or crash without ending anything else. Progress goes to
standard output as JSON lines, the result to `<run folder>/<stage>.json`, an error for the user to
`<run folder>/<stage>.error.json`; the exit status is the documented one. LOCK is the inherited descriptor of the
accelerator lock; without it the stage takes the lock itself.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mondrian_core import accelerator_lock
from mondrian_core.errors import DiskFull, MondrianError, translate_foreign_errors
from mondrian_core.events import StageEvent
from mondrian_core.files import write_json
from mondrian_core.stages import STAGES, STANDALONE_STAGES, StageContext, error_as_dict

INTERRUPTED_STATUS = 130
DISK_FULL_STATUS = errno.ENOSPC  # as an exit status, because no file can be written then
ALL_STAGES = {**STAGES, **STANDALONE_STAGES}


def print_event(event: StageEvent) -> None:
    """Print an event as one JSON line; a full disk for the log must not end the work."""
    with suppress(OSError):
        print(json.dumps({"event": type(event).__name__, **asdict(event)}, default=str), flush=True)


def run_stage(stage: str, context: StageContext) -> int:
    """Run one stage; gives the exit status, DISK_FULL_STATUS when no space is left to record the error."""
    try:
        return _run(stage, context)
    except DiskFull:
        return DISK_FULL_STATUS


def _run(stage: str, context: StageContext) -> int:
    failure = context.run_folder / f"{stage}.error.json"
    failure.unlink(missing_ok=True)
    try:
        with translate_foreign_errors(context.run_folder):
            ALL_STAGES[stage](context, print_event)
    except DiskFull:
        raise
    except MondrianError as error:
        write_json(failure, error_as_dict(error))
        _say(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except Exception as error:  # noqa: BLE001  (the parent gets a sentence for every error)
        _say(traceback.format_exc())
        next_step = "The log of this run has the traceback; please report it."
        write_json(failure, {"problem": f"{type(error).__name__}: {error}.", "next_step": next_step, "exit_status": 3})
        return 3
    return 0


def _say(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) not in (2, 3) or given[0] not in ALL_STAGES:
        stages = ",".join(ALL_STAGES)
        print(f"Usage: python -m mondrian_core.stage_process {{{stages}}} CONTEXT.json [LOCK]", file=sys.stderr)
        return 2
    if len(given) == 3:
        accelerator_lock.adopt_inherited_work_lock(int(given[2]))
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    status = run_stage(given[0], StageContext.load(Path(given[1])))
    try:
        sys.stdout.flush()
    except OSError:  # unwritten output would change Python's exit status
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main())
