"""Writing a dataset version: built in a temporary folder, flushed, renamed; the manifest is written last."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from mondrian_core.data.augmentation.image_variants import forbidden_operations
from mondrian_core.data.dataset.advice_pairs import ADVICE_PAIRS, AdvicePairExample
from mondrian_core.data.dataset.card import dataset_card
from mondrian_core.data.dataset.contact_sheet import Strip, Tile, contact_sheet
from mondrian_core.data.dataset.examples import DatasetExample
from mondrian_core.data.linking.link_manifest import SYNTHETIC
from mondrian_core.data.splits.split import SPLITS, TRAIN
from mondrian_core.errors import translate_foreign_errors
from mondrian_core.files import file_sha256, sync_folder, write_atomic, write_json
from mondrian_core.prompts import AdvisorPrompt, training_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS

MANIFEST_FILE = "manifest.json"
HELD_OUT_VARIANTS = "held_out_variants"  # folder and manifest key: augmented rows of held-out photographs


def write_dataset(
    path: Path,
    examples: Sequence[DatasetExample],
    advisor_prompt: AdvisorPrompt,
    content: dict[str, Any],
    pairs: Sequence[AdvicePairExample] = (),
) -> None:
    """Write everything next to `path`, flush it, and rename it into place.

    Args:
        path: the version's folder.
        examples: the rows, each with its split.
        advisor_prompt: the prompt in every row.
        content: the manifest, to which the SHA-256 of every file is added.
        pairs: what people's judgements of advice teach; without any, there is no folder for them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with translate_foreign_errors(path):
        building = Path(tempfile.mkdtemp(dir=path.parent, prefix=".building-"))
        try:
            for split in (*SPLITS, HELD_OUT_VARIANTS):
                _write_split(building / split, [row for row in examples if row.split == split], advisor_prompt)
            if pairs:
                _write_pairs(building / ADVICE_PAIRS, pairs, advisor_prompt)
            _write_contact_sheet(building / "contact_sheet.png", examples, DataRecipe.model_validate(content["recipe"]))
            write_atomic(building / "README.md", dataset_card(content))
            files = {file.relative_to(building).as_posix(): file_sha256(file) for file in _files(building)}
            write_json(building / MANIFEST_FILE, {**content, "files": files})
            _flush(building)
            building.chmod(0o755)
            _rename(building, path)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _rename(building: Path, path: Path) -> None:
    """Keep a finished version that another process wrote first; replace a folder without a manifest."""
    if path.exists() and not (path / MANIFEST_FILE).is_file():
        path.rename(building.with_name(f"{building.name}-unfinished"))
        shutil.rmtree(building.with_name(f"{building.name}-unfinished"))
    if not path.exists():
        building.rename(path)
        sync_folder(path.parent)


def _write_split(folder: Path, examples: Sequence[DatasetExample], advisor_prompt: AdvisorPrompt) -> None:
    import datasets

    features = _features()
    rows = [_columns(example, advisor_prompt) for example in examples]
    columns = {name: [row[name] for row in rows] for name in features}
    with progress_bars_disabled():
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)


def _write_pairs(folder: Path, pairs: Sequence[AdvicePairExample], advisor_prompt: AdvisorPrompt) -> None:
    import datasets
    from datasets import Features, Image, List, Value

    taken = ("kind", "record", "lineage", "dimension", "rejected", "related")
    known, text = _features(), Value("string")
    features = Features(
        messages=known["messages"], image=Image(), **dict.fromkeys(taken[:-1], text), related=List(text)
    )
    rows = [
        {
            "messages": training_messages(advisor_prompt, pair.preference.chosen),
            "image": {"bytes": pair.jpeg, "path": None},
            **{name: pair.as_dict()[name] for name in taken},
        }
        for pair in pairs
    ]
    columns = {name: [row[name] for row in rows] for name in features}
    with progress_bars_disabled():
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)


def _columns(example: DatasetExample, advisor_prompt: AdvisorPrompt) -> dict[str, Any]:
    """Stored columns; `lineage` is the photo id, and the answer is the last message."""
    return {
        "messages": training_messages(advisor_prompt, example.answer),
        "image": {"bytes": example.jpeg, "path": None},
        "scores": {name: float(example.scores[name]) for name in DIMENSIONS},
        "loss_dimensions": list(example.variant.kept_dimensions),
        "lineage": example.photo_id,
        "variant": example.name,
        "record": example.record,
        "origin": example.origin,
        "weight": example.weight,
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
        origin=text,
        weight=Value("float64"),
    )


@contextmanager
def progress_bars_disabled() -> Iterator[None]:
    """Disable the progress bars of `datasets`, because the core prints nothing."""
    import datasets

    enabled = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_progress_bars()


def _write_contact_sheet(path: Path, examples: Sequence[DatasetExample], recipe: DataRecipe) -> None:
    by_photograph: dict[str, list[DatasetExample]] = {}
    for example in examples:
        if example.split == TRAIN and not example.paraphrase:
            by_photograph.setdefault(example.photo_id, []).append(example)
    strips = [_strip(rows, recipe) for rows in by_photograph.values()]
    buffer = io.BytesIO()
    heading = f"Training data: {len(strips)} photographs and the variants made of them."
    contact_sheet(strips, heading).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _strip(rows: Sequence[DatasetExample], recipe: DataRecipe) -> Strip:
    original = rows[0]
    if original.origin == SYNTHETIC:
        remark = "drafted by a model, accepted by a person: no variants"
    else:
        skipped = forbidden_operations(original.comments, recipe)
        remark = "; ".join(f"no {name}: {why}" for name, why in skipped.items())
    tiles = (Tile(row.variant.name, row.variant.kept_dimensions, Image.open(io.BytesIO(row.jpeg))) for row in rows)
    return Strip(Path(original.photograph).name, remark, tuple(tiles))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _flush(folder: Path) -> None:
    for file in _files(folder):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    for inner in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
        sync_folder(inner)
