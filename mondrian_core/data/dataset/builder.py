"""Building a dataset version: split, augment and write linked critiques, under a digest of their content.

    WORKSPACE/datasets/<advisor>/<digest>/   train/ validation/ test/ (Hugging Face `datasets`), held_out_variants/,
                                             contact_sheet.png, README.md (the card), manifest.json (written last)

Each photograph is opened once: its fingerprint, its own row and the augmented rows that training would give it are all
made from the same pixels. The rows of a photograph don't depend on its split, so those of a held-out one are kept in
`held_out_variants/`, for folds and for small sets that train on everything (`full_dataset`). What people's judgements
of advice teach is kept in `advice_pairs/`, where there are any.

The digest covers what a row teaches and how its picture is made (SHA-256 of the source file, the operations), not how
one machine's encoder spells the bytes, so the same inputs give the same digest everywhere. A version is built in a
temporary folder and renamed; a folder without a manifest is not a dataset. A critique that is too long is left out
(`token_budget`); a build fails when something held out is known elsewhere (`contamination`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from mondrian_core.data.dataset.advice_pairs import ADVICE_PAIRS, AdvicePairExample, AdvicePairPreparation
from mondrian_core.data.dataset.examples import DatasetExample, answer_text, augmented_examples, original_example
from mondrian_core.data.dataset.manifest import FORMAT, DatasetContent, manifest_content
from mondrian_core.data.dataset.taught_critique import (
    ShortenedRecord,
    choose_answer_form,
    shortened_summary,
    shorter_critiques,
    taught_critique,
)
from mondrian_core.data.dataset.token_budget import (
    OverlongRecord,
    TokenBudget,
    comment_length_problem,
    overlong_summary,
)
from mondrian_core.data.dataset.version import DatasetVersion, load_dataset_version
from mondrian_core.data.dataset.writer import HELD_OUT_VARIANTS, MANIFEST_FILE, write_dataset
from mondrian_core.data.linking.link_manifest import SYNTHETIC, LinkedRecord, LinkManifest
from mondrian_core.data.splits import contamination
from mondrian_core.data.splits.draft_selection import select_drafts
from mondrian_core.data.splits.split import SPLITS, TEST, TRAIN, VALIDATION, assign_splits, near_duplicate_groups
from mondrian_core.errors import BadInput, BadPhotograph, NothingToDo
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.images import LONG_SIDE, downscale_to_fit, open_photograph
from mondrian_core.near_duplicates import PhotographFingerprint, critique_fingerprint, photograph_fingerprint
from mondrian_core.prompts import AdvisorPrompt, prompt_digest, training_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique

__all__ = ["BuildLimits", "build_dataset", "dataset_digest"]


@dataclass(frozen=True, kw_only=True)
class BuildLimits:
    """What a build has to respect besides the recipe.

    Attributes:
        token_budget: how long a row may be; None checks only the characters of comments.
        index: photographs in the advisor's retrieval index; the manifest lists those that an evaluation may look up.
    """

    token_budget: TokenBudget | None = None
    index: Sequence[PhotographFingerprint] = ()


@dataclass(frozen=True)
class _PreparedPhotograph:
    """A photograph that was opened: its fingerprint and rows, the photograph itself first; no split yet."""

    record: LinkedRecord
    fingerprint: PhotographFingerprint
    rows: tuple[DatasetExample, ...]

    def placed(self, split: str) -> list[DatasetExample]:
        """Its rows once the split is known; weights sum to 1, held-out photographs keep their variants apart."""
        weight = 1 / len(self.rows)
        if split == TRAIN:
            return [replace(row, split=TRAIN, weight=weight) for row in self.rows]
        original, *augmented = self.rows
        return [
            replace(original, split=split),
            *(replace(row, split=HELD_OUT_VARIANTS, weight=weight) for row in augmented),
        ]


@dataclass(frozen=True)
class _PreparedPhotographs:
    """All photographs that could be prepared, ordered by photo id, and the records that could not."""

    photographs: list[_PreparedPhotograph]
    damaged: list[dict[str, str]]
    overlong: list[OverlongRecord]
    shortened: list[ShortenedRecord]

    def fingerprints(self, *, drafted: bool) -> list[PhotographFingerprint]:
        """Those of drafts, or of everything else."""
        return [each.fingerprint for each in self.photographs if (each.record.origin == SYNTHETIC) is drafted]


def build_dataset(
    manifest: LinkManifest,
    advisor_prompt: AdvisorPrompt,
    recipe: DataRecipe,
    workspace: Path,
    listen: EventListener = ignore_events,
    limits: BuildLimits = BuildLimits(),
) -> DatasetVersion:
    """Split, augment and write the linked critiques; an existing version with the same content is returned unchanged.

    Args:
        manifest: the linked records.
        advisor_prompt: the prompt of every row.
        recipe: how to split and augment.
        workspace: folder that photographs are relative to; the version is written below its `datasets/`.
        listen: receives progress, and a notice for each record that is left out.
        limits: token budget and retrieval index.

    Raises:
        NothingToDo: when no photograph can be used.
        BadInput: when a photograph changed after it was linked, or every critique is too long.
        SplitContaminationError: when something held out is known from training or from the index.
        DiskFull: when no space is left; no partial dataset remains.
    """
    advisor_prompt = replace(advisor_prompt, form=choose_answer_form(recipe.answer_form, manifest.used))
    prepared = _PhotographPreparation(advisor_prompt, recipe, limits.token_budget, workspace, listen).prepare_all(
        manifest.used
    )
    real = prepared.fingerprints(drafted=False)
    _require_photographs(real, prepared.overlong, manifest.advisor)
    splits = assign_splits(real, recipe)
    drafts = select_drafts(prepared.fingerprints(drafted=True), real, splits, recipe)
    splits |= dict.fromkeys(drafts.used, TRAIN)
    used = [each for each in prepared.photographs if each.record.sha256 in splits]
    examples = [row for each in used for row in each.placed(splits[each.record.sha256])]
    fingerprints = [each.fingerprint for each in prepared.photographs]
    retrievable = _check_contamination(examples, fingerprints, limits.index)
    groups = near_duplicate_groups(fingerprints)
    pairs = AdvicePairPreparation(
        advisor_prompt=advisor_prompt,
        workspace=workspace,
        budget=limits.token_budget,
        members=fingerprints,
        groups=groups,
    ).prepare(manifest.preferences, listen)
    digest = dataset_digest(examples, advisor_prompt, groups, pairs)
    path = workspace / "datasets" / manifest.advisor / digest
    if not (path / MANIFEST_FILE).is_file():
        content = DatasetContent(
            linked=manifest,
            advisor_prompt=advisor_prompt,
            recipe=recipe,
            records=[each.record for each in used],
            splits=splits,
            groups=groups,
            examples=examples,
            drafts=drafts,
            damaged=prepared.damaged,
            overlong=prepared.overlong,
            shortened=prepared.shortened,
            indexed=len(limits.index),
            retrievable=retrievable,
            pairs=pairs,
        )
        write_dataset(path, examples, advisor_prompt, {"digest": digest, **manifest_content(content)}, pairs)
    return load_dataset_version(path)


def dataset_digest(
    examples: Sequence[DatasetExample],
    advisor_prompt: AdvisorPrompt,
    groups: Mapping[str, str],
    pairs: Sequence[AdvicePairExample] = (),
) -> str:
    """SHA-256 over what is taught, how pictures are made and which photographs belong together, hexadecimal.

    Folds follow the groups, so a search that finds other near-duplicates makes another version.

    Args:
        examples: the rows.
        advisor_prompt: the prompt in every row.
        groups: photo id -> group of near-duplicates.
        pairs: what people's judgements of advice teach.
    """
    rows = [
        {
            "split": row.split,
            "lineage": row.photo_id,
            "picture": row.variant.as_dict(),
            "answer": row.answer,
            "scores": [row.scores[name] for name in DIMENSIONS],
            "loss_dimensions": row.variant.kept_dimensions,
            "weight": row.weight,
            **({"origin": SYNTHETIC} if row.origin == SYNTHETIC else {}),
            **({"corrects": row.corrected_critique} if row.corrected_critique and row.split != TEST else {}),
        }
        for row in examples
    ]
    content = {"format": FORMAT, "long_side": LONG_SIDE, "prompt": prompt_digest(advisor_prompt), "rows": rows}
    if advisor_prompt.form is not AnswerForm.COMMENTS:
        content["form"] = advisor_prompt.form.value
    if together := {photo_id: group for photo_id, group in groups.items() if photo_id != group}:
        content["groups"] = together
    if pairs:
        content[ADVICE_PAIRS] = [pair.as_dict() for pair in pairs]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _PhotographPreparation:
    """Opens each photograph once and makes everything from it that a dataset needs."""

    def __init__(
        self,
        advisor_prompt: AdvisorPrompt,
        recipe: DataRecipe,
        budget: TokenBudget | None,
        workspace: Path,
        listen: EventListener,
    ) -> None:
        self._prompt, self._recipe, self._budget = advisor_prompt, recipe, budget
        self._workspace, self._listen = workspace, listen

    def prepare_all(self, records: Sequence[LinkedRecord]) -> _PreparedPhotographs:
        """Prepare the photographs in the order of their photo ids.

        Raises:
            BadInput: when a photograph changed after it was linked.
        """
        prepared = _PreparedPhotographs([], [], [], [])
        for done, record in enumerate(sorted(records, key=lambda each: each.sha256), 1):
            try:
                outcome = self._prepare(record, prepared.shortened)
            except BadPhotograph as error:
                reason = f"{error.reason}_photograph"
                prepared.damaged.append({"record": record.record, "reason": reason, "detail": error.problem})
                self._listen(StageNotice("dataset", f"{record.record} is left out: {error.problem}"))
                continue
            if isinstance(outcome, OverlongRecord):
                prepared.overlong.append(outcome)
            else:
                prepared.photographs.append(outcome)
            self._listen(StageProgressed("dataset", done, len(records), record.photograph))
        if prepared.overlong:
            self._listen(StageNotice("dataset", overlong_summary(prepared.overlong)))
        if prepared.shortened:
            self._listen(StageNotice("dataset", shortened_summary(prepared.shortened)))
        return prepared

    def _prepare(self, record: LinkedRecord, shortened: list[ShortenedRecord]) -> _PreparedPhotograph | OverlongRecord:
        photograph = open_photograph(self._workspace / record.photograph)
        if photograph.sha256 != record.sha256:
            raise BadInput(f"{record.photograph} changed after it was linked.", "Link again, then build the dataset.")
        image = downscale_to_fit(photograph.image)
        form = self._prompt.form
        critique, lost = taught_critique(record.critique, form)
        answer = answer_text(critique, form)
        problem = self._length_problem(image, critique, answer)
        for shorter, part in shorter_critiques(critique):
            if not problem:
                break
            critique, answer, lost = shorter, answer_text(shorter, form), (*lost, f"{part.value} ({problem})")
            problem = self._length_problem(image, critique, answer)
        if problem:
            return OverlongRecord(record.record, problem)
        if lost:
            shortened.append(ShortenedRecord(record.record, "; ".join(lost)))
        fingerprint = photograph_fingerprint(
            record.sha256, photograph.image, critique_fingerprint(record.scores, record.comments)
        )
        original = original_example(record, critique, image, answer, form)
        augmented: list[DatasetExample] = []
        if record.origin != SYNTHETIC:  # a draft has one row, so that their share is the same in rows and in weight
            augmented = augmented_examples(original, image, self._recipe, self._fits)
        return _PreparedPhotograph(record, fingerprint, (original, *augmented))

    def _fits(self, image: Image.Image, critique: Critique, answer: str) -> bool:
        return not self._length_problem(image, critique, answer)

    def _length_problem(self, image: Image.Image, critique: Critique, answer: str) -> str:
        """Why a row is too long; empty when it fits."""
        problem = comment_length_problem({name: critique.assessments[name].comment for name in DIMENSIONS})
        if problem or self._budget is None:
            return problem
        return self._budget.problem(training_messages(self._prompt, answer), image, answer)


def _require_photographs(
    real: Sequence[PhotographFingerprint], overlong: Sequence[OverlongRecord], advisor: str
) -> None:
    if not real and overlong:
        raise BadInput(
            overlong_summary(overlong), "Shorten the critiques, or raise max_tokens in the recipe's [train]."
        )
    if not real:
        raise NothingToDo(
            f"No photograph of '{advisor}' can be used (reviewed drafts alone are not enough).",
            f"Run `mondrian link --advisor {advisor}` to see why.",
        )


def _check_contamination(
    examples: Sequence[DatasetExample],
    photographs: Sequence[PhotographFingerprint],
    index: Sequence[PhotographFingerprint],
) -> tuple[str, ...]:
    """Check the finished rows against each other and the index; photo ids of the index that an evaluation may use."""
    known = {photograph.photo_id: photograph for photograph in photographs}
    rows: dict[str, list[PhotographFingerprint]] = {split: [] for split in SPLITS}
    for row in examples:
        if row.split != HELD_OUT_VARIANTS:
            rows[row.split].append(replace(known[row.photo_id], critique=row.critique_fingerprint))
    allowed = contamination.uncontaminated_index_ids(index, [*rows[VALIDATION], *rows[TEST]])
    contamination.check_split_contamination(rows, [entry for entry in index if entry.photo_id in allowed])
    return allowed
