"""Exporting a dataset version to other programs: Parquet, chat JSON lines, prompt/response pairs.

The JSON formats keep the pictures as files in `images/`. Everything is written to a temporary folder and renamed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mondrian_core.data.dataset.version import DatasetVersion, load_stored_columns
from mondrian_core.data.dataset.writer import progress_bars_disabled
from mondrian_core.data.splits.split import SPLITS
from mondrian_core.errors import BadInput, translate_foreign_errors

IMAGE_FOLDER = "images"
_Line = Callable[[dict[str, Any], str], dict[str, Any]]


def export_dataset(version: DatasetVersion, form: str, folder: Path) -> list[Path]:
    """Write every split that has rows to `folder` as "parquet", "chat" or "pairs"; return the files.

    Raises:
        BadInput: when the format is unknown or the folder is not empty.
    """
    if form not in EXPORT_FORMATS:
        raise BadInput(f"'{form}' is not an export format.", f"Choose one of {', '.join(EXPORT_FORMATS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not empty.", "Name a new folder.")
    with translate_foreign_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".exporting-"))
        try:
            for split in SPLITS:
                if version.rows_per_split[split]:
                    EXPORT_FORMATS[form](version, split, building)
            shutil.copyfile(version.path / "README.md", building / "README.md")
            building.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return sorted(path for path in folder.iterdir() if path.is_file())


def _parquet(version: DatasetVersion, split: str, folder: Path) -> None:
    import datasets

    with progress_bars_disabled():
        datasets.load_from_disk(str(version.path / split)).to_parquet(str(folder / f"{split}.parquet"))


def _chat(version: DatasetVersion, split: str, folder: Path) -> None:
    """One line per row: messages with plain text; a part of type "image" marks the position of the photograph."""

    def line(row: dict[str, Any], image: str) -> dict[str, Any]:
        kept = ("messages", "scores", "loss_dimensions", "lineage", "weight")
        return {**{name: row[name] for name in kept}, "answer_form": version.answer_form.value, "images": [image]}

    _lines(version, split, folder, line)


def _pairs(version: DatasetVersion, split: str, folder: Path) -> None:
    """One line per row: the whole prompt as text, and the answer."""

    def line(row: dict[str, Any], image: str) -> dict[str, Any]:
        prompt = [part["text"] for message in row["messages"][:-1] for part in message["content"] if "text" in part]
        return {"prompt": "\n\n".join(prompt), "response": row["answer"], "image": image, "lineage": row["lineage"]}

    _lines(version, split, folder, line)


def _lines(version: DatasetVersion, split: str, folder: Path, line: _Line) -> None:
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
        for row, image in _with_image_files(version, split, folder):
            stream.write(json.dumps(line(row, image)) + "\n")


def _with_image_files(version: DatasetVersion, split: str, folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    (folder / IMAGE_FOLDER).mkdir(exist_ok=True)
    for row in load_stored_columns(version.path / split):
        name = f"{IMAGE_FOLDER}/{row['lineage'][:16]}-{row['variant']}.jpg"
        (folder / name).write_bytes(row["image"]["bytes"])
        yield row, name


EXPORT_FORMATS: dict[str, Callable[[DatasetVersion, str, Path], None]] = {
    "parquet": _parquet,
    "chat": _chat,
    "pairs": _pairs,
}
