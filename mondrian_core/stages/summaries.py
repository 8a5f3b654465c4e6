"""Stage summaries: the result that a stage writes to the run folder and later stages read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from mondrian_core.errors import MondrianError, NothingToDo
from mondrian_core.events import EventListener, StageFinished, StageNotice
from mondrian_core.files import read_json, write_json
from mondrian_core.gate_strictness import loosened_settings, loosened_text
from mondrian_core.portable_paths import absolute_from_portable, portable_path, without_absolute_paths
from mondrian_core.registry import COMPARED_WITH, SETTINGS
from mondrian_core.shared_storage import publish_run, remove_checkpoints
from mondrian_core.stages.context import StageContext


@dataclass(frozen=True)
class StageSummary:
    """The result of a stage, as plain values.

    `in_workspace` and `in_registry` name the fields that hold paths: absolute in memory, relative in the file.
    """

    in_workspace: ClassVar[tuple[str, ...]] = ()
    in_registry: ClassVar[tuple[str, ...]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def as_stored(self, context: StageContext) -> dict[str, Any]:
        """Plain values with paths relative to the workspace or the registry, and no absolute path in any text."""
        values = self.as_dict()
        for name, root in self._paths(context):
            if values[name] is not None:
                values[name] = portable_path(values[name], root)
        return without_absolute_paths(values, context.named_places)

    @classmethod
    def from_stored(cls, values: Mapping[str, Any], context: StageContext) -> Self:
        """Read the values of `as_stored`; absolute paths in older files stay as they are."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        for name, root in cls._paths(context):
            if known.get(name) is not None:
                known[name] = absolute_from_portable(known[name], root)
        return cls(**known)

    @classmethod
    def _paths(cls, context: StageContext) -> list[tuple[str, Path]]:
        return [
            *((name, context.root) for name in cls.in_workspace),
            *((name, Path(context.adapters)) for name in cls.in_registry),
        ]


@dataclass(frozen=True)
class LinkSummary(StageSummary):
    """How many records were linked, and how many were excluded for which reason; `table` is Markdown."""

    in_workspace: ClassVar[tuple[str, ...]] = ("manifest",)

    manifest: str
    used: int
    left_out: dict[str, int]
    table: str


@dataclass(frozen=True, kw_only=True)
class DatasetSummary(StageSummary):
    """A dataset version and its sizes per split.

    Attributes:
        critiques: complete ones in the database when it was built.
        answer_form: what its answers hold, "comments" or "advice".
        parts: photographs whose critiques teach each part of an answer with advice.
    """

    in_workspace: ClassVar[tuple[str, ...]] = ("path", "contact_sheet")

    path: str
    digest: str
    photographs: dict[str, int]
    rows: dict[str, int]
    contact_sheet: str | None = None
    critiques: int | None = None
    answer_form: str = "comments"
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainSummary(StageSummary):
    """A trained adapter that is not yet a version.

    Attributes:
        best_loss: validation loss per token after `best_epoch`.
        seconds: duration of the training.
        answers: quality of the answers about validation photographs; None when none were generated.
        preference: result of preference tuning; None without it.
        trained_on: the extent ("train": the training split, "all": every photograph), number of photographs and rows.
        base: identity of the base model, as in a manifest.
        start_loss: validation loss of the base before training.
        worse_than_base: True when no epoch was better than the base.
    """

    in_workspace: ClassVar[tuple[str, ...]] = ("adapter", "curve", "log")

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
        """The chosen epoch, in words."""
        if self.worse_than_base:
            return (
                f"no epoch was better than the base (validation loss {self.start_loss:.4g}); the closest "
                f"is epoch {self.best_epoch}, loss {self.best_loss:.4g}"
            )
        return f"best loss {self.best_loss:.4g} after epoch {self.best_epoch}"

    @property
    def preference_pairs(self) -> str:
        """How many pairs of each kind preference tuning learned from: "12 pairs (4 corrections, 3 accepted crops)"."""
        tuned = self.preference or {}
        kinds = {"corrections": "corrections", "recommendations": "judged recommendations", "crops": "accepted crops"}
        counted = [f"{tuned[kind]} {title}" for kind, title in kinds.items() if tuned.get(kind)]
        return f"{tuned.get('pairs', 0)} pairs ({', '.join(counted) or 'none by a person'})"


@dataclass(frozen=True, kw_only=True)
class EvaluateSummary(StageSummary):
    """The verdict of the gates.

    Attributes:
        gates: the table's rows.
        compared_with: the champion at that time.
        record: what the registry keeps besides: conditions, recipe, data, code (`evaluate.evaluation_record`).
        caveats: which figures don't come from this adapter or from the workspace's own photographs.
    """

    in_workspace: ClassVar[tuple[str, ...]] = ("report", "html")

    report: str
    html: str
    verdict: str
    gates: list[dict[str, Any]]
    split: str
    compared_with: dict[str, Any] | None = None
    record: dict[str, Any] | None = None
    caveats: tuple[str, ...] = ()

    @property
    def loosened(self) -> str:
        """ "with loosened gates (...)"; "" when no setting is looser than its default."""
        return loosened_text(loosened_settings((self.record or {}).get(SETTINGS) or {}))

    @property
    def gate_report(self) -> dict[str, Any]:
        """The part that a version's manifest or the registry's history keeps."""
        compared = {} if self.compared_with is None else {COMPARED_WITH: self.compared_with}
        return {"verdict": self.verdict, "gates": self.gates, **compared, **(self.record or {})}


@dataclass(frozen=True)
class RegisterSummary(StageSummary):
    """The version that was written and its state."""

    in_registry: ClassVar[tuple[str, ...]] = ("path",)

    version: str
    path: str
    state: str


@dataclass(frozen=True)
class PromoteSummary(StageSummary):
    """The decision (promoted, candidate, rejected or unchanged), the reason, and the next command if any."""

    decision: str
    version: str
    sentence: str
    command: str | None = None


@dataclass(frozen=True, kw_only=True)
class IndexSummary(StageSummary):
    """Counts of the retrieval index; `left_out` holds paths and reasons, `base` the fingerprint of the base model."""

    photographs: int
    known: int
    embedded: int
    scored: int
    left_out: list[dict[str, str]]
    base: str


@dataclass(frozen=True, kw_only=True)
class SynthesizeSummary(StageSummary):
    """Counts of drafted critiques; `waiting` counts all of the advisor's drafts without a review."""

    drafted: int
    known: int
    remaining: int
    calibrated_on: int
    waiting: int
    left_out: list[dict[str, str]]


StageSummaryT = TypeVar("StageSummaryT", bound=StageSummary)


def read_stage_summary(context: StageContext, stage: str, kind: type[StageSummaryT]) -> StageSummaryT:
    """Read the summary of an earlier stage of this run.

    Raises:
        NothingToDo: that stage has not run.
    """
    path = context.run_folder / f"{stage}.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise NothingToDo(
            f"The run {context.run} has no result of the stage '{stage}'.", f"Run the stage '{stage}' first."
        ) from None
    return kind.from_stored(values, context)


def write_stage_summary(
    context: StageContext, stage: str, summary: StageSummaryT, listen: EventListener
) -> StageSummaryT:
    """Write a stage's summary to the run folder, publish the run and emit `StageFinished`; returns the summary."""
    stored = summary.as_stored(context)
    write_json(context.run_folder / f"{stage}.json", stored)
    _publish(context, stage, listen)
    listen(StageFinished(stage, stored))
    return summary


def _publish(context: StageContext, stage: str, listen: EventListener) -> None:
    """Publish the run where MONDRIAN_SHARED says; the next stage publishes what could not be published now."""
    storage = context.shared_storage()
    if storage is None:
        return
    try:
        publish_run(storage, context.run_folder)
        if stage == "train":
            remove_checkpoints(storage, context.run)
    except (MondrianError, OSError) as error:
        listen(StageNotice(stage, f"The run was not published: {error}"))


def error_as_dict(error: MondrianError) -> dict[str, Any]:
    """An error as plain values for another process."""
    return {"problem": error.problem, "next_step": error.next_step, "exit_status": error.exit_status}
