"""Dataset versions: rows made from linked critiques, written once under a digest of their content.

    WORKSPACE/datasets/<advisor>/<digest>/   train/ validation/ test/ (Hugging Face `datasets`), contact_sheet.png,
                                             README.md (the card), manifest.json (written last)

The digest covers what a row says and how its picture is made (SHA-256 of the source file, the operations), not how an
encoder of one machine spells the bytes, so the same inputs give the same digest everywhere. A version is built in a
temporary folder and renamed; a folder without a manifest is no dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mondrian_core.data import augment
from mondrian_core.data.card import card_of
from mondrian_core.data.contact_sheet import contact_sheet
from mondrian_core.data.records import LinkedRecord, LinkManifest
from mondrian_core.data.split import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Subject,
    assign,
    check_leakage,
    check_rows,
    grouped,
)
from mondrian_core.data.variations import vary
from mondrian_core.errors import BadInput, BadPhotograph, NothingToDo, translated
from mondrian_core.events import Advanced, Listener, Noticed, ignore
from mondrian_core.files import read_json, sha256_of, sync_folder, write_atomic, write_json
from mondrian_core.images import LONG_SIDE, bounded, jpeg_bytes, open_photograph, perceptual_hash
from mondrian_core.prompts import Voice, prompt_digest, training_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rows import Row
from mondrian_core.rubric import DIMENSIONS, canonical, make_critique, whole_score

__all__ = ["DatasetVersion", "build", "load"]

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Example:
    """A row before it is written: the picture as JPEG bytes."""

    split: str
    lineage: str
    record: str
    variant: augment.Variant
    jpeg: bytes
    comments: Mapping[str, str]
    scores: Mapping[str, float]
    weight: float
    wording: int = 0

    @property
    def name(self) -> str:
        """What was done to picture and words, such as "mirror" or "original~1" (the first other wording)."""
        return f"{self.variant.name}~{self.wording}" if self.wording else self.variant.name

    def answer(self) -> str:
        """What is taught: whole scores, and the grade that belongs to them."""
        taught = {name: whole_score(self.scores[name]) for name in DIMENSIONS}
        return canonical(make_critique(taught, self.comments))


@dataclass(frozen=True)
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

    def rows(self, split: str) -> list[Row]:
        """The rows of a split, pictures decoded when they are first used.

        Raises:
            BadInput: when the split's files are damaged.
        """
        if not self.rows_per_split.get(split):
            return []
        return [_row(values) for values in stored(self.path / split)]


def build(manifest: LinkManifest, voice: Voice, recipe: DataRecipe, workspace: Path,
          listen: Listener = ignore) -> DatasetVersion:  # fmt: skip
    """Split, augment and write the linked critiques; a version that is there already is returned as it is.

    Raises:
        NothingToDo: when no photograph can be used.
        BadInput: when a photograph changed after it was linked.
        Leakage: when a photograph would be on both sides.
        DiskFull: when no space is left; nothing half-written stays.
    """
    used, subjects, damaged = _examined(manifest.used, workspace, listen)
    if not used:
        raise NothingToDo(
            f"No photograph of '{manifest.advisor}' can be used.",
            f"Run `mondrian link --advisor {manifest.advisor}` to see why.",
        )
    sides = assign(subjects, recipe)
    check_leakage(sides, subjects)
    examples = []
    for done, record in enumerate(used, 1):
        examples += _examples(record, sides[record.sha256], recipe, workspace)
        listen(Advanced("dataset", done, len(used), record.photograph))
    check_rows({split: [each.lineage for each in examples if each.split == split] for split in SPLITS})
    digest = digest_of(examples, voice)
    path = workspace / "datasets" / manifest.advisor / digest
    if (path / MANIFEST).is_file():
        return load(path)
    facts = _facts(manifest, voice, recipe, used, sides, grouped(subjects), damaged, examples)
    _publish(path, examples, voice, {"digest": digest, **facts})
    return load(path)


def load(path: Path) -> DatasetVersion:
    """Open a dataset version.

    Raises:
        BadInput: when the folder is no finished dataset.
    """
    try:
        manifest = read_json(path / MANIFEST)
        return DatasetVersion(path, manifest["digest"], manifest["advisor"], manifest["photographs"],
                              manifest["rows"], manifest)  # fmt: skip
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
        {"split": each.split, "lineage": each.lineage, "picture": each.variant.as_dict(), "answer": each.answer(),
         "scores": [each.scores[name] for name in DIMENSIONS], "loss_dimensions": each.variant.kept,
         "weight": each.weight}
        for each in examples
    ]  # fmt: skip
    content = {"format": FORMAT, "long_side": LONG_SIDE, "prompt": prompt_digest(voice), "rows": rows}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- making rows ------------------------------------------------------------------------------------------------------


def _examined(records: Sequence[LinkedRecord], workspace: Path,
              listen: Listener) -> tuple[list[LinkedRecord], list[Subject], list[dict[str, str]]]:  # fmt: skip
    """Decode every photograph once: what is usable (ordered by hash), how it looks, and what turned out damaged."""
    used, subjects, damaged = [], [], []
    for record in sorted(records, key=lambda each: each.sha256):
        try:
            photograph = open_photograph(workspace / record.photograph)
        except BadPhotograph as error:
            damaged.append({"record": record.record, "reason": f"{error.reason}_photograph", "detail": error.problem})
            listen(Noticed("dataset", f"{record.record} is left out: {error.problem}"))
            continue
        if photograph.sha256 != record.sha256:
            raise BadInput(f"{record.photograph} changed after it was linked.", "Link again, then build the dataset.")
        used.append(record)
        subjects.append(Subject(record.sha256, perceptual_hash(photograph.image)))
    return used, subjects, damaged


def _examples(record: LinkedRecord, split: str, recipe: DataRecipe, workspace: Path) -> list[Example]:
    image = bounded(open_photograph(workspace / record.photograph).image)
    plan = augment.plan(record.sha256, record.comments, recipe) if split == TRAIN else (augment.ORIGINAL,)
    made = [(variant, augment.applied(variant, image)) for variant in plan]
    pictures = [(variant, picture) for variant, picture in made if picture is not None]
    examples = [
        Example(split, record.sha256, record.record, variant, jpeg_bytes(picture),
                augment.applied_to_comments(variant, record.comments), record.scores, 1.0)
        for variant, picture in pictures
    ]  # fmt: skip
    if split == TRAIN:
        examples += _reworded(examples[0], recipe)
    return [replace(each, weight=1 / len(examples)) for each in examples]


def _reworded(original: Example, recipe: DataRecipe) -> list[Example]:
    """The photograph itself with its critique in other words, up to `recipe.variations` times, all different."""
    found = {tuple(original.comments.values()): original}
    for attempt in range(4 * recipe.variations):
        words = vary(original.comments, augment.seed_of(f"words {attempt} {original.lineage}", recipe.seed))
        if words and len(found) <= recipe.variations:
            found.setdefault(tuple(words.values()), replace(original, comments=words, wording=len(found)))
    return list(found.values())[1:]


# --- writing ----------------------------------------------------------------------------------------------------------


def _publish(path: Path, examples: Sequence[Example], voice: Voice, facts: dict[str, Any]) -> None:
    """Write everything beside `path`, flush it, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with translated(path):
        building = Path(tempfile.mkdtemp(dir=path.parent, prefix=".building-"))
        try:
            for split in SPLITS:
                _write_split(building / split, [each for each in examples if each.split == split], voice)
            _write_sheet(building / "contact_sheet.png", examples)
            write_atomic(building / "README.md", card_of(facts))
            files = {file.relative_to(building).as_posix(): sha256_of(file) for file in _files(building)}
            write_json(building / MANIFEST, {**facts, "files": files})
            _flush(building)
            building.chmod(0o755)
            _rename(building, path)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _rename(building: Path, path: Path) -> None:
    """A finished version that another process put there first stays; a folder without a manifest gives way."""
    if path.exists() and not (path / MANIFEST).is_file():
        path.rename(building.with_name(f"{building.name}-unfinished"))
        shutil.rmtree(building.with_name(f"{building.name}-unfinished"))
    if not path.exists():
        building.rename(path)
        sync_folder(path.parent)


def _write_split(folder: Path, examples: Sequence[Example], voice: Voice) -> None:
    import datasets

    features = _features()
    rows = [_columns(each, voice) for each in examples]
    columns = {name: [row[name] for row in rows] for name in features}
    with quiet():
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)


def _columns(example: Example, voice: Voice) -> dict[str, Any]:
    answer = example.answer()
    return {
        "messages": training_messages(voice, answer),
        "image": {"bytes": example.jpeg, "path": None},
        "scores": {name: float(example.scores[name]) for name in DIMENSIONS},
        "loss_dimensions": list(example.variant.kept),
        "lineage": example.lineage,
        "variant": example.name,
        "record": example.record,
        "weight": example.weight,
        "answer": answer,
    }


def _features() -> Any:
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        messages=List({"role": text, "content": List({"type": text, "text": text})}),
        image=Image(),
        scores={name: Value("float64") for name in DIMENSIONS},
        loss_dimensions=List(text),
        lineage=text,
        variant=text,
        record=text,
        weight=Value("float64"),
        answer=text,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the library: the core prints nothing."""
    import datasets

    wanted = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if wanted:
            datasets.enable_progress_bars()


def _write_sheet(path: Path, examples: Sequence[Example]) -> None:
    lines: dict[str, list[tuple[str, tuple[str, ...], Image.Image]]] = {}
    for each in examples:
        if each.split == TRAIN and not each.wording:
            picture = Image.open(io.BytesIO(each.jpeg))
            lines.setdefault(each.lineage, []).append((each.variant.name, each.variant.kept, picture))
    buffer = io.BytesIO()
    contact_sheet(list(lines.values())).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _facts(manifest: LinkManifest, voice: Voice, recipe: DataRecipe, used: Sequence[LinkedRecord],
           sides: Mapping[str, str], groups: Mapping[str, str], damaged: list[dict[str, str]],
           examples: Sequence[Example]) -> dict[str, Any]:  # fmt: skip
    """What the manifest says of the content; nothing in it depends on the machine or the time."""
    variants: dict[str, list[str]] = {}
    for each in examples:
        variants.setdefault(each.lineage, []).append(each.name)
    members = [
        {"lineage": each.sha256, "split": sides[each.sha256], "group": groups[each.sha256], "record": each.record,
         "photograph": each.photograph, "origin": each.origin, "variants": variants[each.sha256]}
        for each in used
    ]  # fmt: skip
    return {
        "format": FORMAT,
        "advisor": manifest.advisor,
        "voice": {"name": voice.name, "prompt_digest": prompt_digest(voice)},
        "recipe": recipe.model_dump(mode="json"),
        "photographs": {split: sum(side == split for side in sides.values()) for split in SPLITS},
        "rows": {split: sum(each.split == split for each in examples) for split in SPLITS},
        "linked": manifest.counts,
        "damaged": damaged,
        "histograms": {split: _histograms([each for each in used if sides[each.sha256] == split]) for split in SPLITS},
        "members": members,
    }


def _histograms(records: Sequence[LinkedRecord]) -> dict[str, list[int]]:
    """By dimension, how many photographs have each whole score 0..10."""
    counts = {name: [0] * 11 for name in DIMENSIONS}
    for record in records:
        for name in DIMENSIONS:
            counts[name][whole_score(record.scores[name])] += 1
    return counts


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _flush(folder: Path) -> None:
    for file in _files(folder):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    for inner in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
        sync_folder(inner)


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
    image = Image.open(io.BytesIO(values["image"]["bytes"]))
    return Row(values["lineage"], image, values["messages"], values["answer"], dict(values["scores"]),
               tuple(values["loss_dimensions"]), values["weight"])  # fmt: skip


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without the empty columns that the table gave its parts."""
    parts = [{key: value for key, value in part.items() if value is not None} for part in message["content"]]
    return {"role": message["role"], "content": parts}
