"""Measure a training step and a decoding step on a few layers of the real base, and extrapolate to all of them.

A layer of a language model costs what its neighbor costs, so time is linear in layers; two probes separate it from the
cost of the output layer. Weights are read as they are used: probing two layers of a large base reads only those.

Shapes: `T` tokens, `A` tokens of the answer, `D` width, `V` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import make_decoder
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.model_memory import ModelSize
from mondrian_core.models.prompt_encoding import EncodedPrompt
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.memory import TrainingLoad, predict_training_memory
from mondrian_core.training.training_examples import LENGTH_BUCKET, Batch

_FEW, _MORE = 1, 2  # layers of the two probes
_ENOUGH_SECONDS = 1.5  # a probe that takes this long is not repeated with more tokens
_DECODED = 3  # steps


@dataclass(frozen=True, kw_only=True)
class StepProbe:
    """What was measured, extrapolated to all layers.

    Attributes:
        row_seconds: time of one row's forward and backward pass.
        token_seconds: time of decoding one token.
        share_of_predicted: peak memory of the probe as a share of the prediction for that many layers and tokens.
    """

    row_seconds: float
    token_seconds: float
    share_of_predicted: float


def probe_training_step(
    base: BaseVLM,
    size: ModelSize,
    recipe: TrainRecipe,
    load: TrainingLoad,
    *,
    checkpointing: bool,
    on_probe: Callable[[int, int], object] = lambda done, total: None,
) -> StepProbe:
    """Probe with as many tokens as take a few seconds, at most the load's.

    Args:
        base: the base; its weights may be unread.
        size: sizes of the base.
        recipe: settings of the training.
        load: the rows.
        checkpointing: as the training will do it.
        on_probe: called with (finished, all) probes.
    """
    few, more = min(_FEW, size.layers), min(_MORE, size.layers)
    on_probe(0, 3)
    with _first_layers(base, more) as cut:
        tokens, seconds, share = _probe_as_long_as_needed(cut, replace(size, layers=more), recipe, load, checkpointing)
        decoding = {more: _decode_seconds(cut, size)}
    on_probe(1, 3)
    rows = {more: seconds}
    with _first_layers(base, few) as cut:
        rows[few] = _measure(cut, size, recipe, tokens, _answer_of(tokens, load), checkpointing)[0]
        on_probe(2, 3)
        decoding[few] = _decode_seconds(cut, size)
    on_probe(3, 3)
    layer, head = _line(rows, few, more)
    row = layer * size.layers * _work(size, load.tokens) / _work(size, tokens)
    token_layer, token_head = _line(decoding, few, more)
    return StepProbe(
        row_seconds=row + head * load.answer_tokens / _answer_of(tokens, load),
        token_seconds=token_layer * size.layers + token_head,
        share_of_predicted=share,
    )


def _line(seconds: dict[int, float], few: int, more: int) -> tuple[float, float]:
    """(seconds of a layer, seconds of everything else); neither is negative."""
    layer = (seconds[more] - seconds[few]) / (more - few) if more > few else seconds[more] / more
    layer = min(max(layer, 0.0), seconds[more] / more)
    return layer, max(0.0, seconds[more] - more * layer)


def _work(size: ModelSize, tokens: int) -> float:
    """Multiplications of a layer: its linear layers, and attention, which grows with the square of the tokens."""
    linear = sum(inputs * outputs for inputs, outputs in size.linear_layers.values())
    return float(tokens * (linear + 2 * size.query_width * tokens))


def _answer_of(tokens: int, load: TrainingLoad) -> int:
    """Answer tokens of a probe with this many tokens, in the load's proportion."""
    return max(1, min(load.answer_tokens, tokens * load.answer_tokens // load.tokens))


@contextmanager
def _first_layers(base: BaseVLM, count: int) -> Iterator[BaseVLM]:
    """The base with its first layers only, ready to compute, inside the block."""
    decoder = base.language_model.model
    every = decoder.layers
    decoder.layers = every[:count]
    try:
        if mx.default_device() == mx.Device(mx.cpu):
            base.language_model.set_dtype(mx.float32)  # as `load_base` does
        mx.eval(base.language_model.parameters())
        yield replace(base, cache={})
    finally:
        decoder.layers = every


def _probe_as_long_as_needed(
    base: BaseVLM, size: ModelSize, recipe: TrainRecipe, load: TrainingLoad, checkpointing: bool
) -> tuple[int, float, float]:
    """(tokens, seconds, measured peak / predicted peak) of the largest probe."""
    tokens = min(LENGTH_BUCKET, load.tokens)
    while True:
        answer = _answer_of(tokens, load)
        seconds, peak = _measure(base, size, recipe, tokens, answer, checkpointing)
        if seconds > _ENOUGH_SECONDS:
            break
        if tokens >= load.tokens:
            # once more: the first time may have compiled
            seconds = min(seconds, _measure(base, size, recipe, tokens, answer, checkpointing)[0])
            break
        tokens = min(2 * tokens, load.tokens)
    one = recipe.model_copy(update={"accumulation": 1})
    small = TrainingLoad(tokens=tokens, answer_tokens=answer, image_tokens=0)
    predicted = predict_training_memory(size, one, small, checkpointing=checkpointing)
    return tokens, seconds, peak / predicted.step


def _measure(
    base: BaseVLM, size: ModelSize, recipe: TrainRecipe, tokens: int, answer: int, checkpointing: bool
) -> tuple[float, int]:
    """(seconds, peak bytes beyond what was held before) of one row of noise."""
    lora_layers.attach_lora(base, recipe, recipe.seed)
    base.model.train()
    step = GradientStep(base, threads=1, checkpointing=checkpointing)
    try:
        batch, trainable = _noise(base, size, tokens, answer), base.model.trainable_parameters()
        mx.eval(batch, trainable)
        held = mx.get_active_memory()
        mx.reset_peak_memory()
        began = time.perf_counter()
        mx.eval(step.loss_and_grad(trainable, [batch]))
        return time.perf_counter() - began, max(0, int(mx.get_peak_memory()) - held)
    finally:
        step.close()
        lora_layers.detach_lora(base)


def _noise(base: BaseVLM, size: ModelSize, tokens: int, answer: int) -> Batch:
    prompt = _noise_prompt(base, size, tokens)
    return {
        "embeddings": prompt.embeddings,
        "positions": prompt.positions,
        "image_index": prompt.image_index,
        "deepstack": [],
        "places": mx.arange(tokens - answer, tokens, dtype=mx.int32),
        "targets": mx.zeros((answer,), dtype=mx.int32),
        "weights": mx.full((answer,), 1.0 / answer),
    }


def _noise_prompt(base: BaseVLM, size: ModelSize, tokens: int) -> EncodedPrompt:
    places = mx.arange(tokens, dtype=mx.int32)
    return EncodedPrompt(
        ids=tuple(range(tokens)),
        embeddings=base.language_model.model.embed_tokens(places[None]),
        image_index=mx.zeros((0,), dtype=mx.int32),
        deepstack=(),
        positions=mx.broadcast_to(places, (3, 1, tokens)),
        next_position=tokens,
    )


def _decode_seconds(base: BaseVLM, size: ModelSize) -> float:
    """Seconds of decoding a token."""
    decoder = make_decoder(base)
    mx.eval(decoder.start(_noise_prompt(base, size, LENGTH_BUCKET)))
    token = mx.array(1, dtype=mx.int32)
    mx.eval(decoder.step(token))  # compiles
    began = time.perf_counter()
    for _ in range(_DECODED):
        mx.eval(decoder.step(token))
    return (time.perf_counter() - began) / _DECODED
