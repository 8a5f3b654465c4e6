"""Skeletons are what they stand for: the published tokenizer, sizes, prompts and file layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from tests import real_tokenizer as packing
from tests.skeleton_bases import SkeletonShape, build_skeleton_base, skeleton_configuration, skeleton_folder

# in billions, as their pages on the hub state them
PUBLISHED_PARAMETERS = {
    ("qwen2_vl", "2b"): 2.21,
    ("qwen2_vl", "7b"): 8.29,
    ("qwen2_5_vl", "3b"): 3.75,
    ("qwen2_5_vl", "7b"): 8.29,
    ("qwen3_vl", "2b"): 2.13,
    ("qwen3_vl", "4b"): 4.44,
    ("qwen3_vl", "8b"): 8.77,
}


@pytest.mark.parametrize(("family", "size"), PUBLISHED_PARAMETERS)
def test_configuration_has_the_published_number_of_parameters(family: str, size: str) -> None:
    from mlx.utils import tree_flatten
    from mlx_vlm.utils import get_model_and_args, update_module_configs

    values = skeleton_configuration(SkeletonShape(family=family, size=size))
    library, _ = get_model_and_args(values)
    values.setdefault("text_config", {})
    shape = update_module_configs(library.ModelConfig.from_dict(values), library, values, ["text", "vision"])
    count = sum(array.size for _, array in tree_flatten(library.Model(shape).parameters()))  # nothing is computed
    assert round(count / 1e9, 2) == PUBLISHED_PARAMETERS[family, size]


def test_unknown_size_is_rejected() -> None:
    with pytest.raises(ValueError, match="qwen2_vl/2b"):
        skeleton_configuration(SkeletonShape(family="qwen2_vl", size="4b"))


def test_packed_weights_have_no_published_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16-bit"):
        build_skeleton_base(SkeletonShape(bits=4, original=True), tmp_path / "skeleton")


def test_tokenizer_is_the_published_one(real_tokenizer: Any) -> None:
    """`tokenizer_json` checks the SHA-256; the ids are those that every prompt of the three families begins with."""
    assert len(real_tokenizer) == 151669
    assert real_tokenizer.encode("<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>") == [
        *[151644, 872, 198],
        *[151652, 151655, 151653],
    ]
    assert real_tokenizer.encode("10") == [16, 15]  # each digit is a token


def test_a_damaged_packed_tokenizer_is_not_used(tmp_path: Path) -> None:
    other = tmp_path / "tokenizer.json"
    other.write_bytes(packing.tokenizer_json().replace(b"vocab", b"vocal", 1))
    with pytest.raises(ValueError, match="SHA-256"):
        packing.pack_tokenizer(other, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_packing_again_gives_the_same_file(tmp_path: Path) -> None:
    source = tmp_path / "tokenizer.json"
    source.write_bytes(packing.tokenizer_json())
    packing.pack_tokenizer(source, tmp_path / "packed")
    assert packing.tokenizer_json(tmp_path / "packed") == source.read_bytes()


def test_an_answer_comes_back(real_tokenizer: Any) -> None:
    answer = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 10), dict.fromkeys(DIMENSIONS, "Schönes Licht.")))
    assert real_tokenizer.decode(real_tokenizer.encode(answer)) == answer


@pytest.mark.mini
def test_a_seed_gives_the_same_bytes_and_the_layout_of_the_hub(tmp_path: Path) -> None:
    shape = SkeletonShape(bits=4, layers=1, vision_layers=1)
    one, two = (build_skeleton_base(shape, tmp_path / name) for name in ("one", "two"))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    index = json.loads((one / "model.safetensors.index.json").read_text())["weight_map"]
    assert {"language_model.model.embed_tokens.scales", "vision_tower.patch_embed.proj.weight"} <= index.keys()
    assert "vision_tower.blocks.0.attn.qkv.scales" not in index
    packing_settings = json.loads((one / "config.json").read_text())["quantization"]
    assert (packing_settings["bits"], packing_settings["group_size"]) == (4, 64)
    with pytest.raises(FileExistsError):
        build_skeleton_base(shape, one)


@pytest.mark.mini
def test_a_skeleton_is_built_once_and_again_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skeleton: Callable[..., Path]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shape = SkeletonShape(layers=1, vision_layers=1, bits=4)
    folder = skeleton_folder(shape)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert skeleton_folder(shape) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    partial = folder.rename(folder.with_name(f"{folder.name}.partial"))  # as a killed build leaves it
    (partial / "config.json").unlink()
    assert (skeleton_folder(shape) / "config.json").is_file()
    assert not partial.exists()
