"""Files of a base model's folder: each one that is missing or damaged is named, and whatever mlx-vlm loads passes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mondrian_core.errors import BaseModelUnavailable
from mondrian_core.mini import mini_weights_path
from mondrian_core.models.base_model import resolve_base_path
from mondrian_core.models.checkpoint_files import find_file_problems
from tests.hub_server import INDEX, SHARDS, checkpoint_files

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3093767521\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sharded checkpoint."""
    for name, content in checkpoint_files(100).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def _both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def _cut(name: str, share: float) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * share))


def _extend(folder: Path) -> None:
    with (folder / SHARDS[0]).open("ab") as stream:
        stream.write(b"more")


DAMAGE: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a shard is missing": (_remove(SHARDS[1]), [f"{SHARDS[1]} is missing"]),
    "a shard without an index": (_remove(SHARDS[0], INDEX), [f"{SHARDS[0]} is missing"]),
    "all weights": (_remove(*SHARDS), [f"{name} is missing" for name in SHARDS]),
    "weights and index": (_remove(*SHARDS, INDEX), ["model.safetensors is missing"]),
    "cut in the data": (_cut(SHARDS[0], 0.9), [f"{SHARDS[0]} is cut off"]),
    "cut in the header": (_cut(SHARDS[0], 0.02), [f"{SHARDS[0]} is damaged"]),
    "empty": (_cut(SHARDS[0], 0), [f"{SHARDS[0]} is damaged"]),
    "too long": (_extend, [f"{SHARDS[0]} is too long"]),
    "a pointer": (_write(SHARDS[0], POINTER), [f"{SHARDS[0]} is only a pointer of Git LFS"]),
    "a pointer for the tokenizer": (_write("tokenizer.json", POINTER), ["tokenizer.json is only a pointer of Git LFS"]),
    "an index that isn't JSON": (_write(INDEX, "{"), [f"{INDEX} is not valid JSON"]),
    "configuration": (_remove("config.json"), ["config.json is missing"]),
    "tokenizer": (_remove("tokenizer.json"), ["tokenizer.json is missing"]),
    "half of a tokenizer": (
        _both(_remove("tokenizer.json"), _write("vocab.json", "{}")),
        ["tokenizer.json is missing"],
    ),
    "tokenizer cut off": (_cut("tokenizer.json", 0.5), ["tokenizer.json is not valid JSON"]),
    "a large tokenizer cut off": (
        _write("tokenizer.json", '{"vocab": "' + "x" * (1 << 20)),
        ["tokenizer.json is not valid JSON"],
    ),
    "tokenizer settings": (_remove("tokenizer_config.json"), ["tokenizer_config.json is missing"]),
    "image settings": (_remove("preprocessor_config.json"), ["preprocessor_config.json is missing"]),
    "a processor without image settings": (
        _both(_remove("preprocessor_config.json"), _write("processor_config.json", "{}")),
        ["preprocessor_config.json is missing"],
    ),
    "chat template": (
        _remove("chat_template.json"),
        ["chat_template.jinja is missing, and no other file has a chat template"],
    ),
}
COMPLETE: dict[str, Callable[[Path], None]] = {
    "as it is": lambda folder: None,
    "an index of the checkpoint that it was converted from": _write(
        INDEX, json.dumps({"weight_map": {"w": "model-00001-of-00009.safetensors"}})
    ),
    "without an index": _remove(INDEX),
    "a tokenizer in two files": _both(_remove("tokenizer.json"), _write("vocab.json", "{}"), _write("merges.txt", "")),
    "a template inside the tokenizer's settings": _both(
        _remove("chat_template.json"), _write("tokenizer_config.json", '{"chat_template": "x"}')
    ),
    "a template alone": _both(_remove("chat_template.json"), _write("chat_template.jinja", "x")),
    "image settings as transformers 5 writes them": _both(
        _remove("preprocessor_config.json"), _write("processor_config.json", '{"image_processor": {}}')
    ),
    "a copy of the weights in one file": _write("consolidated.safetensors", ""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_missing_and_damaged_files_are_named(folder: Path, name: str) -> None:
    damage, expected = DAMAGE[name]
    damage(folder)
    found = [str(problem) for problem in find_file_problems(folder)]
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))
    with pytest.raises(BaseModelUnavailable) as caught:
        resolve_base_path(str(folder))
    assert expected[0].split()[0] in str(caught.value)
    assert ("git lfs pull" in caught.value.next_step) == ("pointer" in name)


@pytest.mark.parametrize("name", COMPLETE)
def test_other_layouts_are_complete(folder: Path, name: str) -> None:
    COMPLETE[name](folder)
    assert find_file_problems(folder) == ()


def test_mini_is_complete() -> None:
    assert find_file_problems(mini_weights_path()) == ()
