"""Time of one critique: our generation against mlx-vlm's, unconstrained and constrained, in one process.

    python -m bench critique --pairs 12

All sides use the same base model, photograph and messages, and decode greedily. Ours is constrained by the rubric's
schema. The unconstrained rival generates as many tokens as ours for the photograph (its end token is suppressed), so
the work is equal; a second answer, with the end token, measures how often it is valid. The constrained rival uses
mlx-vlm's logits processor; without Metal its mask kernel is replaced by array operations. Ratios are reported for wall
time and for this process's CPU time, which other work on the machine hardly affects.

"Ours with precedents" adds n-gram speculative decoding from answers about other photographs: WARMUP_ANSWERS of them
and those of earlier rounds. No photograph occurs twice. "Cold" starts each round with an empty drafter, "misled" with
valid answers whose words are shuffled, "unrelated" with random tokens: the cost of drafts that don't help.
"""

from __future__ import annotations

import copy
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.paired_timing import speedup_interval

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.inference.ngram_draft import NgramDrafter

MAX_TOKENS = 700
ADVISOR = "ansel"
WARMUP_ANSWERS = 24  # answers about other photographs before the first round
WARMUP_SEED = 10_000  # first scene of the warm-up answers; the rounds use scenes from 0
OURS, FREE, CONSTRAINED = "ours", "free", "constrained"
PRECEDENTS, COLD, MISLED, UNRELATED = "ours with precedents", "ours, cold", "ours, misled", "ours, unrelated"
SIDES = (OURS, PRECEDENTS, COLD, MISLED, UNRELATED, FREE, CONSTRAINED)
COMPARED_SIDES = (
    (OURS, FREE),
    (OURS, CONSTRAINED),
    (PRECEDENTS, FREE),
    (PRECEDENTS, CONSTRAINED),
    (PRECEDENTS, OURS),
    (COLD, FREE),
    (COLD, OURS),
    (MISLED, OURS),
    (UNRELATED, OURS),
)


def measure_critique_speed(pairs: int, base_model: str) -> dict[str, Any]:
    """Measure `pairs` rounds, each on a new photograph and in a different order of the sides."""
    import mondrian_core.models  # noqa: F401  (loads the fast BLAS before mlx, for the rivals too)

    contenders = _Contenders(base_model)
    contenders.fill_memories([_render_scene(WARMUP_SEED + number) for number in range(WARMUP_ANSWERS)])
    contenders.run_round(_render_scene(WARMUP_SEED + WARMUP_ANSWERS), 0)  # warm-up: compiles every forward pass
    rounds = [contenders.run_round(_render_scene(number), number) for number in range(pairs)]
    return {
        "bench": "critique",
        "base_model": base_model,
        "rounds": pairs,
        "answers_remembered_before": WARMUP_ANSWERS + 1,
        "same_answers": f"{sum(_all_answers_equal(each) for each in rounds)} of {pairs}",
        "sides": {name: _summarize_side([each[name] for each in rounds]) for name in SIDES},
        "times_faster": {
            f"{ours} / {rival}, {clock}": _speedup(rounds, ours, rival, clock)
            for ours, rival in COMPARED_SIDES
            for clock in ("seconds", "cpu_seconds")
        },
    }


def _render_scene(seed: int) -> Image.Image:
    """A rendered photograph for a seed."""
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene

    return render_scene(sample_scene(np.random.default_rng(seed)))


@dataclass(frozen=True, kw_only=True)
class _WrittenAnswer:
    """A generated answer, with our decoder's statistics."""

    text: str
    tokens: int
    passes: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class _TimedAnswer:
    """An answer, its wall and CPU time in seconds, and whether it is valid."""

    answer: _WrittenAnswer
    seconds: float
    cpu_seconds: float
    valid: bool


def _time_answer(act: Callable[[], _WrittenAnswer]) -> _TimedAnswer:
    """Run `act` once and time it with both clocks."""
    began, cpu_began = time.perf_counter(), time.process_time()
    made = act()
    return _TimedAnswer(made, time.perf_counter() - began, time.process_time() - cpu_began, _valid(made.text))


def _shuffled(text: str, rng: random.Random) -> str:
    """The answer with the words of all its comments shuffled."""
    answer = json.loads(text)
    parts = answer["dimensional_analysis"].values()
    words = [word for part in parts for word in part["comment"].split()]
    rng.shuffle(words)
    for part in parts:
        count = len(part["comment"].split())
        part["comment"], words = " ".join(words[:count]), words[count:]
    return json.dumps(answer)


class _Contenders:
    """All sides, with models loaded in advance."""

    def __init__(self, base_model: str) -> None:
        from mlx_vlm import load

        from mondrian_core.models.base_model import load_base
        from mondrian_core.models.inference.ngram_draft import NgramDrafter
        from mondrian_core.prompts import AdvisorPrompt, critique_messages

        self.memory, self.misled, self.unrelated = NgramDrafter(), NgramDrafter(), NgramDrafter()
        self.base = load_base(base_model)
        self.model, self.processor = load(str(self.base.path))
        self.messages = critique_messages(AdvisorPrompt(ADVISOR, "Ansel Adams", "Landscapes in black and white."))
        self.text = self.processor.apply_chat_template(self.messages, add_generation_prompt=True, tokenize=False)
        if not _has_metal():
            self.model.set_dtype(self.base.model.language_model.model.embed_tokens.weight.dtype)
            _mask_without_metal()

    def fill_memories(self, photographs: list[Image.Image]) -> None:
        """Fill the drafters with answers about these photographs, shuffled answers, and random tokens."""
        rng = random.Random(0)
        for photograph in photographs:
            made = self._ours(photograph, self.memory)
            mixed = self.base.tokenizer.encode(_shuffled(made.text, rng), add_special_tokens=False)
            self.misled.learn_answer(mixed)
            self.unrelated.learn_answer([rng.randrange(self.base.tokenizer.vocab_size) for _ in mixed])

    def run_round(self, photograph: Image.Image, number: int) -> dict[str, _TimedAnswer]:
        """Time every side once on this photograph; `number` rotates the order."""
        from mondrian_core.models.inference.ngram_draft import NgramDrafter

        tokens = self._ours(photograph).tokens
        cold, misled, unrelated = NgramDrafter(), copy.deepcopy(self.misled), copy.deepcopy(self.unrelated)
        work: dict[str, Callable[[], _WrittenAnswer]] = {
            OURS: lambda: self._ours(photograph),
            PRECEDENTS: lambda: self._ours(photograph, self.memory),
            COLD: lambda: self._ours(photograph, cold),
            MISLED: lambda: self._ours(photograph, misled),
            UNRELATED: lambda: self._ours(photograph, unrelated),
            FREE: lambda: self._rival(photograph, tokens, eos_tokens=[]),
            CONSTRAINED: lambda: self._rival(photograph, MAX_TOKENS, logits_processors=[self._processor()]),
        }
        names = list(work)
        first = number % len(names)
        found = {name: _time_answer(work[name]) for name in names[first:] + names[:first]}
        found[FREE] = replace(found[FREE], valid=_valid(self._rival(photograph, MAX_TOKENS).text))
        return found

    def _ours(self, photograph: Image.Image, memory: NgramDrafter | None = None) -> _WrittenAnswer:
        from mondrian_core.models.inference.generation import generate

        made = generate(
            self.base, self.messages, photograph, max_tokens=MAX_TOKENS, constrained=True, precedents=memory
        )
        return _WrittenAnswer(
            text=made.text, tokens=len(made.tokens), passes=made.passes, drafted=made.drafted, accepted=made.accepted
        )

    def _rival(self, photograph: Image.Image, tokens: int, **options: Any) -> _WrittenAnswer:
        from mlx_vlm import stream_generate

        text, count = "", 0
        for piece in stream_generate(
            self.model, self.processor, self.text, image=[photograph], max_tokens=tokens, temperature=0.0, **options
        ):
            text, count = text + piece.text, piece.generation_tokens
        return _WrittenAnswer(text=text, tokens=count)

    def _processor(self) -> Any:
        from mlx_vlm.structured import build_json_schema_logits_processor

        from mondrian_core.rubric import critique_json_schema

        return build_json_schema_logits_processor(self.processor.tokenizer, critique_json_schema())


def _has_metal() -> bool:
    import mlx.core as mx

    return bool(mx.metal.is_available())


def _mask_without_metal() -> None:
    """Replace mlx-vlm's mask kernel by the cheapest array operations."""
    import mlx.core as mx
    import mlx_vlm.structured as structured

    def apply(logits: mx.array, mask: mx.array) -> mx.array:
        words = mask.reshape(1, -1)
        bits = (words[:, :, None] >> mx.arange(32)) & 1
        allowed = bits.reshape(1, -1)[:, : logits.shape[-1]]
        return mx.where(allowed.astype(mx.bool_), logits.reshape(1, -1), -mx.inf)

    structured._apply_llguidance_mask = apply


def _valid(text: str) -> bool:
    """True for a complete answer of the schema. No grammar can enforce a grade that matches the scores."""
    from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict

    try:
        parse_critique_strict(text)
    except CritiqueParseError as error:
        return error.reason == "grade_inconsistent"
    return True


def _all_answers_equal(found: dict[str, _TimedAnswer]) -> bool:
    """True if no drafter changed the answer."""
    return len({found[name].answer.text for name in (OURS, PRECEDENTS, COLD, MISLED, UNRELATED)}) == 1


def _summarize_side(measured: list[_TimedAnswer]) -> dict[str, Any]:
    seconds = [each.seconds for each in measured]
    tokens, passes, drafted = (
        sum(getattr(each.answer, name) for each in measured) for name in ("tokens", "passes", "drafted")
    )
    return {
        "seconds_median": statistics.median(seconds),
        "seconds_spread": [min(seconds), max(seconds)],
        "cpu_seconds_median": statistics.median(each.cpu_seconds for each in measured),
        "tokens_mean": tokens / len(measured),
        "cpu_milliseconds_per_token": 1000 * statistics.median(e.cpu_seconds / e.answer.tokens for e in measured),
        "tokens_per_pass": tokens / passes if passes else None,
        "drafted_mean": drafted / len(measured),
        "accepted": sum(each.answer.accepted for each in measured) / drafted if drafted else None,
        "valid": f"{sum(each.valid for each in measured)} of {len(measured)}",
    }


def _speedup(rounds: list[dict[str, _TimedAnswer]], ours: str, rival: str, clock: str) -> dict[str, float]:
    """`speedup_interval` of two sides, by one of their clocks."""
    seconds = ([getattr(each[side], clock) for each in rounds] for side in (ours, rival))
    return speedup_interval(*seconds)
