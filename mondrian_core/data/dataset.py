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

from mondrian_core.data import augment, leakage
from mondrian_core.data.examples import Example, Vary, examples_of
from mondrian_core.data.fit import Fit, TooLong, comment_problem, told
from mondrian_core.data.publish import MANIFEST, publish, quiet
from mondrian_core.data.records import SYNTHETIC, LinkedRecord, LinkManifest
from mondrian_core.data.split import SPLITS, TEST, TRAIN, VALIDATION, assign, grouped
from mondrian_core.data.synthetic import join
from mondrian_core.data.twins import Subject, said
from mondrian_core.data.variations import vary
from mondrian_core.errors import BadInput, BadPhotograph, NothingToDo
from mondrian_core.events import Advanced, Listener, Noticed, ignore
from mondrian_core.files import read_json, sha256_of
from mondrian_core.images import LONG_SIDE, bounded, open_photograph, perceptual_hash
from mondrian_core.prompts import Voice, prompt_digest, training_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rows import Row
from mondrian_core.rubric import DIMENSIONS, make_critique, respelled, taught, whole_score

__all__ = ["DatasetVersion", "build", "load"]

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
    def selection(self) -> str | None:
        """The split that may choose a checkpoint; None while the validation is what the gates are measured on."""
        return VALIDATION if self.photographs[TEST] and self.photographs[VALIDATION] else None

    @property
    def photograph_hashes(self) -> frozenset[str]:
        """SHA-256 of every photograph in any split."""
        return frozenset(each["lineage"] for each in self.manifest["members"])

    @property
    def retrieval(self) -> frozenset[str]:
        """SHA-256 of the photographs that an evaluation may look up: none held out, no twin of one held out."""
        return frozenset(self.manifest.get("retrieval", {}).get("for_evaluation", ()))

    @property
    def groups(self) -> dict[str, str]:
        """Lineage -> group of twins, of every photograph that is no draft: what `split.folds` would keep together."""
        return {each["lineage"]: each["group"] for each in self.manifest["members"] if each["origin"] != SYNTHETIC}

    @property
    def corrections(self) -> Mapping[str, str]:
        """Lineage -> the model's critique that a person corrected; of no photograph of the test."""
        return dict(self.manifest.get("corrections", {}))

    def rows(self, split: str) -> list[Row]:
        """The rows of a split, pictures decoded when they are first used.

        Raises:
            BadInput: when the split's files are damaged.
        """
        if not self.rows_per_split.get(split):
            return []
        return [_row(values) for values in stored(self.path / split)]


@dataclass(frozen=True)
class _Examined:
    """Linked records whose photographs could be decoded, ordered by hash, and what turned out damaged."""

    records: tuple[LinkedRecord, ...]
    subjects: Mapping[str, Subject]
    damaged: list[dict[str, str]]
    too_long: list[TooLong]

    def of(self, drafted: bool) -> list[Subject]:
        """Subjects of the drafts, or of all else."""
        return [self.subjects[each.sha256] for each in self.records if (each.origin == SYNTHETIC) is drafted]


def build(
    manifest: LinkManifest,
    voice: Voice,
    recipe: DataRecipe,
    workspace: Path,
    listen: Listener = ignore,
    *,
    fit: Fit | None = None,
    index: Sequence[Subject] = (),
    words: Vary = vary,
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
    examined = _examined(manifest.used, voice, fit, workspace, listen)
    real = examined.of(drafted=False)
    if not real and examined.too_long:
        raise BadInput(told(examined.too_long), "Shorten the critiques, or raise max_tokens in the recipe's [train].")
    if not real:
        raise NothingToDo(
            f"No photograph of '{manifest.advisor}' can be used (reviewed drafts alone are not enough).",
            f"Run `mondrian link --advisor {manifest.advisor}` to see why.",
        )
    sides = assign(real, recipe)
    drafts = join(examined.of(drafted=True), real, sides, recipe)
    sides |= dict.fromkeys(drafts.used, TRAIN)
    used = [record for record in examined.records if record.sha256 in sides]
    examples = _fitting(_made(used, sides, recipe, workspace, words, listen), voice, fit)
    allowed = _checked(examples, examined.subjects, index)
    digest = digest_of(examples, voice)
    path = workspace / "datasets" / manifest.advisor / digest
    if (path / MANIFEST).is_file():
        return load(path)
    facts = {
        **_facts(manifest, voice, recipe, used, sides, grouped(list(examined.subjects.values())), examples),
        "damaged": examined.damaged,
        "too_long": [{"record": each.record, "detail": each.detail} for each in examined.too_long],
        "drafts": {"used": len(drafts.used), "left_out": drafts.left_out},
        "retrieval": {"indexed": len(index), "for_evaluation": list(allowed)},
    }
    publish(path, examples, voice, {"digest": digest, **facts})
    return load(path)


def load(path: Path) -> DatasetVersion:
    """Open a dataset version.

    Raises:
        BadInput: when the folder is no finished dataset.
    """
    try:
        manifest = read_json(path / MANIFEST)
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
            f"{path} is no finished dataset: {type(error).__name__} at its {MANIFEST}.",
            "Build it with `mondrian dataset --advisor A`, or name another with --dataset.",
        ) from error


def verify(version: DatasetVersion) -> tuple[str, ...]:
    """Files that are missing or differ from their SHA-256; () when the version is as it was written."""
    problems = []
    for name, expected in version.manifest["files"].items():
        file = version.path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif sha256_of(file) != expected:
            problems.append(f"{name} was changed")
    return tuple(problems)


def digest_of(examples: Sequence[Example], voice: Voice) -> str:
    """SHA-256 over what every row says and how its picture is made."""
    rows = [
        {
            "split": each.split,
            "lineage": each.lineage,
            "picture": each.variant.as_dict(),
            "answer": each.answer(),
            "scores": [each.scores[name] for name in DIMENSIONS],
            "loss_dimensions": each.variant.kept,
            "weight": each.weight,
            **({"origin": SYNTHETIC} if each.origin == SYNTHETIC else {}),
            **({"corrects": each.corrects} if each.corrects and each.split != TEST else {}),
        }
        for each in examples
    ]
    content = {"format": FORMAT, "long_side": LONG_SIDE, "prompt": prompt_digest(voice), "rows": rows}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- making rows --------------------------------------------------------------------------------------------------


def _examined(
    records: Sequence[LinkedRecord], voice: Voice, fit: Fit | None, workspace: Path, listen: Listener
) -> _Examined:
    """Decode every photograph once, and see whether it fits with its critique."""
    used, subjects, damaged, too_long = [], {}, [], []
    for record in sorted(records, key=lambda each: each.sha256):
        try:
            photograph = open_photograph(workspace / record.photograph)
        except BadPhotograph as error:
            damaged.append({"record": record.record, "reason": f"{error.reason}_photograph", "detail": error.problem})
            listen(Noticed("dataset", f"{record.record} is left out: {error.problem}"))
            continue
        if photograph.sha256 != record.sha256:
            raise BadInput(f"{record.photograph} changed after it was linked.", "Link again, then build the dataset.")
        answer = taught(make_critique(record.scores, record.comments))
        problem = comment_problem(record.comments)
        if not problem and fit is not None:
            problem = fit.problem(training_messages(voice, answer), bounded(photograph.image), answer)
        if problem:
            too_long.append(TooLong(record.record, problem))
            continue
        used.append(record)
        looks = perceptual_hash(photograph.image)
        subjects[record.sha256] = Subject(record.sha256, looks, said(record.scores, record.comments))
    if too_long:
        listen(Noticed("dataset", told(too_long)))
    return _Examined(tuple(used), subjects, damaged, too_long)


def _made(
    used: Sequence[LinkedRecord],
    sides: Mapping[str, str],
    recipe: DataRecipe,
    workspace: Path,
    words: Vary,
    listen: Listener,
) -> list[Example]:
    examples = []
    for done, record in enumerate(used, 1):
        examples += examples_of(record, sides[record.sha256], recipe, workspace, words)
        listen(Advanced("dataset", done, len(used), record.photograph))
    return examples


def _fitting(examples: Sequence[Example], voice: Voice, fit: Fit | None) -> list[Example]:
    """Without the variants and other wordings that are too long; the photographs themselves were looked at before."""

    def fits(each: Example) -> bool:
        answer = each.answer()
        if comment_problem(each.comments):
            return False
        image = Image.open(io.BytesIO(each.jpeg))
        return fit is None or not fit.problem(training_messages(voice, answer), image, answer)

    kept = [each for each in examples if each.name == augment.ORIGINAL.name or fits(each)]
    counts = Counter(each.lineage for each in kept)
    return [replace(each, weight=1 / counts[each.lineage]) for each in kept] if len(kept) < len(examples) else kept


def _checked(examples: Sequence[Example], subjects: Mapping[str, Subject], index: Sequence[Subject]) -> tuple[str, ...]:
    """Hold the finished rows to the splits; give what an evaluation may look up in the index."""
    rows: dict[str, list[Subject]] = {split: [] for split in SPLITS}
    for each in examples:
        rows[each.split].append(Subject(each.lineage, subjects[each.lineage].looks, each.says))
    allowed = leakage.fit_for_evaluation(index, [*rows[VALIDATION], *rows[TEST]])
    leakage.check(rows, [entry for entry in index if entry.lineage in allowed])
    return allowed


def _facts(
    manifest: LinkManifest,
    voice: Voice,
    recipe: DataRecipe,
    used: Sequence[LinkedRecord],
    sides: Mapping[str, str],
    groups: Mapping[str, str],
    examples: Sequence[Example],
) -> dict[str, Any]:
    """What the manifest says of the content; nothing in it depends on the machine or the time."""
    variants: dict[str, list[str]] = {}
    for each in examples:
        variants.setdefault(each.lineage, []).append(each.name)
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
        "corrections": {each.lineage: each.corrects for each in examples if each.corrects and each.split != TEST},
    }


def _histograms(records: Sequence[LinkedRecord]) -> dict[str, list[int]]:
    """By dimension, how many photographs have each whole score 0..10."""
    counts = {name: [0] * 11 for name in DIMENSIONS}
    for record in records:
        for name in DIMENSIONS:
            counts[name][whole_score(record.scores[name])] += 1
    return counts


# --- reading ----------------------------------------------------------------------------------------------------------


def stored(folder: Path) -> list[dict[str, Any]]:
    """The columns of a split's rows; pictures as {"bytes", "path"}, messages without empty columns.

    Raises:
        BadInput: when the files are damaged.
    """
    import datasets

    try:
        with quiet():
            table = datasets.load_from_disk(str(folder)).cast_column("image", datasets.Image(decode=False))
        return [{**row, "messages": [_message(each) for each in row["messages"]]} for row in table]
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The dataset at {folder} is damaged: {error}.", "Remove the folder and build it again."
        ) from error


def _row(values: Mapping[str, Any]) -> Row:
    """Datasets of before have answers with ASCII escapes, which the service's grammar can't write."""
    image = Image.open(io.BytesIO(values["image"]["bytes"]))
    answer, messages = respelled(values["answer"]), values["messages"]
    if answer != values["answer"]:
        said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        messages = [said if message["role"] == "assistant" else message for message in messages]
    return Row(
        lineage=values["lineage"],
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
