"""The content of a dataset's manifest.json: members, counts, histograms, what was left out. No machine, no time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mondrian_core.data.dataset.advice_pairs import ADVICE_PAIRS, AdvicePairExample
from mondrian_core.data.dataset.examples import DatasetExample
from mondrian_core.data.dataset.taught_critique import ShortenedRecord
from mondrian_core.data.dataset.token_budget import OverlongRecord
from mondrian_core.data.dataset.writer import HELD_OUT_VARIANTS
from mondrian_core.data.linking.link_manifest import SYNTHETIC, AdvicePart, LinkedRecord, LinkManifest
from mondrian_core.data.splits.draft_selection import DraftSelection
from mondrian_core.data.splits.split import SPLITS, TEST
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, Critique, round_score

FORMAT = 2  # see `version`: changes whenever what is written, or how pictures are made, changes


@dataclass(frozen=True, kw_only=True)
class DatasetContent:
    """Everything that is known of a dataset when it is written.

    Attributes:
        linked: the outcome of linking.
        advisor_prompt: the advisor's prompt in every row.
        recipe: how it was split and augmented.
        records: the records used, ordered by photo id.
        splits: photo id -> split.
        groups: photo id -> group of near-duplicates.
        examples: the rows.
        drafts: which drafts joined.
        damaged: records whose photograph could not be decoded.
        overlong: records whose critique is too long.
        shortened: records whose rows leave out some of their advice.
        indexed: photographs in the advisor's retrieval index.
        retrievable: photo ids of the index that an evaluation may look up.
        pairs: pairs of answers from people's judgements of advice.
    """

    linked: LinkManifest
    advisor_prompt: AdvisorPrompt
    recipe: DataRecipe
    records: Sequence[LinkedRecord]
    splits: Mapping[str, str]
    groups: Mapping[str, str]
    examples: Sequence[DatasetExample]
    drafts: DraftSelection
    damaged: Sequence[Mapping[str, str]]
    overlong: Sequence[OverlongRecord]
    shortened: Sequence[ShortenedRecord]
    indexed: int
    retrievable: Sequence[str]
    pairs: Sequence[AdvicePairExample] = ()


def manifest_content(content: DatasetContent) -> dict[str, Any]:
    """Plain values for manifest.json; the writer adds the digest and the files."""
    examples, splits = content.examples, content.splits
    return {
        "format": FORMAT,
        "advisor": content.linked.advisor,
        "voice": {"name": content.advisor_prompt.name, "prompt_digest": prompt_digest(content.advisor_prompt)},
        "answer_form": content.advisor_prompt.form.value,
        "parts": _part_counts(content),
        "recipe": content.recipe.model_dump(mode="json"),
        "photographs": {split: sum(side == split for side in splits.values()) for split in SPLITS},
        "rows": {split: sum(row.split == split for row in examples) for split in SPLITS},
        HELD_OUT_VARIANTS: sum(row.split == HELD_OUT_VARIANTS for row in examples),
        "linked": content.linked.counts,
        "histograms": {split: _histograms(_written_by_people(content, split)) for split in SPLITS},
        "members": _members(content),
        "corrections": {
            row.photo_id: row.corrected_critique for row in examples if row.corrected_critique and row.split != TEST
        },
        ADVICE_PAIRS: _pair_counts(content),
        "damaged": list(content.damaged),
        "too_long": [{"record": each.record, "detail": each.detail} for each in content.overlong],
        "shortened": [{"record": each.record, "detail": each.detail} for each in content.shortened],
        "drafts": {"used": len(content.drafts.used), "left_out": content.drafts.left_out},
        "retrieval": {"indexed": content.indexed, "for_evaluation": list(content.retrievable)},
    }


def _pair_counts(content: DatasetContent) -> dict[str, int]:
    return dict(sorted(Counter(pair.preference.kind for pair in content.pairs).items()))


def _part_counts(content: DatasetContent) -> dict[str, int]:
    """How many photographs' critiques teach each part of an advising answer."""
    taught: dict[str, Critique] = {}
    for row in content.examples:
        taught.setdefault(row.photo_id, row.critique)
    counted = {
        AdvicePart.RECOMMENDATIONS: lambda critique: critique.recommendations,
        AdvicePart.REGIONS: lambda critique: any(each.regions for each in critique.assessments.values()),
        AdvicePart.STRENGTHS: lambda critique: critique.strengths,
        AdvicePart.PRIORITY_IMPROVEMENTS: lambda critique: critique.priority_improvements,
    }
    return {part.value: sum(bool(holds(each)) for each in taught.values()) for part, holds in counted.items()}


def _members(content: DatasetContent) -> list[dict[str, Any]]:
    """One entry per photograph; `lineage` is the photo id."""
    variants: dict[str, list[str]] = {}
    for row in content.examples:
        if row.split != HELD_OUT_VARIANTS:
            variants.setdefault(row.photo_id, []).append(row.name)
    return [
        {
            "lineage": record.sha256,
            "split": content.splits[record.sha256],
            "group": content.groups[record.sha256],
            "record": record.record,
            "photograph": record.photograph,
            "origin": record.origin,
            "variants": variants[record.sha256],
        }
        for record in content.records
    ]


def _written_by_people(content: DatasetContent, split: str) -> list[LinkedRecord]:
    return [
        record for record in content.records if record.origin != SYNTHETIC and content.splits[record.sha256] == split
    ]


def _histograms(records: Sequence[LinkedRecord]) -> dict[str, list[int]]:
    """Dimension -> how many photographs have each whole score, from `MIN_SCORE` to `MAX_SCORE`."""
    counts = {name: [0] * (MAX_SCORE - MIN_SCORE + 1) for name in DIMENSIONS}
    for record in records:
        for name in DIMENSIONS:
            counts[name][round_score(record.scores[name]) - MIN_SCORE] += 1
    return counts
