"""Dataset versions: rows made from linked critiques, written once under a digest of their content.

    WORKSPACE/datasets/<advisor>/<digest>/   train/ validation/ test/ (Hugging Face `datasets`), contact_sheet.png,
                                             README.md (the card), manifest.json (written last)

The digest covers what a row says and how its picture is made (SHA-256 of the source file, the operations), not how an
encoder of one machine spells the bytes, so the same inputs give the same digest everywhere. A version is built in a
temporary folder and renamed; a folder without a manifest is no dataset.

A critique that is too long is left out (`fit`); a build stops when something held out is known elsewhere (`leakage`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mondrian_core.critique_parsing import normalize_answer_json
from mondrian_core.data.augmentation import image_variants
from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_comments
from mondrian_core.data.dataset.examples import DatasetExample, Paraphraser, build_dataset_examples
from mondrian_core.data.dataset.token_budget import (
    OverlongRecord,
    TokenBudget,
    comment_length_problem,
    overlong_summary,
)
from mondrian_core.data.dataset.writer import MANIFEST_FILE, progress_bars_disabled, write_dataset
from mondrian_core.data.linking.link_manifest import SYNTHETIC, LinkedRecord, LinkManifest
from mondrian_core.data.splits import contamination
from mondrian_core.data.splits.draft_selection import select_drafts
from mondrian_core.data.splits.near_duplicates import PhotographFingerprint, critique_fingerprint
from mondrian_core.data.splits.split import SPLITS, TEST, TRAIN, VALIDATION, assign_splits, near_duplicate_groups
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput, BadPhotograph, NothingToDo
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.files import file_sha256, read_json
from mondrian_core.images import LONG_SIDE, downscale_to_fit, open_photograph, perceptual_hash
from mondrian_core.prompts import AdvisorPrompt, prompt_digest, training_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, make_critique, round_score, training_target

__all__ = ["DatasetVersion", "build_dataset", "load_dataset_version"]

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """A finished dataset. `photographs` and `rows_per_split` count by split; all splits have an entry."""

    path: Path
    digest: str
    advisor: str
    photographs: Mapping[str, int]
    rows_per_split: Mapping[str, int]
    manifest: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def evaluation_split(self) -> str:
        """The split that gates are measured on: the frozen test, or the validation while there is no test."""
        return TEST if self.photographs[TEST] else VALIDATION

    @property
    def selection_split(self) -> str | None:
        """The split that may choose a checkpoint; None while the validation is what the gates are measured on."""
        return VALIDATION if self.photographs[TEST] and self.photographs[VALIDATION] else None

    @property
    def photograph_hashes(self) -> frozenset[str]:
        """SHA-256 of every photograph in any split."""
        return frozenset(each["lineage"] for each in self.manifest["members"])

    @property
    def retrieval_photo_ids(self) -> frozenset[str]:
        """SHA-256 of the photographs that an evaluation may look up: none held out, no twin of one held out."""
        return frozenset(self.manifest.get("retrieval", {}).get("for_evaluation", ()))

    @property
    def near_duplicate_groups(self) -> dict[str, str]:
        """Lineage -> group of twins, of every photograph that is no draft: what `split.folds` would keep together."""
        return {each["lineage"]: each["group"] for each in self.manifest["members"] if each["origin"] != SYNTHETIC}

    @property
    def corrections(self) -> Mapping[str, str]:
        """Lineage -> the model's critique that a person corrected; of no photograph of the test."""
        return dict(self.manifest.get("corrections", {}))

    def rows(self, split: str) -> list[DatasetRow]:
        """The rows of a split, pictures decoded when they are first used.

        Raises:
            BadInput: when the split's files are damaged.
        """
        if not self.rows_per_split.get(split):
            return []
        return [_row(values) for values in load_stored_columns(self.path / split)]


@dataclass(frozen=True)
class _DecodedRecords:
    """Linked records whose photographs could be decoded, ordered by hash, and what turned out damaged."""

    records: tuple[LinkedRecord, ...]
    subjects: Mapping[str, PhotographFingerprint]
    damaged: list[dict[str, str]]
    too_long: list[OverlongRecord]

    def of(self, drafted: bool) -> list[PhotographFingerprint]:
        """Subjects of the drafts, or of all else."""
        return [self.subjects[each.sha256] for each in self.records if (each.origin == SYNTHETIC) is drafted]


def build_dataset(
    manifest: LinkManifest,
    voice: AdvisorPrompt,
    recipe: DataRecipe,
    workspace: Path,
    listen: EventListener = ignore_events,
    *,
    fit: TokenBudget | None = None,
    index: Sequence[PhotographFingerprint] = (),
    words: Paraphraser = paraphrase_comments,
) -> DatasetVersion:
    """Split, augment and write the linked critiques; a version that is there already is returned as it is.

    Args:
        fit: how rows are measured and how long one may be; None: only the characters of comments are looked at.
        words: who makes other wordings.
        index: photographs of the advisor's retrieval index; those that an evaluation may use go into the manifest.

    Raises:
        NothingToDo: when no photograph can be used.
        BadInput: when a photograph changed after it was linked, or every critique is too long.
        Leakage: when something held out is known from training or from the index.
        DiskFull: when no space is left; nothing half-written stays.
    """
    examined = _decode_photographs(manifest.used, voice, fit, workspace, listen)
    real = examined.of(drafted=False)
    if not real and examined.too_long:
        raise BadInput(
            overlong_summary(examined.too_long), "Shorten the critiques, or raise max_tokens in the recipe's [train]."
        )
    if not real:
        raise NothingToDo(
            f"No photograph of '{manifest.advisor}' can be used (reviewed drafts alone are not enough).",
            f"Run `mondrian link --advisor {manifest.advisor}` to see why.",
        )
    sides = assign_splits(real, recipe)
    drafts = select_drafts(examined.of(drafted=True), real, sides, recipe)
    sides |= dict.fromkeys(drafts.used, TRAIN)
    used = [record for record in examined.records if record.sha256 in sides]
    examples = _within_token_budget(_make_examples(used, sides, recipe, workspace, words, listen), voice, fit)
    allowed = _check_contamination(examples, examined.subjects, index)
    digest = dataset_digest(examples, voice)
    path = workspace / "datasets" / manifest.advisor / digest
    if (path / MANIFEST_FILE).is_file():
        return load_dataset_version(path)
    facts = {
        **_manifest_content(
            manifest, voice, recipe, used, sides, near_duplicate_groups(list(examined.subjects.values())), examples
        ),
        "damaged": examined.damaged,
        "too_long": [{"record": each.record, "detail": each.detail} for each in examined.too_long],
        "drafts": {"used": len(drafts.used), "left_out": drafts.left_out},
        "retrieval": {"indexed": len(index), "for_evaluation": list(allowed)},
    }
    write_dataset(path, examples, voice, {"digest": digest, **facts})
    return load_dataset_version(path)


def load_dataset_version(path: Path) -> DatasetVersion:
    """Open a dataset version.

    Raises:
        BadInput: when the folder is no finished dataset.
    """
    try:
        manifest = read_json(path / MANIFEST_FILE)
        return DatasetVersion(
            path=path,
            digest=manifest["digest"],
            advisor=manifest["advisor"],
            photographs=manifest["photographs"],
            rows_per_split=manifest["rows"],
            manifest=manifest,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is no finished dataset: {type(error).__name__} at its {MANIFEST_FILE}.",
            "Build it with `mondrian dataset --advisor A`, or name another with --dataset.",
        ) from error


def changed_dataset_files(version: DatasetVersion) -> tuple[str, ...]:
    """Files that are missing or differ from their SHA-256; () when the version is as it was written."""
    problems = []
    for name, expected in version.manifest["files"].items():
        file = version.path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(file) != expected:
            problems.append(f"{name} was changed")
    return tuple(problems)


def dataset_digest(examples: Sequence[DatasetExample], voice: AdvisorPrompt) -> str:
    """SHA-256 over what every row says and how its picture is made."""
    rows = [
        {
            "split": each.split,
            "lineage": each.photo_id,
            "picture": each.variant.as_dict(),
            "answer": each.answer(),
            "scores": [each.scores[name] for name in DIMENSIONS],
            "loss_dimensions": each.variant.kept_dimensions,
            "weight": each.weight,
            **({"origin": SYNTHETIC} if each.origin == SYNTHETIC else {}),
            **({"corrects": each.corrected_critique} if each.corrected_critique and each.split != TEST else {}),
        }
        for each in examples
    ]
    content = {"format": FORMAT, "long_side": LONG_SIDE, "prompt": prompt_digest(voice), "rows": rows}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- making rows --------------------------------------------------------------------------------------------------


def _decode_photographs(
    records: Sequence[LinkedRecord],
    voice: AdvisorPrompt,
    fit: TokenBudget | None,
    workspace: Path,
    listen: EventListener,
) -> _DecodedRecords:
    """Decode every photograph once, and see whether it fits with its critique."""
    used, subjects, damaged, too_long = [], {}, [], []
    for record in sorted(records, key=lambda each: each.sha256):
        try:
            photograph = open_photograph(workspace / record.photograph)
        except BadPhotograph as error:
            damaged.append({"record": record.record, "reason": f"{error.reason}_photograph", "detail": error.problem})
            listen(StageNotice("dataset", f"{record.record} is left out: {error.problem}"))
            continue
        if photograph.sha256 != record.sha256:
            raise BadInput(f"{record.photograph} changed after it was linked.", "Link again, then build the dataset.")
        answer = training_target(make_critique(record.scores, record.comments))
        problem = comment_length_problem(record.comments)
        if not problem and fit is not None:
            problem = fit.problem(training_messages(voice, answer), downscale_to_fit(photograph.image), answer)
        if problem:
            too_long.append(OverlongRecord(record.record, problem))
            continue
        used.append(record)
        looks = perceptual_hash(photograph.image)
        subjects[record.sha256] = PhotographFingerprint(
            record.sha256, looks, critique_fingerprint(record.scores, record.comments)
        )
    if too_long:
        listen(StageNotice("dataset", overlong_summary(too_long)))
    return _DecodedRecords(tuple(used), subjects, damaged, too_long)


def _make_examples(
    used: Sequence[LinkedRecord],
    sides: Mapping[str, str],
    recipe: DataRecipe,
    workspace: Path,
    words: Paraphraser,
    listen: EventListener,
) -> list[DatasetExample]:
    examples = []
    for done, record in enumerate(used, 1):
        examples += build_dataset_examples(record, sides[record.sha256], recipe, workspace, words)
        listen(StageProgressed("dataset", done, len(used), record.photograph))
    return examples


def _within_token_budget(
    examples: Sequence[DatasetExample], voice: AdvisorPrompt, fit: TokenBudget | None
) -> list[DatasetExample]:
    """Without the variants and other wordings that are too long; the photographs themselves were looked at before."""

    def fits(each: DatasetExample) -> bool:
        answer = each.answer()
        if comment_length_problem(each.comments):
            return False
        image = Image.open(io.BytesIO(each.jpeg))
        return fit is None or not fit.problem(training_messages(voice, answer), image, answer)

    kept = [each for each in examples if each.name == image_variants.ORIGINAL.name or fits(each)]
    counts = Counter(each.photo_id for each in kept)
    return [replace(each, weight=1 / counts[each.photo_id]) for each in kept] if len(kept) < len(examples) else kept


def _check_contamination(
    examples: Sequence[DatasetExample],
    subjects: Mapping[str, PhotographFingerprint],
    index: Sequence[PhotographFingerprint],
) -> tuple[str, ...]:
    """Hold the finished rows to the splits; give what an evaluation may look up in the index."""
    rows: dict[str, list[PhotographFingerprint]] = {split: [] for split in SPLITS}
    for each in examples:
        rows[each.split].append(
            PhotographFingerprint(each.photo_id, subjects[each.photo_id].perceptual_hashes, each.critique_fingerprint)
        )
    allowed = contamination.uncontaminated_index_ids(index, [*rows[VALIDATION], *rows[TEST]])
    contamination.check_split_contamination(rows, [entry for entry in index if entry.photo_id in allowed])
    return allowed


def _manifest_content(
    manifest: LinkManifest,
    voice: AdvisorPrompt,
    recipe: DataRecipe,
    used: Sequence[LinkedRecord],
    sides: Mapping[str, str],
    groups: Mapping[str, str],
    examples: Sequence[DatasetExample],
) -> dict[str, Any]:
    """What the manifest says of the content; nothing in it depends on the machine or the time."""
    variants: dict[str, list[str]] = {}
    for each in examples:
        variants.setdefault(each.photo_id, []).append(each.name)
    written = [each for each in used if each.origin != SYNTHETIC]
    members = [
        {
            "lineage": each.sha256,
            "split": sides[each.sha256],
            "group": groups[each.sha256],
            "record": each.record,
            "photograph": each.photograph,
            "origin": each.origin,
            "variants": variants[each.sha256],
        }
        for each in used
    ]
    return {
        "format": FORMAT,
        "advisor": manifest.advisor,
        "voice": {"name": voice.name, "prompt_digest": prompt_digest(voice)},
        "recipe": recipe.model_dump(mode="json"),
        "photographs": {split: sum(side == split for side in sides.values()) for split in SPLITS},
        "rows": {split: sum(each.split == split for each in examples) for split in SPLITS},
        "linked": manifest.counts,
        "histograms": {
            split: _histograms([each for each in written if sides[each.sha256] == split]) for split in SPLITS
        },
        "members": members,
        "corrections": {
            each.photo_id: each.corrected_critique
            for each in examples
            if each.corrected_critique and each.split != TEST
        },
    }


def _histograms(records: Sequence[LinkedRecord]) -> dict[str, list[int]]:
    """By dimension, how many photographs have each whole score 0..10."""
    counts = {name: [0] * 11 for name in DIMENSIONS}
    for record in records:
        for name in DIMENSIONS:
            counts[name][round_score(record.scores[name])] += 1
    return counts


# --- reading ----------------------------------------------------------------------------------------------------------


def load_stored_columns(folder: Path) -> list[dict[str, Any]]:
    """The columns of a split's rows; pictures as {"bytes", "path"}, messages without empty columns.

    Raises:
        BadInput: when the files are damaged.
    """
    import datasets

    try:
        with progress_bars_disabled():
            table = datasets.load_from_disk(str(folder)).cast_column("image", datasets.Image(decode=False))
        return [{**row, "messages": [_message(each) for each in row["messages"]]} for row in table]
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The dataset at {folder} is damaged: {error}.", "Remove the folder and build it again."
        ) from error


def _row(values: Mapping[str, Any]) -> DatasetRow:
    """Datasets of before have answers with ASCII escapes, which the service's grammar can't write."""
    image = Image.open(io.BytesIO(values["image"]["bytes"]))
    answer, messages = normalize_answer_json(values["answer"]), values["messages"]
    if answer != values["answer"]:
        said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        messages = [said if message["role"] == "assistant" else message for message in messages]
    return DatasetRow(
        photo_id=values["lineage"],
        image=image,
        messages=messages,
        answer=answer,
        scores=dict(values["scores"]),
        loss_dimensions=tuple(values["loss_dimensions"]),
        weight=values["weight"],
    )


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without the empty columns that the table gave its parts."""
    parts = [{key: value for key, value in part.items() if value is not None} for part in message["content"]]
    return {"role": message["role"], "content": parts}
