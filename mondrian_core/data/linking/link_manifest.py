"""The outcome of linking: each record is used, or excluded for one reason of a closed list. Plain values, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mondrian_core.files import replace_atomic
from mondrian_core.markdown import Markdown, markdown_table
from mondrian_core.rubric import DIMENSIONS, Assessment, Critique

HUMAN, SYNTHETIC, MODEL, INDEX = "human", "synthetic", "model", "index"
MAX_RECORDS_SHOWN = 200
MAX_CHARACTERS_SHOWN = 160  # characters of a cell


class ExclusionReason(StrEnum):
    """Why a record is not used. The list is closed; `EXCLUSION_EXPLANATIONS` explains each."""

    OTHER_ADVISOR = "other_advisor"
    JOB_NOT_COMPLETED = "job_not_completed"
    TEMPORARY_FILE = "temporary_file"
    NO_PATH = "no_path"
    OUTSIDE_WORKSPACE = "outside_workspace"
    MISSING_PHOTOGRAPH = "missing_photograph"
    BROKEN_LINK = "broken_link"
    AMBIGUOUS_PHOTOGRAPH = "ambiguous_photograph"
    EMPTY_PHOTOGRAPH = "empty_photograph"
    NOT_A_PHOTOGRAPH = "not_a_photograph"
    UNREADABLE_PHOTOGRAPH = "unreadable_photograph"
    RAW_PHOTOGRAPH = "raw_photograph"
    TOO_NARROW_PHOTOGRAPH = "too_narrow_photograph"
    TOO_LARGE_PHOTOGRAPH = "too_large_photograph"
    UNREADABLE_RECORD = "unreadable_record"
    MISSING_ANALYSIS = "missing_analysis"
    UNPARSABLE_ANSWER = "unparsable_answer"
    MISSING_DIMENSIONS = "missing_dimensions"
    NO_SCORES = "no_scores"
    SCORE_OUT_OF_RANGE = "score_out_of_range"
    NO_COMMENTS = "no_comments"
    PLACEHOLDER_COMMENTS = "placeholder_comments"
    DUPLICATE_OF = "duplicate_of"
    SUPERSEDED = "superseded"
    MODEL_WRITTEN = "model_written"
    INDEX_MADE = "index_made"
    DRAFT_WAITING = "draft_waiting"
    DRAFT_DISCARDED = "draft_discarded"


EXCLUSION_EXPLANATIONS: Mapping[ExclusionReason, str] = {
    ExclusionReason.OTHER_ADVISOR: "written for another advisor",
    ExclusionReason.JOB_NOT_COMPLETED: "the job never finished",
    ExclusionReason.TEMPORARY_FILE: "the path names a temporary file",
    ExclusionReason.NO_PATH: "the record names no photograph",
    ExclusionReason.OUTSIDE_WORKSPACE: "the path leads out of the workspace",
    ExclusionReason.MISSING_PHOTOGRAPH: "the photograph is not under source/",
    ExclusionReason.BROKEN_LINK: "the path goes through a symbolic link that is broken or leads back to the workspace",
    ExclusionReason.AMBIGUOUS_PHOTOGRAPH: "several photographs fit the path equally well",
    ExclusionReason.EMPTY_PHOTOGRAPH: "the photograph's file is empty",
    ExclusionReason.NOT_A_PHOTOGRAPH: "the file is not a photograph (for instance an HTML page)",
    ExclusionReason.UNREADABLE_PHOTOGRAPH: "the photograph is damaged or truncated",
    ExclusionReason.RAW_PHOTOGRAPH: "a raw file; export it as JPEG or TIFF and critique that",
    ExclusionReason.TOO_NARROW_PHOTOGRAPH: "the photograph is a strip that is too narrow for the model",
    ExclusionReason.TOO_LARGE_PHOTOGRAPH: "too many pixels (MONDRIAN_MAX_MEGAPIXELS) or bytes",
    ExclusionReason.UNREADABLE_RECORD: "a cell of the row holds a value of the wrong kind",
    ExclusionReason.MISSING_ANALYSIS: "the analysis file is not in analysis_md/",
    ExclusionReason.UNPARSABLE_ANSWER: "the critique can't be read as JSON",
    ExclusionReason.MISSING_DIMENSIONS: f"some of the {len(DIMENSIONS)} dimensions are missing",
    ExclusionReason.NO_SCORES: "there are no scores yet",
    ExclusionReason.SCORE_OUT_OF_RANGE: "a score is not between 0 and 10",
    ExclusionReason.NO_COMMENTS: "a comment is missing",
    ExclusionReason.PLACEHOLDER_COMMENTS: "the comments are placeholders such as 'ok'",
    ExclusionReason.DUPLICATE_OF: "the same critique of the same photograph is already used",
    ExclusionReason.SUPERSEDED: "another critique of the same photograph was chosen",
    ExclusionReason.MODEL_WRITTEN: "a model wrote it, and there are critiques by a person",
    ExclusionReason.INDEX_MADE: "the base model scored it for retrieval only",
    ExclusionReason.DRAFT_WAITING: "a drafted critique that nobody has reviewed (`mondrian review`)",
    ExclusionReason.DRAFT_DISCARDED: "a drafted critique that a person discarded",
}


@dataclass(frozen=True, kw_only=True)
class LinkedRecord:
    """A critique with its photograph.

    Attributes:
        record: "profile:<id>", "job:<id>" or "draft:<id>".
        photograph: path relative to the workspace, with "/".
        sha256: of the photograph's bytes.
        width: of the upright photograph, in pixels.
        height: of the upright photograph, in pixels.
        found: how the path led to the photograph (`PathResolution`).
        origin: "human", "synthetic" (drafted by a model, accepted or corrected by a person) or "model".
        scores: by dimension, 0-10.
        comments: by dimension.
        overall_grade: as it was written, where it can be read.
        created_at: ISO 8601 in UTC, where it is known.
        recommendations: by dimension, for those that have one; recorded, and not taught.
        repairs: what it took to read the critique.
        corrects: the model's critique, in canonical form, that a person corrected to this one.
    """

    record: str
    photograph: str
    sha256: str
    width: int
    height: int
    found: str
    origin: str
    scores: Mapping[str, float]
    comments: Mapping[str, str]
    overall_grade: str | None = None
    created_at: str | None = None
    recommendations: Mapping[str, str] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    corrects: str | None = None

    @property
    def critique(self) -> Critique:
        """The critique as the advisor gave it."""
        assessments = {name: Assessment(self.scores[name], self.comments[name]) for name in DIMENSIONS}
        return Critique(assessments, self.overall_grade or "")


@dataclass(frozen=True, slots=True)
class ExcludedRecord:
    """A record that is not used: its reason, and a detail where it helps (the other record, the path, the column)."""

    record: str
    reason: ExclusionReason
    detail: str = ""


@dataclass(frozen=True)
class LinkManifest:
    """The outcome of linking: every record of the database is in exactly one of the two tuples."""

    advisor: str
    used: tuple[LinkedRecord, ...]
    left_out: tuple[ExcludedRecord, ...]
    database_version: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Records by outcome: "used", then each reason that occurs, in the order of `ExclusionReason`."""
        by_reason = Counter(left.reason for left in self.left_out)
        reasons = {reason.value: by_reason[reason] for reason in ExclusionReason if by_reason[reason]}
        return {"used": len(self.used), **reasons}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the same database and files give the same text."""
        return {
            "advisor": self.advisor,
            "database_version": self.database_version,
            "counts": self.counts,
            "used": [asdict(record) for record in self.used],
            "left_out": [
                {"record": left.record, "reason": left.reason.value, "detail": left.detail} for left in self.left_out
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LinkManifest:
        """The manifest that `as_dict` was called on."""
        used = tuple(LinkedRecord(**{**each, "repairs": tuple(each["repairs"])}) for each in values["used"])
        left_out = tuple(
            ExcludedRecord(each["record"], ExclusionReason(each["reason"]), each["detail"])
            for each in values["left_out"]
        )
        return cls(values["advisor"], used, left_out, values.get("database_version", 0))

    def table(self) -> str:
        """Markdown for people: a line per outcome, then the excluded records (the first `MAX_RECORDS_SHOWN`)."""
        outcomes: list[tuple[object, ...]] = [(Markdown("**used**"), len(self.used), _origins(self.used))]
        for reason, count in list(self.counts.items())[1:]:
            outcomes.append((reason, count, EXCLUSION_EXPLANATIONS[ExclusionReason(reason)]))
        lines: list[str] = [markdown_table(("outcome", "records", "meaning"), outcomes, ("---", "---:", "---"))]
        shown = [left for left in self.left_out if left.reason is not ExclusionReason.OTHER_ADVISOR][:MAX_RECORDS_SHOWN]
        if shown:
            rows = [
                (left.record[:MAX_CHARACTERS_SHOWN], left.reason.value, left.detail[:MAX_CHARACTERS_SHOWN])
                for left in shown
            ]
            lines += ["", markdown_table(("left out", "reason", "detail"), rows)]
        if len(self.left_out) > len(shown):
            lines += ["", f"{len(self.left_out) - len(shown)} more are in the manifest."]
        return "\n".join(lines) + "\n"

    def write_csv(self, path: Path | str) -> None:
        """One line per record: record, outcome, reason, detail, photograph, size, hash, origin and scores."""
        import pandas

        used = [
            {
                "record": each.record,
                "outcome": "used",
                "photograph": each.photograph,
                "width": each.width,
                "height": each.height,
                "sha256": each.sha256,
                "origin": each.origin,
                "found": each.found,
                **{name: each.scores[name] for name in DIMENSIONS},
            }
            for each in self.used
        ]
        left = [
            {"record": each.record, "outcome": "left_out", "reason": each.reason.value, "detail": each.detail}
            for each in self.left_out
        ]
        columns = [
            "record",
            "outcome",
            "reason",
            "detail",
            "photograph",
            "width",
            "height",
            "sha256",
            "origin",
            "found",
        ]
        frame = pandas.DataFrame([*used, *left], columns=[*columns, *DIMENSIONS])
        frame = frame.astype({"width": "Int64", "height": "Int64"})
        replace_atomic(Path(path), lambda temporary: frame.to_csv(temporary, index=False))


@dataclass(frozen=True)
class CritiqueCandidate:
    """A complete critique with its photograph, before one is chosen per photograph."""

    linked: LinkedRecord
    order: int
    problems: tuple[str, ...] = field(default=())


def _origins(used: tuple[LinkedRecord, ...]) -> str:
    counted = Counter(record.origin for record in used)
    labels = {HUMAN: "by a person", SYNTHETIC: "drafted and accepted", MODEL: "by a model"}
    return ", ".join(f"{counted[origin]} {labels[origin]}" for origin in labels if counted[origin]) or "nothing usable"
