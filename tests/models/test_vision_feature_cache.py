"""Vision features on disk: the same bits, computed once, never trusted when damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.errors import DiskFull
from mondrian_core.models import vision_feature_cache
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_prompt
from mondrian_core.models.vision_feature_cache import CachedPrompt, VisionFeatureCache
from tests.models.conftest import photograph

pytestmark = pytest.mark.mini


def same(one: EncodedPrompt, other: EncodedPrompt) -> bool:
    def arrays(prompt: EncodedPrompt) -> list[Any]:
        return [prompt.embeddings, prompt.positions, prompt.image_index, *prompt.deepstack]

    pairs = zip(arrays(one), arrays(other), strict=True)
    equal = all(a.dtype == b.dtype and np.array_equal(np.array(a), np.array(b)) for a, b in pairs)
    return equal and (one.ids, one.next_position) == (other.ids, other.next_position)


def test_vision_feature_cache_round_trip(base: BaseVLM, messages: Any, tmp_path: Path) -> None:
    kept = VisionFeatureCache(tmp_path)
    plain = encode_prompt(base, messages, photograph(1))
    for _ in range(2):
        found = kept.encode(base, messages, photograph(1))
        assert isinstance(found, CachedPrompt) and found.image_tokens == plain.image_tokens
        assert same(found.load(), plain)
    assert (kept.computed, len(list(tmp_path.iterdir()))) == (1, 1)


def test_vision_feature_cache_key_covers_image_and_prompt(base: BaseVLM, messages: Any, tmp_path: Path) -> None:
    kept = VisionFeatureCache(tmp_path)
    kept.encode(base, messages, photograph(1))
    kept.encode(base, messages, photograph(2))
    kept.encode(base, messages[1:], photograph(1))
    assert kept.computed == 3


def test_a_damaged_file_is_computed_again(base: BaseVLM, messages: Any, tmp_path: Path) -> None:
    kept = VisionFeatureCache(tmp_path)
    kept.encode(base, messages, photograph(1))
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:200])
    assert same(kept.encode(base, messages, photograph(1)).load(), encode_prompt(base, messages, photograph(1)))
    assert kept.computed == 2


def test_vision_feature_cache_without_disk_space(
    base: BaseVLM, messages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, write: Any) -> None:
        raise DiskFull(path)

    monkeypatch.setattr(vision_feature_cache, "replace_atomic", full)
    assert isinstance(VisionFeatureCache(tmp_path).encode(base, messages, photograph(1)), EncodedPrompt)
    assert not list(tmp_path.iterdir())


def test_vision_feature_cache_evicts_least_recently_used(base: BaseVLM, messages: Any, tmp_path: Path) -> None:
    kept = VisionFeatureCache(tmp_path)
    paths = [kept.encode(base, messages, photograph(seed)).path for seed in (1, 2, 3)]
    for age, path in zip((50, 900, 100), paths, strict=True):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    VisionFeatureCache(tmp_path, limit_bytes=2 * paths[0].stat().st_size).prune()
    assert {path for path in paths if path.exists()} == {paths[0], paths[2]}
