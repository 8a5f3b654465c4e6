"""How many answers are generated at once: as many as fit into memory, and only where the device gains by it.

A pass reads the weights once for all rows. Where reading them takes the time, as on a GPU, or with a large vocabulary,
more rows are almost free; where arithmetic takes it, as with packed weights on a CPU, they aren't. So it is measured,
once for each base, on a few passes.
"""

from __future__ import annotations

import time

import mlx.core as mx
import psutil

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.batch_decoding import BatchDecoder, DecodingRow
from mondrian_core.models.prompt_encoding import EncodedPrompt

MAX_ROWS = 8
MIN_GAIN = 1.25  # in answers per second; below it, one by one is simpler and its first answer comes sooner
_MEMORY_SHARE = 1 / 8  # of the machine's memory, for keys and values of all rows
_MIN_BYTES = 256 << 20
_TIMED_PASSES = 2


def rows_at_once(base: BaseVLM, prompt: EncodedPrompt, max_tokens: int, waiting: int) -> int:
    """Answers to generate at once, 1 to `MAX_ROWS`, with the adapter in use.

    Args:
        base: the base.
        prompt: a prompt of the length that the answers have.
        max_tokens: limit of an answer's length.
        waiting: answers to generate.
    """
    fitting = rows_within(base, len(prompt.ids) + max_tokens, _budget())
    rows = min(MAX_ROWS, waiting, fitting)
    return rows if rows > 1 and _gain(base, prompt) >= MIN_GAIN else 1


def rows_within(base: BaseVLM, tokens: int, nbytes: int) -> int:
    """Rows of `tokens` tokens, prompt included, whose keys and values take at most `nbytes`; at least 1.

    Twice the size is counted, since growing a buffer copies it.
    """
    return max(1, nbytes // (2 * tokens * bytes_per_token(base)))


def bytes_per_token(base: BaseVLM) -> int:
    """Bytes of a token's keys and values in all layers."""
    layers = base.language_model.model.layers
    attention = layers[0].self_attn
    width = int(attention.k_proj.weight.shape[0] + attention.v_proj.weight.shape[0])
    return width * len(layers) * int(layers[0].input_layernorm.weight.dtype.size)


def _budget() -> int:
    return max(_MIN_BYTES, int(psutil.virtual_memory().total * _MEMORY_SHARE))


def _gain(base: BaseVLM, prompt: EncodedPrompt) -> float:
    """Tokens per second with `MAX_ROWS` rows, over those with one: measured once on rows that share the prompt."""
    if "batch_gain" not in base.cache:
        decoder = BatchDecoder(base, 1)
        trunk = decoder.open(prompt)
        rows = [decoder.branch(trunk) for _ in range(MAX_ROWS)]
        token = prompt.ids[-1]
        one, all_rows = _seconds(decoder, rows[:1], token), _seconds(decoder, rows, token)
        base.cache["batch_gain"] = MAX_ROWS * one / all_rows
    return float(base.cache["batch_gain"])


def _seconds(decoder: BatchDecoder, rows: list[DecodingRow], token: int) -> float:
    """Time of a pass that reads a token in each of these rows; the first one, which compiles, isn't counted."""
    times = []
    for _ in range(1 + _TIMED_PASSES):
        began = time.perf_counter()
        for row in rows:
            decoder.feed(row, [token])
        mx.eval([logits for _, logits in decoder.run_pass()])
        times.append(time.perf_counter() - began)
    return min(times[1:])
