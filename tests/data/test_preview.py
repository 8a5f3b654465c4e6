"""The preview shows what the model reads: real tokenizer, real template, real weights."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from stand_in import VOICE, workspace_of

from mondrian_core.data.dataset import build
from mondrian_core.data.link import link
from mondrian_core.data.preview import ANSWER, PHOTOGRAPH, PROMPT, Preview, check_fit, preview
from mondrian_core.errors import BadInput
from mondrian_core.models.base import Base, load_base
from mondrian_core.recipes import DataRecipe
from mondrian_core.rows import Row

pytestmark = pytest.mark.mini


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Row, Preview]:
    folder = tmp_path_factory.mktemp("preview")
    with workspace_of(folder, 4) as store:
        row = build(link(store, folder, "ansel"), VOICE, DataRecipe(), folder).rows("train")[0]

    def weigh(base: Base, row: Row, answer: Sequence[int]) -> list[float]:
        return [1.0] * (len(answer) - 1) + [2.0]

    return row, preview(load_base("mini"), row, weigh)


def test_the_answer_is_there_word_for_word_and_closed(seen: tuple[Row, Preview]) -> None:
    row, shown = seen
    text = "".join(piece.text for piece in shown.pieces if piece.kind == ANSWER)
    assert text == row.answer + "<|im_end|>"
    prompt = "".join(piece.text for piece in shown.pieces if piece.kind == PROMPT)
    assert row.messages[0]["content"][0]["text"] in prompt
    assert row.messages[1]["content"][0]["text"] in prompt
    assert "<image>" not in prompt


def test_only_the_answer_counts(seen: tuple[Row, Preview]) -> None:
    _, shown = seen
    assert all((piece.weight > 0) == (piece.kind == ANSWER) for piece in shown.pieces)
    assert shown.pieces[-1].text == "<|im_end|>"
    assert shown.pieces[-1].weight == 2.0


def test_the_counts_add_up(seen: tuple[Row, Preview]) -> None:
    _, shown = seen
    assert shown.count(PROMPT) + shown.count(PHOTOGRAPH) + shown.count(ANSWER) == shown.total
    assert shown.count(PHOTOGRAPH) > 1
    counts = json.loads(json.dumps(shown.as_dict()))["tokens"]
    assert counts["total"] == shown.total


def test_a_row_that_does_not_fit_stops_with_its_numbers(seen: tuple[Row, Preview]) -> None:
    _, shown = seen
    check_fit([shown], shown.total - 1)
    check_fit([], 1)
    with pytest.raises(BadInput, match=f"{shown.total} tokens .*{shown.count(PHOTOGRAPH)} of the photograph"):
        check_fit([shown], shown.total - 2)
