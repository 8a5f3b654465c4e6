"""Generate several answers together: rows of one batch that start, end and make room for the next on their own.

Each answer has its own prompt, grammar, sampler, limit and score logits. Greedy answers equal those of `generation` up
to rounding: where two tokens are equally likely to within that, either may be chosen. The adapter in use answers all.

Shapes: `V` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.batch_decoding import BatchDecoder, DecodingRow
from mondrian_core.models.inference.generation import Generation, finished_generation
from mondrian_core.models.inference.generation_loop import AnswerInProgress, TokenSampler
from mondrian_core.models.prompt_encoding import EncodedPrompt
from mondrian_core.rubric import critique_json_schema

RequestT = TypeVar("RequestT")


@dataclass(frozen=True, kw_only=True)
class AnswerOrder(Generic[RequestT]):
    """One answer to generate.

    Attributes:
        key: comes back with the answer.
        prompt: encodes messages and photograph; called when its row is free.
        max_tokens: limit of its length.
        temperature: 0 takes the likeliest token; above 0 tokens are sampled.
        seed: seed of the sampling.
        constrained: allow only what the schema allows.
        schema: a JSON schema; None: the rubric's.
        on_token: receives each piece of text as it is generated.
    """

    key: RequestT
    prompt: Callable[[], EncodedPrompt]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    constrained: bool = False
    schema: Mapping[str, Any] | None = None
    on_token: Callable[[str], None] | None = None


def generate_batch(
    base: BaseVLM, next_order: Callable[[], AnswerOrder[RequestT] | None], rows: int
) -> Iterator[tuple[RequestT, Generation | Exception]]:
    """Generate answers, `rows` at once; each comes with its order's key as soon as it ends.

    An error that concerns one answer comes in its place, and the others go on.

    Args:
        base: the base, with the adapter in use.
        next_order: called whenever a row is free; None: there is none now. It ends when no row is left and there is no
            order.
        rows: answers at once, at least 1.
    """
    decoder, answers = BatchDecoder(base, rows), dict[DecodingRow, _BatchAnswer[RequestT]]()
    ready: list[DecodingRow] = []
    while True:
        while len(answers) < rows and (order := next_order()) is not None:
            try:
                answer = _BatchAnswer(base, decoder, order)
            except Exception as error:  # noqa: BLE001  it concerns this answer alone
                yield order.key, error
                continue
            answers[answer.row] = answer
            ready.append(answer.row)
        if not answers:
            return
        for row, ended in _advance([answers[row] for row in ready]) if ready else ():
            answer = answers.pop(row)
            yield answer.order.key, ended or answer.result()
            decoder.close(row)
        ready = []
        while answers and not ready:
            ready = [row for row, _ in decoder.run_pass()]


def _advance(answers: list[_BatchAnswer[RequestT]]) -> list[tuple[DecodingRow, Exception | None]]:
    """Let every answer choose its next token; the rows whose answer ended, with the error if any.

    The likeliest tokens of all are computed together, since each waiting for the device costs time.
    """
    likeliest: list[int] = mx.argmax(mx.stack([answer.row.logits for answer in answers]), axis=-1).tolist()  # type: ignore[assignment]
    ended: list[tuple[DecodingRow, Exception | None]] = []
    for answer, token in zip(answers, likeliest, strict=True):
        try:
            if answer.advance(token):
                ended.append((answer.row, None))
        except Exception as error:  # noqa: BLE001  it concerns this answer alone
            ended.append((answer.row, error))
    return ended


class _BatchAnswer(AnswerInProgress, Generic[RequestT]):
    """An answer in a row of the batch. A chosen token and those that it forces are read in one pass."""

    def __init__(self, base: BaseVLM, decoder: BatchDecoder, order: AnswerOrder[RequestT]) -> None:
        self._began = time.perf_counter()
        self._prompt = order.prompt()
        self.row = decoder.open(self._prompt)
        followed = (order.schema or critique_json_schema()) if order.constrained else None
        sampler = TokenSampler(base, self.row.logits.shape[-1], order.temperature, order.seed, False, followed)
        super().__init__(base, sampler, order.max_tokens, order.on_token)
        self.order = order
        self._base, self._decoder = base, decoder
        self._reading: list[int] = []
        self._chosen = False

    def advance(self, likeliest: int) -> bool:
        """Note what was read, and read what comes next, such as the `likeliest` token; True if the answer ended."""
        self._append_known(self._reading, self.row.logits, chosen=self._chosen)
        forced = self._forced()
        self._chosen = not forced
        self._reading = self._after_forced(forced) if forced else self._after_choice(self._choice(likeliest))
        if not self._goes_on(self._reading):
            self._append_known(self._reading, None, chosen=self._chosen)
            return True
        self._decoder.feed(self.row, self._reading)
        self.passes += 1
        return False

    def _choice(self, likeliest: int) -> int:
        logits = self.row.logits
        return self._choose.greedy_token(logits, likeliest) if self._choose.greedy else self._choose.choose(logits)

    def result(self) -> Generation:
        """The finished answer. Its times include the work for the rows next to it."""
        ended = time.perf_counter()
        scores = self.score_recorder.score_distributions(
            self.tokens, lambda index, token: self._decoder.probe(self.row, [(index, token)])[0]
        )
        times = (self._began, self.first_token_time or ended, ended)
        return finished_generation(self._base, self._prompt, self, scores, times)
