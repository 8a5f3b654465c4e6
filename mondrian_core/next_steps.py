"""Which command comes next, on the way from an empty folder to an advisor's own adapter: the one place that words it.

Commands are in backticks and run as they are written; only FOLDER and FILE stand for something that the reader has.
`continue_with_options` adds the options that a command was called with, so that the next one finds the same workspace.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

EXAMPLE_NAME = "Ansel Adams"
START_COMMAND = "`mondrian start`"
_COMMAND = re.compile(r"`(mondrian [^`]+)`")
_SHARED_OPTIONS = ("--workspace", "--adapters", "--base-model")


@dataclass(frozen=True, kw_only=True)
class AdvisorCounts:
    """What a workspace holds of one advisor.

    Attributes:
        advisor: id.
        photographs: the advisor's own ones, and those that are there for every advisor.
        critiques: photographs with a complete critique by a person.
        versions: adapter versions in the registry.
        active_version: the champion; None: the base model alone answers.
        other_critiques: rows that don't count: incomplete, by a model, or a further one of the same photograph.
        own_photographs: those that belong to this advisor alone.
    """

    advisor: str
    photographs: int
    critiques: int
    versions: int = 0
    active_version: str | None = None
    other_critiques: int = 0
    own_photographs: int = 0


def quoted_command(*words: str) -> str:
    """A `mondrian` command in backticks, quoted for a shell."""
    return f"`{shlex.join(('mondrian', *words))}`"


def base_download_command(base_model: str, *options: str) -> str:
    """The command that downloads a base model, or completes an interrupted download."""
    return quoted_command("download", "--base-model", base_model, *options)


def add_advisor_step(wanted: str = EXAMPLE_NAME) -> str:
    """What to do without an advisor, or to add `wanted`."""
    return f"Add an advisor: {quoted_command('advisors', 'add', wanted)}. The guided way: {START_COMMAND}."


def unknown_advisor_step(wanted: str, known: Sequence[str]) -> str:
    """What to do when no advisor has the ID `wanted`."""
    if not known:
        return add_advisor_step(wanted)
    return (
        f"Choose one of them with --advisor ({quoted_command('advisors', 'list')}), or add another: "
        f"{quoted_command('advisors', 'add', wanted)}."
    )


def import_photographs_step(advisor: str, *, portfolio: bool = False) -> str:
    """What to do when an advisor has no photographs; `portfolio`: none of the advisor's own work."""
    words = ("import", "FOLDER", "--advisor", advisor, *(["--portfolio"] if portfolio else []))
    return f"Import photographs{' of the portfolio' if portfolio else ''}: {quoted_command(*words)}."


def write_critiques_step(advisor: str) -> str:
    """What to do when an advisor has photographs and no critiques."""
    return (
        f"Write critiques: {quoted_command('write', '--advisor', advisor)}, or on the page /write of `mondrian serve`. "
        f"Import critiques that you have: {quoted_command('import', 'FILE', '--advisor', advisor)}."
    )


def retrain_step(advisor: str) -> str:
    """What to do with critiques and without an adapter."""
    return f"Train an adapter: {quoted_command('retrain', '--advisor', advisor)}."


def next_step_for(counts: AdvisorCounts) -> str:
    """The next step for an advisor, by what is there."""
    if counts.critiques == 0:
        return write_critiques_step(counts.advisor) if counts.photographs else import_photographs_step(counts.advisor)
    if counts.active_version is None and counts.versions == 0:
        return retrain_step(counts.advisor)
    if counts.active_version is None:
        return f"Compare the versions: {quoted_command('adapters', 'list', '--advisor', counts.advisor)}."
    return f"Start the service: {quoted_command('serve', '--model-mode', 'fine_tuned')}."


def continue_with_options(text: str, words: Sequence[str]) -> str:
    """The text, with the workspace, registry and base model of a command line added to the commands that it names.

    Args:
        text: sentences with commands in backticks.
        words: of the command line, with option names spelled with dashes.
    """
    given = _shared_options(words)

    def extend(found: re.Match[str]) -> str:
        command = found[1]
        missing = [(name, value) for name, value in given if not re.search(rf"{name}[ =]", command)]
        if command.startswith("mondrian prefect"):
            missing = [(name, value) for name, value in missing if name == "--workspace"]
            added = "".join(f" {name} {shlex.quote(value)}" for name, value in missing)
            return f"`{command.replace('mondrian prefect', f'mondrian prefect{added}', 1)}`"
        return f"`{command}{''.join(f' {name} {shlex.quote(value)}' for name, value in missing)}`"

    return _COMMAND.sub(extend, text)


def runnable_commands(text: str) -> list[list[str]]:
    """The words of each command in a text, without `mondrian`; for tests and for pages."""
    return [shlex.split(found)[1:] for found in _COMMAND.findall(text)]


def _shared_options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Each of the shared options that was given, with its last value."""
    given: dict[str, str] = {}
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word == "--":
            break
        if name in _SHARED_OPTIONS and (equals or position + 1 < len(words)):
            given[name] = value if equals else words[position + 1]
    return list(given.items())
