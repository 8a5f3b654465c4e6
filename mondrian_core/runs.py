"""The runs of a workspace as values: what each trained, measured and decided, and how far it came.

Everything is read from the files of `runs/<run>/`, so a run of any release, of the flow or of the command line is
listed. A file that is missing, damaged or of another form gives unknown values, never an error: one broken run must not
hide the others. Links are not followed, because a run folder may have been copied from elsewhere. A folder in which
only the first stages ran, as after `mondrian dataset`, is not a run.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mondrian_core.errors import BadInput
from mondrian_core.json_lines import read_json_lines

RunState = Literal["complete", "active", "resumable", "stopped"]

CONTEXT, LINK, DATASET, TRAIN, EVALUATE, REGISTER, PROMOTE = (
    f"{name}.json" for name in ("context", "link", "dataset", "train", "evaluate", "register", "promote")
)
COMPARISON, LOG, REPORT = "comparison_report.json", "training_log.jsonl", "report.html"
PRUNED = "pruned.json"  # written before weights are deleted; a run with this file has records only
ACTIVE_SECONDS = 600.0  # a run whose files changed within this time is taken for one at work
MAX_FILE_BYTES = 64 << 20
_READ = (CONTEXT, LINK, DATASET, TRAIN, EVALUATE, REGISTER, PROMOTE, COMPARISON)
_SINGLE_STAGES = {LINK, DATASET}  # summaries that commands for one stage leave; a run has its context besides
_WATCHED = (*_READ, LOG, REPORT, PRUNED, "samples.jsonl", "checkpoint.safetensors")
_RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_STARTED = re.compile(r"(\d{8}-\d{6})-")
_Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run. None is unknown, or not reached yet.

    Attributes:
        state: complete (it decided, or only evaluated), active (its files changed in the last ten minutes), resumable
            (its dataset is built) or stopped.
        last_stage: the last stage that left a summary; "" for none.
        recipe: name of the recipe.
        started_at: ISO 8601, UTC.
        training_seconds: of the training; a run's other times would be those of files, which a copy changes.
        photographs, rows: photographs and rows with variants that it trained on.
        steps: optimizer steps.
        verdict: of the gates.
        decision: promoted, candidate, rejected or unchanged.
        version: the version that it registered or evaluated.
        candidate_error, base_error: mean squared errors of the scores, in points squared.
        by_folds: the errors are the recipe's, by cross-validation.
        settings: every setting of its recipe by dotted name.
        evaluates: it evaluates an adapter that existed before, and trains none.
        has_report, has_log: the report and the training log are there.
        pruned: `mondrian prune` deleted its weights; records are left.
        damaged: names of files that can't be read.
    """

    name: str
    advisor: str
    state: RunState
    last_stage: str = ""
    recipe: str = ""
    started_at: str | None = None
    training_seconds: float | None = None
    photographs: int | None = None
    rows: int | None = None
    dataset: str = ""
    steps: int | None = None
    seed: int | None = None
    best_epoch: int | None = None
    verdict: str | None = None
    decision: str | None = None
    sentence: str = ""
    version: str | None = None
    candidate_error: float | None = None
    base_error: float | None = None
    by_folds: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluates: bool = False
    has_report: bool = False
    has_log: bool = False
    pruned: bool = False
    damaged: tuple[str, ...] = ()

    @property
    def resume_command(self) -> str:
        """The command that continues a resumable run; "" for any other."""
        if self.state != "resumable":
            return ""
        if self.evaluates:
            return f"mondrian evaluate --advisor {self.advisor} --adapter {self.version or 'V'}"
        return f"mondrian retrain --advisor {self.advisor} --resume {self.name}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = {**self.__dict__, "settings": dict(self.settings), "damaged": list(self.damaged)}
        return {**values, "resume_command": self.resume_command}


class UnknownRun(BadInput):
    """There is no run of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no run '{name[:80]}' in this workspace.", "`mondrian runs list` names them.")


class RunCatalogue:
    """The runs under `<workspace>/runs`. A run is read again when one of its files has changed."""

    def __init__(self, workspace: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder, self._clock = workspace / "runs", clock
        self._known: dict[str, tuple[_Signature, RunRecord]] = {}

    def runs(self) -> list[RunRecord]:
        """All runs, the latest first."""
        found = [record for name in self._names() if (record := self._read(name)) is not None]
        known = {record.name for record in found}
        self._known = {name: value for name, value in self._known.items() if name in known}
        return sorted(found, key=lambda record: (record.started_at or "", record.name), reverse=True)

    def run(self, name: str) -> RunRecord:
        """One run.

        Raises:
            UnknownRun: there is no run of that name.
        """
        record = self._read(name)
        if record is None:
            raise UnknownRun(name)
        return record

    def file(self, name: str, file: str) -> Path | None:
        """A regular file of a run; None when it is missing, a link, or larger than 64 MB."""
        return regular_file(self.folder / self.run(name).name, file)

    def training_log(self, name: str) -> list[dict[str, Any]]:
        """The lines of a run's training log that are complete; [] without one."""
        path = self.file(name, LOG)
        return [] if path is None else logged_lines(path)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:
                return [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        except OSError:
            return []

    def _read(self, name: str) -> RunRecord | None:
        folder = self.folder / name
        signature = tuple(_signature(folder)) if _RUN_NAME.fullmatch(name) else ()
        if {file for file, _, _ in signature} <= _SINGLE_STAGES:
            return None
        newest = max((changed for file, changed, _ in signature if file != PRUNED), default=0) / 1e9
        known = self._known.get(name)
        if known is None or known[0] != signature:
            self._known[name] = known = (signature, _read_run(folder, _times(signature)))
        record = known[1]
        if record.state in ("resumable", "stopped") and self._clock() - newest < ACTIVE_SECONDS:
            return RunRecord(**{**record.__dict__, "state": "active"})
        return record


def _times(signature: _Signature) -> dict[str, float]:
    """Seconds since the epoch at which each file of a signature changed."""
    return {file: changed / 1e9 for file, changed, _ in signature}


def regular_file(folder: Path, name: str) -> Path | None:
    """A regular file directly in `folder`; None when it is missing, a link, or larger than 64 MB."""
    path = folder / name
    try:
        status = path.lstat()
    except OSError:
        return None
    return (
        path if not folder.is_symlink() and stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES else None
    )


def logged_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a training log that can be drawn: a kind, a step and an epoch."""
    return [
        line
        for line in read_json_lines(path)
        if line.get("kind") in ("step", "epoch")
        and _number(line.get("step")) is not None
        and _number(line.get("epoch")) is not None
    ]


def _signature(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Name, time and size of each file that is watched; none for a link."""
    if folder.is_symlink():
        return
    for name in _WATCHED:
        try:
            status = os.lstat(folder / name)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
            yield name, status.st_mtime_ns, status.st_size


def _read_run(folder: Path, times: Mapping[str, float]) -> RunRecord:
    values, damaged = {}, []
    for file in _READ:
        if file in times:
            found = _read_object(folder / file)
            values[file] = found or {}
            damaged += [] if found is not None else [file]
    context, trained, decided = (values.get(file, {}) for file in (CONTEXT, TRAIN, PROMOTE))
    recipe = _mapping(context.get("recipe"))
    trained_on, dataset = _mapping(trained.get("trained_on")), values.get(DATASET, {})
    reached = [file for file in (LINK, DATASET, TRAIN, EVALUATE, REGISTER, PROMOTE) if file in times]
    began = _started(folder.name, times)
    return RunRecord(
        name=folder.name,
        advisor=_text(context.get("advisor")),
        state=_state(context, times),
        last_stage=Path(reached[-1]).stem if reached else "",
        recipe=_text(recipe.get("name")),
        started_at=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        training_seconds=_number(trained.get("seconds")),
        photographs=_count(trained_on.get("photographs")) or _total(dataset.get("photographs")),
        rows=_count(trained_on.get("rows")) or _total(dataset.get("rows")),
        dataset=_text(dataset.get("digest")),
        steps=_count(trained.get("steps")),
        seed=_count(_mapping(recipe.get("train")).get("seed")),
        best_epoch=_count(trained.get("best_epoch")),
        verdict=_text(values.get(EVALUATE, {}).get("verdict")) or None,
        decision=_text(decided.get("decision")) or None,
        sentence=_text(decided.get("sentence")),
        version=_text(decided.get("version") or values.get(REGISTER, {}).get("version")) or _evaluated(context),
        **score_errors(_mapping(values.get(COMPARISON, {}).get("metrics"))),
        settings=dict(_leaves(recipe)),
        evaluates=bool(context.get("adapter")),
        has_report=REPORT in times,
        has_log=LOG in times,
        pruned=PRUNED in times,
        damaged=tuple(damaged),
    )


def _state(context: Mapping[str, Any], times: Mapping[str, float]) -> RunState:
    if PROMOTE in times or (EVALUATE in times and context.get("adapter")):
        return "complete"
    return "resumable" if CONTEXT in times and DATASET in times and PRUNED not in times else "stopped"


def _started(name: str, times: Mapping[str, float]) -> float:
    """Seconds since the epoch: from the name, which `new_stage_context` makes, or from the oldest file."""
    if found := _STARTED.match(name):
        try:
            return datetime.strptime(found[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
        except ValueError:
            pass
    return min(times.values())


def _evaluated(context: Mapping[str, Any]) -> str | None:
    """Name of the registered version that a run evaluated."""
    name = Path(_text(context.get("adapter"))).name
    return name if re.fullmatch(r"v\d{4,9}", name) else None


def score_errors(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Score errors of both arms: of the adapter itself, or of the recipe by cross-validation where only that exists."""
    folds = _mapping(metrics.get("folds"))
    by_folds = bool(folds) and not _mapping(metrics.get("photographs")).get("labelled")
    arms = _mapping((folds if by_folds else metrics).get("arms"))
    found = {}
    for arm in ("candidate", "base"):
        figures = _mapping(arms.get(arm))
        scores = figures if by_folds else _mapping(figures.get("scores"))
        found[f"{arm}_error"] = _number(scores.get("mse"))
    return {**found, "by_folds": by_folds}


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _total(sizes: Any) -> int | None:
    counts = [count for each in _mapping(sizes).values() if (count := _count(each)) is not None]
    return sum(counts) if counts else None


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# --- comparison -------------------------------------------------------------------------------------------------------

RUN_FIGURES: tuple[tuple[str, str], ...] = (
    ("candidate_error", "score error, adapter (points squared)"),
    ("base_error", "score error, base (points squared)"),
    ("verdict", "verdict"),
    ("decision", "decision"),
    ("version", "version"),
    ("photographs", "photographs"),
    ("rows", "rows with variants"),
    ("steps", "steps"),
    ("best_epoch", "chosen epoch"),
    ("training_seconds", "training (seconds)"),
)
FEWEST_COMPARED, MOST_COMPARED = 2, 8


def compare_runs(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """{"runs": names, "settings": rows that differ, "figures": rows}; a row is {"what", "values": one per run}.

    Raises:
        BadInput: fewer than two runs, more than eight, or one twice.
    """
    names = [run.name for run in runs]
    if not FEWEST_COMPARED <= len(set(names)) == len(names) <= MOST_COMPARED:
        raise BadInput(
            f"{len(set(names))} runs were chosen.",
            f"Choose {FEWEST_COMPARED} to {MOST_COMPARED} different runs to compare.",
        )
    named = dict.fromkeys(name for run in runs for name in run.settings)
    rows: list[tuple[str, list[Any]]] = [
        ("advisor", [run.advisor for run in runs]),
        ("dataset", [run.dataset[:12] or None for run in runs]),
        *((name, [run.settings.get(name) for run in runs]) for name in named),
    ]
    return {
        "runs": names,
        "settings": [{"what": what, "values": each} for what, each in rows if any(one != each[0] for one in each)],
        "figures": [{"what": title, "values": [getattr(run, key) for run in runs]} for key, title in RUN_FIGURES],
    }
