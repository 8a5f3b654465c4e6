"""One exception tree. Every error says what happened and what the user does next.

    MondrianError                      exit status
    ├── AnswerIsNo                     1   a gate failed, nothing to do
    │   ├── NothingToDo, NothingNew
    │   ├── ChampionChanged
    │   └── GateFailed, AdapterNotLoadable
    ├── BadInput                       2   wrong usage or bad input
    │   ├── NoWorkspace, NoDatabase, UnknownAdvisor, BadPhotograph, BadRecipe
    │   ├── BadAdapter, UnknownVersion, BaseModelUnavailable
    └── Broken                         3   something broke
        ├── DiskFull, DatabaseBusy, DatabaseRefused, DatabaseReplaced, RegistryBusy, AcceleratorBusy, TrainingDiverged,
        │   ModelProcessDied, PrefectUnavailable, PortInUse, AnswerUnparsable

Foreign errors are translated at the edge where they appear, by `translated`.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class MondrianError(Exception):
    """Base of all errors that a user may see.

    Attributes:
        problem: what happened, one sentence.
        next_step: what the user can do, one sentence.
    """

    exit_status = 3

    def __init__(self, problem: str, next_step: str = "") -> None:
        self.problem, self.next_step = problem, next_step
        super().__init__(f"{problem} {next_step}".strip())


class NegativeOutcome(MondrianError):
    """The command ran and the answer is no."""

    exit_status = 1


class NothingToDo(NegativeOutcome):
    """There is nothing to work on."""


class NothingNewToTrain(NothingToDo):
    """A retraining could only repeat the last one."""

    def __init__(self, advisor: str, version: str) -> None:
        super().__init__(
            f"Nothing new to learn for '{advisor}': {version} was made of the same critiques, base, recipe and prompt.",
            "Train anyway with --force (as a flow: -p force=true).",
        )


class ChampionChanged(NegativeOutcome):
    """Somebody else promoted or rolled back in between."""

    def __init__(self, advisor: str, expected: str | None, found: str | None) -> None:
        self.expected, self.found = expected, found
        wanted = expected or "the base alone"
        super().__init__(
            f"The champion of '{advisor}' is {found or 'the base alone'} by now, not "
            f"{f'the {wanted} that was expected' if found == expected else wanted}.",
            f"Look with `mondrian adapters list --advisor {advisor}` and decide again.",
        )


class GateFailed(NegativeOutcome):
    """A gate refused the candidate."""


class AdapterNotLoadable(NegativeOutcome):
    """A service that needs an adapter can't load one."""


class BadInput(MondrianError):
    """The user can mend this by other input."""

    exit_status = 2


class NoWorkspace(BadInput):
    """The workspace folder is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"There is no workspace at {path}.",
            f"Make one with `mondrian init --workspace {path}` (add --sample for rendered photographs), "
            "or name another with --workspace or MONDRIAN_WORKSPACE.",
        )


class NoDatabase(BadInput):
    """The workspace has no usable database."""

    def __init__(self, path: Path, why: str = "it is missing") -> None:
        super().__init__(
            f"The database {path} can't be used: {why}.",
            f"Run `mondrian init --workspace {path.parent}` to make one, or put your mondrian.db there.",
        )


class UnknownAdvisor(BadInput):
    """No advisor of that id."""

    def __init__(self, advisor: str, known: list[str]) -> None:
        have = ", ".join(known) if known else "none yet"
        super().__init__(
            f"There is no advisor '{advisor}' in this workspace (known: {have}).",
            "Check --advisor, or add a row to the table `advisors`.",
        )


class BadPhotograph(BadInput):
    """A file that is no usable photograph. `reason` is a word of the closed list in `images`."""

    def __init__(self, path: Path | str, reason: str, detail: str = "", next_step: str = "") -> None:
        self.reason = reason
        super().__init__(
            f"{path} can't be used as a photograph: {detail or reason}.",
            next_step or "Give a complete JPEG, PNG, TIFF, WebP or HEIC file.",
        )


class BadRecipe(BadInput):
    """A recipe with mistakes; all of them are named at once."""


class BadAdapter(BadInput):
    """An adapter that doesn't fit its base, is damaged, or does nothing."""


class UnknownVersion(BadInput):
    """No such adapter version."""


class BaseModelUnavailable(BadInput):
    """The base model can't be loaded."""


class Broken(MondrianError):
    """Something broke that other input would not mend."""

    exit_status = 3


class DiskFull(Broken):
    """No space is left where a file had to be written."""

    def __init__(self, path: Path | str | None = None) -> None:
        where = f" while writing {path}" if path else ""
        super().__init__(
            f"The disk is full{where}.", "Free some space and run the command again; what was complete is kept."
        )


class DatabaseBusy(Broken):
    """SQLite stayed locked, or is read-only."""


class DatabaseReplaced(Broken):
    """The database file is no longer the one that this process opened, or rows that it wrote are gone."""

    def __init__(self, path: Path, what: str = "was replaced or deleted while it was open") -> None:
        super().__init__(
            f"The database {path.name} {what}.",
            "Restart the service, or run the command again, so that it opens the database that is there now.",
        )


class RegistryBusy(Broken):
    """Another process keeps the registry's lock."""

    def __init__(self, lock: Path) -> None:
        super().__init__(
            f"Another process has been writing to {lock.parent} for too long.",
            "Wait for it, or end it, and run the command again; a process that died holds no lock.",
        )


class AcceleratorBusy(Broken):
    """Another process of this machine works on the accelerator."""

    def __init__(self, holder: str) -> None:
        super().__init__(
            f"The accelerator is in use ({holder}).",
            "Wait for it and run the command again; without --no-wait a command waits by itself.",
        )


class TrainingDiverged(Broken):
    """The loss or a gradient is not finite."""


class ModelProcessDied(Broken):
    """The process that holds the model went away."""


class DatabaseRefused(Broken):
    """A rule of the database's own schema (a constraint, a trigger) refused a write; nothing was changed."""


class AnswerUnparsable(Broken):
    """The model's answer could not be read, also after a second try."""


class PrefectUnavailable(Broken):
    """The Prefect server or worker can't be reached."""


class PortInUse(Broken):
    """Another process listens on the port; `owner` says which, in words."""

    def __init__(self, port: int, owner: str = "another process") -> None:
        self.port, self.owner = port, owner
        super().__init__(
            f"Port {port} is taken by {owner}.", "Stop that, or choose another with --port or --service-port."
        )


@contextmanager
def translate_foreign_errors(path: Path | str | None = None) -> Iterator[None]:
    """Turn the operating system's and SQLite's errors into ours, with the file they concern."""
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
        f"A rule of the database {path or ''} refuses the row ({error}); nothing was changed.",
        "Look at the table's definition (`.schema` in sqlite3), and remove the rule or what breaks it.",
    )
