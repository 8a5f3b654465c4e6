"""Checkpoints of a training in shared storage, so that another machine continues it and ends with the same bytes.

A thread publishes each checkpoint that the training saves; while an upload goes on, only the latest one waits. The last
two are kept, each as a manifest with its own objects below `checkpoints/<run>/`, and older ones are removed at once: a
long training would otherwise fill the storage.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from mondrian_core.errors import MondrianError
from mondrian_core.events import CheckpointSaved, EventListener, StageEvent, StageNotice
from mondrian_core.files import copy_atomic, make_folder
from mondrian_core.shared_storage.publication import SharedStorage, object_path, require_name

KEPT = 2
CHECKPOINT = "checkpoint.safetensors"
PREFERENCE = "preference"
LEAVE_SECONDS = 60.0  # an upload that goes on when the training ends


def checkpoint_file_step(file: Path) -> int:
    """Finished optimizer steps of a checkpoint; -1 when there is none that can be read."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return int(json.loads(header["__metadata__"]["progress"])["step"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return -1


def resumable_files(folder: Path) -> dict[str, Path]:
    """What a training needs to go on, by relative path; the checkpoints last."""
    names = [folder / "training_log.jsonl", folder / "trained_on.json", *(folder / "adapter").glob("*")]
    names += sorted((folder / PREFERENCE).rglob("*"))
    found = {path.relative_to(folder).as_posix(): path for path in (*names, folder / CHECKPOINT) if path.is_file()}
    return dict(sorted(found.items(), key=lambda item: (item[1].name == CHECKPOINT, len(item[1].parts))))


def training_position(folder: Path) -> tuple[int, int]:
    """Finished steps of the supervised phase and of preference tuning; -1 before the first checkpoint."""
    return checkpoint_file_step(folder / CHECKPOINT), checkpoint_file_step(folder / PREFERENCE / CHECKPOINT)


class CheckpointPublisher:
    """Publishes the checkpoints of one run in the background; use as a context manager and as a listener.

    Args:
        storage: where to.
        folder: the run's folder.
        listen: receives a notice when a checkpoint could not be published; the training goes on.
    """

    def __init__(self, storage: SharedStorage, folder: Path, listen: EventListener) -> None:
        self._storage, self._folder, self._listen = storage, folder, listen
        self._place = f"checkpoints/{require_name(folder.name)}"
        self._wake, self._saved, self._leaving = threading.Condition(), False, False
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="checkpoint publisher", daemon=True)

    def __call__(self, event: StageEvent) -> None:
        """Take note of a saved checkpoint; returns at once."""
        if isinstance(event, CheckpointSaved):
            with self._wake:
                self._saved = True
                self._wake.notify()

    def __enter__(self) -> CheckpointPublisher:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish what was saved last, for at most `LEAVE_SECONDS`."""
        with self._wake:
            self._leaving = True
            self._wake.notify()
        self._thread.join(timeout=LEAVE_SECONDS)

    def publish(self) -> None:
        """Publish the present checkpoint, and remove all but the last `KEPT`.

        Raises:
            Unreachable: the storage does not answer.
        """
        with tempfile.TemporaryDirectory(dir=self._folder.parent, prefix=".publishing-") as temporary:
            files = _snapshot(self._folder, Path(temporary))
            position = training_position(Path(temporary))
            if max(position) < 1:
                return  # nothing is lost without it
            number = f"{position[1] + 1:09d}-{position[0] + 1:09d}"
            self._storage.publish(f"{self._place}/{number}", files, {"steps": list(position)})
        self._remove_old()

    def _remove_old(self) -> None:
        names = sorted(self._storage.tokens(self._place))
        kept = {
            sha256
            for name in names[-KEPT:]
            if (found := self._storage.read(name)) is not None
            for sha256, _ in found.files.values()
        }
        for name in names[:-KEPT]:
            old = self._storage.read(name)
            self._storage.store.remove([f"{name}.json"])
            # only checkpoints: other files of the run may be published as part of it
            gone = {each[0] for path, each in (old.files if old else {}).items() if path.endswith(CHECKPOINT)} - kept
            self._storage.store.remove(object_path(sha256) for sha256 in gone)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._saved or self._leaving)
                if not self._saved:
                    return
                self._saved = False
            try:
                self.publish()
                self._failed = False
            except (MondrianError, OSError) as error:
                if not self._failed:
                    self._listen(StageNotice("train", f"A checkpoint could not be published: {error}"))
                self._failed = True


def _snapshot(folder: Path, temporary: Path) -> dict[str, Path]:
    """The files as they are now: checkpoints are replaced by renaming, so a hard link keeps their present content."""
    found = {}
    for name, file in resumable_files(folder).items():
        target = temporary / name
        make_folder(target.parent)
        try:
            if file.name == CHECKPOINT:
                os.link(file, target)
            else:
                shutil.copyfile(file, target)
        except FileNotFoundError:
            continue
        except OSError:
            shutil.copyfile(file, target)
        found[name] = target
    return found


def restore_checkpoint(storage: SharedStorage, folder: Path) -> tuple[int, int] | None:
    """Bring the last published checkpoint of a run into its folder, if it is ahead of the one there; its position.

    Raises:
        DamagedPublication: no published checkpoint is complete.
        Unreachable: the storage does not answer.
    """
    problem: MondrianError | None = None
    for name in sorted(storage.tokens(f"checkpoints/{require_name(folder.name)}"), reverse=True):
        try:
            publication = storage.read(name)
            if publication is None:
                continue
            position = tuple(publication.facts["steps"])
            if (position[1], position[0]) <= training_position(folder)[::-1]:
                return None
            with tempfile.TemporaryDirectory(prefix="mondrian-checkpoint-") as temporary:
                fetched = Path(temporary)
                for path, (sha256, _) in publication.files.items():
                    make_folder((fetched / path).parent)
                    storage.fetch_file(sha256, fetched / path)
                for path, file in resumable_files(fetched).items():
                    copy_atomic(file, folder / path)
        except MondrianError as error:
            problem = error
            continue
        return position[0], position[1]
    if problem is not None:
        raise problem
    return None


def remove_checkpoints(storage: SharedStorage, run: str) -> None:
    """Remove the checkpoints of a finished training; its adapter is published with the run."""
    for name in sorted(storage.tokens(f"checkpoints/{require_name(run)}")):
        found = storage.read(name)
        storage.store.remove([f"{name}.json"])
        files = found.files.items() if found else ()
        storage.store.remove(object_path(each[0]) for path, each in files if path.endswith(CHECKPOINT))
