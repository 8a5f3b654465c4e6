"""One row through the model: weighted loss and its gradient, compiled once per padded length.

The LoRA arrays come in as arguments and gradients go out as values; the model is only the recipe for the computation.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from mondrian_core.models.base import Base
from mondrian_core.models.forward import hidden_states, logits
from mondrian_core.training.examples import Batch

Tree = Any
_LOGITS_AT_ONCE = 1 << 24  # 64 MB in float32; a larger head is done in pieces that backward computes again
_PIECE = 128


def weighted_loss(base: Base, batch: Batch) -> mx.array:
    """Sum of weight x cross-entropy over the answer's tokens, float32; only these go through the vocabulary."""
    model = base.language_model
    hidden = hidden_states(model, batch["embeddings"], batch["positions"], batch["image_index"], batch["deepstack"])
    states = hidden[0, batch["places"]]
    count, vocabulary = states.shape[0], model.args.vocab_size

    def head(piece: mx.array, start: int) -> mx.array:
        return cross_entropy(logits(model, piece), batch["targets"][start : start + piece.shape[0]])

    if count * vocabulary <= _LOGITS_AT_ONCE:
        losses = head(states, 0)
    else:
        # targets are held by closure: checkpoint would ask for a gradient of the indices
        losses = mx.concatenate([mx.checkpoint(lambda part, at=at: head(part, at))(states[at : at + _PIECE])
                                 for at in range(0, count, _PIECE)])  # fmt: skip
    return mx.sum(losses * batch["weights"])


def cross_entropy(raw: mx.array, targets: mx.array) -> mx.array:
    """Negative log-likelihood (A,) in float32 of targets (A,) under logits (A, V)."""
    raw = raw.astype(mx.float32)
    return mx.logsumexp(raw, axis=-1) - mx.take_along_axis(raw, targets[:, None], axis=-1)[:, 0]


class GradientStep:
    """Loss and gradient of one row, added to what the optimizer step has gathered so far.

    Compiled; where mlx can't compile it (an architecture that looks at values, a CPU without a C++ compiler) it runs
    eagerly, with the same result.
    """

    def __init__(self, base: Base, *, compiled: bool = True) -> None:
        self._base = base
        self.compiled = compiled
        self._made: dict[str, Any] = {}

    def gather(self, trainable: Tree, batch: Batch, gathered: Tree) -> tuple[mx.array, Tree]:
        """(weighted loss, `gathered` + gradient)."""
        return self._run(self._gradient, trainable, batch, gathered)

    def value(self, trainable: Tree, batch: Batch) -> mx.array:
        """The weighted loss without a gradient."""
        return self._run(self._value, trainable, batch)

    def _run(self, function: Any, *arguments: Any) -> Any:
        held = self._base.model.trainable_parameters()
        try:
            if self.compiled:
                try:
                    result = self._compiled(function)(*arguments)
                    mx.eval(result)
                    return result
                except (ValueError, RuntimeError):
                    self.compiled = False
            result = function(*arguments)
            mx.eval(result)
            return result
        finally:
            self._base.model.update(held)  # tracing leaves its own arrays in the model

    def _compiled(self, function: Any) -> Any:
        """Compiled once per mode: evaluation has no dropout."""
        key = f"{function.__name__} {self._base.model.training}"
        if key not in self._made:
            state = [mx.random.state]
            self._made[key] = mx.compile(function, inputs=state, outputs=state)
        return self._made[key]

    def _gradient(self, trainable: Tree, batch: Batch, gathered: Tree) -> tuple[mx.array, Tree]:
        loss, gradient = mx.value_and_grad(self._value)(trainable, batch)
        return loss, tree_map(mx.add, gathered, gradient)

    def _value(self, trainable: Tree, batch: Batch) -> mx.array:
        self._base.model.update(trainable)
        return weighted_loss(self._base, batch)
