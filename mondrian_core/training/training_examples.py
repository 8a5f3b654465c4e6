"""Encode rows for training, once: tokens, vision features, and the weight of each token of the answer.

Lengths are padded to multiples of LENGTH_BUCKET, so that a few compiled steps serve all rows.

Shapes: `T` tokens of prompt and answer, `A` tokens of the answer (including the end token), `N` image tokens, `D`
width, `S` scores of the answer.
"""

from __future__ import annotations

import hashlib
import re
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
from mondrian_core.rubric import DIMENSIONS, MAX_ANSWER_TOKENS, AnswerForm, answer_spans

LENGTH_BUCKET = 32

Batch = dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingExample:
    """An encoded row.

    Attributes:
        photo_id: the source photograph.
        prompt: everything before the answer, including vision features.
        answer: the A tokens of the answer.
        weights: (A,) float32 weights of the tokens in the loss, including the row's own weight.
        soft: targets of the scores, if the recipe asks for more than their digits; `weights` is 0 at their tokens.
    """

    photo_id: str
    prompt: EncodedPrompt | CachedPrompt
    answer: tuple[int, ...]
    weights: np.ndarray
    soft: SoftScoreTargets | None = None

    @property
    def length(self) -> int:
        """Tokens that the language model reads; the answer's last one is only predicted."""
        return len(self.prompt.ids) + len(self.answer) - 1

    @property
    def answer_tokens(self) -> int:
        """A."""
        return len(self.answer)

    @property
    def weight(self) -> float:
        """Sum of the token weights."""
        return float(self.weights.sum() + (self.soft.weights.sum() if self.soft else 0.0))


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftScoreTargets:
    """Targets at the tokens where scores begin: probabilities of the ten digits, and the advisor's own score.

    Attributes:
        places: (S,) int32 token indices in the answer.
        digits: (S, 10) int32 tokens of the ten digits.
        probabilities: (S, 10) float32; rows sum to 1.
        weights: (S,) float32 weights in the loss.
        digit_scores: (S, 10) float32, the score (0-10) that begins with each digit.
        advisor_scores: (S,) float32, 0-10, not rounded.
        value: weight of the squared error of the expected score, as a multiple of `weights`.
    """

    places: np.ndarray
    digits: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray
    digit_scores: np.ndarray
    advisor_scores: np.ndarray
    value: float = 0.0

    def arrays(self, scale: float) -> Batch:
        """The arrays of the step, with weights multiplied by `scale`."""
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
    """(10,) probabilities of the first digit of a score 0-10 that is normally distributed around `score`.

    `spread` is the standard deviation in points. The probability of a ten is added to that of the digit 1.
    """
    chances = np.exp(-0.5 * ((np.arange(11) - score) / spread) ** 2)
    chances /= chances.sum()
    chances[1] += chances[10]
    return np.asarray(chances[:10], dtype=np.float32)


def score_by_first_digit(score: float) -> np.ndarray:
    """(10,) the score that begins with each digit.

    A 1 begins a one or a ten, which the model only decides one token later. It counts as the one nearer to `score`.
    """
    points = np.arange(10, dtype=np.float32)
    points[1] = 10 if score > 5.5 else 1
    return points


def soft_score_targets(
    base: BaseVLM, row: DatasetRow, answer: EncodedAnswer, weights: np.ndarray, recipe: TrainRecipe
) -> SoftScoreTargets | None:
    """Targets from the advisor's own, unrounded scores; None if the recipe asks for none or a digit has no token.

    Args:
        base: the base.
        row: the row.
        answer: its encoded answer.
        weights: (A,) weights of the answer's tokens.
        recipe: says how wide the targets are and what the squared error weighs.
    """
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
    """Encode every row once; the vision tower is frozen, so its features are valid for all epochs.

    Args:
        base: the base.
        rows: the rows.
        recipe: settings of the training.
        listen: receives progress and notices.
        what: name of these rows in progress messages.
        features: cache on disk, from which a step reads the features; None keeps them in memory.

    Raises:
        BadInput: a row is longer than the recipe allows. Rows are never truncated.
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
            raise BadInput(f"The row of {row.photo_id} has no token with a weight.", "Give it a weight above 0.")
        examples.append(example)
        listen(StageProgressed("encode", number + 1, len(rows), what))
    _notice_long_answers(examples, listen)
    return examples


def _notice_long_answers(examples: Sequence[TrainingExample], listen: EventListener) -> None:
    """Warn of answers over the limit; only datasets of older releases have them."""
    long = sorted({each.photo_id for each in examples if len(each.answer) > MAX_ANSWER_TOKENS})
    if long:
        named = ", ".join(name[:12] for name in long[:3])
        message = f"{len(long)} photographs have answers over {MAX_ANSWER_TOKENS} tokens, where answers are truncated"
        listen(StageNotice("encode", f"{message} ({named}). Build the dataset again, which leaves them out."))


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
    overall grade is the mean of all scores, so it counts 0 as soon as one score does. In an answer that advises, the
    tokens that decide to say no more count 0 where the advisor's critique says nothing (`undecided_spans`).
    """
    weights = np.ones(len(answer.ids), dtype=np.float32)
    spans = answer_spans(row.answer)
    for name, span in spans.scores.items():
        weights[answer.tokens_at(span)] = score_weight if name in row.loss_dimensions else 0.0
    if spans.grade and set(row.loss_dimensions) < set(DIMENSIONS):
        weights[answer.tokens_at(spans.grade)] = 0.0
    weights[list(undecided_tokens(row.form, row.answer, answer))] = 0.0
    return weights * np.float32(row.weight)


_STRING = r'"(?:[^"\\]|\\.)*"'
_ENTRY = re.compile(
    rf'"(?P<dimension>{"|".join(DIMENSIONS)})": \{{"score": [0-9.]+, "comment": (?P<comment>{_STRING})'
    rf'(?:, "recommendation": (?P<recommendation>{_STRING}))?(?:, "regions": [^"}}]*)?\}}',
    re.DOTALL,
)
_LAST_KEYS = ("strengths", "priority_improvements", "overall_grade")  # in canonical order


def undecided_tokens(form: AnswerForm, text: str, answer: EncodedAnswer) -> tuple[int, ...]:
    """The tokens of `undecided_spans`, by their places in the encoded answer; none in the first form."""
    spans = undecided_spans(text) if form is AnswerForm.ADVICE else ()
    places = np.arange(len(answer.ids))
    return tuple(int(place) for span in spans for place in places[answer.tokens_at(span)])


def undecided_spans(answer: str) -> list[tuple[int, int]]:
    """Where an advising answer goes on without a part that the advisor's critique lacks, as character offsets.

    A missing recommendation is decided by the text that closes the comment, a missing list by the first character of
    the key that comes instead. Missing regions are an answer: the text that closes a recommendation always counts,
    since tokenizers join its last quote with what follows, and an advisor who draws no boxes must still teach where to
    stop.

    Args:
        answer: as `training_target` writes it in the form `advice`.
    """
    entries = list(_ENTRY.finditer(answer))
    spans = [(entry.end("comment") - 1, entry.end()) for entry in entries if not entry["recommendation"]]
    after, following = entries[-1].end() if entries else 0, -1
    for key in reversed(_LAST_KEYS):
        place = answer.find(f', "{key}": ', after)
        if place >= 0:
            following = place + len(', "')
        elif following >= 0:
            spans.append((following, following + 1))
    return spans


def advice_tokens(text: str, answer: EncodedAnswer, dimension: str) -> tuple[int, ...]:
    """The tokens of the advice on a dimension, by their places in the encoded answer.

    It begins with the text that closes the comment, which decides whether there is any, and ends with the dimension.

    Args:
        text: an answer as `training_target` writes it.
        answer: the same, encoded.
        dimension: whose advice.
    """
    entry = next(each for each in _ENTRY.finditer(text) if each["dimension"] == dimension)
    places = np.arange(len(answer.ids))[answer.tokens_at((entry.end("comment") - 1, entry.end()))]
    return tuple(map(int, places))


def make_training_batch(base: BaseVLM, example: TrainingExample, image_tokens: int, scale: float) -> Batch:
    """Padded arrays of one row.

    Args:
        base: the base.
        example: the encoded row.
        image_tokens: number of image tokens N to pad to; the padding adds zero at the last token.
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
    """Arrays of the prompt followed by `tokens`, padded; B is 1.

    Args:
        base: the base.
        prompt: the encoded prompt.
        tokens: token ids after the prompt.
        ahead: rotary position of every token after the prompt, including padding, relative to the first one.
        image_tokens: number of image tokens to pad to.
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
    """The next multiple of LENGTH_BUCKET."""
    return -(-length // LENGTH_BUCKET) * LENGTH_BUCKET


def training_rows_digest(rows: Sequence[DatasetRow]) -> str:
    """SHA-256 over everything in the rows that training uses, hexadecimal."""
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
