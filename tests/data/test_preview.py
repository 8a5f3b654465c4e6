"""The preview shows what the model reads: real tokenizer, real template, real weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from stand_in import VOICE, jpeg, profile, workspace_of

from mondrian_core.data.dataset import build
from mondrian_core.data.fit import Fit, Length, check_fit
from mondrian_core.data.link import link
from mondrian_core.data.preview import ANSWER, PHOTOGRAPH, PROMPT, Preview, preview
from mondrian_core.errors import BadInput
from mondrian_core.models.base import Base, load_base
from mondrian_core.models.lengths import counter
from mondrian_core.recipes import DataRecipe
from mondrian_core.rows import Row
from mondrian_core.rubric import DIMENSIONS

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


def test_the_counter_agrees_with_what_is_read(seen: tuple[Row, Preview]) -> None:
    """Counted without weights, and shown from the tokens that training uses: the same numbers."""
    row, shown = seen
    assert Length(*counter("mini")(row.messages, row.image, row.answer)) == shown.length


def test_a_row_that_does_not_fit_stops_with_its_numbers() -> None:
    check_fit([("a", Length(80, 16, 5)), ("b", Length(80, 16, 4))], 100)  # the last token is only predicted
    with pytest.raises(BadInput, match="2 rows don't fit into the 99 tokens") as caught:
        check_fit([("a", Length(80, 16, 5)), ("b", Length(80, 36, 4)), ("c", Length(1, 1, 1))], 99)
    assert "b has 120 tokens (80 of instructions, 36 of the photograph, 4 of the answer); a has 101" in str(
        caught.value
    )


def test_a_long_critique_stops_the_build(tmp_path: Path) -> None:
    measure = counter("mini")
    with workspace_of(tmp_path, 4) as store:
        long = "The ridge runs on and on. " * 60
        (tmp_path / "source" / "photo_9.jpg").write_bytes(jpeg(9))
        store.add_profiles([profile(9, comments=dict.fromkeys(DIMENSIONS, long))])
        manifest = link(store, tmp_path, "ansel")

    def fit(limit: int) -> Fit:
        return Fit(lambda *row: Length(*measure(*row)), limit)

    with pytest.raises(BadInput, match=r"profile:p9 \(\w+\) has \d+ tokens"):
        build(manifest, VOICE, DataRecipe(), tmp_path, fit=fit(2000))
    assert not (tmp_path / "datasets").exists()
    assert build(manifest, VOICE, DataRecipe(), tmp_path, fit=fit(20_000)).rows_per_split["train"] > 0
