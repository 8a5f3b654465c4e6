"""The exception tree. Every error states the problem and the next step for the user.

    MondrianError                      exit status
    ├── NegativeOutcome                1   a gate failed, nothing to do
    │   ├── NothingToDo, NothingNewToTrain, AlreadyChampion
    │   ├── ChampionChanged
    │   └── GateFailed, AdapterNotLoadable
    ├── BadInput                       2   wrong usage or bad input
    │   ├── NoWorkspace, NoDatabase, UnknownAdvisor, BadPhotograph, BadRecipe
    │   ├── BadAdapter, UnknownVersion, BaseModelUnavailable, NotEnoughMemory
    └── Broken                         3   internal error
        ├── DiskFull, DatabaseBusy, DatabaseRefused, DatabaseReplaced, RegistryBusy, AcceleratorBusy, TrainingDiverged,
        │   ModelProcessDied, PrefectUnavailable, PortInUse, AnswerUnparsable

`translate_foreign_errors` turns errors of the operating system and SQLite into these.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mondrian_core.next_steps import quoted_command, unknown_advisor_step

USABLE_PHOTOGRAPH_STEP = "Give a complete JPEG, PNG, TIFF, WebP or HEIC file."


class MondrianError(Exception):
    """Base of all errors that are shown to the user.

    Attributes:
        problem: what happened, one sentence.
        next_step: what the user can do, one sentence.
    """

    exit_status = 3

    def __init__(self, problem: str, next_step: str = "") -> None:
        self.problem, self.next_step = problem, next_step
        super().__init__(f"{problem} {next_step}".strip())


class NegativeOutcome(MondrianError):
    """The command ran, with a negative result."""

    exit_status = 1


class NothingToDo(NegativeOutcome):
    """There is no work to do."""


class AlreadyChampion(NothingToDo):
    """A promotion of the version, or of the weights, that already is the champion."""


class NothingNewToTrain(NothingToDo):
    """A retraining would repeat the last one."""

    def __init__(self, advisor: str, version: str) -> None:
        super().__init__(
            f"Nothing new to train for '{advisor}': {version} was trained with the same critiques, base model, recipe, "
            "prompt and code.",
            "Train anyway with --force (as a flow: -p force=true).",
        )


class ChampionChanged(NegativeOutcome):
    """Another process promoted or rolled back in the meantime."""

    def __init__(self, advisor: str, expected: str | None, found: str | None) -> None:
        self.expected, self.found = expected, found
        wanted = expected or "the base alone"
        super().__init__(
            f"The champion of '{advisor}' is now {found or 'the base alone'}, not "
            f"{f'the {wanted} that was expected' if found == expected else wanted}.",
            f"Check `mondrian adapters list --advisor {advisor}` and decide again.",
        )


class GateFailed(NegativeOutcome):
    """A gate rejected the candidate."""


class AdapterNotLoadable(NegativeOutcome):
    """A service that needs an adapter can't load one."""


class BadInput(MondrianError):
    """The user can fix this by changing the input."""

    exit_status = 2


class NoWorkspace(BadInput):
    """The workspace folder doesn't exist."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"There is no workspace at {path}.",
            f"Create one: {quoted_command('init', '--workspace', str(path))} (add --sample for rendered photographs), "
            "or give another with --workspace or MONDRIAN_WORKSPACE.",
        )


class NoDatabase(BadInput):
    """The workspace has no usable database."""

    def __init__(self, path: Path, why: str = "it is missing") -> None:
        super().__init__(
            f"The database {path} can't be used: {why}.",
            f"Create one: {quoted_command('init', '--workspace', str(path.parent))}, or copy your mondrian.db there.",
        )


class UnknownAdvisor(BadInput):
    """No advisor has that ID."""

    def __init__(self, advisor: str, known: list[str]) -> None:
        have = ", ".join(known) if known else "none yet"
        super().__init__(
            f"There is no advisor '{advisor}' in this workspace (known: {have}).",
            unknown_advisor_step(advisor, known),
        )


class BadPhotograph(BadInput):
    """A file that isn't a usable photograph.

    Attributes:
        reason: one of the reasons in `images`.
        detail: the problem without the file's name, without a full stop.
    """

    def __init__(self, path: Path | str, reason: str, detail: str = "", next_step: str = "") -> None:
        self.reason, self.detail = reason, detail or reason
        super().__init__(
            f"{path} can't be used as a photograph: {self.detail}.",
            next_step or USABLE_PHOTOGRAPH_STEP,
        )


class BadRecipe(BadInput):
    """An invalid recipe; the message names all of its errors."""


class BadAdapter(BadInput):
    """An adapter that doesn't match its base model, is damaged, or has no effect."""


class UnknownVersion(BadInput):
    """No such adapter version."""


class BaseModelUnavailable(BadInput):
    """The base model can't be loaded."""


class NotEnoughMemory(BadInput):
    """A training or a base would take more memory than this machine has for it."""


class Broken(MondrianError):
    """An error that different input would not fix."""

    exit_status = 3


class DiskFull(Broken):
    """No space is left for a file."""

    def __init__(self, path: Path | str | None = None) -> None:
        where = f" while writing {path}" if path else ""
        super().__init__(
            f"The disk is full{where}.", "Free some space and run the command again; completed work is kept."
        )


class DatabaseBusy(Broken):
    """SQLite stayed locked, or is read-only."""


class DatabaseReplaced(Broken):
    """The database file was replaced since this process opened it, or rows that it wrote are missing."""

    def __init__(self, path: Path, what: str = "was replaced or deleted while it was open") -> None:
        super().__init__(
            f"The database {path.name} {what}.",
            "Restart the service, or run the command again, so that it opens the current database.",
        )


class RegistryBusy(Broken):
    """Another process holds the registry's lock."""

    def __init__(self, lock: Path) -> None:
        super().__init__(
            f"Another process has been writing to {lock.parent} for too long.",
            "Wait for it, or stop it, and run the command again. A lock ends with its process.",
        )


class AcceleratorBusy(Broken):
    """Another process of this machine uses the accelerator."""

    def __init__(self, holder: str) -> None:
        super().__init__(
            f"The accelerator is in use ({holder}).",
            "Wait and run the command again; without --no-wait a command waits until the accelerator is free.",
        )


class TrainingDiverged(Broken):
    """The loss or a gradient became NaN or infinite."""


class ModelProcessDied(Broken):
    """The model process ended unexpectedly."""


class DatabaseRefused(Broken):
    """A constraint or trigger of the database rejected a write; nothing was changed."""


class AnswerUnparsable(Broken):
    """The model's answer could not be parsed, even after a retry."""


class PrefectUnavailable(Broken):
    """The Prefect server or worker can't be reached."""


class PortInUse(Broken):
    """Another process listens on the port; `owner` describes it."""

    def __init__(self, port: int, owner: str = "another process") -> None:
        self.port, self.owner = port, owner
        super().__init__(
            f"Port {port} is taken by {owner}.", "Stop that, or choose another with --port or --service-port."
        )


def error_with_status(status: int, problem: str, next_step: str = "") -> MondrianError:
    """The error for something that ended with this exit status; an unknown one counts as `Broken`."""
    kind = {1: NegativeOutcome, 2: BadInput}.get(status, Broken)
    return kind(problem, next_step)


@contextmanager
def translate_foreign_errors(path: Path | str | None = None) -> Iterator[None]:
    """Turn errors of the operating system and SQLite into a MondrianError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(error.filename or path) from error
        raise
    except sqlite3.IntegrityError as error:
        raise _database_refused(path, error) from error
    except sqlite3.OperationalError as error:
        text = str(error)
        if "cannot modify" in text:
            raise _database_refused(path, error) from error
        if "full" in text:
            raise DiskFull(path) from error
        if "locked" in text or "readonly" in text:
            raise DatabaseBusy(
                f"The database {path or ''} can't be written: {text}.",
                "Close the other program that uses it, or check its permissions, and run the command again.",
            ) from error
        raise


def _database_refused(path: Path | str | None, error: sqlite3.Error) -> DatabaseRefused:
    return DatabaseRefused(
        f"A constraint of the database {path or ''} rejected the row ({error}); nothing was changed.",
        "Look at the table's definition (`.schema` in sqlite3), and remove the constraint or fix the row.",
    )
