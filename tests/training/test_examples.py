"""Which tokens count, and how much."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mondrian_core.errors import BadInput
from mondrian_core.events import ignore
from mondrian_core.models import adapters
from mondrian_core.models.base import Base
from mondrian_core.models.encoding import answer_ids
from mondrian_core.models.forward import logits
from mondrian_core.models.scores import pieces_of
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.training.examples import batch_of, bell, digest_of, encode_rows, points_of, token_weights
from mondrian_core.training.step import GradientStep, token_losses
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
    scores = {**make_row(1).scores, "composition": 4.4}
    others = [
        make_row(2),
        replace(make_row(1), scores=scores),
        make_row(1, weight=0.5),
        make_row(1, loss_dimensions=DIMENSIONS[1:]),
        make_row(1, words=2),
    ]
    assert len({one, *(digest_of([row]) for row in others)}) == 6


def test_a_soft_score_is_a_bell_around_the_advisors_own(base: Base) -> None:
    np.testing.assert_allclose(bell(5.0, 0.01), np.eye(10)[5], atol=1e-6)
    assert bell(4.5, 0.8)[4] == pytest.approx(bell(4.5, 0.8)[5])
    assert bell(10.0, 0.01)[1] == pytest.approx(1.0), "a ten begins with a one"
    assert bell(9.0, 0.8).sum() == pytest.approx(1.0)


def test_soft_targets_replace_the_digits_and_keep_the_weight(base: Base) -> None:
    row = make_row(3, loss_dimensions=DIMENSIONS[:6])
    hard = encode_rows(base, [row], TrainRecipe(), ignore, "")[0]
    soft = encode_rows(base, [row], TrainRecipe(score_spread=0.8), ignore, "")[0]
    assert soft.soft is not None and hard.soft is None
    assert soft.weight == pytest.approx(hard.weight)
    assert soft.soft.weights.tolist() == [4.0] * 6 + [0.0] * 2, "a score that doesn't hold has no soft target either"
    said = [base.tokenizer.decode([soft.answer[place]]) for place in soft.soft.places]
    assert said == [str(int(row.scores[name]))[0] for name in DIMENSIONS]
    assert not soft.weights[soft.soft.places].any()


def test_a_very_narrow_bell_is_the_digit_alone(base: Base) -> None:
    """Loss and gradient are then those of the hard target; and so with next to no weight on the expected score."""
    row = make_row(2)
    found = []
    adapters.attach(base, TrainRecipe(), 0)
    for recipe in (TrainRecipe(), TrainRecipe(score_spread=0.01), TrainRecipe(score_value=1e-9)):
        example = encode_rows(base, [row], recipe, ignore, "")[0]
        step = GradientStep(base, compiled=False)
        batch = batch_of(base, example, example.prompt.image_tokens, 1.0 / example.weight)
        loss, gradient = step.gather(base.model.trainable_parameters(), [batch])
        step.close()
        found.append([np.array(loss), *(np.array(array) for _, array in tree_flatten(gradient))])
    adapters.detach(base)
    for hard, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_allclose(hard, other, atol=2e-6, rtol=1e-4)


def test_the_expected_score_is_drawn_to_the_advisors_own(base: Base) -> None:
    """Fractions too, which no digit can say. The loss is the hard one and the squares; its gradient moves the mean."""
    row = replace(make_row(2), scores=dict.fromkeys(DIMENSIONS, 4.4))
    adapters.attach(base, TrainRecipe(), 0)
    trainable = base.model.trainable_parameters()

    def loss_of(recipe: TrainRecipe) -> float:
        example = encode_rows(base, [row], recipe, ignore, "")[0]
        step = GradientStep(base, compiled=False)
        found = float(step.value(trainable, [batch_of(base, example, example.prompt.image_tokens, 1.0)]))
        step.close()
        return found

    def squares() -> np.ndarray:
        example = encode_rows(base, [row], TrainRecipe(score_value=1.0), ignore, "")[0]
        batch = batch_of(base, example, example.prompt.image_tokens, 1.0)
        states, _ = token_losses(base, batch)
        raw = logits(base.language_model, states[batch["soft_places"]]).astype(mx.float32)
        chances = np.array(mx.softmax(raw, axis=-1))[np.arange(8)[:, None], np.array(batch["soft_digits"])]
        chances /= chances.sum(axis=1, keepdims=True)
        return np.asarray((chances @ np.arange(10) - 4.4) ** 2)

    hard, both = loss_of(TrainRecipe()), loss_of(TrainRecipe(score_value=0.5))
    assert both == pytest.approx(hard + 4.0 * 0.5 * squares().sum(), rel=1e-4)
    before = squares().sum()
    example = encode_rows(base, [row], TrainRecipe(score_value=100.0), ignore, "")[0]
    step = GradientStep(base, compiled=False)
    batch = batch_of(base, example, example.prompt.image_tokens, 1.0 / example.weight)
    for _ in range(3):
        _, gradient = step.gather(base.model.trainable_parameters(), [batch])
        base.model.update(
            tree_map(lambda held, slope: held - 0.002 * slope, base.model.trainable_parameters(), gradient)
        )
    step.close()
    after = squares().sum()
    adapters.detach(base)
    assert after < before


def test_a_one_is_a_ten_where_the_advisor_is_nearer_to_it() -> None:
    assert points_of(9.5).tolist() == [0, 10, 2, 3, 4, 5, 6, 7, 8, 9]
    assert points_of(3.0).tolist() == list(range(10))
