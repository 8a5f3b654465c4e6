"""Train an adapter to write the dimensions of a critique side by side: several branches in one training pass.

One sequence per photograph holds the prompt once and then every branch. A mask hides the branches from one another, and
each has the positions that decoding gives it (`bench.side_by_side`), so a pass costs little more than the canonical
answer's; eight rows would read the prompt eight times.

Shapes: `A` tokens of the answer, `T` tokens of prompt and answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from bench.side_by_side import BRANCH_STRIDE, AnswerLayout, dimension_name_spans, scores_line
from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.events import ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_answer, encode_prompt, tokenize_plain_text
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import answer_spans
from mondrian_core.training.gradient_step import weighted_loss
from mondrian_core.training.objective import SUPERVISED_STAGE, TrainingObjective
from mondrian_core.training.optimizer import with_default_learning_rate
from mondrian_core.training.training_examples import Batch, language_model_inputs, padded_length, token_weights
from mondrian_core.training.training_loop import run_training_phase
from mondrian_core.training.training_phase import TrainingPhase, TrainingResult


@dataclass(frozen=True)
class AnswerBranches:
    """Where the branches of an answer of A tokens begin; what is before the first is their common trunk.

    Every token is predicted. The last one of each branch is not read, since nothing follows it.

    Attributes:
        starts: index in the answer of each branch's first token, ascending; a plain answer is one branch at 0.
        count: A.
        stride: rotary positions from the start of a branch to that of the next one.
    """

    starts: tuple[int, ...]
    count: int
    stride: int

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of each branch in the answer."""
        return list(pairwise((*self.starts, self.count)))

    @property
    def read(self) -> np.ndarray:
        """Indices in the answer of the tokens that the model reads, in order."""
        last = {end - 1 for _, end in self.spans}
        return np.array([index for index in range(self.count) if index not in last], dtype=np.int32)

    def predicted_at(self, prompt: int) -> np.ndarray:
        """(A,) the token of prompt and read answer at which each answer token is predicted.

        Args:
            prompt: tokens of the prompt.
        """
        trunk = self.starts[0]
        places: list[Sequence[int] | np.ndarray] = [prompt - 1 + np.arange(trunk)]
        for number, (start, end) in enumerate(self.spans):
            first = prompt + start - number  # each branch before this one has a token that isn't read
            places += [[prompt + trunk - 1], first + np.arange(end - start - 1)]
        return np.concatenate(places).astype(np.int32)

    def positions(self, padded: int) -> np.ndarray:
        """Rotary positions of the read tokens relative to the first one, continued over the padding.

        Args:
            padded: read tokens with padding.
        """
        trunk = self.starts[0]
        parts = [np.arange(trunk)]
        parts += [
            trunk + number * self.stride + np.arange(end - start - 1) for number, (start, end) in enumerate(self.spans)
        ]
        known = np.concatenate(parts)
        following = known[-1] + 1 if len(known) else 0
        return np.concatenate([known, following + np.arange(padded - len(known))])

    def mask(self, prompt: int, length: int) -> np.ndarray:
        """(T, T), True where a token sees another: causal, and no branch sees another branch.

        Args:
            prompt: tokens of the prompt.
            length: T with padding.
        """
        owner = np.zeros(length, dtype=np.int32)
        for number, (start, end) in enumerate(self.spans):
            first = prompt + start - number
            owner[first : first + end - start - 1] = number + 1
        shared = owner[None] == 0
        return np.tri(length, dtype=bool) & (shared | (owner[None] == owner[:, None]))


@dataclass(frozen=True, eq=False, kw_only=True)
class BranchedExample:
    """An encoded row.

    Attributes:
        photo_id: the source photograph.
        prompt: everything before the answer.
        answer: the A tokens to predict.
        weights: (A,) float32 weights of the tokens in the loss.
        branch_starts: where its branches begin.
        comments: (A,) True at the tokens of comments, the quotes that end them included.
        scores: (A,) True at the tokens of the scores that the model chooses.
    """

    photo_id: str
    prompt: EncodedPrompt
    answer: tuple[int, ...]
    weights: np.ndarray
    branch_starts: tuple[int, ...]
    comments: np.ndarray
    scores: np.ndarray

    @property
    def branches(self) -> AnswerBranches:
        """The layout of the answer."""
        return AnswerBranches(self.branch_starts, len(self.answer), BRANCH_STRIDE)

    @property
    def length(self) -> int:
        """Tokens that the language model reads."""
        return len(self.prompt.ids) + len(self.answer) - len(self.branch_starts)

    @property
    def weight(self) -> float:
        """Sum of the token weights."""
        return float(self.weights.sum())


def encode_branched_row(base: BaseVLM, row: DatasetRow, layout: AnswerLayout, score_weight: float) -> BranchedExample:
    """Encode a row in a layout; the canonical one is a single branch.

    Nothing in a branch says which dimension it should name, so the name has no loss there. It is learned at the end of
    the branch before, where a reader that decodes the whole answer in one go needs it. With scores first, the scores in
    the branches only repeat the line.

    Args:
        base: the base.
        row: the row, with a canonical answer.
        layout: how the answer is written.
        score_weight: weight of a score's tokens in the loss; other tokens have 1.
    """
    encoded, spans = encode_answer(base, row.messages, row.answer), answer_spans(row.answer)
    weights = token_weights(row, encoded, score_weight)
    comments, scores = np.zeros(len(weights), dtype=bool), np.zeros(len(weights), dtype=bool)
    for span in comment_spans(row.answer):
        comments[encoded.tokens_at(span)] = True
    for span in spans.scores.values():
        scores[encoded.tokens_at(span)] = True
    columns = np.stack([np.array(encoded.ids), weights, comments, scores], axis=1)
    starts = [0]
    if layout is not AnswerLayout.CANONICAL:
        assert spans.grade is not None
        columns[encoded.tokens_at(spans.grade), 1] = 0.0  # no dimension sees all scores
        names = [encoded.tokens_at(span) for span in dimension_name_spans(row.answer)]
        columns, starts = _cut_into_branches(columns, names)
    if layout is AnswerLayout.SCORES_FIRST:
        columns[:, 1] = np.minimum(columns[:, 1], row.weight)
        columns[:, 3] = 0.0
        line = _line_columns(base, row, score_weight)
        columns, starts = np.concatenate([line, columns]), [start + len(line) for start in starts]
    return BranchedExample(
        photo_id=row.photo_id,
        prompt=encode_prompt(base, row.messages, row.image),
        answer=tuple(columns[:, 0].astype(int).tolist()),
        weights=columns[:, 1].astype(np.float32),
        branch_starts=tuple(starts),
        comments=columns[:, 2] > 0,
        scores=columns[:, 3] > 0,
    )


def comment_spans(answer: str) -> list[tuple[int, int]]:
    """(start, end) character offsets of each comment in a canonical answer, with the quote that ends it."""
    found = []
    for _, start in dimension_name_spans(answer):
        first = answer.index('"comment": "', start) + len('"comment": "')
        end = first
        while answer[end] != '"':
            end += 2 if answer[end] == "\\" else 1
        found.append((first, end + 1))
    return found


def _cut_into_branches(columns: np.ndarray, names: Sequence[slice]) -> tuple[np.ndarray, list[int]]:
    """Columns (token, weight, ...) of an answer's tokens with a branch for each dimension, and where they begin."""
    parts, starts = [columns[: names[0].start]], []
    for number, name in enumerate(names):
        end = names[number + 1].stop if number + 1 < len(names) else len(columns)
        part = columns[name.start : end].copy()
        if number:
            part[: name.stop - name.start, 1] = 0.0
        starts.append(sum(map(len, parts)))
        parts.append(part)
    return np.concatenate(parts), starts


def _line_columns(base: BaseVLM, row: DatasetRow, score_weight: float) -> np.ndarray:
    """Columns of the line of scores and the line break after it."""
    text = scores_line(parse_critique_strict(row.answer).scores)
    line = encode_answer(base, row.messages, text)
    ids = [*line.ids[:-1], *tokenize_plain_text(base, "\n")]
    columns = np.zeros((len(ids), 4))
    columns[:, 0], columns[:, 1] = ids, row.weight
    for span in answer_spans(text).scores.values():
        columns[line.tokens_at(span), 1], columns[line.tokens_at(span), 3] = score_weight * row.weight, 1.0
    return columns


def make_branched_batch(base: BaseVLM, example: BranchedExample, image_tokens: int, scale: float) -> Batch:
    """Padded arrays of one row; see `training_examples.make_training_batch`."""
    count, branches = len(example.answer), example.branches
    start, length, answer = len(example.prompt.ids), padded_length(example.length), padded_length(count)
    read = [example.answer[index] for index in branches.read]
    plain = len(branches.starts) == 1
    return {
        **language_model_inputs(base, example.prompt, read, branches.positions(length - start), image_tokens),
        **({} if plain else {"mask": mx.array(branches.mask(start, length))}),
        "places": mx.array(np.pad(branches.predicted_at(start), (0, answer - count), constant_values=length - 1)),
        "targets": mx.array(np.pad(example.answer, (0, answer - count)).astype(np.int32)),
        "weights": mx.array(np.pad(example.weights * np.float32(scale), (0, answer - count))),
    }


@dataclass(frozen=True)
class LaidOutRows:
    """Rows to train on and rows that choose the epoch, and the layout of their answers."""

    train: Sequence[DatasetRow]
    selection: Sequence[DatasetRow]
    layout: AnswerLayout


def train_in_layout(base: BaseVLM, rows: LaidOutRows, recipe: TrainRecipe, out: Path) -> TrainingResult:
    """Train an adapter with the product's loop; only the batches differ."""

    def encoded(part: Sequence[DatasetRow]) -> list[Any]:
        return [encode_branched_row(base, row, rows.layout, recipe.score_weight) for row in part]

    phase = TrainingPhase(
        objective=TrainingObjective(stage=SUPERVISED_STAGE, loss=weighted_loss, make_batch=make_branched_batch),
        recipe=with_default_learning_rate(recipe, base.hidden_size),
        examples=encoded(rows.train),
        held_out=encoded(rows.selection),
        out=out,
    )
    return run_training_phase(base, phase, False, ignore_events)
