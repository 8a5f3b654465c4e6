"""One stage as a process of its own: `python -m mondrian_core.stage_process STAGE CONTEXT.json [LOCK]`.

Whoever holds the accelerator can then be stopped, timed out or crash without taking anything else with it. Progress
goes to standard output as JSON lines, the result to `<run folder>/<stage>.json`, an error that a user may see to
`<run folder>/<stage>.error.json`; the exit status is the documented one. LOCK is the descriptor of the
accelerator's lock when whoever began this process holds it already; without it the stage takes the lock itself.
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
DISK_FULL_STATUS = errno.ENOSPC  # as an exit status: it can be told when no file can be written
ALL_STAGES = {**STAGES, **STANDALONE_STAGES}


def print_event(event: StageEvent) -> None:
    """One event as one JSON line on standard output; a full disk must not end the work for its log."""
    with suppress(OSError):
        print(json.dumps({"event": type(event).__name__, **asdict(event)}, default=str), flush=True)


def run_stage(stage: str, context: StageContext) -> int:
    """Run one stage; give the exit status, DISK_FULL also when no space is left to say why it failed."""
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
    except Exception as error:  # noqa: BLE001  (the parent gets a sentence, whatever broke)
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
    except OSError:  # Python would exit with another status for what it can't write at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main())
