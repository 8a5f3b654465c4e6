"""Choosing one critique per photograph, and people's critiques before a model's (the rule is that of `link`)."""

from __future__ import annotations

from collections.abc import Sequence

from mondrian_core.data.linking.link_manifest import (
    HUMAN,
    MODEL,
    SYNTHETIC,
    CritiqueCandidate,
    ExcludedRecord,
    ExclusionReason,
)

_ORIGIN_RANK = {HUMAN: 2, SYNTHETIC: 1, MODEL: 0}


def choose_critiques(
    candidates: Sequence[CritiqueCandidate], keys: Sequence[str]
) -> tuple[list[CritiqueCandidate], list[ExcludedRecord]]:
    """One critique per photograph (equal `keys` mean equal photographs), chosen by the module's rule; order is kept."""
    by_photograph: dict[str, list[CritiqueCandidate]] = {}
    for candidate, key in zip(candidates, keys, strict=True):
        by_photograph.setdefault(key, []).append(candidate)
    chosen, left_out = [], []
    for group in by_photograph.values():
        best = _best(group)
        chosen.append(best)
        left_out += [_excluded_duplicate(other, best) for other in group if other is not best]
    return chosen, left_out


def _best(group: Sequence[CritiqueCandidate]) -> CritiqueCandidate:
    def standing(each: CritiqueCandidate) -> tuple[int, bool]:
        return _ORIGIN_RANK[each.linked.origin], not each.problems

    highest = max(standing(each) for each in group)
    tied = [each for each in group if standing(each) == highest]
    dated = all(each.linked.created_at for each in tied)
    return max(tied, key=lambda each: ((each.linked.created_at or "") if dated else "", each.order))


def _excluded_duplicate(other: CritiqueCandidate, best: CritiqueCandidate) -> ExcludedRecord:
    mine, theirs = other.linked, best.linked
    if mine.scores == theirs.scores and mine.comments == theirs.comments:
        return ExcludedRecord(mine.record, ExclusionReason.DUPLICATE_OF, theirs.record, mine.held_parts)
    if mine.origin != theirs.origin:
        rule = "a person's critique takes precedence over a model's or a draft"
    elif bool(other.problems) != bool(best.problems):
        rule = "the complete one takes precedence"
    else:
        rule = "the newest takes precedence"
    return ExcludedRecord(mine.record, ExclusionReason.SUPERSEDED, f"{theirs.record}: {rule}", mine.held_parts)


def prefer_people(chosen: list[CritiqueCandidate]) -> tuple[list[CritiqueCandidate], list[ExcludedRecord]]:
    """Without those by a model, where any is by a person; and the records that this leaves out."""
    if not any(each.linked.origin == HUMAN for each in chosen):
        return chosen, []
    models = [each.linked for each in chosen if each.linked.origin == MODEL]
    kept = [each for each in chosen if each.linked.origin != MODEL]
    return kept, [
        ExcludedRecord(linked.record, ExclusionReason.MODEL_WRITTEN, parts=linked.held_parts) for linked in models
    ]
