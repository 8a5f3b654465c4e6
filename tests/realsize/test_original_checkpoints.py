"""Checkpoints as Qwen publishes them: other names and layouts of arrays, in several files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlx.utils import tree_flatten
from PIL import Image

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models import adapter_export
from mondrian_core.models.base_model import load_base
from tests.models.conftest import make_adapter
from tests.realsize.matrix_shapes import FAMILIES

pytestmark = pytest.mark.mini


@pytest.mark.parametrize("family", FAMILIES)
def test_original_checkpoint_loads_and_merges(
    family: str,
    skeleton: Callable[..., Path],
    asked: list[dict[str, Any]],
    picture: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights are those of mlx-vlm's names; merging changes the adapted ones, under the names that were there."""
    monkeypatch.setattr(adapter_export, "_TOKENS", 2)
    original = load_base(str(skeleton(family=family, original=True)))
    converted = dict(tree_flatten(load_base(str(skeleton(family=family))).model.parameters()))
    weights = dict(tree_flatten(original.model.parameters()))
    assert weights.keys() == converted.keys()
    assert all(np.array_equal(np.array(array), np.array(converted[name])) for name, array in weights.items())

    adapter = make_adapter(original, tmp_path / "adapter", size=0.3, rank=2)
    parity = adapter_export.export_merged_model(original, adapter, tmp_path / "merged", [(asked, picture)])
    assert 0 < parity.delta_error < 0.1
    indexes = [folder / "model.safetensors.index.json" for folder in (original.path, tmp_path / "merged")]
    assert json.loads(indexes[0].read_text()) == json.loads(indexes[1].read_text())
