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


def loss_sums(base: Base, batch: Batch) -> tuple[mx.array, mx.array]:
    """Sum of weight x cross-entropy over the answer's tokens, in float32, and the same without weights where they count.

    Only the supervised positions go through the vocabulary.
    """
    model = base.language_model
    hidden = hidden_states(model, batch["embeddings"], batch["positions"], batch["image_index"], batch["deepstack"])
    states = hidden[0, batch["places"]]
    count, vocabulary = states.shape[0], model.args.vocab_size

    def head(piece: mx.array, start: int) -> mx.array:
        return cross_entropy(logits(model, piece), batch["targets"][start : start + piece.shape[0]])

    if count * vocabulary <= _LOGITS_AT_ONCE:
        losses = head(states, 0)
    else:
        pieces = range(0, count, _PIECE)
        # targets are held by closure: checkpoint would ask for a gradient of the indices
        losses = mx.concatenate([mx.checkpoint(lambda part, at=at: head(part, at))(states[at : at + _PIECE])
                                 for at in pieces])  # fmt: skip
    return mx.sum(losses * batch["weights"]), mx.sum(losses * (batch["weights"] > 0))


def cross_entropy(raw: mx.array, targets: mx.array) -> mx.array:
    """Negative log-likelihood (A,) in float32 of targets (A,) under logits (A, V)."""
    raw = raw.astype(mx.float32)
    return mx.logsumexp(raw, axis=-1) - mx.take_along_axis(raw, targets[:, None], axis=-1)[:, 0]


class GradientStep:
    """Loss and gradient of one row, added to what the optimizer step has gathered so far.

    Compiled; where this version of mlx can't compile the architecture it runs eagerly, with the same result.
    """

    def __init__(self, base: Base, *, compiled: bool = True) -> None:
        self._base = base
        self._compile = compiled
        self._train = self._made(self._gradient)
        self._judge = self._made(self._value)

    @property
    def compiled(self) -> bool:
        """False once it fell back."""
        return self._compile

    def gather(self, trainable: Tree, batch: Batch, gathered: Tree) -> tuple[mx.array, mx.array, Tree]:
        """(weighted loss, sum of the plain loss, `gathered` + gradient)."""
        return self._run("_train", self._gradient, trainable, batch, gathered)

    def value(self, trainable: Tree, batch: Batch) -> tuple[mx.array, mx.array]:
        """(weighted loss, sum of the plain loss) without a gradient."""
        return self._run("_judge", self._value, trainable, batch)

    def _run(self, name: str, plain: Any, *arguments: Any) -> Any:
        held = self._base.model.trainable_parameters()
        try:
            result = getattr(self, name)(*arguments)
            if self._compile:
                mx.eval(result)
            return result
        except ValueError:
            if not self._compile:
                raise
            self._compile = False
            self._train, self._judge = self._gradient, self._value
            return plain(*arguments)
        finally:
            self._base.model.update(held)  # tracing leaves its own arrays in the model

    def _made(self, function: Any) -> Any:
        state = [mx.random.state]
        return mx.compile(function, inputs=state, outputs=state) if self._compile else function

    def _gradient(self, trainable: Tree, batch: Batch, gathered: Tree) -> tuple[mx.array, mx.array, Tree]:
        (weighted, plain), gradient = mx.value_and_grad(self._value)(trainable, batch)
        return weighted, plain, tree_map(mx.add, gathered, gradient)

    def _value(self, trainable: Tree, batch: Batch) -> tuple[mx.array, mx.array]:
        self._base.model.update(trainable)
        return loss_sums(self._base, batch)
