"""One training that any machine may do: what the machines exchange through the shared folder (MONDRIAN_SHARED).

    SHARED/datasets/ADVISOR/DIGEST/      dataset versions, complete when visible
    SHARED/trainings/NAME/request.json   what to train
    SHARED/trainings/NAME/0001/          the first attempt; its machine writes here and nowhere else
                          /holder.json   which machine, and a number that grows while it works
                          /files/        checkpoint, log and adapter of its run folder
                          /done.json     the attempt has finished

An attempt begins by creating its folder, which succeeds for one machine. A later attempt has the higher number and
begins with the checkpoint of the one before. A holder that slept therefore damages nothing when it wakes up: it writes
into its own folder, which nobody reads any more, and stops when it sees the higher number. No clock is compared: an
observer watches the number grow by its own clock.
"""

from __future__ import annotations

import json
import shutil
import struct
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadInput, Broken, NegativeOutcome
from mondrian_core.files import read_json, replace_atomic, write_json

CHECKPOINT_NAME = "checkpoint.safetensors"
KEPT_BACK = ("context.json", "*.error.json", "*.log", ".*", "*.tmp")  # a machine's own business
IDENTITY_FILE = "mondrian-shared.json"
REQUEST_FILE, HOLDER_FILE, DONE_FILE, FILES_FOLDER = "request.json", "holder.json", "done.json", "files"


class TrainingSuperseded(NegativeOutcome):
    """Another machine has taken this training over; what this one computes is not used."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train.

    Attributes:
        advisor: whose adapter.
        run: name of the retraining's run.
        dataset: digest of the published dataset.
        base: fingerprint of the base model; another one would train another adapter.
        recipe: values of the recipe.
    """

    advisor: str
    run: str
    dataset: str
    base: str
    recipe: dict[str, Any]

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
            "Set MONDRIAN_SHARED to the folder as this machine sees it (docs/several-machines.md).",
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


def publish_dataset(shared: Path, dataset: Path, advisor: str, digest: str) -> Path:
    """Copy a dataset version to the shared folder; it is complete when it becomes visible."""
    return _copy_complete(dataset, shared / "datasets" / advisor / digest)


def fetch_dataset(shared: Path, advisor: str, digest: str, datasets: Path) -> Path:
    """Copy a published dataset version to `datasets` of this machine and verify it.

    Raises:
        BadInput: it was not published.
        Broken: its files differ from their hashes.
    """
    from mondrian_core.data.dataset.version import changed_dataset_files, load_dataset_version

    local, published = datasets / advisor / digest, shared / "datasets" / advisor / digest
    if not local.is_dir():
        if not published.is_dir():
            raise BadInput(
                f"The dataset {digest[:12]} is not in {shared}.", "Compare MONDRIAN_SHARED on both machines."
            )
        _copy_complete(published, local)
    changed = changed_dataset_files(load_dataset_version(local))
    if changed:
        shutil.rmtree(local)
        raise Broken(f"The copy of the dataset {digest[:12]} is damaged: {changed[0]}.", "Run the retraining again.")
    return local


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

    def fetch_result(self, run_folder: Path) -> bool:
        """Copy the files of the last attempt to a run folder; False when it has not finished."""
        number = self._last()
        attempt = self.folder / f"{number:04d}"
        if not (attempt / DONE_FILE).is_file():
            return False
        _copy_files(attempt / FILES_FOLDER, run_folder, _files_of(attempt / FILES_FOLDER))
        return True

    def restore_checkpoint(self, run_folder: Path, before: int) -> int:
        """Copy the furthest checkpoint of earlier attempts to a run folder that isn't further; gives its step.

        Args:
            run_folder: of this machine.
            before: number of the attempt that begins.
        """
        found = [
            (step, folder / FILES_FOLDER)
            for folder in self._attempts()
            if int(folder.name) < before and (step := checkpoint_step(folder / FILES_FOLDER)) >= 0
        ]
        step, files = max(found, default=(-1, Path()), key=lambda each: each[0])
        own = checkpoint_step(run_folder)
        if step > own:
            _copy_files(files, run_folder, _files_of(files))
        return max(step, own)

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
    published: dict[str, tuple[int, int]] = field(default_factory=dict)

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

    def publish(self, run_folder: Path) -> None:
        """Copy files of the run folder that have changed; the checkpoint first, so that its log is never shorter."""
        fresh = {}
        for path in _files_of(run_folder):
            with suppress(FileNotFoundError):  # replaced meanwhile; the next call copies it
                facts = path.stat()
                fresh[path] = (facts.st_mtime_ns, facts.st_size)
        changed = [path for path, facts in fresh.items() if self.published.get(str(path)) != facts]
        changed.sort(key=lambda path: path.name != CHECKPOINT_NAME)
        _copy_files(run_folder, self.folder / FILES_FOLDER, changed)
        self.published |= {str(path): fresh[path] for path in changed}

    def finish(self, run_folder: Path) -> None:
        """Publish the result.

        Raises:
            TrainingSuperseded: a later attempt has begun.
        """
        self.publish(run_folder)
        self.renew()
        write_json(self.folder / DONE_FILE, {"machine": self.machine})


def checkpoint_step(folder: Path) -> int:
    """How many optimizer steps the checkpoints below a folder have behind them; -1 without one.

    A training with preference tuning has a checkpoint for each of its two phases.
    """
    return sum(_step_of(path) + 1 for path in folder.rglob(CHECKPOINT_NAME)) - 1


def _step_of(checkpoint: Path) -> int:
    try:
        with checkpoint.open("rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        return int(json.loads(header["__metadata__"]["progress"])["step"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return -1


def _files_of(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path.match(pattern) for pattern in KEPT_BACK)
    ]


def _copy_files(source: Path, target: Path, files: Iterable[Path]) -> None:
    """Copy files to the same places below another folder, each complete when it becomes visible."""
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            replace_atomic(place, lambda temporary, path=path: shutil.copyfile(path, temporary))  # type: ignore[misc]


def _copy_complete(source: Path, target: Path) -> Path:
    """Copy a folder whose content its name identifies, so an existing copy is the same one."""
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, copy_function=shutil.copyfile)
        try:
            partial.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(partial, ignore_errors=True)
            if not target.is_dir():
                raise
    return target
