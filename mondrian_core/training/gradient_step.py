"""Weighted loss of rows and its gradient, compiled once per padded length or spread over threads.

The LoRA arrays are arguments and gradients are results; the model only defines the computation.

Shapes: `T` tokens, `A` tokens of the answer, `D` width, `V` vocabulary, `F` metrics (the loss first), `S` scores.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from mondrian_core.models import cpu_blas
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs, lm_head_logits
from mondrian_core.models.gradient_pass import states_at
from mondrian_core.training.objective import LossFunction
from mondrian_core.training.training_examples import Batch

Tree = Any
# More logits are computed in pieces: 64 tokens of Qwen's vocabulary, 39 MB in float32. Each piece reads the output
# layer's weights twice, so pieces of 32 tokens took a fifth more time (docs/experiments/training-profile.md).
_LOGITS_AT_ONCE = 64 * 151_936
_SMALLEST_PIECE = 32  # tokens
_MOST_THREADS = 8
_THREADS_END_SECONDS = 5.0


def weighted_loss(base: BaseVLM, batch: Batch, *, checkpointing: bool = False, seed: int | None = None) -> mx.array:
    """Sum of weight x cross-entropy over the answer's tokens (nats), a float32 scalar; other tokens get no logits.

    At a score the target may be a distribution over the digits, and the squared error of the expected score, by which
    an adapter is judged, may be added.

    Args:
        base: the base with attached layers.
        batch: arrays of one row, from `make_training_batch`.
        checkpointing: recompute the layers for the gradient.
        seed: seed of the dropout with checkpointing.
    """
    states, losses = token_losses(base, batch, checkpointing=checkpointing, seed=seed)
    total = mx.sum(losses * batch["weights"])
    if "soft_places" in batch:
        raw = lm_head_logits(base, states[batch["soft_places"]]).astype(mx.float32)
        digits = mx.take_along_axis(raw, batch["soft_digits"], axis=-1)
        target = mx.sum(digits * batch["soft_chances"], axis=-1)
        total = total + mx.sum((mx.logsumexp(raw, axis=-1) - target) * batch["soft_weights"])
        if "soft_points" in batch:
            expected = mx.sum(mx.softmax(digits, axis=-1) * batch["soft_points"], axis=-1)
            total = total + mx.sum((expected - batch["soft_wanted"]) ** 2 * batch["value_weights"])
    return total


def token_losses(
    base: BaseVLM, batch: Batch, *, checkpointing: bool = False, seed: int | None = None
) -> tuple[mx.array, mx.array]:
    """(states (A, D) that predict the answer's tokens, the tokens' negative log-likelihoods (A,) in float32).

    Attention is causal unless the batch has a mask (T, T). Arguments as in `weighted_loss`.
    """
    states = states_at(
        base,
        DecoderInputs(batch["embeddings"], batch["positions"], batch["image_index"], batch["deepstack"]),
        batch["places"],
        mask=batch.get("mask", "causal"),
        checkpointing=checkpointing,
        seed=seed,
    )
    return states, output_losses(base, states, batch["targets"])


def output_losses(base: BaseVLM, states: mx.array, targets: mx.array) -> mx.array:
    """Negative log-likelihoods (A,) in float32 of targets (A,) under the output layer's logits of states (A, D).

    The output layer is frozen, so a token's loss and its slope over the token's state are computed together, piece by
    piece, and only the slope (A, D) is kept: every logit is computed once, and those of one piece exist at a time (as
    in Hsu et al., "Liger Kernel", 2024). Slopes are computed in training only.
    """
    size = piece_of_logits(base.language_model.args.vocab_size)
    pieces = [(states[at : at + size], targets[at : at + size]) for at in range(0, states.shape[0], size)]
    if len(pieces) == 1:
        return cross_entropy(lm_head_logits(base, states), targets)
    if not base.model.training:
        found: list[mx.array] = []
        for piece, wanted in pieces:
            found.append(cross_entropy(lm_head_logits(base, _after(piece, found[-1:])), wanted))
        return mx.concatenate(found)

    @mx.custom_function
    def together(_: mx.array) -> tuple[mx.array, mx.array]:
        both: list[tuple[mx.array, mx.array]] = []
        for piece, wanted in pieces:
            both.append(_losses_and_slopes(base, _after(piece, both[-1] if both else ()), wanted))
        return mx.concatenate([losses for losses, _ in both]), mx.concatenate([slopes for _, slopes in both])

    @together.vjp
    def _(_: mx.array, cotangents: tuple[mx.array, mx.array], outputs: tuple[mx.array, mx.array]) -> mx.array:
        return (cotangents[0][:, None] * outputs[1]).astype(outputs[1].dtype)

    result: Any = together(states)
    losses: mx.array = result[0]
    return losses


def piece_of_logits(vocabulary: int) -> int:
    """How many tokens of an answer have logits at the same time."""
    return max(_SMALLEST_PIECE, _LOGITS_AT_ONCE // vocabulary)


def _after(piece: mx.array, results: Sequence[mx.array]) -> mx.array:
    """The piece, when the results of the one before are there, whose logits are gone then."""
    later: mx.array = mx.depends([piece], list(results))[0] if results else piece
    return later


def _losses_and_slopes(base: BaseVLM, piece: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """(losses (A,) of the tokens, their slopes (A, D) over the states): softmax minus one at the target, times W."""
    logits = lm_head_logits(base, piece)
    raw = logits.astype(mx.float32)
    normalizer = mx.logsumexp(raw, axis=-1, keepdims=True)
    losses = (normalizer - mx.take_along_axis(raw, targets[:, None], axis=-1))[:, 0]
    excess = mx.exp(raw - normalizer).at[mx.arange(piece.shape[0]), targets].subtract(1.0).astype(logits.dtype)
    # only the product with the transposed weights is evaluated here
    slopes = mx.vjp(partial(lm_head_logits, base), [piece], [excess])[1][0]
    return losses, slopes


def cross_entropy(raw: mx.array, targets: mx.array) -> mx.array:
    """Negative log-likelihood (A,) in float32 of targets (A,) under logits (A, V)."""
    raw = raw.astype(mx.float32)
    return mx.logsumexp(raw, axis=-1) - mx.take_along_axis(raw, targets[:, None], axis=-1)[:, 0]


def most_rows_at_once() -> int:
    """Rows that a step computes at the same time: a thread per core on the CPU, otherwise 1."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    return min(_MOST_THREADS, os.cpu_count() or 1) if on_cpu else 1


class GradientStep:
    """Loss and gradient of the rows of one optimizer step, added up in their order.

    On a GPU each row is a compiled call; where mlx can't compile the architecture it runs eagerly. On the CPU mlx works
    on one core but for matrix products, so the rows are spread over threads instead; building a graph is guarded by a
    lock (the model is shared), computing it is not. The sum doesn't depend on the number of threads.
    """

    def __init__(
        self,
        base: BaseVLM,
        *,
        compiled: bool | None = None,
        threads: int | None = None,
        checkpointing: bool = False,
        loss: LossFunction | None = None,
    ) -> None:
        """None: compiled on a GPU, a thread per core on the CPU. `checkpointing`: see `gradient_pass.states_at`.

        `loss` (None: `weighted_loss`) may give further figures behind the loss, see `objective.Objective`.
        """
        self._loss = weighted_loss if loss is None else loss
        on_cpu = mx.default_device() == mx.Device(mx.cpu)
        self._base, self.checkpointing = base, checkpointing
        self.compiled = not on_cpu if compiled is None else compiled
        most = most_rows_at_once()
        self.threads = 1 if self.compiled or not on_cpu else min(_MOST_THREADS, most if threads is None else threads)
        self._native: list[int] = []
        self._pool = ThreadPoolExecutor(self.threads, initializer=self._enter) if self.threads > 1 else None
        self._lock = threading.Lock()
        self._seed: int | None = None  # seed of the row whose graph is being built
        self._made: dict[str, Any] = {}

    def _enter(self) -> None:
        self._native.append(threading.get_native_id())

    def close(self) -> None:
        """End the threads and wait until the system has ended them too.

        mlx holds Python objects per thread and releases them after Python has joined the thread. If the interpreter
        shuts down in that moment the process aborts, which happened in one of fifteen trainings.
        """
        if self._pool is None:
            return
        self._pool.shutdown()
        until = time.monotonic() + _THREADS_END_SECONDS
        while time.monotonic() < until and any(Path(f"/proc/self/task/{native}").exists() for native in self._native):
            time.sleep(0.001)

    def loss_and_grad(self, trainable: Tree, batches: Sequence[Batch]) -> tuple[mx.array, Tree]:
        """(metrics, a scalar or (F,), and the gradient of the loss as a tree), summed over the rows."""
        results = self._each(self._gradient, trainable, batches)
        loss, gradient = results[0]
        for more, part in results[1:]:
            loss, gradient = loss + more, tree_map(mx.add, gradient, part)
        return loss, gradient

    def total_loss(self, trainable: Tree, batches: Sequence[Batch]) -> np.ndarray:
        """The metrics of all rows together, a scalar or (F,), in float64 and without a gradient."""
        return np.asarray(sum(self.row_losses(trainable, batches), np.float64(0)))

    def row_losses(self, trainable: Tree, batches: Sequence[Batch]) -> list[np.ndarray]:
        """The metrics of each row, a scalar or (F,), in float64."""
        return [np.array(found, dtype=np.float64) for found in self._each(self._value, trainable, batches)]

    def _each(self, function: Any, trainable: Tree, batches: Sequence[Batch]) -> list[Any]:
        own = self._base.model.trainable_parameters()
        mx.eval(trainable, list(batches))  # a thread can't evaluate arrays of another thread
        try:
            if self._pool is None or len(batches) == 1:
                return [self._one(function, trainable, batch) for batch in batches]
            with cpu_blas.single_blas_thread():
                return list(self._pool.map(lambda batch: self._one(function, trainable, batch), batches))
        finally:
            self._base.model.update(own)  # tracing leaves its arrays in the model

    def _one(self, function: Any, trainable: Tree, batch: Batch) -> Any:
        arrays = {name: value for name, value in batch.items() if name != "seed"}
        # a seed that is set within a compiled step would be the same at every call
        if self.compiled and not (self.checkpointing and "seed" in batch):
            try:
                result = self._guarded(self._compiled(function), trainable, arrays, batch.get("seed"))
                mx.eval(result)
                return result
            except (ValueError, RuntimeError):
                self.compiled = False
        result = self._guarded(function, trainable, arrays, batch.get("seed"))
        mx.eval(result)
        return result

    def _guarded(self, function: Any, trainable: Tree, arrays: Batch, seed: int | None) -> Any:
        with self._lock:
            if seed is not None:
                mx.random.seed(seed)
            self._seed = seed
            return function(trainable, arrays)

    def _compiled(self, function: Any) -> Any:
        """Compiled once per mode: evaluation has no dropout."""
        key = f"{function.__name__} {self._base.model.training}"
        if key not in self._made:
            state = [mx.random.state]
            self._made[key] = mx.compile(function, inputs=state, outputs=state)
        return self._made[key]

    def _gradient(self, trainable: Tree, batch: Batch) -> tuple[mx.array, Tree]:
        (_, figures), gradient = mx.value_and_grad(self._loss_and_aux)(trainable, batch)
        return figures, gradient

    def _loss_and_aux(self, trainable: Tree, batch: Batch) -> tuple[mx.array, mx.array]:
        """(the loss, all metrics)."""
        figures = self._value(trainable, batch)
        return (figures[0] if figures.ndim else figures), figures

    def _value(self, trainable: Tree, batch: Batch) -> mx.array:
        self._base.model.update(trainable)
        return self._loss(
            self._base, batch, checkpointing=self.checkpointing and self._base.model.training, seed=self._seed
        )
