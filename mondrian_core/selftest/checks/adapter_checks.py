"""Adapters: the same logits as merged weights, and nothing left after the swap back. Shapes: W (out, in)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.lora.lora_adapter import load_lora_adapter
from mondrian_core.models.prompt_encoding import answer_token_ids, encode_prompt
from mondrian_core.recipes import TrainRecipe
from mondrian_core.selftest.checks.context import CheckContext, CheckOutcome, logit_difference
from mondrian_core.selftest.checks.logit_checks import COMPARED_TOKENS, whole_pass
from mondrian_core.selftest.checks.question import question, rows_to_train
from mondrian_core.selftest.checks.training_checks import attached_random_lora, random_arrays
from mondrian_core.selftest.steps import StepCause

_EFFECT = 0.05  # the adapter changes every adapted layer's output by about this share of the logits' spread or more
_STRONG = 0.1  # standard deviation of A and B, so that the adapter's effect is far above rounding


class MergedLinear(nn.Module):
    """A linear layer with merged weights in float32; its output has the input's data type."""

    def __init__(self, weight: mx.array, bias: mx.array | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) to (..., out)."""
        y = x.astype(mx.float32) @ self.weight.T
        return (y if self.bias is None else y + self.bias).astype(x.dtype)


def write_random_adapter(context: CheckContext, folder: Path, *, layers: int | None = None) -> Path:
    """Write an adapter with random arrays.

    Args:
        context: base and stream.
        folder: where to write it.
        layers: adapt so many layers of the language model, the first ones; None: all.
    """
    names = ("q_proj", "down_proj") if layers is not None else TrainRecipe().target_modules
    targets = lora_layers.resolve_target_modules(context.base, names)
    if layers is not None:
        targets = [name for name in targets if _layer_number(name) < layers]
    with attached_random_lora(context, TrainRecipe(rank=4, alpha=8.0, target_modules=tuple(targets))):
        lora_layers.save_attached_adapter(context.base, folder, dict(random_arrays(context, _STRONG)))
    return folder


def _layer_number(module: str) -> int:
    return next(int(part) for part in module.split(".") if part.isdigit())


def check_adapter_swap(context: CheckContext) -> CheckOutcome:
    """Logits of the base, of the adapter, of the base again, and of merged weights."""
    base = context.base
    messages, image = question()
    prompt = encode_prompt(base, messages, image)
    answer = answer_token_ids(base, messages, rows_to_train(1)[0].answer)[: COMPARED_TOKENS + 1]
    context.require_time("four passes", forward_tokens=4 * (len(prompt.ids) + len(answer)))

    def logits() -> np.ndarray:
        return np.array(whole_pass(context, prompt, answer).astype(mx.float32))

    folder = write_random_adapter(context, context.folder / "random-adapter", layers=1)
    switch = lora_layers.get_adapter_switch(base)
    switch.use(None)
    context.report("base")
    before = logits()
    switch.use(folder)
    context.report("adapter")
    adapted = logits()
    switch.use(None)
    after = logits()
    context.report("merged weights")
    with merged(base, folder):
        expected = logits()
    allowed = context.allowed(prompt.embeddings.dtype)
    effect, apart = logit_difference(before, adapted), logit_difference(expected, adapted)
    figures = {
        "effect": effect.rms,
        "difference_from_merged": apart.rms,
        "allowed_difference": allowed,
        "left_after_swap": float(np.abs(after - before).max()),
    }
    if figures["left_after_swap"] != 0.0 or switch.adapted_modules:
        sentence = f"the adapter is left after the swap: logits differ by up to {figures['left_after_swap']:.2g}"
        return CheckOutcome(sentence, figures, StepCause.WRONG_RESULT)
    if not effect.rms > max(_EFFECT, allowed):
        return CheckOutcome(f"the adapter has no effect ({effect.rms:.2g})", figures, StepCause.WRONG_RESULT)
    if not apart.within(allowed):
        sentence = f"the adapter differs from merged weights by {apart.rms:.2g} of the spread, allowed {allowed:.1g}"
        return CheckOutcome(sentence, figures, StepCause.WRONG_RESULT)
    return CheckOutcome(
        f"base unchanged, bit for bit; adapter and merged weights differ by {apart.rms:.1g}, allowed {allowed:.1g}",
        figures,
    )


@contextmanager
def merged(base: BaseVLM, folder: Path) -> Iterator[None]:
    """The adapter's product added to the weights inside the block."""
    from mlx_vlm.trainer.common.utils import get_module_by_name, set_module_by_name

    adapter = load_lora_adapter(folder)
    originals = {name: get_module_by_name(base.model, name) for name in adapter.modules}
    try:
        for name, layer in originals.items():
            product = adapter.scale * (adapter.lora_a[name].astype(mx.float32) @ adapter.lora_b[name])
            bias = layer.get("bias")
            set_module_by_name(base.model, name, MergedLinear(_plain_weight(layer) + product.T, bias))
        yield
    finally:
        for name, layer in originals.items():
            set_module_by_name(base.model, name, layer)


def _plain_weight(layer: Any) -> mx.array:
    """W in float32, unpacked if necessary."""
    if not isinstance(layer, nn.QuantizedLinear):
        weight: mx.array = layer.weight
        return weight.astype(mx.float32)
    return mx.dequantize(
        layer.weight, layer.scales, layer.get("biases"), layer.group_size, layer.bits, mode=layer.mode
    ).astype(mx.float32)
