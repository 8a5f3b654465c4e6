"""Preferences from a person's judgements of single recommendations and of offered crops.

What is preferred was approved by a person: a recommendation rated useful, else one that a person wrote on the same
photograph and dimension; or an accepted crop. What is rejected was refused: a recommendation rated not useful, or a
refused crop; else what an answer without a judgement says there. Where one side is missing there is no preference, and
advice that stands on both sides teaches nothing.

Both answers continue the critique that gave the preferred advice, so they differ in this advice alone. A crop is
recommended under composition, in the sentence that the person accepted, with its box as the region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from mondrian_core.data.linking.link_manifest import MODEL, AdvicePreference, CritiqueCandidate, LinkedRecord
from mondrian_core.dataset_types import ACCEPTED_CROP, RECOMMENDATION
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique, Region
from mondrian_core.store.advice_judgements import CROP, AdviceJudgement
from mondrian_core.training_target import fitting_advice, training_target

CROP_DIMENSION = "composition"
Judgements = Mapping[str, AdviceJudgement]  # by subject
_Said = tuple[str | None, tuple[Region, ...]]


@dataclass(frozen=True)
class _Advice:
    """Advice on a dimension, and the record that gave it; `text` is None where the record has none."""

    linked: LinkedRecord
    text: str | None
    regions: tuple[Region, ...] = ()

    @property
    def said(self) -> _Said:
        """What makes it the same advice."""
        return self.text, self.regions


def advice_preferences(
    candidates: Sequence[CritiqueCandidate], keys: Sequence[str], judgements: Mapping[str, Judgements]
) -> list[AdvicePreference]:
    """The preferences of all photographs, without the SHA-256 of the photograph.

    Args:
        candidates: every usable critique.
        keys: equal for critiques of the same photograph.
        judgements: by record, as in `LinkedRecord`.
    """
    groups: dict[str, list[CritiqueCandidate]] = {}
    for candidate, key in zip(candidates, keys, strict=True):
        groups.setdefault(key, []).append(candidate)
    found: list[AdvicePreference] = []
    for group in groups.values():
        if any(each.linked.record in judgements for each in group):
            newest_first = sorted(group, key=lambda each: (each.linked.created_at or "", each.order), reverse=True)
            records = [each.linked for each in newest_first]
            for dimension in DIMENSIONS:
                found += _recommendations(records, judgements, dimension)
            found += _crops(records, judgements)
    return found


def _recommendations(
    records: Sequence[LinkedRecord], judgements: Mapping[str, Judgements], dimension: str
) -> Iterator[AdvicePreference]:
    """Preferences between the recommendations on one dimension; records are of one photograph, the newest first."""
    useful: list[_Advice] = []
    refused: list[_Advice] = []
    written: list[_Advice] = []
    unjudged: list[_Advice] = []
    for record in records:
        judgement = judgements.get(record.record, {}).get(dimension)
        if judgement is not None:
            (useful if judgement.useful else refused).append(_Advice(record, judgement.text, judgement.regions))
        elif text := record.recommendations.get(dimension):
            advice = _Advice(record, text, record.regions.get(dimension, ()))
            (unjudged if record.origin == MODEL else written).append(advice)
    preferred = useful or (written if refused else [])
    other = [each for each in unjudged if each.text not in {approved.text for approved in useful}]
    yield from _preferences(RECOMMENDATION, dimension, preferred, refused or other)


def _crops(records: Sequence[LinkedRecord], judgements: Mapping[str, Judgements]) -> Iterator[AdvicePreference]:
    """Preferences for accepted crops; records are of one photograph, the newest first."""
    accepted: list[_Advice] = []
    refused: list[_Advice] = []
    instead: list[_Advice] = []
    for record in records:
        judged = judgements.get(record.record, {})
        crop, own = judged.get(CROP), judged.get(CROP_DIMENSION)
        if crop is None or not crop.regions:
            continue
        (accepted if crop.useful else refused).append(_Advice(record, crop.text, crop.regions))
        if crop.useful and not (own and own.useful):
            recommendation, regions = record.recommendations.get(CROP_DIMENSION), record.regions.get(CROP_DIMENSION, ())
            instead.append(_Advice(record, recommendation, regions))
    yield from _preferences(ACCEPTED_CROP, CROP_DIMENSION, accepted, refused or instead)


def _preferences(
    kind: str, dimension: str, preferred: Sequence[_Advice], rejected: Sequence[_Advice]
) -> Iterator[AdvicePreference]:
    """Each of the preferred with the newest rejected, and each of the rejected with the newest preferred."""
    both = {each.said for each in preferred} & {each.said for each in rejected}
    first, second = _newest_of_each(preferred, both), _newest_of_each(rejected, both)
    if not first or not second:
        return
    for better, worse in [*((each, second[0]) for each in first), *((first[0], each) for each in second[1:])]:
        answers = [_answer_with(better.linked.critique, dimension, advice) for advice in (better, worse)]
        if answers[0] is not None and answers[1] is not None:
            yield AdvicePreference(
                kind=kind,
                record=better.linked.record,
                photograph=better.linked.photograph,
                sha256=better.linked.sha256,
                dimension=dimension,
                chosen=answers[0],
                rejected=answers[1],
            )


def _newest_of_each(given: Sequence[_Advice], left_out: Set[_Said]) -> list[_Advice]:
    """Without repetitions and what is left out; the newest first, as given."""
    found: dict[_Said, _Advice] = {}
    for each in given:
        if each.said not in left_out:
            found.setdefault(each.said, each)
    return list(found.values())


def _answer_with(critique: Critique, dimension: str, advice: _Advice) -> str | None:
    """The critique's answer with other advice on a dimension; None when an answer can't hold it."""
    changed = replace(critique.assessments[dimension], recommendation=advice.text, regions=advice.regions)
    wanted = replace(critique, assessments={**critique.assessments, dimension: changed})
    held = fitting_advice(wanted)[0].assessments[dimension]
    complete = bool(held.recommendation) == bool(advice.text) and len(held.regions) == len(advice.regions)
    return training_target(wanted, AnswerForm.ADVICE) if complete else None
