"""Which tokens of an answer with advice count: those that decide on a part that the critique lacks don't."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.dataset_types import CORRECTION, OTHER_PHOTOGRAPH, RECOMMENDATION, DatasetRow, PreferencePair
from mondrian_core.events import ignore_events
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import encode_answer
from mondrian_core.prompts import training_messages
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm, make_critique
from mondrian_core.training.dpo import encode_preference_pairs, make_preference_batch
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch, token_weights
from mondrian_core.training_target import training_target
from tests.training.conftest import ADVISOR, make_row

pytestmark = pytest.mark.mini


@pytest.fixture(scope="module", params=["mini", "qwen3_vl"])
def any_reader(request: pytest.FixtureRequest, skeleton: Callable[..., Path]) -> BaseVLM:
    """mini, and a base with the vocabulary of Qwen3-VL; both without weights."""
    name = "mini" if request.param == "mini" else str(skeleton(family=request.param, bits=4))
    return load_base(name, weights=False)


def advising_row(number: int, *, strengths: bool = True, priorities: bool = True, advised: int = 8) -> DatasetRow:
    """A row in the form with advice, with recommendations on the first `advised` dimensions."""
    row = make_row(number)
    plain = make_critique(row.scores, dict.fromkeys(DIMENSIONS, 'A "calm" sky.'))
    names = DIMENSIONS[:advised]
    assessments = {
        name: replace(each, recommendation="Wait for rain.", regions=((0.1, 0.2, 0.5, 0.9),)) if name in names else each
        for name, each in plain.assessments.items()
    }
    critique = replace(
        plain,
        assessments=assessments,
        strengths=('The "overall_grade": of it.', "Calm.") if strengths else (),
        priority_improvements=("Wait for rain.",) if priorities else (),
    )
    answer = training_target(critique, AnswerForm.ADVICE)
    asked = replace(ADVISOR, form=AnswerForm.ADVICE)
    return replace(row, answer=answer, messages=training_messages(asked, answer), form=AnswerForm.ADVICE)


def masked_texts(reader: BaseVLM, row: DatasetRow) -> list[str]:
    """The texts of the runs of tokens without weight, without the end of the text before them."""
    answer = encode_answer(reader, row.messages, row.answer)
    weights = token_weights(row, answer, 4.0)
    silent = [span for span, weight in zip(answer.offsets, weights, strict=False) if weight == 0]
    runs: list[list[int]] = []
    for start, end in silent:
        if runs and start <= runs[-1][1]:
            runs[-1][1] = max(end, runs[-1][1])
        else:
            runs.append([start, end])
    return [row.answer[start:end] for start, end in runs]


def name_in(tokens: str) -> str:
    """The name, or its beginning, in the text of tokens that hold a key."""
    return tokens.lstrip(' ,"}].').split('"')[0]


def test_a_row_with_all_parts_masks_nothing(any_reader: BaseVLM) -> None:
    assert masked_texts(any_reader, advising_row(1)) == []


def test_only_the_tokens_that_decide_on_a_missing_part_are_masked(any_reader: BaseVLM) -> None:
    """Closing a comment decides against a recommendation; the key that comes next decides against a list."""
    closings = masked_texts(any_reader, advising_row(1, advised=6))
    longest = '."}}, "strengths": ["' if any_reader.name == "mini" else '."}, "'  # mini has one token for all of it
    assert len(closings) == 2 and all('"}' in text and len(text) <= len(longest) for text in closings)
    (key,) = masked_texts(any_reader, advising_row(1, strengths=False))
    assert "priority_improvements".startswith(name_in(key))
    (key,) = masked_texts(any_reader, advising_row(1, priorities=False))
    assert "overall_grade".startswith(name_in(key))
    (key,) = masked_texts(any_reader, advising_row(1, strengths=False, priorities=False))
    assert "overall_grade".startswith(name_in(key))


def test_a_pair_counts_the_tokens_that_training_counts(base: BaseVLM) -> None:
    """Where a critique says nothing, neither its answer nor the one that is preferred to it says "no more"."""
    chosen, rejected = advising_row(1, strengths=False), advising_row(2, advised=6)
    pairs = [PreferencePair(chosen, rejected.answer, OTHER_PHOTOGRAPH), PreferencePair(make_row(3), "{}", CORRECTION)]
    silent, plain = encode_preference_pairs(base, pairs, TrainRecipe(), ignore_events, "")
    expected = [
        token_weights(row, encode_answer(base, row.messages, row.answer), 1.0) > 0 for row in (chosen, rejected)
    ]
    assert not expected[0].all() and not expected[1].all()
    np.testing.assert_array_equal(silent.counted > 0, np.concatenate(expected))
    batch = make_preference_batch(base, silent, silent.prompt.image_tokens, 1.0)
    counts = [int(mx.sum(batch[side]).item()) for side in ("chosen", "rejected")]
    assert counts == [int(part.sum()) for part in expected]
    assert (plain.counted == 1).all()


def test_an_advisor_who_draws_no_boxes_teaches_where_a_recommendation_ends(any_reader: BaseVLM) -> None:
    marked, box = advising_row(1), ', "regions": [[100, 200, 500, 900]]'
    assert box in marked.answer
    assert masked_texts(any_reader, replace(marked, answer=marked.answer.replace(box, ""))) == []


def test_the_first_form_masks_nothing(any_reader: BaseVLM) -> None:
    """Its comments end where the grammar ends them."""
    assert masked_texts(any_reader, make_row(1)) == []


def test_gradient_does_not_depend_on_masked_targets(base: BaseVLM) -> None:
    row = advising_row(1, advised=0, strengths=False, priorities=False)
    (example,) = encode_training_rows(base, [row], TrainRecipe(), ignore_events, "")
    masked = np.flatnonzero(example.weights == 0)
    assert len(masked) >= len(DIMENSIONS)
    batch = make_training_batch(base, example, example.prompt.image_tokens, 1 / example.weight)
    changed, taught = np.array(batch["targets"]), np.array(batch["targets"])
    changed[masked] = example.answer[0]
    taught[int(np.flatnonzero(example.weights)[0])] = example.answer[1]
    gradients = []
    lora_layers.attach_lora(base, TrainRecipe(), 0)
    for targets in (np.array(batch["targets"]), changed, taught):
        step = GradientStep(base, compiled=False)
        arrays = {**batch, "targets": mx.array(targets)}
        _, gradient = step.loss_and_grad(base.model.trainable_parameters(), [arrays])
        step.close()
        gradients.append(np.concatenate([np.array(array).ravel() for _, array in tree_flatten(gradient)]))
    lora_layers.detach_lora(base)
    assert np.array_equal(gradients[0], gradients[1])
    assert not np.array_equal(gradients[0], gradients[2]), "a target with a weight does change it"


def judged(recommendation: str | None, other: str | None) -> PreferencePair:
    """A row with this recommendation on lighting, preferred to the same answer with the other one."""
    row = advising_row(1)
    answers = []
    for text in (recommendation, other):
        critique = parse_critique_strict(row.answer)
        regions = critique.assessments["lighting"].regions if text else ()
        changed = replace(critique.assessments["lighting"], recommendation=text, regions=regions)
        entries = {**critique.assessments, "lighting": changed}
        answers.append(training_target(replace(critique, assessments=entries), AnswerForm.ADVICE))
    chosen = replace(row, answer=answers[0], messages=training_messages(replace(ADVISOR, form=row.form), answers[0]))
    return PreferencePair(chosen, answers[1], RECOMMENDATION, "lighting")


@pytest.mark.parametrize(
    ("chosen", "rejected"), [("Wait for rain.", "Use a flash."), ("Wait for rain.", None), (None, "Use a flash.")]
)
def test_only_the_judged_advice_counts(any_reader: BaseVLM, chosen: str | None, rejected: str | None) -> None:
    pair = judged(chosen, rejected)
    (example,) = encode_preference_pairs(any_reader, [pair], TrainRecipe(), ignore_events, "")
    boundary = len(example.chosen)
    for text, counted, said in (
        (pair.row.answer, example.counted[:boundary], chosen),
        (pair.rejected, example.counted[boundary:], rejected),
    ):
        answer = encode_answer(any_reader, pair.row.messages, text)
        spans = [span for span, weight in zip(answer.offsets, counted, strict=False) if weight]
        start, end = spans[0][0], spans[-1][1]
        assert all(before[1] >= after[0] - 1 for before, after in itertools.pairwise(spans)), "one piece"
        part = text[start:end]
        assert '"focus_sharpness"' not in part and '"lighting"' not in part and '"score"' not in part
        if said:
            assert said in part and part.count("]]}") == 1, "the recommendation, and its box"
        else:
            assert len(part) <= len('."}, "')
    assert example.weights.sum() == pytest.approx(1) and not example.weights[example.counted[:boundary] == 0].any()


def test_answers_before_the_judged_advice_are_equal(any_reader: BaseVLM) -> None:
    """So the comparison is between two continuations of one text."""
    pair = judged("Wait for rain.", "Use a flash.")
    (example,) = encode_preference_pairs(any_reader, [pair], TrainRecipe(), ignore_events, "")
    first = int(np.flatnonzero(example.counted[: len(example.chosen)])[0])
    assert example.chosen[:first] == example.rejected[:first]
    assert np.flatnonzero(example.counted[len(example.chosen) :])[0] == first
