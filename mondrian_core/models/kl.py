"""KL divergence between the base's and an adapter's distributions, at the scores of an answer.

Shapes: `A` answer tokens, `T` tokens, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.errors import BadInput
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs, hidden_states, lm_head_logits
from mondrian_core.models.lora.adapter_switch import AdapterSwitch
from mondrian_core.models.prompt_encoding import EncodedPrompt, answer_token_ids, encode_prompt
from mondrian_core.models.score_distribution import locate_scores


def mean_kl(
    base: BaseVLM,
    switch: AdapterSwitch,
    adapter_folder: Path,
    messages: list[dict[str, Any]],
    image: Any,
    answer_text: str,
) -> float:
    """Mean KL(base || adapter) in nats over the tokens at which the answer's scores begin, teacher forced; 0 or more.

    The other tokens are left out, because an adapter that only changes the wording would look like one that changes the
    scores. The adapter that was in use before is in use again afterwards.

    Args:
        base: the base.
        switch: its adapter switch.
        adapter_folder: the adapter to compare with the base.
        messages: the prompt.
        image: the photograph.
        answer_text: an answer with scores, usually the base's.

    Raises:
        BadInput: the answer has no scores.
    """
    prompt = encode_prompt(base, messages, image)
    answer = answer_token_ids(base, messages, answer_text)
    places = sorted(found.token_index for found in locate_scores(base, answer).values())
    if not places:
        raise BadInput("The answer to measure on has no scores.", "Measure on an answer in the rubric's form.")
    before = switch.folder
    try:
        switch.use(None)
        of_base = _answer_states(base, prompt, answer)
        switch.use(adapter_folder)
        of_adapter = _answer_states(base, prompt, answer)
    finally:
        switch.use(before)
    at = mx.array(places)
    p, q = log_probabilities(base, of_base[at]), log_probabilities(base, of_adapter[at])
    return max(0.0, float(np.array(mx.sum(mx.exp(p) * (p - q)))) / len(places))


def _answer_states(base: BaseVLM, prompt: EncodedPrompt, answer: list[int]) -> mx.array:
    """Hidden states (A, D) that predict the A tokens of the answer."""
    hidden = hidden_states(base, teacher_forced_inputs(base, prompt, answer))
    states = hidden[0, len(prompt.ids) - 1 :]
    mx.eval(states)
    return states


def teacher_forced_inputs(base: BaseVLM, prompt: EncodedPrompt, answer: list[int]) -> DecoderInputs:
    """Prompt and answer without its last token, which is only predicted; B is 1."""
    inputs = mx.array([answer[:-1]], dtype=mx.int32)
    embeddings = mx.concatenate([prompt.embeddings, base.language_model.model.embed_tokens(inputs)], axis=1)
    ahead = mx.arange(prompt.next_position, prompt.next_position + len(answer) - 1, dtype=mx.int32)
    positions = mx.concatenate([prompt.positions, mx.broadcast_to(ahead, (3, 1, len(answer) - 1))], axis=2)
    return replace(prompt.decoder_inputs, embeddings=embeddings, positions=positions)


def log_probabilities(base: BaseVLM, states: mx.array) -> mx.array:
    """Log-probabilities (A, V) in float32 of hidden states (A, D)."""
    raw = lm_head_logits(base, states).astype(mx.float32)
    return raw - mx.logsumexp(raw, axis=-1, keepdims=True)
