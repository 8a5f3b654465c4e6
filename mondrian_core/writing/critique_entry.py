"""A critique as a person types it: any part may still be missing until it is saved."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from mondrian_core.critique_regions import regions_as_lists
from mondrian_core.errors import BadInput
from mondrian_core.rubric import (
    DIMENSION_TITLES,
    DIMENSIONS,
    MAX_COMMENT_CHARACTERS,
    MAX_PRIORITIES,
    MAX_SCORE,
    MIN_SCORE,
    grade_from_scores,
    has_visible_character,
)
from mondrian_core.store import DimensionalProfile
from mondrian_core.store.records import LIST_DETAILS, REGIONS, texts_from_value
from mondrian_core.text_quality import is_placeholder_comment

SCORE_STEP = 0.5
MAX_NOTES_CHARACTERS = 2000


def _normalized(value: Any) -> Any:
    """Text in NFC, without control characters and halves of characters, which a model's grammar can't spell."""
    if not isinstance(value, str):
        return value
    instead = {"Cc": " ", "Cs": "\ufffd"}
    kept = (letter if letter == "\n" else instead.get(unicodedata.category(letter), letter) for letter in value)
    return unicodedata.normalize("NFC", "".join(kept))


_Comment: TypeAlias = Annotated[str, BeforeValidator(_normalized), Field(max_length=MAX_COMMENT_CHARACTERS)]
_Notes: TypeAlias = Annotated[str, BeforeValidator(_normalized), Field(max_length=MAX_NOTES_CHARACTERS)]


class DimensionEntry(BaseModel):
    """What is typed about one dimension: a score (0-10, half points allowed), a comment and a recommendation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: float | None = Field(
        default=None,
        strict=True,
        ge=MIN_SCORE,
        le=MAX_SCORE,
        multiple_of=SCORE_STEP,
        allow_inf_nan=False,
        description="0 to 10 in steps of 0.5; null: not scored yet",
    )
    comment: _Comment = ""
    recommendation: _Comment = ""


_EntryDimensions: type[BaseModel] = create_model(
    "EntryDimensions",
    __config__=ConfigDict(extra="forbid", frozen=True),
    **dict.fromkeys(DIMENSIONS, (DimensionEntry, DimensionEntry())),
)  # type: ignore[call-overload]


class CritiqueEntry(BaseModel):
    """A critique as typed. A missing dimension is one without score and comment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimensions: _EntryDimensions = Field(default_factory=_EntryDimensions)  # type: ignore[valid-type]
    strengths: _Notes = Field(default="", description="one a line; optional")
    priority_improvements: _Notes = Field(
        default="", description=f"what to change first, one a line; optional, an answer holds {MAX_PRIORITIES}"
    )
    notes: _Notes = Field(default="", description="optional")

    def __getitem__(self, name: str) -> DimensionEntry:
        """What is typed about a dimension."""
        entry: DimensionEntry = getattr(self.dimensions, name)
        return entry

    @property
    def scores(self) -> dict[str, float]:
        """The scores so far (0-10), by dimension."""
        return {name: score for name in DIMENSIONS if (score := self[name].score) is not None}

    @property
    def is_blank(self) -> bool:
        """True when nothing was typed."""
        return self == CritiqueEntry()

    @property
    def missing_parts(self) -> list[str]:
        """What a complete critique still needs, as words for people."""
        titles = DIMENSION_TITLES
        unscored = [titles[name] for name in DIMENSIONS if self[name].score is None]
        silent = [titles[name] for name in DIMENSIONS if not has_visible_character(self[name].comment)]
        parts = [f"a score for {', '.join(unscored)}"] if unscored else []
        return [*parts, *([f"a comment on {', '.join(silent)}"] if silent else [])]

    def require_complete(self) -> None:
        """Refuse a critique that the next dataset would leave out.

        Raises:
            BadInput: a score or a comment is missing, or most comments say nothing ("ok").
        """
        if missing := self.missing_parts:
            raise BadInput(
                f"The critique is not complete: it needs {' and '.join(missing)}.", "Add them, then save it again."
            )
        empty = [name for name in DIMENSIONS if is_placeholder_comment(self[name].comment.strip())]
        if len(empty) > len(DIMENSIONS) // 2:
            raise BadInput(
                f"{len(empty)} of the {len(DIMENSIONS)} comments are placeholders such as 'ok'.",
                "An adapter learns the words: say what you see, then save it again.",
            )

    def as_profile(self, profile_id: str, advisor: str, image_path: str, how: Mapping[str, Any]) -> DimensionalProfile:
        """The complete critique as a profile by a person; `how` says how it was written.

        Raises:
            BadInput: it is not complete.
        """
        self.require_complete()
        more: dict[str, Any] = {name: list(texts_from_value(getattr(self, name))) for name in LIST_DETAILS}
        more |= {"advisor_notes": self.notes.strip()}
        recommendations = {name: self[name].recommendation.strip() for name in DIMENSIONS}
        return DimensionalProfile(
            id=profile_id,
            advisor=advisor,
            image_path=image_path,
            scores=self.scores,
            comments={name: self[name].comment.strip() for name in DIMENSIONS},
            recommendations={name: text for name, text in recommendations.items() if text},
            overall_grade=grade_from_scores(self.scores),
            details={**{name: value for name, value in more.items() if value}, **how},
        )


def entry_from_profile(profile: DimensionalProfile) -> CritiqueEntry:
    """A stored critique as an entry to edit; what an entry can't hold (a score of 7.3) is brought to its nearest."""
    return CritiqueEntry.model_validate(
        {
            "dimensions": {
                name: {
                    "score": _nearest_score(profile.scores.get(name)),
                    "comment": (profile.comments.get(name) or "")[:MAX_COMMENT_CHARACTERS],
                    "recommendation": (profile.recommendations.get(name) or "")[:MAX_COMMENT_CHARACTERS],
                }
                for name in DIMENSIONS
            },
            "strengths": "\n".join(profile.strengths)[:MAX_NOTES_CHARACTERS],
            "priority_improvements": "\n".join(profile.priority_improvements)[:MAX_NOTES_CHARACTERS],
            "notes": str(profile.details.get("advisor_notes") or "")[:MAX_NOTES_CHARACTERS],
        }
    )


def untypable_details(profile: DimensionalProfile, entry: CritiqueEntry) -> dict[str, Any]:
    """What a stored critique says that no field of an entry holds, without boxes of recommendations that changed."""
    kept = {name: entry[name].recommendation.strip() == text for name, text in profile.recommendations.items()}
    regions = {name: boxes for name, boxes in profile.regions.items() if kept.get(name)}
    description = profile.details.get("image_description")
    return {
        **({"image_description": description} if description else {}),
        **({REGIONS: regions_as_lists(regions)} if regions else {}),
    }


def _nearest_score(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not MIN_SCORE <= value <= MAX_SCORE:
        return None
    return round(value / SCORE_STEP) * SCORE_STEP


def parse_entry(values: Any) -> CritiqueEntry:
    """An entry from plain values.

    The canonical answer (`dimensional_analysis`, `overall_grade`, `advisor_notes`) is accepted too.

    Raises:
        BadInput: naming every value that is wrong.
    """
    if isinstance(values, Mapping) and "dimensional_analysis" in values:
        lists = {name: values.get(name, "") for name in LIST_DETAILS}
        known = {"dimensional_analysis", "overall_grade", "advisor_notes", *LIST_DETAILS}
        values = {
            "dimensions": _without_regions(values["dimensional_analysis"]),
            **{name: "\n".join(map(str, each)) if isinstance(each, list) else each for name, each in lists.items()},
            "notes": values.get("advisor_notes", ""),
            **{name: value for name, value in values.items() if name not in known},
        }
    try:
        return CritiqueEntry.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in error.errors()[:8])
        raise BadInput(
            f"The critique can't be read: {wrong}.",
            'Give {"dimensions": {"composition": {"score": 7.5, "comment": "...", "recommendation": "..."}, ...}, '
            '"strengths": "...", "priority_improvements": "...", "notes": "..."}.',
        ) from None


def _without_regions(dimensions: Any) -> Any:
    """An answer's dimensions without their regions, which can't be typed."""
    if not isinstance(dimensions, Mapping):
        return dimensions
    return {
        name: {part: value for part, value in entry.items() if part != REGIONS} if isinstance(entry, Mapping) else entry
        for name, entry in dimensions.items()
    }
