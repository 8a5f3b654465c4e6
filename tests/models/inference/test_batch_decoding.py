"""Rows that are decoded together give what each gives alone, whatever the others read, and in any order of work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.batch_decoding import BatchDecoder, DecodingRow
from mondrian_core.models.inference.decoding import CACHE_BLOCK_TOKENS, make_decoder
from mondrian_core.models.lora.adapter_switch import get_adapter_switch
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_prompt
from tests.models.conftest import photograph

pytestmark = pytest.mark.mini

LOGIT_TOLERANCE = 1e-4  # of logits about 10 in float32: matrix products of other shapes sum in another order


@pytest.fixture(scope="module")
def prompts(base: BaseVLM, messages: Any) -> list[EncodedPrompt]:
    """Three prompts of different lengths."""
    return [encode_prompt(base, messages, photograph(seed, (96 + 64 * seed, 96))) for seed in range(3)]


@pytest.fixture(params=["compiled", "as on Metal"])
def _both_kinds_of_step(request: Any, base: BaseVLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    steps = base.cache.pop("steps", {})
    if request.param != "compiled":
        monkeypatch.setattr(mx, "compile", lambda function: function)
    yield
    base.cache["steps"] = steps


def _alone(base: BaseVLM, prompt: EncodedPrompt, tokens: list[int]) -> np.ndarray:
    decoder = make_decoder(base)
    logits = decoder.start(prompt)
    return np.array(decoder.extend(tokens) if tokens else logits)


def _read(decoder: BatchDecoder, tokens: dict[DecodingRow, list[int]]) -> None:
    """Read all of it."""
    for row, own in tokens.items():
        decoder.feed(row, own)
    waiting = set(tokens)
    while waiting:
        waiting -= {row for row, _ in decoder.run_pass()}


def _assert_equal(found: Any, expected: Any) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() < LOGIT_TOLERANCE


def _tokens(seed: int, count: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).integers(100, 1900, count)]


@pytest.mark.usefixtures("_both_kinds_of_step")
def test_rows_with_different_prompts_and_runs_equal_each_alone(
    base: BaseVLM, prompts: list[EncodedPrompt], adapter: Path
) -> None:
    for folder in (None, adapter):
        get_adapter_switch(base).use(folder)
        decoder = BatchDecoder(base, 3)
        rows = [decoder.open(prompt) for prompt in prompts]
        read: list[list[int]] = [[], [], []]
        for step, lengths in enumerate([(1, 1, 1), (13, 1, 2), (2, 40, 1), (5, 0, 0)]):
            new = {row: _tokens(10 * step + number, lengths[number]) for number, row in enumerate(rows)}
            _read(decoder, {row: own for row, own in new.items() if own})
            for own, row in zip(read, rows, strict=True):
                own += new[row]
        for row, prompt, own in zip(rows, prompts, read, strict=True):
            _assert_equal(row.logits, _alone(base, prompt, own))


@pytest.mark.usefixtures("_both_kinds_of_step")
def test_branches_share_a_prompt_and_do_not_see_one_another(base: BaseVLM, prompts: list[EncodedPrompt]) -> None:
    decoder = BatchDecoder(base, 1)
    trunk = decoder.open(prompts[0])
    common = _tokens(1, 9)
    _read(decoder, {trunk: common})
    branches = [decoder.branch(trunk) for _ in range(5)]
    own = [_tokens(20 + number, 1 + 4 * number) for number in range(5)]
    _read(decoder, dict(zip(branches, own, strict=True)))
    decoder.close(branches.pop(1))
    del own[1]
    _read(decoder, {branch: [300 + number] for number, branch in enumerate(branches)})
    for number, (branch, tokens) in enumerate(zip(branches, own, strict=True)):
        _assert_equal(branch.logits, _alone(base, prompts[0], [*common, *tokens, 300 + number]))
    assert decoder._owners.shape == (1, CACHE_BLOCK_TOKENS), "five branches are not five copies"


def test_a_branch_of_a_branch_or_of_an_unread_row_is_refused(base: BaseVLM, prompts: list[EncodedPrompt]) -> None:
    decoder = BatchDecoder(base, 1)
    trunk = decoder.open(prompts[0])
    branch = decoder.branch(trunk)
    with pytest.raises(ValueError, match="has read all its tokens"):
        decoder.branch(branch)
    decoder.feed(trunk, [1])
    with pytest.raises(ValueError, match="has read all its tokens"):
        decoder.branch(trunk)


def test_rows_come_and_go_and_the_buffer_stays_small(base: BaseVLM, prompts: list[EncodedPrompt]) -> None:
    decoder = BatchDecoder(base, 2)
    lasting, read = decoder.open(prompts[0]), _tokens(3, 1)
    _read(decoder, {lasting: read})
    for turn in range(12):
        row = decoder.open(prompts[1 + turn % 2])
        own, more = _tokens(40 + turn, 24), _tokens(60 + turn, 4)
        _read(decoder, {row: own, lasting: more})
        read += more
        _assert_equal(row.logits, _alone(base, prompts[1 + turn % 2], own))
        _assert_equal(decoder.probe(row, [(5, 700)])[0], _alone(base, prompts[1 + turn % 2], [*own[:5], 700]))
        decoder.close(row)
    _assert_equal(lasting.logits, _alone(base, prompts[0], read))
    assert decoder._owners.shape[1] <= 2 * CACHE_BLOCK_TOKENS, "places of closed rows are used again"
    _read(decoder, {lasting: [5]})
    assert decoder._owners.shape[0] == 1, "nothing is computed for closed rows"
    _assert_equal(lasting.logits, _alone(base, prompts[0], [*read, 5]))


def test_probes_change_nothing(base: BaseVLM, prompts: list[EncodedPrompt]) -> None:
    decoder = BatchDecoder(base, 2)
    rows = [decoder.open(prompt) for prompt in prompts[:2]]
    own = [_tokens(5, 7), _tokens(6, 3)]
    _read(decoder, dict(zip(rows, own, strict=True)))
    branch = decoder.branch(rows[0])
    _read(decoder, {branch: [900, 901]})
    found = decoder.probe(rows[0], [(0, 500), (3, 501), (6, 502)])
    for (index, token), logits in zip([(0, 500), (3, 501), (6, 502)], found, strict=True):
        _assert_equal(logits, _alone(base, prompts[0], [*own[0][:index], token]))
    (first, second) = decoder.probe(branch, [(0, 500), (1, 501)])
    _assert_equal(first, _alone(base, prompts[0], [*own[0], 500]))
    _assert_equal(second, _alone(base, prompts[0], [*own[0], 900, 501]))
    _read(decoder, {rows[1]: [44]})
    _assert_equal(rows[1].logits, _alone(base, prompts[1], [*own[1], 44]))
