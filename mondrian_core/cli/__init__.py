"""The `mondrian` command: parse arguments, call one function, print its result.

Exit status: 0 done, 1 the answer is no, 2 wrong usage or bad input, 3 something broke, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import BoundArguments
from typing import Any

from cyclopts import App, CycloptsError

from mondrian_core.cli.app import HELP_ALL, NO_COMMANDS, CommandTable, build_app
from mondrian_core.cli.legacy_options import translate_legacy_options
from mondrian_core.errors import BadInput, MondrianError, translate_foreign_errors
from mondrian_core.next_steps import continue_with_options

EXIT_INTERRUPTED = 130
PREFECT_COMMAND = "prefect"
COMMANDS_WITH_EVENTS = {  # they change champions, verdicts or critiques
    "promote_command",
    "rollback_command",
    "evaluate_command",
    "retrain_command",
    "advance_rollout_command",
    "set_rollout_share_command",
    "import_adapter_command",
    "import_command",
    "review_command",
    "write_command",
}


def main(arguments: list[str] | None = None, extra_commands: CommandTable = NO_COMMANDS) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json, debug = "--json" in words, "--debug" in words
    try:
        with translate_foreign_errors():
            words = normalize_words(words)
            command, bound = parse_command(words, lambda change: print(change, file=sys.stderr), extra_commands)
            if isinstance(getattr(command, "__self__", None), App):  # it prints help or the version
                command(*bound.args, **bound.kwargs)
                return 0 if {"--help", "-h", HELP_ALL, "--version"} & set(words) else 2
            with _hold_accelerator_if_no_wait(bound, words[0]):
                try:
                    return int(command(*bound.args, **bound.kwargs) or 0)
                finally:
                    _tell_prefect(command, bound)
    except MondrianError as error:
        next_step = continue_with_options(error.next_step, words)
        return _print_error(error.problem, next_step, error.exit_status, as_json=as_json, debug=debug)
    except KeyboardInterrupt:
        return _print_error(
            "Interrupted.",
            "Completed work is kept; run the command again.",
            EXIT_INTERRUPTED,
            as_json=as_json,
            debug=debug,
        )
    except BrokenPipeError:
        # The reader (head, less) has exited. Python would report the closed pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (the user gets one paragraph, whatever fails)
        return _print_error(
            f"Internal error: {type(error).__name__}: {error}.",
            "Run the command again with --debug for the traceback, and report it.",
            3,
            as_json=as_json,
            debug=debug,
        )


def normalize_words(words: list[str]) -> list[str]:
    """Spell option names with dashes (--lora_path=X -> --lora-path=X), up to `--`.

    Everything that follows `prefect` and its --workspace belongs to Prefect: a `--` is put in front of it.
    """
    if words[:1] == [PREFECT_COMMAND]:
        start = 1
        while start < len(words) and words[start].partition("=")[0] == "--workspace":
            start += 1 if "=" in words[start] else 2
        if start < len(words) and words[start] not in ("--", "--help", "-h"):
            words = [*words[:start], "--", *words[start:]]
    end = words.index("--") if "--" in words else len(words)
    return [*map(_with_dashes, words[:end]), *words[end:]]


def _with_dashes(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def parse_command(
    words: list[str], on_translated: Callable[[str], None], extra_commands: CommandTable = NO_COMMANDS
) -> tuple[Callable[..., Any], BoundArguments]:
    """The command that normalized words name, and its arguments. `on_translated` is called for each legacy option.

    Raises:
        BadInput: no such command or option, or a value of the wrong type.
    """
    words = translate_legacy_options(words, on_translated)
    expert = HELP_ALL in words
    app = build_app(expert_help=expert, extra_commands=extra_commands)
    try:
        command, bound, _ = app.parse_args(["--help" if word == HELP_ALL else word for word in words])
    except CycloptsError as error:
        chain, _, _ = app.parse_commands(words)
        raise BadInput(
            " ".join(str(error).split()), f"`{' '.join(('mondrian', *chain))} --help` lists what can be given."
        ) from error
    bound.apply_defaults()
    return command, bound


@contextmanager
def _hold_accelerator_if_no_wait(bound: BoundArguments, command: str) -> Iterator[None]:
    """With --no-wait: take the accelerator before anything is done, or fail."""
    if not getattr(bound.arguments.get("options"), "no_wait", False):
        yield
        return
    from mondrian_core import accelerator_lock

    with accelerator_lock.hold_work_lock(
        accelerator_lock.accelerator_lock_path(), lambda text: None, f"mondrian {command}", wait=False
    ):
        yield


def _tell_prefect(command: Callable[..., Any], bound: BoundArguments) -> None:
    """Send the events of what a command changed to the workspace's Prefect server, if one runs."""
    options = bound.arguments.get("options")
    if getattr(command, "__name__", "") not in COMMANDS_WITH_EVENTS or options is None:
        return
    from mondrian_core.cli.options import settings_from_options
    from mondrian_core.domain_events import relay_now

    relay_now(settings_from_options(options), getattr(options, "advisor", None))


def _print_error(problem: str, next_step: str, status: int, *, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if as_json:
        print(json.dumps({"error": problem, "next_step": next_step, "exit_status": status}))
    else:
        print(f"{problem} {next_step}".strip(), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
