"""What leaves for other tools answers as the adapter does here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.errors import BadAdapter, BadInput
from mondrian_core.lora_files import adapter_answer_form
from mondrian_core.models.adapter_export import (
    MERGE_REPORT_FILE,
    export_merged_model,
    export_mlx_adapter,
    export_peft_adapter,
)
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.inference.generation import generate
from mondrian_core.models.lora import lora_adapter, lora_layers
from mondrian_core.rubric import AnswerForm
from tests.models.conftest import make_adapter, photograph

pytestmark = pytest.mark.mini


def products(folder: Path) -> dict[str, np.ndarray]:
    found = lora_adapter.load_lora_adapter(folder)
    return {name: np.array(found.scale * (found.lora_a[name] @ found.lora_b[name])) for name in found.modules}


def test_lora_peft_round_trip(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    export_peft_adapter(base, adapter, tmp_path / "peft")
    ours, theirs = products(adapter), products(tmp_path / "peft")
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, atol=1e-6)
    values = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert "model.language_model.layers.0.self_attn.q_proj" in values["target_modules"]
    assert lora_layers.validate_adapter_folder(base, tmp_path / "peft") == ()


def test_exports_keep_the_form_that_the_manifest_alone_states(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    version = tmp_path / "v0001"
    shutil.copytree(adapter, version)
    (version / "manifest.json").write_text('{"answer_form": "advice"}')
    export_mlx_adapter(version, tmp_path / "mlx")
    export_peft_adapter(base, version, tmp_path / "peft")
    assert [adapter_answer_form(tmp_path / name) for name in ("mlx", "peft")] == [AnswerForm.ADVICE] * 2


def test_mlx_export_has_two_files(adapter: Path, tmp_path: Path) -> None:
    export_mlx_adapter(adapter, tmp_path / "mlx")
    assert {path.name for path in (tmp_path / "mlx").iterdir()} == {"adapters.safetensors", "adapter_config.json"}
    assert products(tmp_path / "mlx").keys() == products(adapter).keys()


def test_merged_answers_as_base_with_adapter(base: BaseVLM, adapter: Path, messages: Any, tmp_path: Path) -> None:
    questions = [(messages, photograph(seed)) for seed in (1, 2)]
    parity = export_merged_model(base, adapter, tmp_path / "merged", questions)
    assert (parity.photographs, parity.same_answers) == (2, 2)
    assert parity.log_probability_difference < 1e-3 and parity.delta_error < 1e-5
    assert json.loads((tmp_path / "merged" / MERGE_REPORT_FILE).read_text())["same_answers"] == 2
    merged = load_base(str(tmp_path / "merged"))
    assert merged.fingerprint != base.fingerprint
    plain = generate(base, *questions[0], max_tokens=40).text
    assert generate(merged, *questions[0], max_tokens=40).text != plain
    from mlx_vlm import load

    model, _ = load(str(tmp_path / "merged"))
    name = "language_model.model.layers.0.self_attn.q_proj"
    theirs = dict(tree_flatten(model.parameters()))[f"{name}.weight"]
    wanted = np.array(dict(base.model.named_modules())[name].weight) + products(adapter)[name].T
    np.testing.assert_allclose(np.array(theirs), wanted, atol=1e-6)


def test_merging_into_16_bit_reports_rounding(base: BaseVLM, messages: Any, tmp_path: Path) -> None:
    """bfloat16 has 8 bits: a small adapter is rounded away in part, and the report says how much."""
    folder = tmp_path / "half"
    shutil.copytree(base.path, folder)
    tensors, metadata = mx.load(str(folder / "model.safetensors"), return_metadata=True)
    halved = {name: array.astype(mx.bfloat16) for name, array in tensors.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), halved, metadata=metadata)
    half = load_base(str(folder))
    small = make_adapter(half, tmp_path / "small", size=0.001)
    parity = export_merged_model(half, small, tmp_path / "merged", [(messages, photograph(1))])
    assert 0.02 < parity.delta_error < 2


def test_merging_into_packed_base_is_rejected(base: BaseVLM, adapter: Path, messages: Any, tmp_path: Path) -> None:
    from mlx_vlm.convert import convert

    convert(str(base.path), str(tmp_path / "packed"), quantize=True, q_bits=8, q_group_size=64)
    packed = load_base(str(tmp_path / "packed"))
    with pytest.raises(BadInput, match="packed"):
        export_merged_model(packed, adapter, tmp_path / "merged", [(messages, photograph(1))])
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob(".*"))


def test_export_rejects_foreign_adapter_and_existing_folder(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    tensors: Any = mx.load(str(broken / "adapters.safetensors"))
    name = next(key for key in tensors if key.endswith("lora_a"))
    mx.save_safetensors(str(broken / "adapters.safetensors"), {**tensors, name: tensors[name][1:]})
    with pytest.raises(BadAdapter, match="shapes"):
        export_peft_adapter(base, broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "taken").mkdir()
    with pytest.raises(BadInput, match="already exists"):
        export_mlx_adapter(adapter, tmp_path / "taken")
