"""A base is known by its weights and by the settings that make prompts and pictures; what changed is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core import mini
from mondrian_core.models.base_identity import load_base_identity

TEXT = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a few bytes for weights, its template kept as a file of its own and in two JSON files."""
    made = tmp_path / "base"
    made.mkdir()
    values: dict[str, Any] = {
        "config.json": {"model_type": "qwen3_vl"},
        "preprocessor_config.json": {"max_pixels": 65536, "image_mean": [0.5, 0.5, 0.5]},
        "generation_config.json": {"eos_token_id": [2, 0], "transformers_version": "5.0"},
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "chat_template": TEXT},
        "tokenizer.json": {"model": {"vocab": {"a": 0}}},
        "chat_template.json": {"chat_template": TEXT},
        "video_preprocessor_config.json": {"fps": 2},
    }
    for name, value in values.items():
        (made / name).write_text(json.dumps(value))
    (made / "chat_template.jinja").write_text(TEXT + "\n")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def edit(name: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**found, **values}))

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pixels": (edit("preprocessor_config.json", max_pixels=1024), "preprocessor_config.json"),
    "end tokens": (edit("generation_config.json", eos_token_id=[7]), "generation_config.json"),
    "tokens": (edit("tokenizer.json", model={"vocab": {"b": 0}}), "tokenizer.json"),
    "special tokens": (edit("tokenizer_config.json", eos_token="</s>"), "tokenizer_config.json"),
    "a file that came": (write("added_tokens.json", '{"<think>": 9}'), "added_tokens.json"),
    "a file that went": (lambda folder: (folder / "generation_config.json").unlink(), "generation_config.json"),
    "a processor's": (write("processor_config.json", '{"image_seq_length": 9}'), "processor_config.json"),
    "no JSON": (write("preprocessor_config.json", "{"), "preprocessor_config.json"),
    "template.jinja": (write("chat_template.jinja", TEXT * 2), "chat template (chat_template.jinja)"),
    "template.json": (edit("chat_template.json", chat_template=TEXT * 2), "chat template (chat_template.json)"),
    "template inside": (edit("tokenizer_config.json", chat_template="x"), "chat template (tokenizer_config.json)"),
    "template of the processor": (
        write("processor_config.json", json.dumps({"chat_template": "x"})),
        "chat template (processor_config.json), processor_config.json",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_settings_are_named_as_another_base(folder: Path, name: str) -> None:
    before = load_base_identity(folder)
    change, told = CHANGES[name]
    change(folder)
    after = load_base_identity(folder)
    assert after.fingerprint != before.fingerprint and after.weights == before.weights
    assert after.differences(before.record("mini")) == (
        f"it was trained with other settings of this base; changed since: {told}",
    )


def _laid_out_otherwise(folder: Path) -> None:
    for path in folder.glob("*_config.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(dict(reversed(values.items())), indent=4))


@pytest.mark.parametrize(
    "change",
    [
        _laid_out_otherwise,
        edit("generation_config.json", transformers_version="6.1"),
        edit("video_preprocessor_config.json", fps=4),
        write("README.md", "# more"),
        lambda folder: (folder / "chat_template.json").unlink(),
        lambda folder: (folder / "chat_template.jinja").unlink(),
        lambda folder: [(folder / f"chat_template.{kind}").unlink() for kind in ("json", "jinja")],
        write("chat_template.jinja", TEXT),
    ],
)
def test_equivalent_files_give_the_same_fingerprint(folder: Path, change: Callable[[Path], object]) -> None:
    before = load_base_identity(folder)
    change(folder)
    assert load_base_identity(folder).fingerprint == before.fingerprint


def test_other_weights_give_another_fingerprint(folder: Path) -> None:
    before = load_base_identity(folder)
    (folder / "model.safetensors").write_bytes(b"Weights")
    after = load_base_identity(folder)
    assert after.differences(before.record("mini")) == (
        f"it was trained on another base ({before.fingerprint[:12]}, this is {after.fingerprint[:12]})",
    )


def test_older_manifest_is_compared_by_its_weights(folder: Path) -> None:
    """It holds the digest of config.json and weights alone."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        data = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    older = {"name": "mini", "fingerprint": digest.hexdigest()}
    assert load_base_identity(folder).differences(older) == ()
    edit("preprocessor_config.json", max_pixels=1)(folder)
    assert load_base_identity(folder).differences(older) == (), "nobody knows what it was"
    edit("config.json", hidden_size=8)(folder)
    assert "another base" in load_base_identity(folder).differences(older)[0]
    for nothing in (None, {}, {"name": "x", "fingerprint": None}):
        assert load_base_identity(folder).differences(nothing) == ()


def test_snapshot_of_links_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    """As the hub's cache lays it out: each file a link to a blob; a newer revision links to another one."""
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    snapshot.mkdir()
    shutil.copytree(folder, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    before = load_base_identity(snapshot)
    assert before == load_base_identity(folder)
    other = blobs / "other"
    other.write_text((blobs / "preprocessor_config.json").read_text().replace("65536", "65537"))
    (snapshot / "preprocessor_config.json").unlink()
    (snapshot / "preprocessor_config.json").symlink_to(other)
    assert "preprocessor_config.json" in load_base_identity(snapshot).differences(before.record("x"))[0]


@pytest.mark.mini
def test_adapter_is_rejected_after_pixel_limit_changed(tmp_path: Path) -> None:
    from mondrian_core.models.base_model import base_record, load_base
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.models.lora.adapter_inspection import inspect_adapter
    from tests.models.conftest import make_adapter

    copy = Path(shutil.copytree(mini.mini_weights_path(), tmp_path / "base"))
    record = base_record("mini")
    edit("preprocessor_config.json", max_pixels=32768)(copy)
    base = load_base(str(copy))
    adapter = make_adapter(base, tmp_path / "adapter")
    (adapter / "manifest.json").write_text(json.dumps({"base": record}))
    assert lora_layers.validate_adapter_folder(base, adapter) == (
        "it was trained with other settings of this base; changed since: preprocessor_config.json",
    )
    assert inspect_adapter(adapter, record["fingerprint"], [str(copy)]).base is None, "that base is not at hand"
    edit("preprocessor_config.json", max_pixels=1)(copy)
    assert base.fingerprint == base.identity.fingerprint, "it is known by what was loaded"
