"""Which tokens count, and how much."""

from __future__ import annotations

import numpy as np
import pytest

from mondrian_core.errors import BadInput
from mondrian_core.events import ignore
from mondrian_core.models.base import Base
from mondrian_core.models.encoding import answer_ids
from mondrian_core.models.scores import pieces_of
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.training.examples import batch_of, digest_of, encode_rows, token_weights
from tests.training.conftest import make_row

pytestmark = pytest.mark.mini


def test_score_tokens_weigh_more_and_the_end_token_counts(base: Base) -> None:
    row = make_row(1)
    answer = answer_ids(base, row.messages, row.answer)
    weights = token_weights(base, row, answer, 4.0)
    heavy = "".join(piece for piece, weight in zip(pieces_of(base, answer), weights, strict=True) if weight == 4.0)
    assert heavy == "".join(str(int(row.scores[name])) for name in DIMENSIONS)
    assert weights[-1] == 1.0 and answer[-1] in base.end_tokens
    assert set(weights.tolist()) == {1.0, 4.0}


def test_a_dimension_that_no_longer_holds_loses_its_score_and_the_grade(base: Base) -> None:
    kept = tuple(name for name in DIMENSIONS if name != "composition")
    row = make_row(1, loss_dimensions=kept, weight=0.5)
    answer = answer_ids(base, row.messages, row.answer)
    weights = token_weights(base, row, answer, 4.0)
    pieces = pieces_of(base, answer)
    silent = "".join(piece for piece, weight in zip(pieces, weights, strict=True) if weight == 0)
    assert silent.startswith(str(int(row.scores["composition"])))
    assert silent.endswith(row.answer.rpartition('"overall_grade": "')[2].rstrip('"}'))
    assert set(weights.tolist()) == {0.0, 0.5, 2.0}


def test_only_the_answer_carries_loss(base: Base) -> None:
    """Every place that is looked at predicts a token of the answer; padding weighs nothing."""
    row = make_row(2)
    example = encode_rows(base, [row], TrainRecipe(), ignore, "")[0]
    batch = batch_of(base, example, example.prompt.image_tokens + 3, 1.0)
    weights = np.array(batch["weights"])
    places = np.array(batch["places"])[: len(example.answer)]
    assert places[0] == len(example.prompt.ids) - 1 and np.all(np.diff(places) == 1)
    assert np.array(batch["targets"])[: len(example.answer)].tolist() == list(example.answer)
    assert not weights[len(example.answer) :].any()
    assert batch["embeddings"].shape[1] == batch["positions"].shape[2]


def test_a_row_that_is_too_long_is_refused_with_its_numbers(base: Base) -> None:
    with pytest.raises(BadInput, match=r"The row of p3 has \d+ tokens .* allows 64"):
        encode_rows(base, [make_row(3)], TrainRecipe(max_tokens=64), ignore, "")


def test_the_digest_follows_what_training_sees() -> None:
    one = digest_of([make_row(1)])
    assert one == digest_of([make_row(1)])
    others = [make_row(2), make_row(1, weight=0.5), make_row(1, loss_dimensions=DIMENSIONS[1:]), make_row(1, words=2)]
    assert len({one, *(digest_of([row]) for row in others)}) == 5
