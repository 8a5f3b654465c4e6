"""Time and passes of one critique where every side writes the same text: a person's length on any base.

    python -m bench scripted --base-model FOLDER --pairs 6

A base with random weights writes noise of any length, so the choices of each side are replaced by a given text: the
critiques in the database that MONDRIAN_BENCH_DATABASE names, else those of the synthetic advisor. All other work is
done: logits, the likeliest token, and the grammar's mask. "One by one" writes the dimensions in order, without drafts
from earlier answers; "runs apart" is the same with each forced run in a pass of its own; "side by side" writes all
dimensions as one batch; "scores first" writes a line of scores before that. The rival is mlx_vlm's stream_generate of
as many tokens.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.paired_timing import speedup_interval

if TYPE_CHECKING:
    import mlx.core as mx
    from PIL import Image

SAMPLES = "MONDRIAN_BENCH_DATABASE"  # a workspace's database, whose critiques are the texts
ONE_BY_ONE, RUNS_APART, SIDE_BY_SIDE, SCORES_FIRST = "one by one", "runs apart", "side by side", "scores first"
RIVAL = "mlx-vlm, free"
SIDES = (ONE_BY_ONE, RUNS_APART, SIDE_BY_SIDE, SCORES_FIRST, RIVAL)


@dataclass(frozen=True)
class TimedScript:
    """One timed answer: wall and CPU seconds, its tokens and the passes after the prompt."""

    seconds: float
    cpu_seconds: float
    tokens: int
    passes: int


def scripted_texts(count: int) -> list[str]:
    """Canonical answers to write."""
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.mini.scene_critic import write_scene_critique
    from mondrian_core.mini.tastes import ANSEL
    from mondrian_core.rubric import DIMENSIONS, make_critique
    from mondrian_core.training_target import training_target

    database = os.environ.get(SAMPLES)
    if database is None:
        rng = np.random.default_rng(0)
        return [training_target(write_scene_critique(sample_scene(rng), ANSEL, rng)) for _ in range(count)]
    columns = [f"{name}_{kind}" for kind in ("score", "comment") for name in DIMENSIONS]
    given = " AND ".join(f"{name}_comment <> ''" for name in DIMENSIONS)
    with sqlite3.connect(f"file:{Path(database).resolve()}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(columns)} FROM dimensional_profiles WHERE {given} LIMIT {count}"
        ).fetchall()
    found = [
        make_critique(dict(zip(DIMENSIONS, row[:8], strict=True)), dict(zip(DIMENSIONS, row[8:], strict=True)))
        for row in rows
    ]
    return [training_target(found[number % len(found)]) for number in range(count)]


def measure_scripted_critique(pairs: int, base_model: str) -> dict[str, Any]:
    """Measure `pairs` rounds of all sides, each on a new photograph and text, in a rotating order."""
    import mondrian_core.models  # noqa: F401  (loads the fast BLAS before mlx, for the rival too)

    stage = ScriptedStage(base_model)
    texts = scripted_texts(pairs)
    stage.run_round(texts[0], 0)  # compiles every forward pass
    rounds = [stage.run_round(text, number) for number, text in enumerate(texts)]
    return {
        "bench": "scripted",
        "base_model": base_model,
        "rounds": pairs,
        "sides": {name: _summary([each[name] for each in rounds]) for name in SIDES},
        "times_faster": {
            f"{ours} / {rival}, {clock}": _speedup(rounds, ours, rival, clock)
            for ours, rival in (*((ours, RIVAL) for ours in SIDES[:-1]), (ONE_BY_ONE, RUNS_APART))
            for clock in ("seconds", "cpu_seconds")
        },
    }


class ScriptedStage:
    """The base, loaded for both, and the photographs."""

    def __init__(self, base_model: str) -> None:
        from mlx_vlm import load

        from mondrian_core.models.base_model import load_base
        from mondrian_core.prompts import AdvisorPrompt, critique_messages

        self.base = load_base(base_model)
        self.model, self.processor = load(str(self.base.path))
        self.model.set_dtype(self.base.model.language_model.model.norm.weight.dtype)
        self.messages = critique_messages(AdvisorPrompt("ansel", "Ansel Adams", "Landscapes in black and white."))
        self.text = self.processor.apply_chat_template(self.messages, add_generation_prompt=True, tokenize=False)

    def run_round(self, text: str, number: int) -> dict[str, TimedScript]:
        """Every side once on one photograph; `number` rotates the order."""
        from bench.side_by_side import AnswerLayout

        photograph = _photograph(number)
        work: dict[str, Callable[[], tuple[int, int]]] = {
            ONE_BY_ONE: lambda: self._ours(photograph, text),
            RUNS_APART: lambda: self._runs_apart(photograph, text),
            SIDE_BY_SIDE: lambda: self._side_by_side(photograph, text, AnswerLayout.SIDE_BY_SIDE),
            SCORES_FIRST: lambda: self._side_by_side(photograph, text, AnswerLayout.SCORES_FIRST),
            RIVAL: lambda: self._rival(photograph, text),
        }
        first = number % len(SIDES)
        found = {}
        for name in (*SIDES[first:], *SIDES[:first]):
            began, cpu_began = time.perf_counter(), time.process_time()
            tokens, passes = work[name]()
            found[name] = TimedScript(time.perf_counter() - began, time.process_time() - cpu_began, tokens, passes)
        return found

    def _ours(self, photograph: Image.Image, text: str) -> tuple[int, int]:
        from mondrian_core.models.inference import generation

        with _scripted(self, text):
            made = generation.generate(self.base, self.messages, photograph, max_tokens=2048, constrained=True)
        assert made.text == text, made.text
        return len(made.tokens), made.passes

    def _runs_apart(self, photograph: Image.Image, text: str) -> tuple[int, int]:
        from mondrian_core.models.inference.decoding import CompiledDecoder
        from mondrian_core.models.inference.generation_loop import TokenSampler

        with _replaced(CompiledDecoder, "builds_ahead", True), _replaced(TokenSampler, "decides_what_follows", False):
            return self._ours(photograph, text)

    def _side_by_side(self, photograph: Image.Image, text: str, layout: Any) -> tuple[int, int]:
        from bench.side_by_side import generate_side_by_side
        from mondrian_core.models.inference import generation

        with _scripted(self, text):
            prompt = generation.prepare_prompt(self.base, self.messages, photograph)
            made = generate_side_by_side(self.base, self.messages, prompt, layout, max_tokens=2048)
        assert made.text == text, made.text
        return len(made.tokens), made.passes

    def _rival(self, photograph: Image.Image, text: str) -> tuple[int, int]:
        import mlx.core as mx
        from mlx_vlm import stream_generate

        script = self.script(text)
        place = 0

        def sampler(logits: mx.array) -> mx.array:
            nonlocal place
            token, place = script[min(place, len(script) - 1)], place + 1
            return mx.argmax(logits, axis=-1) * 0 + token

        count = 0
        for piece in stream_generate(
            self.model, self.processor, self.text, image=[photograph], max_tokens=len(script), sampler=sampler
        ):
            count = piece.generation_tokens
        return count, count

    def script(self, text: str) -> list[int]:
        """The text's tokens and the end token."""
        from mondrian_core.models.prompt_encoding import answer_token_ids

        return answer_token_ids(self.base, self.messages, text)


def _photograph(seed: int) -> Image.Image:
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene

    return render_scene(sample_scene(np.random.default_rng(seed)))


@contextmanager
def _scripted(stage: ScriptedStage, text: str) -> Iterator[None]:
    """Samplers write the text; a sampler for another schema begins with the schema's first dimension."""
    from bench import side_by_side
    from mondrian_core.critique_parsing import parse_critique_strict
    from mondrian_core.models.inference import generation
    from mondrian_core.models.inference.generation_loop import TokenSampler
    from mondrian_core.models.prompt_encoding import encode_answer
    from mondrian_core.rubric import DIMENSIONS

    answer = encode_answer(stage.base, stage.messages, text)
    spans = zip(DIMENSIONS, side_by_side.dimension_name_spans(text), strict=True)
    starts = {name: answer.tokens_at(span).start for name, span in spans}
    trunk = answer.ids[: starts[DIMENSIONS[0]]]
    line = stage.script(side_by_side.scores_line(parse_critique_strict(text).scores))

    class ScriptedSampler(TokenSampler):
        """A sampler that does all its work and then takes the script's next token."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            schema = arguments[-1]
            self._place = 0
            if schema == side_by_side.scores_line_schema():
                self._script: Sequence[int] = line
            else:
                first = next(iter(schema["properties"]["dimensional_analysis"]["properties"]))
                self._script = (*trunk, *answer.ids[starts[first] :])

        def sample(self, logits: mx.array) -> mx.array:
            return super().sample(logits) * 0 + self._script[self._place]

        def greedy_token(self, logits: mx.array, likeliest: int) -> int:
            token = self._script[self._place]
            assert self._grammar is not None and self._grammar.allows(token), (self._place, token)
            return token

        def consume(self, tokens: Sequence[int]) -> None:
            super().consume(tokens)
            self._place += len(tokens)

    with (
        _replaced(generation, "TokenSampler", ScriptedSampler),
        _replaced(side_by_side, "TokenSampler", ScriptedSampler),
    ):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _summary(measured: list[TimedScript]) -> dict[str, Any]:
    seconds = [each.seconds for each in measured]
    return {
        "seconds_median": statistics.median(seconds),
        "seconds_spread": [min(seconds), max(seconds)],
        "cpu_seconds_median": statistics.median(each.cpu_seconds for each in measured),
        "tokens_mean": statistics.fmean(each.tokens for each in measured),
        "passes_mean": statistics.fmean(each.passes for each in measured),
    }


def _speedup(rounds: list[dict[str, TimedScript]], ours: str, rival: str, clock: str) -> dict[str, float]:
    """`speedup_interval` of two sides, by one of their clocks."""
    seconds = ([getattr(each[side], clock) for each in rounds] for side in (ours, rival))
    return speedup_interval(*seconds)


def scripted_critique_text(result: dict[str, Any]) -> str:
    """The result as lines."""
    lines = [f"scripted ({result['base_model']}, {result['rounds']} interleaved rounds)"]
    for name, side in result["sides"].items():
        least, most = side["seconds_spread"]
        lines.append(
            f"  {name:<14} {side['seconds_median']:6.2f} s ({least:.2f} to {most:.2f}), processor "
            f"{side['cpu_seconds_median']:6.2f} s, {side['tokens_mean']:.0f} tokens, {side['passes_mean']:.0f} passes"
        )
    for sides, ratio in result["times_faster"].items():
        lines.append(
            f"  {sides}: {ratio['median']:.2f} times as fast, 95 % interval {ratio['low']:.2f} to "
            f"{ratio['high']:.2f}, rounds from {ratio['least']:.2f} to {ratio['most']:.2f}"
        )
    return "\n".join(lines)
