"""A person's judgements of single pieces of advice, as details of the job whose critique gave it.

The job's row has the photograph, the advisor and the adapter version. A judgement keeps the text and the boxes that the
person saw, so it stays true whatever becomes of the critique's file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mondrian_core.critique_regions import regions_from_value
from mondrian_core.rubric import DIMENSIONS, Region
from mondrian_core.store.queries import Store
from mondrian_core.store.records import ADVICE_JUDGEMENTS, Job

CROP = "crop"  # what is judged, besides the recommendation on a dimension
SUBJECTS = (*DIMENSIONS, CROP)


@dataclass(frozen=True, kw_only=True)
class AdviceJudgement:
    """A judgement of one recommendation, or of an offered crop.

    Attributes:
        subject: the recommendation's dimension, or `CROP`.
        useful: whether the person found the recommendation useful, or accepted the crop.
        text: what the advice said.
        regions: the boxes that the recommendation pointed at, or the crop's; () for a crop that isn't upright.
        judged_at: as `utc_timestamp` spells it.
    """

    subject: str
    useful: bool
    text: str
    regions: tuple[Region, ...]
    judged_at: str


def save_judgement(store: Store, job: Job, judgement: AdviceJudgement) -> Job:
    """Store a judgement with a completed job; a later one on the same subject replaces it.

    Raises:
        BadInput: the job is not completed.
    """
    values = {
        "useful": judgement.useful,
        "text": judgement.text,
        "regions": [list(region) for region in judgement.regions],
        "judged_at": judgement.judged_at,
    }
    return store.add_to_job_detail(job.id, ADVICE_JUDGEMENTS, judgement.subject, json.dumps(values))


def judgements_of(job: Job) -> dict[str, AdviceJudgement]:
    """The judgements of a job's advice by subject, in the order of `SUBJECTS`; what can't be read is left out."""
    stored: Mapping[str, Any] = job.details.get(ADVICE_JUDGEMENTS) or {}
    read = {subject: _judgement(subject, stored.get(subject)) for subject in SUBJECTS}
    return {subject: judgement for subject, judgement in read.items() if judgement is not None}


def _judgement(subject: str, stored: Any) -> AdviceJudgement | None:
    if not isinstance(stored, Mapping) or not isinstance(stored.get("useful"), bool):
        return None
    text = stored.get("text")
    if not isinstance(text, str) or not text:
        return None
    return AdviceJudgement(
        subject=subject,
        useful=stored["useful"],
        text=text,
        regions=regions_from_value(stored.get("regions")),
        judged_at=str(stored.get("judged_at", "")),
    )
