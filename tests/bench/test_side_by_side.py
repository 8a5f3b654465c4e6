"""Dimensions written side by side: training sees what decoding sees, and each is what it would be alone."""

from __future__ import annotations

import itertools
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from bench import side_by_side
from bench.answer_layouts import AnswerLayoutResult, advisor_rows, answer_layout_rows
from bench.branched_training import (
    AnswerBranches,
    BranchedExample,
    comment_spans,
    encode_branched_row,
    make_branched_batch,
)
from bench.side_by_side import AnswerLayout, answer_parts, generate_side_by_side, open_branch
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.inference.batch_decoding import BatchDecoder, DecodingRow
from mondrian_core.models.inference.generation import generate
from mondrian_core.models.score_distribution import decode_token_texts
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, grade_from_scores, make_critique
from mondrian_core.training.gradient_step import token_losses
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch

BRANCHED = [AnswerLayout.SIDE_BY_SIDE, AnswerLayout.SCORES_FIRST]


@pytest.fixture(scope="module")
def base() -> BaseVLM:
    """mini."""
    return load_base("mini")


@pytest.fixture(scope="module")
def row() -> DatasetRow:
    """A rendered photograph with a critique."""
    return advisor_rows(1, 1)[0]


@pytest.fixture(scope="module")
def example(base: BaseVLM, row: DatasetRow) -> dict[AnswerLayout, BranchedExample]:
    """The row in each layout."""
    return {layout: encode_branched_row(base, row, layout, 4.0) for layout in AnswerLayout}


def _decoded_losses(decoder: BatchDecoder, row: DecodingRow, read: list[int], predicted: list[int]) -> list[float]:
    """Negative log-likelihoods of the predicted tokens: the first before reading, then one after each that is read."""
    found = []
    for target, token in itertools.zip_longest(predicted, read):
        logits = row.logits.astype(mx.float32)
        found.append(float(mx.logsumexp(logits) - logits[target]))
        if token is not None:
            decoder.feed(row, [token])
            while row not in [done for done, _ in decoder.run_pass()]:
                pass
    return found


@pytest.mark.mini
@pytest.mark.parametrize("layout", BRANCHED)
def test_training_pass_equals_decoding(
    base: BaseVLM, example: dict[AnswerLayout, BranchedExample], layout: AnswerLayout
) -> None:
    encoded = example[layout]
    batch = make_branched_batch(base, encoded, encoded.prompt.image_tokens + 2, 1.0)
    losses = np.array(token_losses(base, batch)[1])[: len(encoded.answer)]
    decoder = BatchDecoder(base, 1)
    trunk = decoder.open(encoded.prompt)
    before = list(encoded.answer[: encoded.branch_starts[0]])
    expected = _decoded_losses(decoder, trunk, before, before)
    for number, (start, end) in enumerate(encoded.branches.spans):
        tokens = list(encoded.answer[start:end])
        expected += _decoded_losses(decoder, open_branch(decoder, trunk, number), tokens[:-1], tokens)
    np.testing.assert_allclose(losses, expected, atol=2e-4)


@pytest.mark.mini
def test_canonical_layout_is_the_products_training(
    base: BaseVLM, row: DatasetRow, example: dict[AnswerLayout, BranchedExample]
) -> None:
    from mondrian_core.events import ignore_events

    plain = encode_training_rows(base, [row], TrainRecipe(), ignore_events, "")[0]
    images = plain.prompt.image_tokens
    ours = make_branched_batch(base, example[AnswerLayout.CANONICAL], images, 0.5)
    theirs = make_training_batch(base, plain, images, 0.5)
    for name in ("embeddings", "positions", "targets", "weights"):
        assert np.array_equal(np.array(ours[name]), np.array(theirs[name])), name
    count = len(plain.answer)
    assert np.array_equal(np.array(ours["places"])[:count], np.array(theirs["places"])[:count])


@pytest.mark.mini
@pytest.mark.parametrize("layout", BRANCHED)
def test_each_branch_is_one_dimension_of_the_canonical_answer(
    base: BaseVLM, row: DatasetRow, example: dict[AnswerLayout, BranchedExample], layout: AnswerLayout
) -> None:
    encoded = example[layout]
    trunk = "".join(decode_token_texts(base, encoded.answer[: encoded.branch_starts[0]]))
    line, _, joined = trunk.rpartition("\n")
    assert bool(line) == (layout is AnswerLayout.SCORES_FIRST)
    for name, following, (start, end) in zip(DIMENSIONS, (*DIMENSIONS[1:], ""), encoded.branches.spans, strict=True):
        piece = "".join(decode_token_texts(base, encoded.answer[start:end]))
        assert piece.startswith(f'{name}": {{"score": ') and piece.endswith(following)
        joined += piece[: len(piece) - len(following)]
    assert joined.startswith(row.answer)
    counted = {layout: int((each.weights == 4.0).sum()) for layout, each in example.items()}
    assert counted[layout] == int(encoded.scores.sum()) and counted[layout] >= len(DIMENSIONS)
    said = ["".join(decode_token_texts(base, [token])) for token in np.array(encoded.answer)[encoded.comments]]
    spoken = "".join(row.answer[start : end - 1] for start, end in comment_spans(row.answer))
    assert len("".join(said)) >= len(spoken)


def test_branches_do_not_see_one_another() -> None:
    branches = AnswerBranches((2, 5, 7), 11, 4)  # a trunk of 2, branches of 3, 2 and 4
    assert branches.read.tolist() == [0, 1, 2, 3, 5, 7, 8, 9]
    assert branches.predicted_at(1).tolist() == [0, 1, 2, 3, 4, 2, 5, 2, 6, 7, 8]
    assert branches.positions(9).tolist() == [0, 1, 2, 3, 6, 10, 11, 12, 13]
    mask = branches.mask(1, 9)
    assert mask[5].tolist() == [True, True, True, False, False, True, False, False, False]
    assert mask[8].tolist() == [True, True, True, False, False, False, True, True, True]
    plain = AnswerBranches((0,), 5, 4)
    assert plain.predicted_at(10).tolist() == [9, 10, 11, 12, 13]
    assert np.array_equal(plain.mask(10, 14), np.tri(14, dtype=bool))


def test_comment_ends_at_its_own_quote() -> None:
    comments = dict.fromkeys(DIMENSIONS, 'The "hill", \\ and "lighting": {"score": 3.')
    answer = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 5), comments))
    assert len(comment_spans(answer)) == len(DIMENSIONS)
    for start, end in comment_spans(answer):
        assert answer[start:end].endswith('3."') and answer[end] == "}"


@pytest.mark.mini
@pytest.mark.parametrize("layout", BRANCHED)
def test_constrained_answer_is_canonical(
    base: BaseVLM, row: DatasetRow, example: dict[AnswerLayout, BranchedExample], layout: AnswerLayout
) -> None:
    made = generate_side_by_side(base, row.messages, example[layout].prompt, layout, max_tokens=800)
    critique = parse_critique_strict(made.text)
    assert critique.overall_grade == grade_from_scores(critique.scores)
    assert made.finish_reason == "stop"
    assert set(made.expected_scores) == set(DIMENSIONS)
    assert made.passes < len(made.tokens) / 2


@pytest.mark.mini
def test_each_dimension_is_what_it_is_alone(
    base: BaseVLM,
    row: DatasetRow,
    example: dict[AnswerLayout, BranchedExample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = AnswerLayout.SIDE_BY_SIDE
    prompt = example[layout].prompt
    together = generate_side_by_side(base, row.messages, prompt, layout, max_tokens=800)
    write = side_by_side._write

    def one_after_the_other(decoder: Any, branches: Any) -> float:
        return max([write(decoder, {row: branch}) for row, branch in reversed(list(branches.items()))])

    monkeypatch.setattr(side_by_side, "_write", one_after_the_other)
    alone = generate_side_by_side(base, row.messages, prompt, layout, max_tokens=800)
    assert alone.text == together.text and alone.passes > together.passes
    assert alone.expected_scores == pytest.approx(together.expected_scores, abs=1e-3)
    plain = generate(base, row.messages, None, prepared=prompt, max_tokens=800, constrained=True)
    first, same = (parse_critique_strict(made.text).assessments["composition"] for made in (together, plain))
    assert first == same, "nothing is before the first dimension in either layout"
    assert together.expected_scores["composition"] == pytest.approx(plain.expected_scores["composition"], abs=1e-3)


@pytest.mark.mini
def test_dimensions_that_are_cut_off_make_no_critique(
    base: BaseVLM, row: DatasetRow, example: dict[AnswerLayout, BranchedExample]
) -> None:
    layout, limit = AnswerLayout.SIDE_BY_SIDE, len(DIMENSIONS) * 4
    prompt = example[layout].prompt
    made = generate_side_by_side(base, row.messages, prompt, layout, max_tokens=limit, constrained=False)
    assert made.finish_reason == "length"
    with pytest.raises(CritiqueParseError):
        parse_critique_strict(made.text)


@pytest.mark.mini
def test_parts_are_those_of_any_answer(
    base: BaseVLM, row: DatasetRow, example: dict[AnswerLayout, BranchedExample]
) -> None:
    parts = answer_parts(base, row.messages)
    encoded = example[AnswerLayout.SIDE_BY_SIDE]
    assert encoded.answer[: encoded.branch_starts[0]] == parts.trunk
    for start, name in zip(encoded.branch_starts, parts.names, strict=True):
        assert encoded.answer[start : start + len(name)] == name


def test_gain_is_paired_by_photograph() -> None:
    def result(*errors: float) -> AnswerLayoutResult:
        return AnswerLayoutResult(score_errors=[*errors], comment_nats=[1, 1], score_nats=[1, 1], best_epoch=1)

    rows = answer_layout_rows({AnswerLayout.CANONICAL: [result(4, 2)], AnswerLayout.SIDE_BY_SIDE: [result(1, 1)]})
    found = next(each for each in rows if each["layout"] == "side_by_side" and each["figure"] == "score_errors")
    assert (found["mean"], found["gain"], found["photographs"], found["gain_by_seed"]) == (1.0, 2.0, 2, [2.0])


@pytest.mark.mini
def test_every_scripted_side_writes_the_text() -> None:
    from bench.scripted_critique import SIDES, ScriptedStage, scripted_texts

    round_ = ScriptedStage("mini").run_round(scripted_texts(1)[0], 0)
    passes = {name: round_[name].passes for name in SIDES}
    assert passes["side by side"] < passes["scores first"] < passes["one by one"] < passes["runs apart"]
    assert passes["runs apart"] < passes["mlx-vlm, free"]
