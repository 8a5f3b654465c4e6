"""Direct preference optimization (DPO): make the first of two answers to a photograph likelier than the second.

    L = -(1 - s) log sigma(m) - s log sigma(-m) + w N
    m = r(chosen) - r(rejected),   r(y) = beta (log p(y | x) - log p_ref(y | x))

Rafailov et al., Direct Preference Optimization (2023), equation 7; the smoothing s is Mitchell's (A note on DPO with
noisy preferences, 2023); N is the negative log-likelihood of the chosen answer per token, weighted as in supervised
training, which Pang et al. (Iterative Reasoning Preference Optimization, 2024) add because the first part alone accepts
that both answers become unlikely. log p(y | x) is the sum over the answer's tokens, including its end token, each
counting 1; it is not divided by the length.

Both answers are read in one pass after one prompt: a mask hides the chosen from the rejected one, and both have the
positions that they would have alone. In answers that advise, the tokens that decide to say no more where a critique
says nothing count 0 in log p and log p_ref too (`undecided_tokens`): a missing recommendation prefers nothing. Where a
pair is about the advice on one dimension, only this advice counts, in N too: its answers are the same up to there
(Lai et al., Step-DPO, 2024), and nobody judged their other words.

Shapes: `T` tokens, `A` tokens of both answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mondrian_core.dataset_types import PreferencePair
from mondrian_core.events import EventListener, StageNotice, StageProgressed
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedAnswer, EncodedPrompt, encode_answer, encode_prompt
from mondrian_core.models.vision_feature_cache import CachedPrompt, VisionFeatureCache
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.gradient_step import token_losses
from mondrian_core.training.objective import TrainingObjective
from mondrian_core.training.training_examples import (
    Batch,
    advice_tokens,
    language_model_inputs,
    padded_length,
    token_weights,
    undecided_tokens,
)

PREFERENCE_STAGE = "preference"
_TIE = 1e-4  # smallest difference of rewards, in nats times beta
DPO_METRICS = ("accuracy", "margin", "chosen_reward", "rejected_reward")


@dataclass(frozen=True, eq=False, kw_only=True)
class PreferenceExample:
    """An encoded pair.

    Attributes:
        photo_id: the source photograph.
        kind: where the pair comes from, as in `PreferencePair`.
        key: SHA-256 over everything except the model that the likelihoods of both answers depend on.
        prompt: everything before the answer.
        chosen: tokens of the preferred answer, including its end token.
        rejected: tokens of the other answer.
        weights: weights of the chosen answer's tokens in N; they sum to 1.
        counted: (A,) float32, 1 for the tokens of both answers that count in log p and log p_ref, else 0.
        references: log p_ref of the chosen and the rejected answer, nats.
        weight: 1, as every pair counts the same.
    """

    photo_id: str
    kind: str
    key: str
    prompt: EncodedPrompt | CachedPrompt
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    weights: np.ndarray
    counted: np.ndarray
    references: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0

    @property
    def length(self) -> int:
        """Tokens that the language model reads; the last one of each answer is only predicted."""
        return len(self.prompt.ids) + len(self.chosen) + len(self.rejected) - 2

    @property
    def answer_tokens(self) -> int:
        """A, of both answers."""
        return len(self.chosen) + len(self.rejected)


def encode_preference_pairs(
    base: BaseVLM,
    pairs: Sequence[PreferencePair],
    recipe: TrainRecipe,
    listen: EventListener,
    what: str,
    features: VisionFeatureCache | None = None,
) -> list[PreferenceExample]:
    """Encode every pair, each photograph once; pairs longer than `recipe.max_tokens` are left out, with a notice.

    Args:
        base: the base.
        pairs: the pairs.
        recipe: gives the limit and the weight of scores.
        listen: receives progress and notices.
        what: name of these pairs in progress messages.
        features: cache of vision features; None keeps them in memory.
    """
    prompts: dict[str, EncodedPrompt | CachedPrompt] = {}
    examples = []
    for number, pair in enumerate(pairs):
        row = pair.row
        if row.photo_id not in prompts:
            prompts[row.photo_id] = (features.encode if features else encode_prompt)(base, row.messages, row.image)
        prompt, answer = prompts[row.photo_id], encode_answer(base, row.messages, row.answer)
        other = encode_answer(base, row.messages, pair.rejected)
        chosen, rejected = answer.ids, other.ids
        silent = _silent_tokens(pair, row.answer, answer), _silent_tokens(pair, pair.rejected, other)
        judged = _counted(chosen, silent[0])
        weights = judged if pair.dimension else token_weights(row, answer, recipe.score_weight)
        if len(prompt.ids) + max(len(chosen), len(rejected)) - 1 <= recipe.max_tokens:
            # the likelihoods that were computed before, for pairs without such tokens, stay valid
            key = _key(pair, prompt.ids, chosen, rejected, *(silent if any(silent) else ()))
            examples.append(
                PreferenceExample(
                    photo_id=row.photo_id,
                    kind=pair.kind,
                    key=key,
                    prompt=prompt,
                    chosen=chosen,
                    rejected=rejected,
                    weights=weights / weights.sum(),
                    counted=np.concatenate([_counted(chosen, silent[0]), _counted(rejected, silent[1])]),
                )
            )
        listen(StageProgressed("encode", number + 1, len(pairs), what))
    if len(examples) < len(pairs):
        message = (
            f"{len(pairs) - len(examples)} pairs are left out: an answer is over max_tokens ({recipe.max_tokens})."
        )
        listen(StageNotice(PREFERENCE_STAGE, message))
    return examples


def _silent_tokens(pair: PreferencePair, text: str, answer: EncodedAnswer) -> tuple[int, ...]:
    """The tokens of one of a pair's answers that count nothing."""
    if not pair.dimension:
        return undecided_tokens(pair.row.form, text, answer)
    judged = advice_tokens(text, answer, pair.dimension)
    return tuple(place for place in range(len(answer.ids)) if place not in judged)


def _counted(tokens: Sequence[int], silent: Sequence[int]) -> np.ndarray:
    counted = np.ones(len(tokens), dtype=np.float32)
    counted[list(silent)] = 0.0
    return counted


def _key(pair: PreferencePair, *tokens: Sequence[int]) -> str:
    image = pair.row.image
    digest = hashlib.sha256(repr((image.mode, image.size, [tuple(part) for part in tokens])).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def make_preference_batch(base: BaseVLM, example: PreferenceExample, image_tokens: int, scale: float) -> Batch:
    """Padded arrays of one pair: prompt, chosen answer, rejected answer.

    Args:
        base: the base.
        example: the pair.
        image_tokens: number of image tokens to pad to.
        scale: factor of the pair's loss, 1 / (number of pairs in the optimizer step).
    """
    prompt, first, second = example.prompt.load(), len(example.chosen), len(example.rejected)
    start, length = len(prompt.ids), padded_length(example.length)
    ahead = np.concatenate([np.arange(first - 1), np.arange(length - start - first + 1)])
    places = np.concatenate([start - 1 + np.arange(first), [start - 1], start + first - 1 + np.arange(second - 1)])
    spare = padded_length(first + second) - first - second
    counted = np.pad(example.counted, (0, spare))
    side = np.concatenate([np.zeros(first), np.ones(second), np.full(spare, 2)])
    return {
        **language_model_inputs(base, prompt, (*example.chosen[:-1], *example.rejected[:-1]), ahead, image_tokens),
        "mask": mx.array(_mask(length, start, start + first - 1)),
        "places": mx.array(np.pad(places, (0, spare), constant_values=length - 1).astype(np.int32)),
        "targets": mx.array(np.pad((*example.chosen, *example.rejected), (0, spare)).astype(np.int32)),
        "chosen": mx.array((side == 0).astype(np.float32) * counted),
        "rejected": mx.array((side == 1).astype(np.float32) * counted),
        "weights": mx.array(np.pad(example.weights, (0, second + spare)).astype(np.float32)),
        "references": mx.array(np.array(example.references, dtype=np.float32)),
        "scale": mx.array(scale, dtype=mx.float32),
    }


def _mask(length: int, chosen: int, rejected: int) -> np.ndarray:
    """(T, T), True where a row sees a column: causal, and rows from `rejected` on don't see `chosen` to `rejected`."""
    mask = np.tri(length, dtype=bool)
    mask[rejected:, chosen:rejected] = False
    return mask


def answer_log_likelihoods(
    base: BaseVLM, batch: Batch, *, checkpointing: bool = False, seed: int | None = None
) -> mx.array:
    """(2,) log p (nats, float32) of the chosen and of the rejected answer."""
    return _sums(batch, token_losses(base, batch, checkpointing=checkpointing, seed=seed)[1])


def _sums(batch: Batch, losses: mx.array) -> mx.array:
    return -mx.stack([mx.sum(losses * batch[side]) for side in ("chosen", "rejected")])


def dpo_loss(margin: mx.array, smoothing: float = 0.0) -> mx.array:
    """L without N, of a difference of rewards (any shape); log 2 at 0, where its slope is smoothing - 1/2."""
    return -(1 - smoothing) * nn.log_sigmoid(margin) - smoothing * nn.log_sigmoid(-margin)


def dpo_objective(recipe: TrainRecipe) -> TrainingObjective:
    """The training objective with the recipe's beta, smoothing and weight of N."""

    def loss(base: BaseVLM, batch: Batch, *, checkpointing: bool = False, seed: int | None = None) -> mx.array:
        _, losses = token_losses(base, batch, checkpointing=checkpointing, seed=seed)
        rewards = recipe.preference_beta * (_sums(batch, losses) - batch["references"])
        margin = rewards[0] - rewards[1]
        total = dpo_loss(margin, recipe.preference_smoothing)
        if recipe.preference_nll:
            total = total + recipe.preference_nll * mx.sum(losses * batch["weights"])
        # before anything has changed both rewards are equal up to rounding, which counts as a tie
        right = (mx.where(mx.abs(margin) < _TIE, 0.0, mx.sign(margin)) + 1) / 2
        return mx.stack([total, right, margin, rewards[0], rewards[1]]) * batch["scale"]

    return TrainingObjective(
        stage=PREFERENCE_STAGE, loss=loss, make_batch=make_preference_batch, metrics=DPO_METRICS, may_keep_start=True
    )
