"""The command line: arguments in, one call, rendering out.

Exit status: 0 done, 1 the answer is no, 2 wrong usage or bad input, 3 something broke, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mondrian_core import accelerator_lock
from mondrian_core.cli.legacy_options import translate_legacy_options
from mondrian_core.cli.parser import build_parser, normalize_option_names
from mondrian_core.errors import BadInput, MondrianError, translate_foreign_errors

EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; give its exit status."""
    given = normalize_option_names(sys.argv[1:] if arguments is None else arguments)
    try:
        given = translate_legacy_options(given, lambda change: print(change, file=sys.stderr))
    except BadInput as error:
        early = Namespace(json="--json" in given, debug="--debug" in given)
        return _print_error(early, error.problem, error.next_step, error.exit_status)
    options = build_parser().parse_args(given)
    try:
        with translate_foreign_errors(), _hold_accelerator_if_no_wait(options):
            return int(options.run(options))
    except MondrianError as error:
        return _print_error(options, error.problem, error.next_step, error.exit_status)
    except KeyboardInterrupt:
        return _print_error(
            options, "Interrupted.", "What was complete is kept; run the command again.", EXIT_INTERRUPTED
        )
    except BrokenPipeError:
        # The reader (head, less) has gone: there is nobody left to tell. Python would complain at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (a person gets one paragraph, whatever broke)
        if options.debug:
            traceback.print_exc()
        return _print_error(
            options,
            f"Mondrian broke: {type(error).__name__}: {error}.",
            "Run it again with --debug for the traceback, and report it.",
            3,
        )


@contextmanager
def _hold_accelerator_if_no_wait(options: Namespace) -> Iterator[None]:
    """With --no-wait: the accelerator is taken before anything is done, or the command fails."""
    if not getattr(options, "no_wait", False):
        yield
        return
    with accelerator_lock.hold_work_lock(
        accelerator_lock.accelerator_lock_path(), lambda text: None, f"mondrian {options.command}", wait=False
    ):
        yield


def _print_error(options: Namespace, problem: str, next_step: str, status: int) -> int:
    if options.debug and sys.exc_info()[0] is not None:
        traceback.print_exc()
    if options.json:
        answer: dict[str, Any] = {"error": problem, "next_step": next_step, "exit_status": status}
        print(json.dumps(answer))
    else:
        print(f"{problem} {next_step}".strip(), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
