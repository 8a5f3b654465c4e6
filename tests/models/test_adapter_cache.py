"""Adapters in memory: the budget decides, the least recently used one leaves, and nothing keeps its arrays alive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bench.adapter_overhead import make_random_adapter, sample_question
from mondrian_core.errors import BadAdapter
from mondrian_core.models.base_model import load_base
from mondrian_core.models.inference.generation import generate
from mondrian_core.models.lora.adapter_cache import AdapterCache, adapter_nbytes
from mondrian_core.models.lora.adapter_switch import get_adapter_switch


def deltas(megabytes: int) -> dict[str, Any]:
    return {"layer": (mx.zeros((megabytes, 1 << 18), dtype=mx.float32),)}


def test_the_least_recently_used_adapter_leaves() -> None:
    gone: list[Any] = []
    cache = AdapterCache(gone.append)
    cache.budget = 3 << 20
    entries = {name: deltas(1) for name in "abcd"}
    for name in "abc":
        cache.put((name,), entries[name])
    assert (len(cache), cache.nbytes, gone) == (3, 3 << 20, [])
    assert cache.get(("a",)) is entries["a"]
    cache.put(("d",), entries["d"])
    assert gone == [entries["b"]] and cache.get(("b",)) is None
    assert [cache.get((name,)) is not None for name in "acd"] == [True, True, True]
    cache.budget = 1 << 20
    assert len(cache) == 1 and cache.get(("d",)) is not None


def test_an_adapter_beyond_the_budget_is_alone() -> None:
    cache = AdapterCache(lambda gone: None)
    cache.budget = 0
    for name in "ab":
        cache.put((name,), deltas(1))
    assert len(cache) == 1 and cache.get(("b",)) is not None


@pytest.mark.mini
@pytest.mark.slow
def test_answers_are_the_same_from_memory_and_evicted_adapters_are_freed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("v0001", "v0002", "v0003")]
    for number, folder in enumerate(folders):
        make_random_adapter(folder, rank=4, seed=number)
    base = load_base("mini")
    switch, (messages, image) = get_adapter_switch(base), sample_question()

    def answer(folder: Path) -> tuple[int, ...]:
        switch.use(folder)
        return generate(base, messages, image, max_tokens=24, exact_tokens=24).tokens

    first = [answer(folder) for folder in folders]
    assert len(set(first)) == 3, "three adapters"
    assert [answer(folder) for folder in folders] == first and len(switch.cache) == 3
    one = switch.cache.nbytes // 3
    switch.cache.budget = one
    held = {id(array) for delta in switch.deltas for array in delta}
    assert len(switch.cache) == 1 and switch.cache.nbytes == one
    kept = {each for key in base.cache["prefixes"] for each in key[1]}
    assert kept <= held, "no prefix holds the arrays of an evicted adapter"
    assert [answer(folder) for folder in folders] == first, "read from the file again"


@pytest.mark.mini
@pytest.mark.slow
def test_loading_in_advance_changes_nothing_until_it_is_used(tmp_path: Path) -> None:
    make_random_adapter(tmp_path / "v0001", rank=4, seed=1)
    base = load_base("mini")
    switch = get_adapter_switch(base)
    switch.load(tmp_path / "v0001")
    assert switch.adapted_modules == () and len(switch.cache) == 1
    switch.use(tmp_path / "v0001")
    loaded = sum(np.array(array).nbytes for delta in switch.deltas for array in delta)
    assert loaded == switch.cache.nbytes and len(switch.cache) == 1
    with pytest.raises(BadAdapter):
        switch.load(tmp_path)
    assert switch.folder == tmp_path / "v0001" and adapter_nbytes({}) == 0
