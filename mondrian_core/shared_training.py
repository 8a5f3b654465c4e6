"""One training that any machine may do: which machine does it, and whether it still works (MONDRIAN_SHARED).

    SHARED/trainings/NAME/request.json   what to train
    SHARED/trainings/NAME/0001/          the first attempt
                           holder.json   which machine, and a number that grows while it works

Dataset, checkpoints and run are published by the stages (mondrian_core/shared_storage). An attempt begins by creating
its folder, which succeeds for one machine; a later attempt has the higher number, and a holder that slept stops when it
sees it. Trainings are deterministic, so a checkpoint that it published meanwhile is one of the same training. No clock
is compared: an observer watches the number grow by its own clock.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mondrian_core.errors import BadInput, NegativeOutcome
from mondrian_core.files import read_json, write_json

IDENTITY_FILE = "mondrian-shared.json"
REQUEST_FILE, HOLDER_FILE = "request.json", "holder.json"


class TrainingSuperseded(NegativeOutcome):
    """Another machine has taken this training over; what this one computes is not used."""


@dataclass(frozen=True)
class TrainingRequest:
    """What to train: the advisor, the run of the retraining, its dataset's digest, and the base model's fingerprint."""

    advisor: str
    run: str
    dataset: str
    base: str

    @property
    def name(self) -> str:
        """Names the training: a run that is repeated with changed critiques trains another dataset."""
        return f"{self.run}-{self.dataset[:12]}"


@dataclass(frozen=True)
class AttemptSign:
    """A sign of life: the attempt's number (0: none has begun), its machine, and its growing count."""

    attempt: int = 0
    machine: str = ""
    beat: int = -1


def require_shared_folder(shared: Path | None) -> Path:
    """The shared folder, absolute.

    Raises:
        BadInput: none is set, it is a URL, or it doesn't exist here.
    """
    if shared is None:
        raise BadInput(
            "Machines exchange datasets and trainings through a shared folder, and none is set.",
            "Set MONDRIAN_SHARED to the folder as this machine sees it (docs/how-to/several-machines.md).",
        )
    if ":/" in str(shared):
        raise BadInput(
            f"MONDRIAN_SHARED is {shared}: trainings are exchanged through a folder only.",
            "Mount it, and set MONDRIAN_SHARED to the folder.",
        )
    folder = shared.expanduser().absolute()
    if not folder.is_dir():
        raise BadInput(f"The shared folder {folder} does not exist here.", "Mount it, or correct MONDRIAN_SHARED.")
    return folder


def read_shared_id(shared: Path, *, create: bool = False) -> str:
    """What identifies the shared folder, under whatever path a machine sees it.

    Args:
        shared: the folder.
        create: give it an identity when it has none; only the data machine does.

    Raises:
        BadInput: it has none.
    """
    path = shared / IDENTITY_FILE
    if create and not path.is_file():
        write_json(path, {"id": uuid.uuid4().hex})
    try:
        return str(read_json(path)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{shared} is not the shared folder of a data machine: it has no {IDENTITY_FILE}.",
            "Set MONDRIAN_SHARED to the folder that the data machine shares, as this machine sees it.",
        ) from None


class SharedTraining:
    """One training in the shared folder, by `TrainingRequest.name`."""

    def __init__(self, shared: Path, name: str) -> None:
        self.folder = shared / "trainings" / name

    def publish_request(self, request: TrainingRequest) -> None:
        """Write what to train."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / REQUEST_FILE, asdict(request))

    def read_request(self) -> TrainingRequest:
        """What to train.

        Raises:
            BadInput: there is none.
        """
        try:
            return TrainingRequest(**read_json(self.folder / REQUEST_FILE))
        except FileNotFoundError:
            raise BadInput(
                f"There is no training {self.folder.name} in the shared folder.",
                "Compare MONDRIAN_SHARED on both machines.",
            ) from None

    def begin_attempt(self, machine: str) -> TrainingAttempt:
        """Begin the next attempt; whoever holds an earlier one has lost it from now on."""
        while True:
            number = self._last() + 1
            folder = self.folder / f"{number:04d}"
            with suppress(FileExistsError):  # another machine was faster
                folder.mkdir()
                return TrainingAttempt(training=self, number=number, machine=machine)

    def sign(self) -> AttemptSign:
        """The last attempt's sign of life."""
        number = self._last()
        if number == 0:
            return AttemptSign()
        try:
            holder = read_json(self.folder / f"{number:04d}" / HOLDER_FILE)
            return AttemptSign(number, str(holder["machine"]), int(holder["beat"]))
        except (OSError, ValueError, KeyError, TypeError):
            return AttemptSign(number)

    def _attempts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir())

    def _last(self) -> int:
        return max((int(path.name) for path in self._attempts()), default=0)


@dataclass(kw_only=True)
class TrainingAttempt:
    """One machine's attempt at a training."""

    training: SharedTraining
    number: int
    machine: str
    beats: int = 0

    @property
    def folder(self) -> Path:
        """What this attempt alone writes."""
        return self.training.folder / f"{self.number:04d}"

    def renew(self) -> None:
        """Give a sign of life.

        Raises:
            TrainingSuperseded: a later attempt has begun.
        """
        if (last := self.training._last()) > self.number:
            raise TrainingSuperseded(f"Attempt {last} has taken this training over from attempt {self.number}.")
        self.beats += 1
        write_json(self.folder / HOLDER_FILE, {"machine": self.machine, "beat": self.beats})
