"""Write the dimensions of a critique side by side: one batch of eight rows that share the prompt.

What the experiment `bench.answer_layouts` trains and times; the product writes the dimensions one after the other.

The prompt and the beginning of the answer are read once. Every dimension continues from there as a branch that doesn't
see the others, so a pass reads the weights once for eight tokens. The canonical answer is assembled from the branches.
With scores first, a line with all scores comes before, which every dimension sees.

Shapes: `V` vocabulary.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

import mondrian_core.models  # noqa: F401  (loads the fast BLAS before mlx)
from mondrian_core.models.inference.batch_decoding import BatchDecoder, DecodingRow
from mondrian_core.models.inference.generation import Generation
from mondrian_core.models.inference.generation_loop import TokenSampler
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_answer, tokenize_plain_text
from mondrian_core.models.score_distribution import ScoreDistribution, ScoreLogitsRecorder, decode_token_texts
from mondrian_core.rubric import (
    DIMENSIONS,
    canonical_answer,
    critique_json_schema,
    dump_canonical_json,
    int_if_whole,
    make_critique,
)

if TYPE_CHECKING:
    from mondrian_core.models.base_model import BaseVLM

BRANCH_STRIDE = 20  # rotary positions from the start of a dimension to the next one's; near what a comment takes
_WRITTEN = re.compile(r'"comment": "(?:[^"\\]|\\.)*"', re.DOTALL)


class AnswerLayout(StrEnum):
    """How an adapter writes an answer: dimension after dimension, or all at once, with or without all scores before."""

    CANONICAL = "canonical"
    SIDE_BY_SIDE = "side_by_side"
    SCORES_FIRST = "scores_first"


def scores_line(scores: Mapping[str, float]) -> str:
    """The line of all scores, by dimension."""
    return dump_canonical_json({name: {"score": int_if_whole(scores[name])} for name in DIMENSIONS})


def scores_line_schema() -> dict[str, Any]:
    """JSON schema of the line of scores."""
    score = critique_json_schema()["properties"]["dimensional_analysis"]["properties"][DIMENSIONS[0]]
    entry = {**score, "properties": {"score": score["properties"]["score"]}, "required": ["score"]}
    names = dict.fromkeys(DIMENSIONS, entry)
    return {"type": "object", "properties": names, "required": list(DIMENSIONS), "additionalProperties": False}


def dimension_name_spans(answer: str) -> list[tuple[int, int]]:
    """(start, end) character offsets of each dimension's name in a canonical answer."""
    starts = [answer.index(f'"{name}": {{"score": ') + 1 for name in DIMENSIONS]
    return [(start, start + len(name)) for start, name in zip(starts, DIMENSIONS, strict=True)]


@dataclass(frozen=True)
class AnswerParts:
    """Tokens of a canonical answer's beginning, and of each dimension's name, as the tokenizer spells them there."""

    trunk: tuple[int, ...]
    names: tuple[tuple[int, ...], ...]


def answer_parts(base: BaseVLM, messages: list[dict[str, Any]]) -> AnswerParts:
    """The parts that every canonical answer has in common."""
    if "answer_parts" not in base.cache:
        text = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 5), dict.fromkeys(DIMENSIONS, "Plain.")))
        answer = encode_answer(base, messages, text)
        names = [answer.tokens_at(span) for span in dimension_name_spans(text)]
        base.cache["answer_parts"] = AnswerParts(
            answer.ids[: names[0].start], tuple(answer.ids[name.start : name.stop] for name in names)
        )
    return cast(AnswerParts, base.cache["answer_parts"])


def open_branch(decoder: BatchDecoder, trunk: DecodingRow, number: int) -> DecodingRow:
    """A branch for dimension `number`, at the position where its tokens would roughly be in a canonical answer."""
    row = decoder.branch(trunk)
    row._next_position += number * BRANCH_STRIDE
    return row


class _Branch:
    """One dimension while it is written, or the line of scores.

    Its tokens and text are those of an answer that begins with this dimension.
    """

    def __init__(self, base: BaseVLM, sampler: TokenSampler, limit: int) -> None:
        self._base, self._sampler, self._limit = base, sampler, limit
        self.recorder = ScoreLogitsRecorder(base)
        self.tokens: list[int] = []
        self.text = ""
        self.reading: list[int] = []
        self.ended = self.whole = False

    def begin(self, before: Sequence[int], known: Sequence[int]) -> None:
        """Start after the tokens `before`, which the row has read, with the known tokens."""
        self._sampler.consume(before)
        self.reading = list(before)
        self.note(None)
        self._sampler.consume(known)
        self.reading = [*known, *self._forced()]

    def _forced(self) -> list[int]:
        """What the grammar forces now; its end ends the branch."""
        forced = self._sampler.forced()
        ending = next((index for index, token in enumerate(forced) if token in self._base.end_tokens), None)
        if ending is not None:
            self.ended = self.whole = True
        self._sampler.consume(forced[:ending])
        return forced[:ending]

    def note(self, logits: mx.array | None) -> None:
        """Add what was read; `logits` (V,) are those after it."""
        for number, token in enumerate(self.reading, start=1):
            self.tokens.append(token)
            self.text += decode_token_texts(self._base, [token])[0]
            self.recorder.record(len(self.tokens) - 1, token, logits if number == len(self.reading) else None)
        self.reading = []

    def choose(self, logits: mx.array, likeliest: int) -> None:
        """Choose a token; it is read next with those that it forces, unless it ends the branch."""
        token = self._sampler.greedy_token(logits, likeliest)
        if token in self._base.end_tokens:
            self.ended = True
            return
        self._sampler.consume([token])
        self.reading = [token]
        self.whole = _WRITTEN.search(self.text + decode_token_texts(self._base, [token])[0]) is not None
        if self.whole or len(self.tokens) + 1 >= self._limit:
            self.note(None)
            self.ended = True
            return
        self.reading += self._forced()

    def assessment(self) -> tuple[float, str] | None:
        """(score, comment); None if they can't be read."""
        found = _WRITTEN.search(self.text)
        try:
            answer = json.loads(self.text[: found.end()] + "}}}") if found else {}
            (entry,) = answer["dimensional_analysis"].values()
            return float(entry["score"]), str(entry["comment"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _write(decoder: BatchDecoder, branches: dict[DecodingRow, _Branch]) -> float:
    """Decode the branches until all have ended; the time of the first choice."""
    first = 0.0
    ready = [(row, row.logits) for row, branch in branches.items() if not branch.reading]
    active = dict(branches)
    for row, branch in active.items():
        if branch.reading:
            decoder.feed(row, branch.reading)
    while active:
        ready = ready or decoder.run_pass()
        if not ready:
            continue
        likeliest = cast(list[int], mx.argmax(mx.stack([logits for _, logits in ready]), axis=-1).tolist())
        first = first or time.perf_counter()
        for (row, logits), token in zip(ready, likeliest, strict=True):
            branch = active[row]
            branch.note(logits)
            if not branch.ended:
                branch.choose(logits, token)
            if branch.reading:
                decoder.feed(row, branch.reading)
            elif branch.ended:
                del active[row]
        ready = []
    return first


def _schema_from(dimension: str) -> dict[str, Any]:
    """The rubric's schema with this dimension first and one after it, whose name the model's last token may begin."""
    schema = critique_json_schema()
    analysis = schema["properties"]["dimensional_analysis"]
    start = DIMENSIONS.index(dimension)
    kept = DIMENSIONS[start : start + 2]
    analysis["properties"] = {name: analysis["properties"][name] for name in kept}
    analysis["required"] = list(kept)
    return schema


def generate_side_by_side(
    base: BaseVLM,
    messages: list[dict[str, Any]],
    prompt: EncodedPrompt,
    layout: AnswerLayout,
    *,
    max_tokens: int,
    constrained: bool = True,
) -> Generation:
    """Answer about a photograph greedily, all dimensions at once, with the adapter in use.

    Args:
        base: the base.
        messages: system and user message.
        prompt: their encoding, with the photograph.
        layout: side by side, with or without a line of scores before.
        max_tokens: limit of the answer's length; a dimension may take an eighth of it.
        constrained: allow only what the rubric's schema allows.
    """
    began = time.perf_counter()
    parts, decoder = answer_parts(base, messages), BatchDecoder(base, 1)
    trunk = decoder.open(prompt)
    vocabulary = trunk.logits.shape[-1]
    known: dict[str, list[int]] = {name: [] for name in DIMENSIONS}
    line: _Branch | None = None
    if layout is AnswerLayout.SCORES_FIRST:
        sampler = TokenSampler(base, vocabulary, 0.0, 0, False, scores_line_schema())
        line = _Branch(base, sampler, max_tokens)
        line.begin((), ())
        _write(decoder, {trunk: line})
        if line.whole:
            written = json.loads(line.text)
            known = {name: tokenize_plain_text(base, f'": {{"score": {written[name]["score"]}') for name in DIMENSIONS}
    lead = [*(tokenize_plain_text(base, "\n") if line else ()), *parts.trunk]
    decoder.feed(trunk, lead)
    while trunk not in [row for row, _ in decoder.run_pass()]:
        pass
    branches: dict[DecodingRow, _Branch] = {}
    for number, name in enumerate(DIMENSIONS):
        schema = _schema_from(name) if constrained else None
        sampler = TokenSampler(base, vocabulary, 0.0, 0, False, schema)
        branch = _Branch(base, sampler, len(parts.trunk) + max_tokens // len(DIMENSIONS))
        branch.begin(parts.trunk, [*parts.names[number], *known[name]])
        branches[open_branch(decoder, trunk, number)] = branch
    first = _write(decoder, branches)
    passes = decoder.passes
    ended = time.perf_counter()
    scores = _line_scores(decoder, trunk, line) if line else _branch_scores(decoder, branches, len(parts.trunk))
    return Generation(
        text=_assembled(list(branches.values())),
        tokens=(*parts.trunk, *(token for branch in branches.values() for token in branch.tokens[len(parts.trunk) :])),
        finish_reason="stop" if all(branch.whole for branch in branches.values()) else "length",
        prompt_tokens=len(prompt.ids),
        image_tokens=prompt.image_tokens,
        prefill_seconds=first - began,
        decode_seconds=ended - first,
        expected_scores={name: found.expected_score for name, found in scores.items()},
        score_chances={name: found.chances for name, found in scores.items()},
        passes=passes,
    )


def _line_scores(decoder: BatchDecoder, row: DecodingRow, line: _Branch) -> dict[str, ScoreDistribution]:
    """The distributions of the scores in the line."""
    return line.recorder.score_distributions(line.tokens, lambda at, token: decoder.probe(row, [(at, token)])[0])


def _branch_scores(
    decoder: BatchDecoder, branches: dict[DecodingRow, _Branch], lead: int
) -> dict[str, ScoreDistribution]:
    """The distribution of each branch's score; `lead` of its tokens are not its row's own."""
    found: dict[str, ScoreDistribution] = {}
    for (row, branch), name in zip(branches.items(), DIMENSIONS, strict=True):

        def probe(index: int, token: int, row: DecodingRow = row) -> mx.array:
            return decoder.probe(row, [(index - lead, token)])[0]

        distributions = branch.recorder.score_distributions(branch.tokens, probe)
        if name in distributions:
            found[name] = distributions[name]
    return found


def _assembled(branches: Sequence[_Branch]) -> str:
    """The canonical answer; what the model wrote, end to end, if a dimension can't be read."""
    assessments = [branch.assessment() for branch in branches]
    if any(found is None for found in assessments):
        return "\n".join(branch.text for branch in branches)
    pairs = dict(zip(DIMENSIONS, [found for found in assessments if found], strict=True))
    return canonical_answer(
        make_critique({name: pairs[name][0] for name in DIMENSIONS}, {name: pairs[name][1] for name in DIMENSIONS})
    )
