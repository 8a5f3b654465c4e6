"""Which tokens count, and how much."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mondrian_core.errors import BadInput
from mondrian_core.events import ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import lm_head_logits
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import encode_answer
from mondrian_core.models.score_distribution import decode_token_texts
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.training.gradient_step import GradientStep, token_losses
from mondrian_core.training.training_examples import (
    encode_training_rows,
    gaussian_digit_distribution,
    make_training_batch,
    score_by_first_digit,
    token_weights,
    training_rows_digest,
)
from tests.training.conftest import make_row

pytestmark = pytest.mark.mini


def test_score_tokens_have_score_weight(base: BaseVLM) -> None:
    row = make_row(1)
    answer = encode_answer(base, row.messages, row.answer)
    weights = token_weights(row, answer, 4.0)
    heavy = "".join(
        piece for piece, weight in zip(decode_token_texts(base, answer.ids), weights, strict=True) if weight == 4.0
    )
    assert heavy == "".join(str(int(row.scores[name])) for name in DIMENSIONS)
    assert weights[-1] == 1.0 and answer.ids[-1] in base.end_tokens
    assert set(weights.tolist()) == {1.0, 4.0}


def test_excluded_dimension_has_no_score_or_grade_weight(base: BaseVLM) -> None:
    kept = tuple(name for name in DIMENSIONS if name != "composition")
    row = make_row(1, loss_dimensions=kept, weight=0.5)
    answer = encode_answer(base, row.messages, row.answer)
    weights = token_weights(row, answer, 4.0)
    pieces = decode_token_texts(base, answer.ids)
    silent = "".join(piece for piece, weight in zip(pieces, weights, strict=True) if weight == 0)
    assert silent.startswith(str(int(row.scores["composition"])))
    assert silent.endswith(row.answer.rpartition('"overall_grade": "')[2].rstrip('"}'))
    assert set(weights.tolist()) == {0.0, 0.5, 2.0}


def test_only_the_answer_carries_loss(base: BaseVLM) -> None:
    """Every place that is looked at predicts a token of the answer; padding weighs nothing."""
    row = make_row(2)
    example = encode_training_rows(base, [row], TrainRecipe(), ignore_events, "")[0]
    batch = make_training_batch(base, example, example.prompt.image_tokens + 3, 1.0)
    weights = np.array(batch["weights"])
    places = np.array(batch["places"])[: len(example.answer)]
    assert places[0] == len(example.prompt.ids) - 1 and np.all(np.diff(places) == 1)
    assert np.array(batch["targets"])[: len(example.answer)].tolist() == list(example.answer)
    assert not weights[len(example.answer) :].any()
    assert batch["embeddings"].shape[1] == batch["positions"].shape[2]


def test_too_long_row_is_rejected_with_its_token_counts(base: BaseVLM) -> None:
    with pytest.raises(BadInput, match=r"The row of p3 has \d+ tokens .* allows 64"):
        encode_training_rows(base, [make_row(3)], TrainRecipe(max_tokens=64), ignore_events, "")


def test_rows_digest_covers_training_inputs() -> None:
    one = training_rows_digest([make_row(1)])
    assert one == training_rows_digest([make_row(1)])
    scores = {**make_row(1).scores, "composition": 4.4}
    others = [
        make_row(2),
        replace(make_row(1), scores=scores),
        make_row(1, weight=0.5),
        make_row(1, loss_dimensions=DIMENSIONS[1:]),
        make_row(1, words=2),
    ]
    assert len({one, *(training_rows_digest([row]) for row in others)}) == 6


def test_soft_score_target_is_normal_distribution(base: BaseVLM) -> None:
    np.testing.assert_allclose(gaussian_digit_distribution(5.0, 0.01), np.eye(10)[5], atol=1e-6)
    assert gaussian_digit_distribution(4.5, 0.8)[4] == pytest.approx(gaussian_digit_distribution(4.5, 0.8)[5])
    assert gaussian_digit_distribution(10.0, 0.01)[1] == pytest.approx(1.0), "a ten begins with a one"
    assert gaussian_digit_distribution(9.0, 0.8).sum() == pytest.approx(1.0)


def test_soft_targets_replace_digit_weights(base: BaseVLM) -> None:
    row = make_row(3, loss_dimensions=DIMENSIONS[:6])
    hard = encode_training_rows(base, [row], TrainRecipe(), ignore_events, "")[0]
    soft = encode_training_rows(base, [row], TrainRecipe(score_spread=0.8), ignore_events, "")[0]
    assert soft.soft is not None and hard.soft is None
    assert soft.weight == pytest.approx(hard.weight)
    assert soft.soft.weights.tolist() == [4.0] * 6 + [0.0] * (len(DIMENSIONS) - 6), (
        "a score that doesn't hold has no soft target either"
    )
    said = [base.tokenizer.decode([soft.answer[place]]) for place in soft.soft.places]
    assert said == [str(int(row.scores[name]))[0] for name in DIMENSIONS]
    assert not soft.weights[soft.soft.places].any()


def test_narrow_soft_target_is_one_hot(base: BaseVLM) -> None:
    """Loss and gradient are then those of the hard target; and so with next to no weight on the expected score."""
    row = make_row(2)
    found = []
    lora_layers.attach_lora(base, TrainRecipe(), 0)
    for recipe in (TrainRecipe(), TrainRecipe(score_spread=0.01), TrainRecipe(score_value=1e-9)):
        example = encode_training_rows(base, [row], recipe, ignore_events, "")[0]
        step = GradientStep(base, compiled=False)
        batch = make_training_batch(base, example, example.prompt.image_tokens, 1.0 / example.weight)
        loss, gradient = step.loss_and_grad(base.model.trainable_parameters(), [batch])
        step.close()
        found.append([np.array(loss), *(np.array(array) for _, array in tree_flatten(gradient))])
    lora_layers.detach_lora(base)
    for hard, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_allclose(hard, other, atol=2e-6, rtol=1e-4)


def test_score_value_moves_expected_score_to_advisors(base: BaseVLM) -> None:
    """Fractions too, which no digit can say. The loss is the hard one and the squares; its gradient moves the mean."""
    row = replace(make_row(2), scores=dict.fromkeys(DIMENSIONS, 4.4))
    lora_layers.attach_lora(base, TrainRecipe(), 0)
    trainable = base.model.trainable_parameters()

    def loss_of(recipe: TrainRecipe) -> float:
        example = encode_training_rows(base, [row], recipe, ignore_events, "")[0]
        step = GradientStep(base, compiled=False)
        found = float(
            step.total_loss(trainable, [make_training_batch(base, example, example.prompt.image_tokens, 1.0)])
        )
        step.close()
        return found

    def squares() -> np.ndarray:
        example = encode_training_rows(base, [row], TrainRecipe(score_value=1.0), ignore_events, "")[0]
        batch = make_training_batch(base, example, example.prompt.image_tokens, 1.0)
        states, _ = token_losses(base, batch)
        raw = lm_head_logits(base, states[batch["soft_places"]]).astype(mx.float32)
        chances = np.array(mx.softmax(raw, axis=-1))[
            np.arange(len(DIMENSIONS))[:, None], np.array(batch["soft_digits"])
        ]
        chances /= chances.sum(axis=1, keepdims=True)
        return np.asarray((chances @ np.arange(10) - 4.4) ** 2)

    hard, both = loss_of(TrainRecipe()), loss_of(TrainRecipe(score_value=0.5))
    assert both == pytest.approx(hard + 4.0 * 0.5 * squares().sum(), rel=1e-4)
    before = squares().sum()
    example = encode_training_rows(base, [row], TrainRecipe(score_value=100.0), ignore_events, "")[0]
    step = GradientStep(base, compiled=False)
    batch = make_training_batch(base, example, example.prompt.image_tokens, 1.0 / example.weight)
    for _ in range(3):
        _, gradient = step.loss_and_grad(base.model.trainable_parameters(), [batch])
        base.model.update(
            tree_map(lambda held, slope: held - 0.002 * slope, base.model.trainable_parameters(), gradient)
        )
    step.close()
    after = squares().sum()
    lora_layers.detach_lora(base)
    assert after < before


def test_digit_one_means_ten_for_high_scores() -> None:
    assert score_by_first_digit(9.5).tolist() == [0, 10, 2, 3, 4, 5, 6, 7, 8, 9]
    assert score_by_first_digit(3.0).tolist() == list(range(10))
