"""What stages leave for the next one, as plain values in the run's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from mondrian_core.errors import MondrianError, NothingToDo
from mondrian_core.events import Finished, Listener
from mondrian_core.files import read_json, write_json
from mondrian_core.registry import COMPARED_WITH
from mondrian_core.stages.context import Context


@dataclass(frozen=True)
class Summary:
    """What a stage leaves; plain values."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LinkSummary(Summary):
    """What was linked and why the rest was not; `table` is Markdown."""

    manifest: str
    used: int
    left_out: dict[str, int]
    table: str


@dataclass(frozen=True)
class DatasetSummary(Summary):
    """A dataset version and its sizes per split."""

    path: str
    digest: str
    photographs: dict[str, int]
    rows: dict[str, int]
    contact_sheet: str | None = None


@dataclass(frozen=True)
class TrainSummary(Summary):
    """A trained adapter, not yet a version; `answers` says how it answered about validation photographs, if asked.

    `preference` says what preference tuning came to; None where there was none. `trained_on` is the extent
    ("train": the dataset's training split, "all": its every photograph) and how many photographs and rows that are.
    `base` is what the base is known by, as a manifest keeps it; `start_loss` its validation loss untouched, and
    `worse_than_base` says that no epoch was better than that.
    """

    adapter: str
    curve: str
    log: str
    steps: int
    best_epoch: int
    best_loss: float
    seconds: float
    answers: dict[str, Any] | None = None
    preference: dict[str, Any] | None = None
    trained_on: dict[str, Any] | None = None
    base: dict[str, Any] | None = None
    start_loss: float | None = None
    worse_than_base: bool = False

    @property
    def chosen(self) -> str:
        """Which epoch was taken, for people."""
        if self.worse_than_base:
            return (f"no epoch was better than the untouched base (validation loss {self.start_loss:.4g}); the least "
                    f"worse is epoch {self.best_epoch}, loss {self.best_loss:.4g}")  # fmt: skip
        return f"best loss {self.best_loss:.4g} after epoch {self.best_epoch}"


@dataclass(frozen=True)
class EvaluateSummary(Summary):
    """The verdict of the gates; `gates` are the rows of the table, `compared_with` the champion at that time."""

    report: str
    html: str
    verdict: str
    gates: list[dict[str, Any]]
    split: str
    compared_with: dict[str, Any] | None = None

    @property
    def gate_report(self) -> dict[str, Any]:
        """What a version carries of it, in its manifest or in the registry's history."""
        compared = {} if self.compared_with is None else {COMPARED_WITH: self.compared_with}
        return {"verdict": self.verdict, "gates": self.gates, **compared}


@dataclass(frozen=True)
class RegisterSummary(Summary):
    """The version that was written and its state."""

    version: str
    path: str
    state: str


@dataclass(frozen=True)
class PromoteSummary(Summary):
    """What became of the version: promoted, candidate or rejected, and the sentence that says why."""

    decision: str
    version: str
    sentence: str
    command: str | None = None


@dataclass(frozen=True)
class IndexSummary(Summary):
    """What was indexed; `left_out` are lists of path and reason, `base` the fingerprint the vectors belong to."""

    photographs: int
    known: int
    embedded: int
    scored: int
    left_out: list[dict[str, str]]
    base: str


@dataclass(frozen=True)
class SynthesizeSummary(Summary):
    """What was drafted; `waiting` counts every draft of the advisor that nobody has decided on."""

    drafted: int
    known: int
    remaining: int
    calibrated_on: int
    waiting: int
    left_out: list[dict[str, str]]


SummaryT = TypeVar("SummaryT", bound=Summary)


def summary_of(context: Context, stage: str, kind: type[SummaryT]) -> SummaryT:
    """What an earlier stage of this run left.

    Raises:
        NothingToDo: when that stage has not run.
    """
    path = context.run_folder / f"{stage}.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise NothingToDo(
            f"The run {context.run} has no result of the stage '{stage}'.", f"Run the stage '{stage}' first."
        ) from None
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def leave(context: Context, stage: str, summary: SummaryT, listen: Listener) -> SummaryT:
    """Write a stage's summary into the run's folder and say that it is done."""
    write_json(context.run_folder / f"{stage}.json", summary.as_dict())
    listen(Finished(stage, summary.as_dict()))
    return summary


def failure_of(error: MondrianError) -> dict[str, Any]:
    """An error as plain values, for another process to show."""
    return {"problem": error.problem, "next_step": error.next_step, "exit_status": error.exit_status}
