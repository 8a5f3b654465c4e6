"""Putting a dataset version on disk: built beside its place, flushed, renamed; the manifest is written last."""

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


def write_dataset(path: Path, examples: Sequence[DatasetExample], voice: AdvisorPrompt, facts: dict[str, Any]) -> None:
    """Write everything beside `path`, flush it, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with translate_foreign_errors(path):
        building = Path(tempfile.mkdtemp(dir=path.parent, prefix=".building-"))
        try:
            for split in SPLITS:
                _write_split(building / split, [each for each in examples if each.split == split], voice)
            _write_sheet(building / "contact_sheet.png", examples, DataRecipe.model_validate(facts["recipe"]))
            write_atomic(building / "README.md", dataset_card(facts))
            files = {file.relative_to(building).as_posix(): file_sha256(file) for file in _files(building)}
            write_json(building / MANIFEST_FILE, {**facts, "files": files})
            _flush(building)
            building.chmod(0o755)
            _rename(building, path)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _rename(building: Path, path: Path) -> None:
    """A finished version that another process put there first stays; a folder without a manifest gives way."""
    if path.exists() and not (path / MANIFEST_FILE).is_file():
        path.rename(building.with_name(f"{building.name}-unfinished"))
        shutil.rmtree(building.with_name(f"{building.name}-unfinished"))
    if not path.exists():
        building.rename(path)
        sync_folder(path.parent)


def _write_split(folder: Path, examples: Sequence[DatasetExample], voice: AdvisorPrompt) -> None:
    import datasets

    features = _features()
    rows = [_columns(each, voice) for each in examples]
    columns = {name: [row[name] for row in rows] for name in features}
    with progress_bars_disabled():
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)


def _columns(example: DatasetExample, voice: AdvisorPrompt) -> dict[str, Any]:
    answer = example.answer()
    return {
        "messages": training_messages(voice, answer),
        "image": {"bytes": example.jpeg, "path": None},
        "scores": {name: float(example.scores[name]) for name in DIMENSIONS},
        "loss_dimensions": list(example.variant.kept_dimensions),
        "lineage": example.photo_id,
        "variant": example.name,
        "record": example.record,
        "origin": example.origin,
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
        origin=text,
        weight=Value("float64"),
        answer=text,
    )


@contextmanager
def progress_bars_disabled() -> Iterator[None]:
    """No progress bars of the library: the core prints nothing."""
    import datasets

    wanted = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if wanted:
            datasets.enable_progress_bars()


def _write_sheet(path: Path, examples: Sequence[DatasetExample], recipe: DataRecipe) -> None:
    by_photograph: dict[str, list[DatasetExample]] = {}
    for each in examples:
        if each.split == TRAIN and not each.wording:
            by_photograph.setdefault(each.photo_id, []).append(each)
    strips = [_strip(rows, recipe) for rows in by_photograph.values()]
    buffer = io.BytesIO()
    heading = f"What is trained on: {len(strips)} photographs and the variants made of them."
    contact_sheet(strips, heading).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _strip(rows: Sequence[DatasetExample], recipe: DataRecipe) -> Strip:
    original = rows[0]
    skipped = {} if original.origin == SYNTHETIC else forbidden_operations(original.comments, recipe)
    remark = "; ".join(f"no {name}: {why}" for name, why in skipped.items())
    if original.origin == SYNTHETIC:
        remark = "drafted by a model, accepted by a person: no variants"
    tiles = (Tile(each.variant.name, each.variant.kept_dimensions, Image.open(io.BytesIO(each.jpeg))) for each in rows)
    return Strip(Path(original.photograph).name, remark, tuple(tiles))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _flush(folder: Path) -> None:
    for file in _files(folder):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    for inner in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
        sync_folder(inner)
