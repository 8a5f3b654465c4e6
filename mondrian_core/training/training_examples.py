"""Rows turned into arrays, once: tokens, vision features and how much each token of the answer counts.

Shapes: `T` tokens of prompt and answer, `A` tokens of the answer (end token included), `N` image tokens, `D` width.
Lengths are padded up to multiples of a bucket, so that a few compiled steps serve every row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageNotice, StageProgressed
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedAnswer, EncodedPrompt, encode_answer, encode_prompt
from mondrian_core.models.score_distribution import digit_tokens, score_positions
from mondrian_core.models.vision_feature_cache import CachedPrompt, VisionFeatureCache
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, MAX_ANSWER_TOKENS, answer_spans

LENGTH_BUCKET = 32

Batch = dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingExample:
    """A row, ready for the step.

    Attributes:
        lineage: source photograph.
        prompt: everything before the answer, vision features included.
        answer: tokens of the answer and its end token, A of them.
        weights: (A,) float32, what each token counts in the loss; the row's own weight is in it.
        soft: the scores' targets, where the recipe wants more than their digits; `weights` is 0 at their places.
    """

    photo_id: str
    prompt: EncodedPrompt | CachedPrompt
    answer: tuple[int, ...]
    weights: np.ndarray
    soft: SoftScoreTargets | None = None

    @property
    def length(self) -> int:
        """Tokens that the language model reads: the answer's last one is only predicted."""
        return len(self.prompt.ids) + len(self.answer) - 1

    @property
    def weight(self) -> float:
        """Sum of the token weights."""
        return float(self.weights.sum() + (self.soft.weights.sum() if self.soft else 0.0))


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftScoreTargets:
    """Targets of the tokens at which scores begin: chances of the ten digits, and the advisor's own value.

    Attributes:
        places: (S,) int32 places in the answer.
        digits: (S, 10) int32 tokens of the digits as they stand there.
        chances: (S, 10) float32, rows sum to 1.
        weights: (S,) float32, what each place counts in the loss.
        points: (S, 10) float32, the score that begins with each digit.
        wanted: (S,) float32, the advisor's score, 0-10, fractions kept.
        value: how much the squared error of the expected score counts, as a multiple of `weights`.
    """

    places: np.ndarray
    digits: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray
    digit_scores: np.ndarray
    advisor_scores: np.ndarray
    value: float = 0.0

    def arrays(self, scale: float) -> Batch:
        """For the step; the weights times `scale`."""
        arrays = {
            "soft_places": mx.array(self.places),
            "soft_digits": mx.array(self.digits),
            "soft_chances": mx.array(self.probabilities),
            "soft_weights": mx.array(self.weights * np.float32(scale)),
        }
        if self.value:
            arrays["soft_points"], arrays["soft_wanted"] = mx.array(self.digit_scores), mx.array(self.advisor_scores)
            arrays["value_weights"] = mx.array(self.weights * np.float32(scale * self.value))
        return arrays


def gaussian_digit_distribution(score: float, spread: float) -> np.ndarray:
    """(10,) chances of the first digit of a score 0-10 that is normally distributed around `score`, in points.

    A ten begins with the digit 1, so its chance is there.
    """
    chances = np.exp(-0.5 * ((np.arange(11) - score) / spread) ** 2)
    chances /= chances.sum()
    chances[1] += chances[10]
    return np.asarray(chances[:10], dtype=np.float32)


def score_by_first_digit(score: float) -> np.ndarray:
    """(10,) the score that begins with each digit.

    A 1 is a one or a ten. Which, the model would only say one token later, so it is the one nearer to the advisor's.
    """
    points = np.arange(10, dtype=np.float32)
    points[1] = 10 if score > 5.5 else 1
    return points


def soft_score_targets(
    base: BaseVLM, row: DatasetRow, answer: EncodedAnswer, weights: np.ndarray, recipe: TrainRecipe
) -> SoftScoreTargets | None:
    """Targets from the advisor's own scores (fractions kept); None where none are wanted or can be had."""
    if recipe.score_spread <= 0 and recipe.score_value <= 0:
        return None
    found = {
        name: (index.token_index, digit_tokens(base, index.prefix))
        for name, index in score_positions(base, row.answer, answer).items()
    }
    known = {name: (place, digits.tokens) for name, (place, digits) in found.items() if digits is not None}
    if not known or set(known) != set(found):
        return None
    places = np.array([place for place, _ in known.values()], dtype=np.int32)
    digits = np.array([tokens for _, tokens in known.values()], dtype=np.int32)
    scores = [float(row.scores[name]) for name in known]
    written = digits == np.array(answer.ids, dtype=np.int32)[places][:, None]
    chances = (
        [gaussian_digit_distribution(score, recipe.score_spread) for score in scores]
        if recipe.score_spread > 0
        else written
    )
    return SoftScoreTargets(
        places=places,
        digits=digits,
        probabilities=np.array(chances, dtype=np.float32),
        weights=weights[places].copy(),
        digit_scores=np.stack([score_by_first_digit(score) for score in scores]),
        advisor_scores=np.array(scores, dtype=np.float32),
        value=recipe.score_value,
    )


def encode_training_rows(
    base: BaseVLM,
    rows: Sequence[DatasetRow],
    recipe: TrainRecipe,
    listen: EventListener,
    what: str,
    features: VisionFeatureCache | None = None,
) -> list[TrainingExample]:
    """Encode every row once; the vision tower is frozen, so its features hold for every epoch.

    With `features` they lie on disk, also for the next training, and are read when a step needs them.

    Raises:
        BadInput: when a row is longer than the recipe allows; nothing is ever cut.
    """
    examples = []
    for number, row in enumerate(rows):
        prompt = (features.encode if features else encode_prompt)(base, row.messages, row.image)
        answer = encode_answer(base, row.messages, row.answer)
        weights = token_weights(row, answer, recipe.score_weight)
        soft = soft_score_targets(base, row, answer, weights, recipe)
        if soft is not None:
            weights[soft.places] = 0.0
        example = TrainingExample(photo_id=row.photo_id, prompt=prompt, answer=answer.ids, weights=weights, soft=soft)
        _check_length(example, recipe.max_tokens)
        if example.weight <= 0:
            raise BadInput(f"The row of {row.photo_id} has no token that counts.", "Give it a weight above 0.")
        examples.append(example)
        listen(StageProgressed("encode", number + 1, len(rows), what))
    _notice_long_answers(examples, listen)
    return examples


def _notice_long_answers(examples: Sequence[TrainingExample], listen: EventListener) -> None:
    """A dataset that is built today has none."""
    long = sorted({each.photo_id for each in examples if len(each.answer) > MAX_ANSWER_TOKENS})
    if long:
        named = ", ".join(name[:12] for name in long[:3])
        message = f"{len(long)} photographs have answers over {MAX_ANSWER_TOKENS} tokens, where every answer is cut"
        listen(StageNotice("encode", f"{message} ({named}). Build the dataset again: it leaves them out."))


def _check_length(example: TrainingExample, limit: int) -> None:
    if example.length <= limit:
        return
    prompt = len(example.prompt.ids)
    raise BadInput(
        f"The row of {example.photo_id} has {example.length} tokens ({prompt - example.prompt.image_tokens} of "
        f"instructions, {example.prompt.image_tokens} of the photograph, {len(example.answer)} of the answer); "
        f"the recipe allows {limit}.",
        "Shorten the critique, use smaller photographs, or raise max_tokens in the recipe's [train].",
    )


def token_weights(row: DatasetRow, answer: EncodedAnswer, score_weight: float) -> np.ndarray:
    """(A,) float32 weights of the answer's tokens in the loss, the row's own weight included.

    A score counts `score_weight`, the score of a dimension outside `row.loss_dimensions` 0, any other token 1. The
    overall grade is the mean of all scores, so it counts 0 as soon as one score does.
    """
    weights = np.ones(len(answer.ids), dtype=np.float32)
    spans = answer_spans(row.answer)
    for name, span in spans.scores.items():
        weights[answer.tokens_at(span)] = score_weight if name in row.loss_dimensions else 0.0
    if spans.grade and set(row.loss_dimensions) < set(DIMENSIONS):
        weights[answer.tokens_at(spans.grade)] = 0.0
    return weights * np.float32(row.weight)


def make_training_batch(base: BaseVLM, example: TrainingExample, image_tokens: int, scale: float) -> Batch:
    """Padded arrays of one row.

    Args:
        image_tokens: N to pad the photograph's tokens to; the padding adds zero at the last place.
        scale: factor of the token weights, 1 / (sum of the weights of the optimizer step).
    """
    prompt, count = example.prompt.load(), len(example.answer)
    length, answer = padded_length(example.length), padded_length(count)
    places = np.minimum(len(prompt.ids) - 1 + np.arange(answer), length - 1)
    soft = example.soft.arrays(scale) if example.soft else {}
    return {
        **soft,
        **language_model_inputs(base, prompt, example.answer[:-1], np.arange(length - len(prompt.ids)), image_tokens),
        "places": mx.array(places.astype(np.int32)),
        "targets": mx.array(np.pad(example.answer, (0, answer - count)).astype(np.int32)),
        "weights": mx.array(np.pad(example.weights * np.float32(scale), (0, answer - count))),
    }


def language_model_inputs(
    base: BaseVLM, prompt: EncodedPrompt, tokens: Sequence[int], ahead: np.ndarray, image_tokens: int
) -> Batch:
    """What the language model reads: the prompt, then `tokens`, padded.

    Args:
        ahead: for every place behind the prompt, padding included, how far it lies behind the prompt's last one.
        image_tokens: as `batch_of`.
    """
    length = len(prompt.ids) + len(ahead)
    inputs = mx.array([tokens], dtype=mx.int32)
    embeddings = mx.concatenate([prompt.embeddings, base.language_model.model.embed_tokens(inputs)], axis=1)
    behind = mx.array((prompt.next_position + ahead).astype(np.int32))
    missing = image_tokens - prompt.image_tokens
    return {
        "embeddings": mx.pad(embeddings, [(0, 0), (0, length - embeddings.shape[1]), (0, 0)]),
        "positions": mx.concatenate([prompt.positions, mx.broadcast_to(behind, (3, 1, len(ahead)))], axis=2),
        "image_index": mx.pad(prompt.image_index, (0, missing), constant_values=length - 1),
        "deepstack": [mx.pad(layer, [(0, missing), (0, 0)]) for layer in prompt.deepstack],
    }


def padded_length(length: int) -> int:
    """Up to the next multiple of the bucket."""
    return -(-length // LENGTH_BUCKET) * LENGTH_BUCKET


def training_rows_digest(rows: Sequence[DatasetRow]) -> str:
    """SHA-256 over everything in the rows that training sees, hexadecimal."""
    digest = hashlib.sha256()
    for row in rows:
        facts = (
            row.photo_id,
            row.messages,
            row.answer,
            sorted(row.scores.items()),
            sorted(row.loss_dimensions),
            float(row.weight),
        )
        digest.update(repr(facts).encode())
        digest.update(repr((row.image.mode, row.image.size)).encode() + row.image.tobytes())
    return digest.hexdigest()
