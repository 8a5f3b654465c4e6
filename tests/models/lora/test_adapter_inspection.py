"""An adapter against its base without running the model: keys, shapes, numbers, and how much it changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mondrian_core.models.base_model import BaseVLM, local_base_path
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.adapter_inspection import (
    MIN_RELATIVE_CHANGE,
    inspect_adapter,
    relative_output_change,
)
from mondrian_core.models.lora.adapter_validation import adaptable_linear_layers
from tests.models.conftest import make_adapter

pytestmark = pytest.mark.mini


def test_inspection_measures_change(base: BaseVLM, adapter: Path) -> None:
    seen = inspect_adapter(adapter, base.fingerprint, [None, "nowhere/at-all", "mini"])
    assert (seen.base, seen.problems) == ("mini", ())
    assert seen.change is not None and seen.change > MIN_RELATIVE_CHANGE


def test_change_is_ratio_of_norms(base: BaseVLM, adapter: Path) -> None:
    """By numpy, with x drawn again: for random inputs the ratio is close to that of the Frobenius norms."""
    found = lora_adapter.load_lora_adapter(adapter)
    ratios = []
    for name in found.modules:
        added = found.scale * np.array(found.lora_a[name]) @ np.array(found.lora_b[name])
        ratios.append(np.linalg.norm(added) / np.linalg.norm(np.array(adaptable_linear_layers(base)[name].weight)))
    low, high = min(ratios), max(ratios)
    assert low * 0.5 < relative_output_change(base, found) < high * 2


def test_misread_scale_is_reported_as_no_effect(base: BaseVLM, tmp_path: Path) -> None:
    folder = make_adapter(base, tmp_path / "adapter", size=0.01)
    before = inspect_adapter(folder, base.fingerprint, ["mini"])
    config = json.loads((folder / "adapter_config.json").read_text())
    config["lora_parameters"]["scale"] /= 10_000
    (folder / "adapter_config.json").write_text(json.dumps(config))
    after = inspect_adapter(folder, base.fingerprint, ["mini"])
    assert before.problems == () and before.change is not None and after.change is not None
    assert after.change == pytest.approx(before.change / 10_000, rel=1e-3)
    assert "as good as nothing" in after.problems[0]


def test_inspection_finds_wrong_keys_shapes_and_values(base: BaseVLM, adapter: Path, tmp_path: Path) -> None:
    def spoiled(name: str, change: object) -> tuple[str, ...]:
        folder = tmp_path / name
        shutil.copytree(adapter, folder)
        arrays = dict(load_file(folder / "adapters.safetensors"))
        first = next(key for key in sorted(arrays) if key.endswith("lora_b"))
        change(arrays, first)  # type: ignore[operator]
        save_file(arrays, folder / "adapters.safetensors")
        return inspect_adapter(folder, base.fingerprint, ["mini"]).problems

    assert "not finite" in spoiled("nan", lambda a, k: a.update({k: np.full_like(a[k], np.nan)}))[0]
    assert "has shapes" in spoiled("shape", lambda a, k: a.update({k: a[k][:, :-1].copy()}))[0]
    assert "only one half" in spoiled("half", lambda a, k: a.pop(k))[0]
    assert "all zero" in spoiled("zero", lambda a, k: a.update({n: 0 * v for n, v in a.items() if "lora_b" in n}))[0]


def test_inspection_without_base_is_inconclusive(base: BaseVLM, adapter: Path) -> None:
    assert inspect_adapter(adapter, None, ["mini"]).base is None, "nobody knows what it was trained on"
    assert inspect_adapter(adapter, "0" * 64, ["mini"]).base is None, "another base of that name is not its base"
    assert local_base_path("no-such/base") is None and local_base_path("../../etc") is None


def test_inspection_in_subprocess_matches(base: BaseVLM, adapter: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mondrian_core.models.lora.adapter_inspection",
        str(adapter),
        base.fingerprint,
        "mini",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["base"], told["problems"]) == ("mini", [])
    assert told["change"] == pytest.approx(inspect_adapter(adapter, base.fingerprint, ["mini"]).change, rel=1e-4)
