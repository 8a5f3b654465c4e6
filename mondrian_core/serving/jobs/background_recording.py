"""Records photographs that were put under source/ while a service runs; no request waits for it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.errors import MondrianError
from mondrian_core.events import StageEvent, StageProgressed, StageStarted
from mondrian_core.importing.importer import ImportSettings
from mondrian_core.importing.recording import record_photographs, recording_settings, unrecorded_photographs
from mondrian_core.store import Store

SECONDS_BETWEEN_TRIES, SECONDS_BETWEEN_LOOKS = 2.0, 30.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingProgress:
    """`done` of `total` photographs were read; `total` is 0 before they are counted."""

    done: int
    total: int


class _Stopped(Exception):
    """The service ends."""


class BackgroundRecording:
    """Records in a thread, which reads photographs in a process of low priority.

    While another process records, it waits for its turn. Problems are logged; the next look tries again.

    Args:
        store: of the workspace.
        root: the workspace.
        max_pixels: limit on width x height.
    """

    def __init__(self, store: Store, root: Path, max_pixels: int) -> None:
        self._store = store
        self._settings: ImportSettings = recording_settings(root, max_pixels, in_background=True)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = -SECONDS_BETWEEN_LOOKS
        self._starting = threading.Lock()
        self.progress: RecordingProgress | None = None

    def look(self) -> RecordingProgress | None:
        """Look for unrecorded photographs, at most every `SECONDS_BETWEEN_LOOKS`; the progress, None when idle."""
        with self._starting:
            idle = self._thread is None or not self._thread.is_alive()
            if idle and not self._stopping.is_set() and time.monotonic() - self._looked >= SECONDS_BETWEEN_LOOKS:
                self._looked = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="photograph recording", daemon=True)
                self._thread.start()
        return self.progress

    def stop(self) -> None:
        """End after the photograph that is being read; what was recorded is kept."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and unrecorded_photographs(self._store, self._settings.root):
                self.progress = RecordingProgress(0, 0)
                record_photographs(self._store, self._settings, self._listen)
                if self.progress.total:
                    return
                self._stopping.wait(SECONDS_BETWEEN_TRIES)
        except _Stopped:
            return
        except (MondrianError, OSError) as error:
            _LOGGER.warning("photographs under source/ could not be recorded: %s", error)
        finally:
            self.progress = None

    def _listen(self, event: StageEvent) -> None:
        if isinstance(event, StageStarted):
            self.progress = RecordingProgress(0, event.total or 0)
        elif isinstance(event, StageProgressed):
            self.progress = RecordingProgress(event.done, event.total or 0)
            if self._stopping.is_set():
                raise _Stopped
