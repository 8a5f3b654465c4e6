"""The latest retraining of an advisor: is it at work, how far did it come, what did it decide; and starting one.

A retraining runs in a process of its own, which outlives the page or the service that started it. What is shown is read
from files and from the lock that a retraining holds, so a restarted service, or a terminal, shows the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mondrian_core.events import EventListener, StageEvent, StageFinished, StageNotice, StageProgressed, StageStarted
from mondrian_core.files import read_json
from mondrian_core.json_lines import append_json_line, read_json_lines
from mondrian_core.runs import RunCatalogue, RunRecord
from mondrian_core.settings import Settings, validate_advisor_id

PROGRESS_FILE = "retrain.jsonl"  # in the run's folder
_RETRAINED = "retrained"  # folder below runs/: a lock and the last result for each advisor
_IMPORT_ROOT = Path(__file__).resolve().parents[1]
_STAGES = ("link", "dataset", "train", "evaluate", "register", "promote")


@dataclass(frozen=True, kw_only=True)
class RetrainingProgress:
    """The latest retraining of an advisor.

    Attributes:
        run: the run, as far as it got; None while it starts, or when it failed before it had a folder.
        at_work: a process holds the lock of this advisor's retrainings, or was just started.
        stage: the stage at work, or the last one; "" before the first.
        stage_number: its position, from 1; 0 before the first.
        done: finished units of the stage.
        total: units of the stage; None when unknown.
        problem: why it ended without a decision, with the next step; "" otherwise.
        command: the command that would promote a candidate; "" without one.
    """

    run: RunRecord | None
    at_work: bool
    stage: str = ""
    stage_number: int = 0
    done: int = 0
    total: int | None = None
    problem: str = ""
    command: str = ""

    @property
    def decided(self) -> bool:
        """True when the run ended with a version: promoted, kept as a candidate, or rejected."""
        return not self.at_work and self.run is not None and self.run.decision is not None

    @property
    def interrupted(self) -> bool:
        """True when it stopped midway without an error, and continues when it is started again."""
        return not self.at_work and not self.decided and not self.problem and self.run is not None

    @property
    def share(self) -> float:
        """How far it came, 0-1; every stage counts the same."""
        within = self.done / self.total if self.total else 0.0
        return min(max(self.stage_number - 1 + within, 0.0) / len(_STAGES), 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {key: value for key, value in self.__dict__.items() if key != "run"}
        run = None if self.run is None else {"name": self.run.name, "decision": self.run.decision}
        return {**values, "run": run, "decided": self.decided, "interrupted": self.interrupted, "share": self.share}


def retraining_lock_of(root: Path, advisor: str) -> FileLock:
    """The lock that allows one retraining of an advisor at a time."""
    path = root / "runs" / _RETRAINED / f"{validate_advisor_id(advisor)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def progress_log_listener(run_folder: Path) -> EventListener:
    """A listener that appends events to the run's progress file; the folder exists from the first event on."""

    def listen(event: StageEvent) -> None:
        if isinstance(event, StageStarted | StageProgressed | StageFinished | StageNotice) and run_folder.is_dir():
            values = asdict(event)
            values.pop("summary", None)
            append_json_line(run_folder / PROGRESS_FILE, {"event": type(event).__name__, **values})

    return listen


def latest_retraining(root: Path, advisor: str, child: subprocess.Popen[bytes] | None = None) -> RetrainingProgress:
    """The latest retraining of an advisor.

    Args:
        root: the workspace.
        advisor: ID.
        child: the process that `start_retraining` gave, which may not hold the lock yet.
    """
    at_work = (child is not None and child.poll() is None) or _is_locked(root, advisor)
    runs = (run for run in RunCatalogue(root).runs() if run.advisor == advisor)
    run = next((run for run in runs if run.decision or (root / "runs" / run.name / PROGRESS_FILE).is_file()), None)
    folder = None if run is None else root / "runs" / run.name
    problem = _recorded_problem(root, advisor, folder)
    return RetrainingProgress(
        run=run,
        at_work=at_work,
        problem="" if at_work else problem,
        command="" if folder is None else _promotion_command(folder),
        **({} if folder is None else _last_progress(folder)),
    )


def start_retraining(settings: Settings, advisor: str) -> subprocess.Popen[bytes]:
    """Start a retraining in a process of its own, or continue an interrupted one; it survives this process.

    What it prints, one JSON document, replaces that of the advisor's last retraining.
    """
    known = latest_retraining(settings.root, advisor)
    words = ["retrain", "--advisor", advisor, "--workspace", str(settings.root), "--json"]
    words += ["--base-model", settings.base]
    words += ["--adapters", str(settings.adapters)] if settings.adapters is not None else []
    if known.interrupted and known.run is not None:
        words += ["--resume", known.run.name]
    result = _result_file(settings.root, advisor)
    result.parent.mkdir(parents=True, exist_ok=True)
    with result.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mondrian_core.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": _import_path()},
        )


def _import_path() -> str:
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.pathsep.join([str(_IMPORT_ROOT), *inherited])


def _result_file(root: Path, advisor: str) -> Path:
    return root / "runs" / _RETRAINED / f"{validate_advisor_id(advisor)}.json"


def _is_locked(root: Path, advisor: str) -> bool:
    lock = retraining_lock_of(root, advisor)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _recorded_problem(root: Path, advisor: str, folder: Path | None) -> str:
    """The error that the last started process ended with, unless a later run decided; "" without one."""
    result = _result_file(root, advisor)
    try:
        values = json.loads(result.read_bytes())
        decided = folder / "promote.json" if folder is not None else None
        if decided is not None and decided.is_file() and decided.stat().st_mtime > result.stat().st_mtime:
            return ""
    except (OSError, ValueError):
        return ""
    if not isinstance(values, dict) or "error" not in values:
        return ""
    return f"{values['error']} {values.get('next_step', '')}".strip()


def _promotion_command(folder: Path) -> str:
    try:
        values = read_json(folder / "promote.json")
    except (OSError, ValueError):
        return ""
    command = values.get("command") if isinstance(values, Mapping) else None
    return command if isinstance(command, str) else ""


def _last_progress(folder: Path) -> dict[str, Any]:
    """The stage at work with its units, from the progress file."""
    found: dict[str, Any] = {}
    for line in read_json_lines(folder / PROGRESS_FILE):
        stage = line.get("stage")
        if stage not in _STAGES or line.get("event") not in ("StageStarted", "StageProgressed", "StageFinished"):
            continue
        done, total = line.get("done"), line.get("total")
        found = {
            "stage": stage,
            "stage_number": _STAGES.index(stage) + 1,
            "done": done if isinstance(done, int) else 0,
            "total": total if isinstance(total, int) else None,
        }
    return found
