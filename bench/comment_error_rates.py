"""How often the gate `comments` refuses sound answers and faulty ones: simulated looks on mini's scenes.

    python -m bench.comment_error_rates [--looks 200] [--faulty 50]

Every look draws new photographs (scenes), new critiques of training by two advisors, and answers as an adapter would
write them: scores off by up to a point, and a share of the comments about something that isn't in the photograph.
Likelihoods are drawn around what a trained adapter of mini has (docs/experiments/comments.md). A fault changes the
answers only, so the likelihoods never help to find it. No model runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.comment_faults import COMMENT_FAULTS, Comments, ScoredScene, sound_comments
from mondrian_core.evaluation.gates.comments_gate import COMMENTS
from mondrian_core.evaluation.gates.results import FAIL, GateMeasurements, GateResult
from mondrian_core.evaluation.measure.comment_measurement import comment_measurement
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import ANSEL, GENERIC, WATKINS, score_scene
from mondrian_core.mini.tastes import AdvisorTaste
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, canonical_answer, make_critique
from mondrian_core.samples_file import BASE, CANDIDATE, SAMPLES_FORMAT, SAMPLES_NAME, SamplesFile
from mondrian_core.statistics.intervals import clopper_pearson_lower, clopper_pearson_upper

SIZES = (8, 20)
TRAINED = 40  # critiques of training, by each of two advisors
# Nats per token, mean and deviation over photographs: of the base, the candidate's gain, what a photograph tells the
# base, and how much more it tells the candidate.
BASE_NATS, GAIN, TOLD, TOLD_MORE = (0.285, 0.05), (0.022, 0.027), (0.16, 0.05), (0.005, 0.03)


@dataclass(frozen=True, kw_only=True)
class SimulatedWriter:
    """How an adapter writes: share of wrong comments (0-1), mean gain of likelihood (nats per token), and its fault."""

    misread: float = 0.1
    gain: float = GAIN[0]
    fault: str | None = None


ADAPTERS: Mapping[str, SimulatedWriter] = {
    "sound, 10 % of the comments misread": SimulatedWriter(),
    "sound, 30 % misread, no gain of likelihood": SimulatedWriter(misread=0.3, gain=0.0),
    **{name: SimulatedWriter(fault=name) for name in COMMENT_FAULTS},
}


def scored_scenes(count: int, rng: np.random.Generator) -> list[ScoredScene]:
    """New scenes with an adapter's scores: the advisor's, off by up to a point."""
    found = []
    for _ in range(count):
        scene = sample_scene(rng)
        scores = {
            name: int(np.clip(score + rng.integers(-1, 2), 0, MAX_SCORE))
            for name, score in score_scene(scene, ANSEL).items()
        }
        found.append(ScoredScene(scene, scores))
    return found


def advisors_critiques(scenes: Sequence[ScoredScene], taste: AdvisorTaste, rng: np.random.Generator) -> list[str]:
    """What an advisor writes about the scenes: own scores, own words."""
    scored = [ScoredScene(each.scene, score_scene(each.scene, taste)) for each in scenes]
    return [_answer(each.scores, each.comments(taste, rng)) for each in scored]


def _answer(scores: Mapping[str, Any], comments: Comments) -> str:
    return canonical_answer(make_critique(dict(scores), comments))


def written_comments(
    scenes: Sequence[ScoredScene], adapter: SimulatedWriter, rng: np.random.Generator
) -> list[Comments]:
    """The adapter's comments."""
    if adapter.fault is not None:
        return COMMENT_FAULTS[adapter.fault](scenes, rng)
    comments = sound_comments(scenes, rng)
    for own, scene in zip(comments, scenes, strict=True):
        other = ScoredScene(sample_scene(rng), scene.scores).comments(ANSEL, rng)
        own.update({name: other[name] for name in DIMENSIONS if rng.random() < adapter.misread})
    return comments


def write_comment_samples(
    folder: Path,
    scenes: Sequence[ScoredScene],
    comments: Sequence[Comments],
    rng: np.random.Generator,
    *,
    others: bool = True,
    gain: float = GAIN[0],
) -> Path:
    """A run folder with the samples of an evaluation.

    Args:
        folder: to write into.
        scenes: the held-out photographs, with the candidate's scores.
        comments: the candidate's.
        rng: draws everything else.
        others: the workspace has critiques by another advisor.
        gain: mean gain of likelihood over the base, nats per token.
    """
    file = SamplesFile(folder / SAMPLES_NAME)
    file.resume_or_start({"format": SAMPLES_FORMAT, "asked": [BASE, CANDIDATE]})
    file.append("facts", {"values": {"advisor": "ansel", "split": "test", "leaked": []}})
    trained = scored_scenes(TRAINED, rng)
    file.append("training", {"critiques": advisors_critiques(trained, ANSEL, rng)})
    if others:
        file.append("other_advisors", {"critiques": advisors_critiques(trained, WATKINS, rng)})
    names = [f"photo-{number:02d}" for number in range(len(scenes))]
    labels = advisors_critiques(scenes, ANSEL, rng)
    for number, (name, scene) in enumerate(zip(names, scenes, strict=True)):
        scores = score_scene(scene.scene, ANSEL)
        file.append("label", {"photograph": name, "title": name, "scores": scores, "critique": labels[number]})
        of_base = ScoredScene(scene.scene, score_scene(scene.scene, GENERIC))
        nats, told = max(0.05, rng.normal(*BASE_NATS)), rng.normal(*TOLD)
        own = max(0.02, nats - rng.normal(gain, GAIN[1]))
        shown = [names[(number + step) % len(names)] for step in range(1, min(8, len(names)))]
        for arm, text, own_nats, more in (
            (BASE, _answer(of_base.scores, of_base.comments(GENERIC, rng)), nats, told),
            (CANDIDATE, _answer(scene.scores, comments[number]), own, told + rng.normal(*TOLD_MORE)),
        ):
            record = {"photograph": name, "arm": arm}
            file.append("answer", {**record, "status": "valid", "text": text, "scores": dict(scene.scores)})
            read = {name: own_nats, **dict.fromkeys(shown, own_nats + more)}
            file.append("comment_likelihood", {**record, "nats": read})
    return folder


def judge_comments(folder: Path) -> GateResult:
    """The result of the gate `comments` for a run folder."""
    samples = load_evaluation_samples(folder / SAMPLES_NAME)
    return COMMENTS.evaluate(GateMeasurements(comments=comment_measurement(samples)), GateRecipe())


def refusals(adapter: SimulatedWriter, photographs: int, looks: int, seed: int) -> tuple[int, dict[str, int]]:
    """(Looks that the gate refuses, how often each check fails.)"""
    refused = 0
    checks: dict[str, int] = {}
    for look in range(looks):
        rng = np.random.default_rng([seed, look, photographs])
        scenes = scored_scenes(photographs, rng)
        with tempfile.TemporaryDirectory() as folder:
            comments = written_comments(scenes, adapter, rng)
            result = judge_comments(write_comment_samples(Path(folder), scenes, comments, rng, gain=adapter.gain))
        refused += result.verdict == FAIL
        for part in result.parts:
            if part.verdict == FAIL:
                checks[part.name] = checks.get(part.name, 0) + 1
    return refused, checks


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench.comment_error_rates", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--looks", type=int, default=200, help="looks of a sound adapter (default 200)")
    parser.add_argument("--faulty", type=int, default=50, help="looks of each faulty one (default 50)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print("| adapter | photographs | looks | refused | 95 % interval | checks that fail |")
    print("|---|---:|---:|---:|---:|---|")
    for name, adapter in ADAPTERS.items():
        looks = options.faulty if adapter.fault else options.looks
        for photographs in SIZES:
            refused, checks = refusals(adapter, photographs, looks, options.seed)
            low, high = clopper_pearson_lower(refused, looks, 0.975), clopper_pearson_upper(refused, looks, 0.975)
            named = ", ".join(f"{check} {count}" for check, count in sorted(checks.items(), key=lambda each: -each[1]))
            print(
                f"| {name} | {photographs} | {looks} | {refused / looks:.1%} | {low:.1%} to {high:.1%} "
                f"| {named or '-'} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
