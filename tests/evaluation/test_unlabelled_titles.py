"""Photographs without labels are named by their file, so that a person finds those that a gate names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from PIL import Image

from mondrian_core.evaluation.measure.photographs import FILE_INFO
from mondrian_core.images import LONG_SIDE
from mondrian_core.stages.evaluate import own_unlabelled_photographs


def test_photographs_of_the_workspace_keep_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "source" / "photographs"
    folder.mkdir(parents=True)
    for number, size in enumerate([(320, 240), (LONG_SIDE * 2, 900)]):
        pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"IMG_{number}.jpg")
    context = SimpleNamespace(root=tmp_path, recipe=SimpleNamespace(evaluate=SimpleNamespace(seed=0)))
    found = own_unlabelled_photographs(cast(Any, context), cast(Any, SimpleNamespace(photograph_hashes={})), 2)
    assert [image.info[FILE_INFO] for image in found] == [f"source/photographs/IMG_{k}.jpg" for k in (0, 1)]
