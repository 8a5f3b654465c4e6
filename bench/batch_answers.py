"""Critiques of several photographs together against one by one, with and without drafts from earlier answers.

python -m bench batch --pairs 5 --base-model FOLDER

Every side answers the same prompts, encoded before, and the answers are compared. A base with random weights never ends
an answer, so answers are cut at a number of tokens: equal work for every side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.critique_speed import ADVISOR
from bench.paired_timing import speedup_interval

PHOTOGRAPHS = 16
ANSWER_TOKENS = 48
SIDES = ("one by one", "one by one, with drafts", "together")


def measure_batch_answers(pairs: int, base_model: str) -> dict[str, Any]:
    """Ratios of time (one by one / together) over interleaved rounds: by the wall clock, and of processor time."""
    from mondrian_core.mini import rendered_photographs
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.inference.batch_generation import AnswerOrder, generate_batch
    from mondrian_core.models.inference.batch_size import measured_gain, rows_at_once
    from mondrian_core.models.inference.generation import generate, prepare_prompt
    from mondrian_core.models.inference.ngram_draft import NgramDrafter
    from mondrian_core.prompts import AdvisorPrompt, critique_messages

    base = load_base(base_model)
    messages = critique_messages(AdvisorPrompt(ADVISOR, "Ansel Adams"))
    prompts = [prepare_prompt(base, messages, image) for image in rendered_photographs(PHOTOGRAPHS, seed=3)]
    drafter = NgramDrafter()

    def alone(precedents: NgramDrafter | None) -> list[str]:
        answers = [
            generate(base, messages, None, prepared=prompt, max_tokens=ANSWER_TOKENS, precedents=precedents)
            for prompt in prompts
        ]
        return [answer.text for answer in answers]

    def together() -> list[str]:
        orders = iter(
            [
                AnswerOrder(key=number, prompt=prompt.load, max_tokens=ANSWER_TOKENS)
                for number, prompt in enumerate(prompts)
            ]
        )
        found = dict(generate_batch(base, lambda: next(orders, None), 8))
        return [getattr(found[number], "text", "") for number in range(len(prompts))]

    sides = dict(zip(SIDES, (lambda: alone(None), lambda: alone(drafter), together), strict=True))
    texts = {name: side() for name, side in sides.items()}
    wall, processor = _times(sides, pairs)
    return {
        "bench": "batch",
        "base_model": base_model,
        "photographs": PHOTOGRAPHS,
        "answer_tokens": ANSWER_TOKENS,
        "pairs": pairs,
        "same_answers": sum(map(str.__eq__, texts[SIDES[0]], texts[SIDES[2]])),
        "measured_gain": measured_gain(base, prompts[0]),
        "rows_chosen": rows_at_once(base, prompts[0], ANSWER_TOKENS, PHOTOGRAPHS),
        "wall": {name: speedup_interval(wall[SIDES[2]], wall[name]) for name in SIDES[:2]},
        "processor": {name: speedup_interval(processor[SIDES[2]], processor[name]) for name in SIDES[:2]},
    }


def _times(sides: dict[str, Callable[[], Any]], pairs: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and processor seconds by side, in an order that turns around with every round."""
    wall: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(pairs):
        for name in list(sides) if number % 2 == 0 else list(reversed(sides)):
            began, used = time.perf_counter(), time.process_time()
            sides[name]()
            wall[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - used)
    return wall, processor


def batch_answers_text(result: dict[str, Any]) -> str:
    """The result as a few lines."""
    lines = [
        f"batch ({result['base_model']}): {result['photographs']} photographs, {result['answer_tokens']} tokens, "
        f"{result['pairs']} interleaved rounds; {result['same_answers']} equal answers; "
        f"gain measured by the program {result['measured_gain']:.1f}, rows chosen {result['rows_chosen']}"
    ]
    for clock in ("wall", "processor"):
        for name, ratio in result[clock].items():
            lines.append(
                f"  {clock} time, {name} / together: {ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f})"
            )
    return "\n".join(lines)
