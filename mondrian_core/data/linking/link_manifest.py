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
from mondrian_core.rubric import DIMENSIONS, Assessment, Critique, Region

HUMAN, SYNTHETIC, MODEL, INDEX = "human", "synthetic", "model", "index"
MAX_RECORDS_SHOWN = 200
MAX_CHARACTERS_SHOWN = 160  # characters of a cell


class AdvicePart(StrEnum):
    """What a critique may hold besides scores and comments; `ADVICE_PART_USES` says what each is used for."""

    RECOMMENDATIONS = "recommendations"
    REGIONS = "regions"
    STRENGTHS = "strengths"
    PRIORITY_IMPROVEMENTS = "priority_improvements"
    ADVISOR_NOTES = "advisor_notes"
    IMAGE_DESCRIPTION = "image_description"


_TAUGHT = "taught where the answers of the dataset have the form advice"
ADVICE_PART_USES: Mapping[AdvicePart, str] = {
    AdvicePart.RECOMMENDATIONS: _TAUGHT,
    AdvicePart.REGIONS: _TAUGHT,
    AdvicePart.STRENGTHS: _TAUGHT,
    AdvicePart.PRIORITY_IMPROVEMENTS: _TAUGHT,
    AdvicePart.ADVISOR_NOTES: "shown with the critique, not taught: notes on technique too",
    AdvicePart.IMAGE_DESCRIPTION: "shown with the critique, not taught: it advises nothing",
}


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
        recommendations: by dimension, for those that have one.
        regions: the places that recommendations mean, by dimension, for those that have one.
        strengths: what the photograph does well.
        priority_improvements: what to change first.
        advisor_notes: notes, also those that older analyses call technical.
        image_description: what the photograph shows.
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
    regions: Mapping[str, tuple[Region, ...]] = field(default_factory=dict)
    strengths: tuple[str, ...] = ()
    priority_improvements: tuple[str, ...] = ()
    advisor_notes: str | None = None
    image_description: str | None = None
    repairs: tuple[str, ...] = ()
    corrects: str | None = None

    @property
    def critique(self) -> Critique:
        """The critique as the advisor gave it."""
        assessments = {
            name: Assessment(
                self.scores[name], self.comments[name], self.recommendations.get(name), self.regions.get(name, ())
            )
            for name in DIMENSIONS
        }
        return Critique(
            assessments,
            self.overall_grade or "",
            self.advisor_notes,
            strengths=self.strengths,
            priority_improvements=self.priority_improvements,
        )

    @property
    def parts(self) -> dict[str, int]:
        """How many items the critique holds of each `AdvicePart`; 0 where it lacks one."""
        return {
            AdvicePart.RECOMMENDATIONS.value: len(self.recommendations),
            AdvicePart.REGIONS.value: sum(map(len, self.regions.values())),
            AdvicePart.STRENGTHS.value: len(self.strengths),
            AdvicePart.PRIORITY_IMPROVEMENTS.value: len(self.priority_improvements),
            AdvicePart.ADVISOR_NOTES.value: int(bool(self.advisor_notes)),
            AdvicePart.IMAGE_DESCRIPTION.value: int(bool(self.image_description)),
        }

    @property
    def held_parts(self) -> dict[str, int]:
        """`parts` without those that the critique lacks."""
        return {part: count for part, count in self.parts.items() if count}


@dataclass(frozen=True, slots=True)
class ExcludedRecord:
    """A record that is not used: its reason, and a detail where it helps (the other record, the path, the column).

    `parts` counts the items of each `AdvicePart` that it holds, for those that it has.
    """

    record: str
    reason: ExclusionReason
    detail: str = ""
    parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AdvicePreference:
    """A person's judgement as a preference: two answers that differ in the advice on one dimension alone.

    Attributes:
        kind: `RECOMMENDATION` or `ACCEPTED_CROP`.
        record: whose critique both answers continue, as in `LinkedRecord`.
        photograph: path relative to the workspace, with "/".
        sha256: of the photograph's bytes.
        dimension: on which the answers advise differently.
        chosen: the preferred answer, as `training_target` writes it in the form `advice`.
        rejected: the other answer.
    """

    kind: str
    record: str
    photograph: str
    sha256: str
    dimension: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class LinkManifest:
    """The outcome of linking: every record of the database is in exactly one of the two tuples.

    `preferences` follow from the records, and from what people judged in them.
    """

    advisor: str
    used: tuple[LinkedRecord, ...]
    left_out: tuple[ExcludedRecord, ...]
    database_version: int = 0
    preferences: tuple[AdvicePreference, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Records by outcome: "used", then each reason that occurs, in the order of `ExclusionReason`."""
        by_reason = Counter(left.reason for left in self.left_out)
        reasons = {reason.value: by_reason[reason] for reason in ExclusionReason if by_reason[reason]}
        return {"used": len(self.used), **reasons}

    @property
    def part_counts(self) -> dict[str, dict[str, int]]:
        """By `AdvicePart`: items in used records, used records that have one, and items in records left out."""
        return {
            part.value: {
                "used": sum(record.parts[part] for record in self.used),
                "used_records": sum(record.parts[part] > 0 for record in self.used),
                "left_out": sum(left.parts.get(part, 0) for left in self.left_out),
            }
            for part in AdvicePart
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the same database and files give the same text."""
        return {
            "advisor": self.advisor,
            "database_version": self.database_version,
            "counts": self.counts,
            "parts": self.part_counts,
            "used": [_used_values(record) for record in self.used],
            "left_out": [
                {"record": left.record, "reason": left.reason.value, "detail": left.detail}
                | ({"parts": dict(left.parts)} if left.parts else {})
                for left in self.left_out
            ],
            "preferences": list(map(asdict, self.preferences)),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LinkManifest:
        """The manifest that `as_dict` was called on."""
        used = tuple(LinkedRecord(**each | _tuples(each)) for each in values["used"])
        left_out = tuple(
            ExcludedRecord(each["record"], ExclusionReason(each["reason"]), each["detail"], each.get("parts", {}))
            for each in values["left_out"]
        )
        preferences = tuple(AdvicePreference(**each) for each in values.get("preferences", ()))
        return cls(values["advisor"], used, left_out, values.get("database_version", 0), preferences)

    def table(self) -> str:
        """Markdown for people: a line per outcome, then the excluded records (the first `MAX_RECORDS_SHOWN`)."""
        outcomes: list[tuple[object, ...]] = [(Markdown("**used**"), len(self.used), _origins(self.used))]
        for reason, count in list(self.counts.items())[1:]:
            outcomes.append((reason, count, EXCLUSION_EXPLANATIONS[ExclusionReason(reason)]))
        lines: list[str] = [markdown_table(("outcome", "records", "meaning"), outcomes, ("---", "---:", "---"))]
        parts = [
            (part, held["used"], f"{held['used_records']} of {len(self.used)}", held["left_out"], use)
            for part, use in ADVICE_PART_USES.items()
            if (held := self.part_counts[part])["used"] or held["left_out"]
        ]
        if parts:
            titles = ("besides scores and comments", "used", "in used records", "in records left out", "use")
            lines += ["", markdown_table(titles, parts, ("---", "---:", "---:", "---:", "---"))]
        if self.preferences:
            lines += ["", f"Judgements of recommendations and crops make {len(self.preferences)} preference pairs."]
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
                **each.parts,
                **{name: each.scores[name] for name in DIMENSIONS},
            }
            for each in self.used
        ]
        left = [
            {"record": each.record, "outcome": "left_out", "reason": each.reason.value, "detail": each.detail}
            | dict(each.parts)
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
        parts = [part.value for part in AdvicePart]
        frame = pandas.DataFrame([*used, *left], columns=[*columns, *parts, *DIMENSIONS])
        frame = frame.astype(dict.fromkeys(("width", "height", *parts), "Int64"))
        replace_atomic(Path(path), lambda temporary: frame.to_csv(temporary, index=False))


def _used_values(record: LinkedRecord) -> dict[str, Any]:
    """Plain values of a record; parts that it lacks are left out, as in manifests of earlier releases."""
    return {name: value for name, value in asdict(record).items() if name not in _NEWER_PARTS or value}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a record that JSON holds as lists."""
    regions = {name: tuple(map(tuple, boxes)) for name, boxes in values.get("regions", {}).items()}
    lists = ("repairs", "strengths", "priority_improvements")
    return {"regions": regions, **{name: tuple(values.get(name, ())) for name in lists}}


_NEWER_PARTS = ("regions", "strengths", "priority_improvements", "advisor_notes", "image_description")


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
