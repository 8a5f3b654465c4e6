"""Measures mini as a user meets it: greedy, unconstrained, through mlx-vlm, in both forms of an answer.

`python -m mini_training.evaluate [--model DIR] [--photographs N] [--real FOLDER]` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mini_training.advice_metrics import AdviceAnswer, advice_metrics, read_critique, readable_share
from mini_training.answer_forms import sample_comparison
from mini_training.model_card import write_model_card
from mondrian_core.mini import mini_weights_path
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import Scene, sample_scene
from mondrian_core.mini.scene_critic import GENERIC, score_scene
from mondrian_core.models import cpu_blas
from mondrian_core.prompts import AdvisorPrompt, ChatMessage, comparison_messages, critique_messages
from mondrian_core.rubric import DIMENSIONS, AnswerForm

VOICE = AdvisorPrompt(GENERIC.advisor, GENERIC.name, GENERIC.bio)
ADVISING_VOICE = replace(VOICE, form=AnswerForm.ADVICE)
EVALUATION_SEED = 990_000_000  # far from every bank of the training script
MAX_TOKENS = 640


@dataclass(frozen=True)
class MiniAnswer:
    """What the model wrote about one photograph: scores (8,) or None when unreadable, the text, tokens a second."""

    scores: NDArray[np.float64] | None
    text: str
    tokens: int
    speed: float


Ask = Callable[[list[ChatMessage], Image.Image], MiniAnswer]


def make_mini_asker(folder: Path) -> Ask:
    """A function from messages and picture to the answer, on a freshly loaded model."""
    cpu_blas.preload_openblas()
    import mlx_vlm

    model, processor = mlx_vlm.load(str(folder))

    def ask(messages: list[ChatMessage], picture: Image.Image) -> MiniAnswer:
        prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        result = mlx_vlm.generate(model, processor, prompt, image=[picture], max_tokens=MAX_TOKENS, temperature=0.0)
        read = read_critique(result.text)
        scores = np.array([read.scores[name] for name in DIMENSIONS], float) if read else None
        return MiniAnswer(scores, result.text, result.generation_tokens, result.generation_tps)

    return ask


def evaluation_scenes(count: int) -> list[Scene]:
    """Scenes never trained on."""
    return [sample_scene(np.random.default_rng(EVALUATION_SEED + i)) for i in range(count)]


def true_scores(scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """(count, 8) scores of a plain critic."""
    return np.array([[score_scene(scene, GENERIC)[name] for name in DIMENSIONS] for scene in scenes], float)


def mini_metrics(answers: list[MiniAnswer], truth: NDArray[np.float64]) -> dict[str, Any]:
    """Compliance, squared errors (points squared) against the truth, the mean and a shuffle, and speed."""
    read = [i for i, answer in enumerate(answers) if answer.scores is not None]
    guess = np.array([answers[i].scores for i in read], float).reshape(-1, len(DIMENSIONS))
    true = truth[read]
    error = (guess - true) ** 2
    blind = (true - true.mean(0)) ** 2
    shuffled = (np.roll(guess, 1, axis=0) - true) ** 2  # every photograph gets the next one's answer
    return {
        "photographs": len(answers),
        "compliance": round(len(read) / len(answers), 4),
        "mse": round(float(error.mean()), 3),
        "mse_answering_the_mean": round(float(blind.mean()), 3),
        "mse_share_of_mean": round(float(error.mean() / blind.mean()), 3),
        "mse_shuffled": round(float(shuffled.mean()), 3),
        "share_by_dimension": dict(zip(DIMENSIONS, (error.mean(0) / blind.mean(0)).round(3).tolist(), strict=True)),
        "answer_tokens": round(float(np.mean([answer.tokens for answer in answers])), 1),
        "tokens_per_second_median": round(float(np.median([answer.speed for answer in answers])), 1),
    }


def measure_rendered(ask: Ask, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Figures of the first form, of advice and of answers in comparison with a portfolio, and their readability."""
    plain, advised, compared = [], [], []
    for i, scene in enumerate(scenes):
        picture = render_scene(scene)
        plain.append(ask(critique_messages(VOICE), picture))
        advised.append(ask(critique_messages(ADVISING_VOICE), picture))
        prompt = (VOICE, ADVISING_VOICE)[i % 2]
        comparison = sample_comparison(score_scene(scene, GENERIC), GENERIC, np.random.default_rng(i))
        compared.append(ask(comparison_messages(prompt, comparison), picture))
        if (i + 1) % 20 == 0:
            print(f"{i + 1} of {len(scenes)} photographs", file=sys.stderr, flush=True)
    advice = [AdviceAnswer(scene, read_critique(each.text)) for scene, each in zip(scenes, advised, strict=True)]
    return {
        "comments": mini_metrics(plain, true_scores(scenes)),
        "advice": {**mini_metrics(advised, true_scores(scenes)), **advice_metrics(advice)},
        "comparisons_readable": readable_share([each.text for each in compared]),
    }


def measure_on_real_photographs(folder: Path, ask: Ask) -> dict[str, Any]:
    """Compliance on every real photograph below `folder`; files that are not images are left out."""
    answers = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        try:
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except OSError:
            continue
        answers[path.name] = ask(critique_messages(ADVISING_VOICE), picture)
    read = {name: a.scores for name, a in answers.items() if a.scores is not None}
    scores = np.array(list(read.values()))
    return {
        "photographs": len(answers),
        "compliance": round(len(read) / max(1, len(answers)), 4),
        "score_sd_between_photographs": round(float(scores.std(0).mean()), 2) if len(read) else None,
        "unreadable": {name: a.text[:200] for name, a in answers.items() if a.scores is None},
        "scores": {name: values.astype(int).tolist() for name, values in read.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=mini_weights_path())
    parser.add_argument("--photographs", type=int, default=120)
    parser.add_argument("--real", type=Path, help="a folder of real photographs")
    parser.add_argument("--card", action="store_true", help="write the figures into the model card (README.md)")
    options = parser.parse_args(arguments)
    ask, began = make_mini_asker(options.model), time.time()
    report: dict[str, Any] = measure_rendered(ask, evaluation_scenes(options.photographs))
    if options.real:
        report["real"] = measure_on_real_photographs(options.real, ask)
    report["seconds"] = round(time.time() - began, 1)
    print(json.dumps(report, indent=2))
    if options.card:
        write_model_card(options.model, report)


if __name__ == "__main__":
    main()
