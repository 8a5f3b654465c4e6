"""Finding, knowing and loading a base; each way of failing says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mondrian_core import mini
from mondrian_core.errors import BaseModelUnavailable
from mondrian_core.models import base_model as bases
from mondrian_core.models.base_download import fetch_base

pytestmark = pytest.mark.mini


def _copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini.mini_weights_path(), tmp_path / "base"))


def test_mini_is_the_bundled_folder() -> None:
    assert bases.resolve_base_path("mini") == mini.mini_weights_path()


def test_the_base_is_frozen_and_float32_on_the_cpu(base: bases.BaseVLM) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    assert not tree_flatten(base.model.trainable_parameters())
    assert not base.model.training
    if mx.default_device() == mx.Device(mx.cpu):
        assert {array.dtype for _, array in tree_flatten(base.model.parameters())} == {mx.float32}


def test_fingerprint_follows_weights_and_configuration(base: bases.BaseVLM, tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    assert bases.base_fingerprint(str(folder)) == base.fingerprint == bases.base_fingerprint("mini")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    changed = bases.base_fingerprint(str(folder))
    assert changed != base.fingerprint
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert bases.base_fingerprint(str(folder)) != changed


def test_a_missing_folder_is_explained() -> None:
    with pytest.raises(BaseModelUnavailable, match="doesn't exist") as caught:
        bases.load_base("/nowhere/at/all")
    assert "MONDRIAN_BASE_MODEL" in caught.value.next_step


def test_a_hub_id_without_a_hub_is_explained() -> None:
    name = "mlx-community/Qwen3-VL-4B-Instruct-4bit"
    with pytest.raises(BaseModelUnavailable, match="can't be downloaded, because HF_HUB_OFFLINE is set"):
        fetch_base(name)
    with pytest.raises(BaseModelUnavailable, match="isn't on this machine") as caught:
        bases.load_base(name)
    assert f"mondrian download --base-model {name}" in caught.value.next_step


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BaseModelUnavailable, match="'llama'"):
        bases.load_base(str(tmp_path))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(BaseModelUnavailable, match=r"model\.safetensors is missing, tokenizer\.json is missing"):
        bases.load_base(str(tmp_path))


def test_damaged_weights_are_explained(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BaseModelUnavailable, match=r"model.safetensors is cut off \([\d,]+ bytes instead of"):
        bases.load_base(str(folder))
