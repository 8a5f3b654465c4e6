"""Measures a model of the second generation as a user meets it: greedy, unconstrained, through mlx-vlm, in both forms.

`python -m mini_training.mini2.evaluate --model DIR [--photographs N]` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mini_training.evaluate import EVALUATION_SEED, VOICE, MiniAnswer, mini_metrics
from mini_training.mini2.advice_phrases import PRIORITIES
from mini_training.mini2.answer_forms import sample_comparison
from mini_training.mini2.renderer import render_photograph
from mini_training.mini2.scene_advice import advised_faults, by_priority, written_region
from mini_training.mini2.scene_faults import SceneFault
from mini_training.mini2.tastes import PLAIN, taste_scores
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.mini.scene import Scene, sample_scene
from mondrian_core.models import cpu_blas
from mondrian_core.prompts import ChatMessage, comparison_messages, critique_messages
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique, Region
from mondrian_core.text_quality import critique_text_problem

MAX_TOKENS = 640
Ask = Callable[[list[ChatMessage], Image.Image], tuple[str, int, float]]


@dataclass(frozen=True)
class AdviceAnswer:
    """What the model wrote about one scene in the advice form; None where it can't be read strictly."""

    scene: Scene
    critique: Critique | None


def kind_of_priority(text: str) -> str | None:
    """Which fault a priority names; None for words that none of the phrases has."""
    for kind, (phrase,) in PRIORITIES.items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", ".+", re.escape(phrase)), text):
            return kind
    return None


def worst_faults(scene: Scene) -> list[SceneFault]:
    """The true faults that matter most to a plain critic: one, or several with the same score."""
    scores = taste_scores(scene, PLAIN)
    faults = by_priority(advised_faults(scene, scores, PLAIN), scores, PLAIN)
    return [fault for fault in faults if scores[fault.dimension] == scores[faults[0].dimension]]


def overlap(first: Region, second: Region) -> float:
    """Intersection over union of two boxes, 0-1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def advice_metrics(answers: Sequence[AdviceAnswer]) -> dict[str, Any]:
    """Shares (0-1) of answers that are read strictly, that name the worst fault first, and how well boxes lie.

    `worst_fault_named` is over the scenes that have a fault worth naming, `box_overlap` over the dimensions for which
    both the scene and the answer have a box, `boxes_given` over those for which the scene has one.
    """
    named, overlaps, due = [], [], 0
    for answer in answers:
        faults = advised_faults(answer.scene, taste_scores(answer.scene, PLAIN), PLAIN)
        if not faults:
            continue
        given = answer.critique.priority_improvements if answer.critique else ()
        named.append(bool(given) and kind_of_priority(given[0]) in {fault.kind for fault in worst_faults(answer.scene)})
        boxes = answer.critique.regions if answer.critique else {}
        for fault in faults:
            due += bool(fault.regions)
            if fault.regions and boxes.get(fault.dimension):
                overlaps.append(overlap(written_region(fault.regions[0]), boxes[fault.dimension][0]))
    return {
        "photographs": len(answers),
        "compliance": _rounded(np.mean([answer.critique is not None for answer in answers])),
        "worst_fault_named": _rounded(np.mean(named)) if named else None,
        "boxes_given": _rounded(len(overlaps) / due) if due else None,
        "box_overlap": _rounded(np.mean(overlaps)) if overlaps else None,
    }


def readable_share(texts: Sequence[str]) -> float:
    """Share (0-1) of answers that are read strictly and in which no text is repeated or empty."""
    readable = [critique is not None and critique_text_problem(critique) is None for critique in map(_read, texts)]
    return _rounded(np.mean(readable))


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def _read(text: str) -> Critique | None:
    try:
        return parse_critique_strict(text)
    except CritiqueParseError:
        return None


def make_asker(folder: Path) -> Ask:
    """A function from messages and picture to (answer, tokens, tokens a second), on a freshly loaded model."""
    cpu_blas.preload_openblas()
    import mlx_vlm

    model, processor = mlx_vlm.load(str(folder))

    def ask(messages: list[ChatMessage], picture: Image.Image) -> tuple[str, int, float]:
        prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        result = mlx_vlm.generate(model, processor, prompt, image=[picture], max_tokens=MAX_TOKENS, temperature=0.0)
        return result.text, result.generation_tokens, result.generation_tps

    return ask


def measure(ask: Ask, count: int) -> dict[str, Any]:
    """Figures on `count` scenes never trained on: scores in the first form, advice, and comparison prompts."""
    scenes = [sample_scene(np.random.default_rng(EVALUATION_SEED + i)) for i in range(count)]
    advising = replace(VOICE, form=AnswerForm.ADVICE)
    plain, advised, compared = [], [], []
    for i, scene in enumerate(scenes):
        picture = render_photograph(scene)
        text, tokens, speed = ask(critique_messages(VOICE), picture)
        read = _read(text)
        scores = np.array([read.scores[name] for name in DIMENSIONS], float) if read else None
        plain.append(MiniAnswer(scores, text, tokens, speed))
        advised.append(AdviceAnswer(scene, _read(ask(critique_messages(advising), picture)[0])))
        prompt = (VOICE, advising)[i % 2]
        comparison = sample_comparison(taste_scores(scene, PLAIN), PLAIN, np.random.default_rng(i))
        compared.append(ask(comparison_messages(prompt, comparison), picture)[0])
    truth = np.array([[taste_scores(scene, PLAIN)[name] for name in DIMENSIONS] for scene in scenes], float)
    return {
        "comments": mini_metrics(plain, truth),
        "advice": advice_metrics(advised),
        "comparisons_readable": readable_share(compared),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="OUT/weights of the language stage")
    parser.add_argument("--photographs", type=int, default=120)
    options = parser.parse_args(arguments)
    print(json.dumps(measure(make_asker(options.model), options.photographs), indent=2))


if __name__ == "__main__":
    main()
