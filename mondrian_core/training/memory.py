"""Memory of a training: predicted from sizes and settings, and what a step does to stay within this machine's.

What the gradient keeps of a layer follows from mlx-vlm's layers. Attention is counted as not fused while training, so
each layer keeps attention weights of T x T for each head; norms are counted in parts, which keep a float32 copy of
their input. That is so on the CPU. A kernel that fuses them, on Metal, keeps less. Measured against predicted:
docs/experiments/training.md.

Shapes: `T` tokens, `A` tokens of the answer, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mondrian_core.accelerator_lock import record_work_memory
from mondrian_core.errors import NotEnoughMemory
from mondrian_core.models.gradient_pass import SEGMENTS_FROM_WIDTH
from mondrian_core.models.model_memory import (
    ModelSize,
    ServingLoad,
    adapted_kinds,
    machine_memory,
    predict_serving_memory,
    vision_bytes,
)
from mondrian_core.models.service_memory import memory_of_services
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import MAX_ANSWER_TOKENS
from mondrian_core.training.gradient_step import most_rows_at_once, tokens_per_piece
from mondrian_core.training.training_examples import LENGTH_BUCKET, padded_length

_FLOAT32 = 4
_STATE_COPIES = 4  # of the adapter between two steps: its arrays, the optimizer's two, and the best epoch's
_ATTENTION_INPUT, _ATTENTION_OUTPUT, _MLP_INPUT, _MLP_OUTPUT = range(4)
_INPUT_OF = {
    "q_proj": _ATTENTION_INPUT,
    "k_proj": _ATTENTION_INPUT,
    "v_proj": _ATTENTION_INPUT,
    "o_proj": _ATTENTION_OUTPUT,
    "gate_proj": _MLP_INPUT,
    "up_proj": _MLP_INPUT,
    "down_proj": _MLP_OUTPUT,
}
# mlx starts operations before earlier ones are finished, so arrays of further layers are held too. Measured.
_LAYERS_IN_FLIGHT = 1.5
_RECOMPUTED_LAYERS = 1.5  # with checkpointing: of each row, in addition
_PIECES_IN_FLIGHT = 3  # of the logits, next to one array (A, V). Measured.
_HEAD_COPIES = 3.1  # float32 arrays (A, V) that a short answer takes, whose logits are one piece. Measured.


@dataclass(frozen=True, kw_only=True)
class TrainingLoad:
    """The rows that a training's memory depends on.

    Attributes:
        tokens: T of the longest row, padded.
        answer_tokens: A of the longest answer, padded; of a pair both answers.
        image_tokens: tokens of the largest photograph.
        validation_rows: rows whose loss is measured after an epoch; their inputs are made together.
        answered_rows: photographs that are answered after an epoch.
        preference: True for preference tuning, which also keeps the adapter that it began with.
    """

    tokens: int
    answer_tokens: int
    image_tokens: int
    validation_rows: int = 0
    answered_rows: int = 0
    preference: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes that a training takes. The last four are never held together.

    Attributes:
        weights: the base.
        adapter: the adapter, the optimizer's state and the best epoch.
        step: a step: inputs, layers, logits and gradients.
        validation: measuring the validation loss.
        answers: answering validation photographs.
        photographs: encoding photographs before the first step.
    """

    weights: int
    adapter: int
    step: int
    validation: int
    answers: int
    photographs: int

    @property
    def peak(self) -> int:
        """The most that is held at a time."""
        return self.weights + self.adapter + max(self.step, self.validation, self.answers, self.photographs)


def training_load(examples: Sequence[Any], held_out: Sequence[Any] = (), answered_rows: int = 0) -> TrainingLoad:
    """The load of encoded rows or pairs."""
    every = [*examples, *held_out]
    return TrainingLoad(
        tokens=padded_length(max(example.length for example in every)),
        answer_tokens=padded_length(max(example.answer_tokens for example in every)),
        image_tokens=max(example.prompt.image_tokens for example in every),
        validation_rows=len(held_out),
        answered_rows=answered_rows,
        preference=any(hasattr(example, "rejected") for example in every),
    )


def kept_layer_bytes(size: ModelSize, recipe: TrainRecipe, tokens: int) -> int:
    """Bytes that one layer keeps for the gradient of a row of T tokens, without checkpointing.

    In a wide base these are the inputs of its segments (`gradient_pass`), otherwise everything that it made.
    """
    if size.width >= SEGMENTS_FROM_WIDTH and not recipe.dropout:
        projections = size.query_width + 2 * size.key_value_width
        return tokens * size.item_bytes * (2 * size.width + projections + 2 * size.mlp_width)
    return made_layer_bytes(size, recipe, tokens)


def made_layer_bytes(size: ModelSize, recipe: TrainRecipe, tokens: int) -> int:
    """Bytes of the arrays that the gradient of one layer needs for a row of T tokens.

    With heads of `h` numbers, H of them for queries and K for keys: two norms keep their input in float32, head norms
    theirs; attention keeps rotated queries and keys, values, its weights (H T) and its mask (one byte a pair of
    tokens); the MLP keeps gate, its sigmoid, their product, and up. A LoRA keeps its input in float32 and the product
    with A (rank numbers). In float32 modules share that copy; in 16 bits or with dropout each has its own.
    """
    kinds, item = adapted_kinds(size, recipe.target_modules), size.item_bytes
    queries, keys, layers = size.query_width, size.key_value_width, size.linear_layers
    norms = _FLOAT32 * (2 * size.width + (queries + keys if size.head_norms else 0))
    attention = item * (queries + 2 * keys + size.heads * tokens) + tokens
    mlp = 4 * item * size.mlp_width
    own_inputs = sum(layers[kind][0] for kind in kinds)
    shared_inputs = sum({_INPUT_OF[kind]: layers[kind][0] for kind in kinds}.values())
    inputs = own_inputs if item < _FLOAT32 or recipe.dropout else shared_inputs
    lora = _FLOAT32 * (inputs + recipe.rank * len(kinds))
    dropout = item * own_inputs if recipe.dropout else 0
    dora = item * sum(layers[kind][1] for kind in kinds) if recipe.dora else 0
    return tokens * (norms + attention + mlp + lora + dropout + dora)


def head_bytes(size: ModelSize, answer_tokens: int) -> int:
    """Bytes that the logits of A tokens and their gradient take; in 16 bits a copy in float32 is added."""
    tokens = min(_HEAD_COPIES * answer_tokens, answer_tokens + _PIECES_IN_FLIGHT * tokens_per_piece(size.vocabulary))
    return int(tokens * size.vocabulary * (_FLOAT32 if size.item_bytes == _FLOAT32 else _FLOAT32 + size.item_bytes))


def predict_training_memory(
    size: ModelSize, recipe: TrainRecipe, load: TrainingLoad, *, checkpointing: bool, rows_at_once: int = 1
) -> TrainingMemory:
    """Memory of a training at its peak, from sizes alone.

    Args:
        size: sizes of the base.
        recipe: settings of the training.
        load: the rows.
        checkpointing: True keeps a layer's input and computes the rest again.
        rows_at_once: rows that are computed at the same time.
    """
    adapter = _FLOAT32 * size.adapter_parameters(recipe.rank, recipe.target_modules, dora=recipe.dora)
    features = (load.tokens + size.deepstack * load.image_tokens) * size.width * size.item_bytes
    mask = load.tokens**2 if load.preference else 0
    layer = made_layer_bytes(size, recipe, load.tokens)
    head = rows_at_once * head_bytes(size, load.answer_tokens)
    if checkpointing:
        kept = rows_at_once * size.layers * load.tokens * size.width * size.item_bytes
        in_flight = (_LAYERS_IN_FLIGHT + rows_at_once * _RECOMPUTED_LAYERS) * layer
    else:
        kept = rows_at_once * size.layers * kept_layer_bytes(size, recipe, load.tokens)
        in_flight = _LAYERS_IN_FLIGHT * layer
    rows = recipe.accumulation
    return TrainingMemory(
        weights=size.weight_bytes,
        adapter=(_STATE_COPIES + load.preference) * adapter,
        step=int(rows * (features + mask + adapter) + kept + max(head, in_flight)),
        validation=int(load.validation_rows * (features + mask) + rows_at_once * 2 * layer + head // 2),
        answers=_answering_bytes(size, load, adapter) if load.answered_rows else 0,
        photographs=vision_bytes(size, load.image_tokens),
    )


def _answering_bytes(size: ModelSize, load: TrainingLoad, adapter: int) -> int:
    """Bytes beyond the base and the training's state while a photograph is answered by the adapter in training."""
    text = max(0, load.tokens - load.image_tokens - load.answer_tokens)
    served = predict_serving_memory(
        size,
        ServingLoad(
            text_tokens=text,
            image_tokens=load.image_tokens,
            answer_tokens=MAX_ANSWER_TOKENS,
            adapter_bytes=adapter * size.item_bytes // _FLOAT32,
        ),
    )
    return served.peak - served.weights


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a training fits into memory.

    Attributes:
        memory: what it takes that way.
        checkpointing: True if layers are computed again.
        rows_at_once: rows that are computed at the same time.
        available: bytes that it may take.
    """

    memory: TrainingMemory
    checkpointing: bool
    rows_at_once: int
    available: int

    @property
    def fits(self) -> bool:
        """True if it takes no more than there is."""
        return self.memory.peak <= self.available


def plan_training_memory(
    size: ModelSize, recipe: TrainRecipe, load: TrainingLoad, rows_at_once: int, available: int
) -> MemoryPlan:
    """The fastest way that fits; if none does, the one that takes the least.

    Checkpointing costs about a third of the time, a row less at once up to half of it, so checkpointing comes first.

    Args:
        size: sizes of the base.
        recipe: settings; with `gradient_checkpointing` "auto" both ways are tried.
        load: the rows.
        rows_at_once: the most rows that can be computed at the same time.
        available: bytes that it may take.
    """
    ways = {"auto": (False, True), "on": (True,), "off": (False,)}[recipe.gradient_checkpointing]
    plans = [
        MemoryPlan(
            memory=predict_training_memory(size, recipe, load, checkpointing=checkpointing, rows_at_once=rows),
            checkpointing=checkpointing,
            rows_at_once=rows,
            available=available,
        )
        for rows in range(rows_at_once, 0, -1)
        for checkpointing in ways
    ]
    return next((plan for plan in plans if plan.fits), plans[-1])


def plan_on_this_machine(size: ModelSize, recipe: TrainRecipe, load: TrainingLoad) -> MemoryPlan:
    """The plan for this machine's memory, without what its services take, before the first step.

    Raises:
        NotEnoughMemory: no way fits; says which changes would help.
    """
    held = memory_of_services()
    plan = plan_training_memory(size, recipe, load, most_rows_at_once(), machine_memory() - held)
    if not plan.fits:
        raise NotEnoughMemory(memory_problem(plan, held), memory_advice(size, recipe, load, plan, held))
    record_work_memory(plan.memory.peak)
    return plan


def memory_problem(plan: MemoryPlan, held: int = 0) -> str:
    """Why a training doesn't fit, one sentence."""
    taken = f" next to the {held / 1e9:.1f} GB of the service" if held else ""
    return (
        f"The training would take {plan.memory.peak / 1e9:.1f} GB of memory; "
        f"it may take {max(0, plan.available) / 1e9:.1f} GB here{taken}."
    )


def memory_advice(size: ModelSize, recipe: TrainRecipe, load: TrainingLoad, plan: MemoryPlan, held: int = 0) -> str:
    """Changes each of which would make the training fit, one sentence."""

    def fits(changed: TrainRecipe, rows: TrainingLoad = load, available: int = plan.available) -> bool:
        return plan_training_memory(size, changed, rows, 1, available).fits

    saving = recipe.model_copy(update={"gradient_checkpointing": "auto"})
    ways = []
    if held and fits(recipe, available=plan.available + held):
        ways.append("stop the service during the training (`mondrian down`, then `mondrian up`)")
    if recipe.gradient_checkpointing == "off" and fits(saving):
        ways.append('set gradient_checkpointing = "auto"')
    if (tokens := _most_tokens(load, lambda rows: fits(saving, rows))) is not None:
        ways.append(
            f"set max_tokens = {tokens}, with shorter critiques or smaller photographs (the longest row has "
            f"{load.tokens} tokens, {load.image_tokens} of them the photograph's)"
        )
    ranks = [rank for rank in (64, 32, 16, 8, 4, 2, 1) if rank < recipe.rank]
    if rank := next((rank for rank in ranks if fits(saving.model_copy(update={"rank": rank}))), None):
        ways.append(f"set rank = {rank}")
    if not ways:
        return (
            "No setting makes it fit: choose a smaller or a packed (4-bit) base with --base-model, or a larger machine."
        )
    return f"{'; or '.join(ways)[0].upper()}{'; or '.join(ways)[1:]}."


def _most_tokens(load: TrainingLoad, fits: Any) -> int | None:
    """The largest number of tokens of a row that fits; its photograph and answer shrink in proportion."""
    for tokens in range(load.tokens - LENGTH_BUCKET, LENGTH_BUCKET, -LENGTH_BUCKET):
        share = tokens / load.tokens
        smaller = TrainingLoad(
            tokens=tokens,
            answer_tokens=padded_length(round(load.answer_tokens * share)),
            image_tokens=round(load.image_tokens * share),
            validation_rows=load.validation_rows,
            answered_rows=load.answered_rows,
            preference=load.preference,
        )
        if fits(smaller):
            return tokens
    return None
