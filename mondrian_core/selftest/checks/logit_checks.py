"""Logits: finite, and the same in one whole pass and step by step. Shapes: `A` tokens of an answer, `V` vocabulary."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import hidden_states, lm_head_logits
from mondrian_core.models.inference.batch_decoding import BatchDecoder
from mondrian_core.models.inference.decoding import CompiledDecoder, Decoder, EagerDecoder
from mondrian_core.models.kl import teacher_forced_inputs
from mondrian_core.models.prompt_encoding import EncodedPrompt, answer_token_ids, encode_prompt
from mondrian_core.selftest.checks.context import (
    CheckContext,
    CheckOutcome,
    LogitDifference,
    logit_difference,
)
from mondrian_core.selftest.checks.question import question, rows_to_train
from mondrian_core.selftest.steps import StepCause

LOGITS_FILE = "logits.npy"
COMPARED_TOKENS = 8  # of the answer
SAMPLED_LOGITS = 16  # published ones
DECODERS: dict[str, Callable[[BaseVLM], Decoder]] = {"growing cache": EagerDecoder, "compiled": CompiledDecoder}


def check_logits(context: CheckContext) -> CheckOutcome:
    """Logits (A, V) of the first tokens of an answer; they are also kept for the comparison with another stream."""
    base = context.base
    messages, image = question()
    prompt = encode_prompt(base, messages, image)
    answer = answer_token_ids(base, messages, rows_to_train(1)[0].answer)[: COMPARED_TOKENS + 1]
    context.report("one pass")
    whole = _timed_pass(context, prompt, answer)
    kept = np.array(whole.astype(mx.float32))
    np.save(context.folder / LOGITS_FILE, kept)
    dtype = prompt.embeddings.dtype
    allowed = context.allowed(dtype)
    figures = {
        "dtype": str(dtype).removeprefix("mlx.core."),
        "tokens": len(prompt.ids) + COMPARED_TOKENS,
        "forward_seconds_per_token": context.token_seconds,
        "allowed_difference": allowed,
        "sampled_logits": [float(value) for value in kept[0, sampled_places(kept.shape[1])]],
        "spread": float(kept[0].std()),
    }
    if not np.isfinite(kept).all():
        bad = int((~np.isfinite(kept)).sum())
        return CheckOutcome(f"{bad} of {kept.size} logits are not finite", figures, StepCause.WRONG_RESULT)
    worst = LogitDifference(0.0, 0.0)
    ways = {name: partial(_by_steps, context, make(base)) for name, make in DECODERS.items()}
    for name, compute in {**ways, "batch": partial(_in_a_batch, context)}.items():
        context.report(f"step by step, {name}")
        found = logit_difference(kept, compute(prompt, answer))
        figures[f"difference of the {name} steps"] = found.rms
        if not found.within(allowed):
            sentence = f"the {name} steps differ from one pass by {found.rms:.2g} of the spread, allowed {allowed:.2g}"
            return CheckOutcome(sentence, figures, StepCause.WRONG_RESULT)
        worst = max(worst, found, key=lambda each: each.rms)
    figures["decode_seconds_per_token"] = context.decode_seconds
    return CheckOutcome(f"steps and one pass differ by {worst.rms:.1g} of the spread, allowed {allowed:.1g}", figures)


def sampled_places(vocabulary: int) -> np.ndarray:
    """Token ids whose logits are published, spread evenly over the vocabulary."""
    return np.linspace(0, vocabulary - 1, SAMPLED_LOGITS).astype(int)


def whole_pass(context: CheckContext, prompt: EncodedPrompt, answer: list[int]) -> mx.array:
    """Logits (A, V) that predict all tokens of the answer, in one pass with the adapter in use."""
    hidden = hidden_states(context.base, teacher_forced_inputs(context.base, prompt, answer))
    return lm_head_logits(context.base, hidden[0, len(prompt.ids) - 1 :])


def _timed_pass(context: CheckContext, prompt: EncodedPrompt, answer: list[int]) -> mx.array:
    """The logits; the second pass is timed, because the first one also prepares kernels."""
    began = time.perf_counter()
    logits = whole_pass(context, prompt, answer)
    mx.eval(logits)
    if time.perf_counter() - began < context.seconds_left / 4:
        began = time.perf_counter()
        mx.eval(whole_pass(context, prompt, answer))
    context.token_seconds = (time.perf_counter() - began) / (len(prompt.ids) + len(answer))
    return logits


def _by_steps(context: CheckContext, decoder: Decoder, prompt: EncodedPrompt, answer: list[int]) -> np.ndarray:
    """Logits (A, V), one step for each token; the last steps are timed, because the first one also prepares kernels."""
    rows: list[Any] = [decoder.start(prompt), decoder.step(mx.array(answer[0], dtype=mx.int32))]
    mx.eval(rows)
    began = time.perf_counter()
    for token in answer[1:-1]:
        rows.append(decoder.step(mx.array(token, dtype=mx.int32)))
        mx.eval(rows[-1])
    context.decode_seconds = (time.perf_counter() - began) / len(answer[1:-1])
    return np.array(mx.stack(rows).astype(mx.float32))


def _in_a_batch(context: CheckContext, prompt: EncodedPrompt, answer: list[int]) -> np.ndarray:
    """Logits (A, V) of the second of two equal rows that are decoded together."""
    decoder = BatchDecoder(context.base, groups=2)
    first, second = decoder.open(prompt), decoder.open(prompt)
    rows = [second.logits]
    for token in answer[:-1]:
        decoder.feed(first, [token])
        decoder.feed(second, [token])
        rows += [logits for row, logits in decoder.run_pass() if row is second]
    return np.array(mx.stack(rows).astype(mx.float32))
