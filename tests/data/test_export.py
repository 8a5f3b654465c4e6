"""Exporting datasets to other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.dataset.export import export_dataset
from mondrian_core.data.dataset.version import DatasetVersion
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.errors import BadInput
from mondrian_core.recipes import DataRecipe
from tests.data.stand_in import VOICE, workspace_of


@pytest.fixture
def version(tmp_path: Path) -> DatasetVersion:
    with workspace_of(tmp_path / "w", 8) as store:
        return build_dataset(link_critiques(store, tmp_path / "w", "ansel"), VOICE, DataRecipe(), tmp_path / "w")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_export_parquet(version: DatasetVersion, tmp_path: Path) -> None:
    import pandas

    files = export_dataset(version, "parquet", tmp_path / "out")
    assert {path.name for path in files} == {"README.md", "train.parquet", "validation.parquet"}
    frame = pandas.read_parquet(tmp_path / "out" / "train.parquet")
    assert len(frame) == version.rows_per_split["train"]
    assert frame["image"][0]["bytes"][:2] == b"\xff\xd8"


def test_export_chat_jsonl(version: DatasetVersion, tmp_path: Path) -> None:
    export_dataset(version, "chat", tmp_path / "out")
    rows = version.rows("train")
    written = lines(tmp_path / "out" / "train.jsonl")
    assert [each["messages"] for each in written] == [row.messages for row in rows]
    for each, row in zip(written, rows, strict=True):
        with Image.open(tmp_path / "out" / each["images"][0]) as image:  # type: ignore[index]
            assert image.size == row.image.size


def test_export_prompt_response_pairs(version: DatasetVersion, tmp_path: Path) -> None:
    export_dataset(version, "pairs", tmp_path / "out")
    for each in lines(tmp_path / "out" / "validation.jsonl"):
        assert str(each["prompt"]).startswith(VOICE.system_message)
        parse_critique_strict(str(each["response"]))
        assert (tmp_path / "out" / str(each["image"])).is_file()


def test_export_never_overwrites(version: DatasetVersion, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_dataset(version, "pairs", tmp_path / "out")
    with pytest.raises(BadInput, match="not empty"):
        export_dataset(version, "pairs", tmp_path / "out")
    with pytest.raises(BadInput, match="parquet, chat, pairs"):
        export_dataset(version, "csv", tmp_path / "other")


def test_failed_export_leaves_no_files(version: DatasetVersion, tmp_path: Path) -> None:
    (version.path / "README.md").unlink()
    with pytest.raises(FileNotFoundError):
        export_dataset(version, "chat", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"w"}
