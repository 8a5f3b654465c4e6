"""Faults planted in real adapters: each is trained on mini as somebody might by mistake, and put through the gates.

    python -m bench.planted_faults [FAULT ...] [--photographs 48] [--epochs 4] [--out FILE]

A fault counts as caught when the gate that is meant for it says FAIL, or at least refuses to pass. The sound adapter,
trained the same way on the right data, must not be failed by its gate; on so little data it may stay undecided. Time is
left out: it says nothing about these faults.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.evaluation import (
    CandidateInfo,
    EvaluationReport,
    LabelledPhotograph,
    TrainingProvenance,
    evaluate_adapter,
)
from mondrian_core.images import perceptual_hash
from mondrian_core.prompts import AdvisorPrompt, training_messages
from mondrian_core.recipes import Recipe, TrainRecipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

if TYPE_CHECKING:
    from mondrian_core.mini.scene import Scene
    from mondrian_core.mini.tastes import AdvisorTaste
    from mondrian_core.models.base_model import BaseVLM

ADVISOR_PROMPT = AdvisorPrompt("ansel", "Ansel Adams")
TEST_PHOTOGRAPHS = 24  # photographs with labels that no adapter is trained on
EVALUATE_SETTINGS = {
    "compliance_photographs": 32,
    "latency_pairs": 3,
    "latency_tokens": 8,
    "effect_photographs": 4,
    "edited_photographs": 4,
    "constrained_photographs": 0,
}
RowTransform = Callable[["SceneSplit", list[DatasetRow]], list[DatasetRow]]


@dataclass(frozen=True)
class SceneSplit:
    """Scenes to train on and scenes to test with; the same for every fault."""

    train: tuple[Scene, ...]
    test: tuple[Scene, ...]


@dataclass(frozen=True)
class PlantedFault:
    """What is done to the training rows, and the gate (or its check) that is meant to notice."""

    transform: RowTransform
    gate: str
    check: str | None = None


def make_scene_split(photographs: int, seed: int) -> SceneSplit:
    """Scenes of mini's renderer, `photographs` of them to train on."""
    from mondrian_core.mini import renderer

    rng = np.random.default_rng(seed)
    scenes = [renderer.sample_scene(rng) for _ in range(photographs + TEST_PHOTOGRAPHS)]
    return SceneSplit(tuple(scenes[:photographs]), tuple(scenes[photographs:]))


def _scene_row(scene: Scene, taste: AdvisorTaste, number: int, side: str = "train") -> DatasetRow:
    """A scene with one advisor's critique."""
    from mondrian_core.mini import renderer, scene_critic

    critique = scene_critic.write_scene_critique(scene, taste, np.random.default_rng(number))
    answer = canonical_answer(critique)
    return DatasetRow(
        photo_id=f"{side}-{number}",
        image=renderer.render_scene(scene),
        messages=training_messages(ADVISOR_PROMPT, answer),
        answer=answer,
        scores=critique.scores,
        loss_dimensions=tuple(DIMENSIONS),
        weight=1.0,
    )


def scene_rows(scenes: Sequence[Scene], taste: AdvisorTaste, side: str = "train") -> list[DatasetRow]:
    """Every scene with one advisor's critique."""
    return [_scene_row(scene, taste, number, side) for number, scene in enumerate(scenes)]


def _unchanged(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Nothing is wrong."""
    return rows


def _with_other_advisor(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """The critiques are Watkins's."""
    from mondrian_core.mini.scene_critic import WATKINS

    return scene_rows(world.train, WATKINS)


def _with_grey_photographs(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """The pictures got lost on the way; the model was trained on plain grey."""
    return [replace(row, image=Image.new("RGB", row.image.size, (128, 128, 128))) for row in rows]


def _with_shuffled_photographs(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Every critique lies beside another photograph."""
    return [replace(row, image=other.image) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]


def _with_constant_scores(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Every score is 8."""
    return [_with_scores(row, dict.fromkeys(DIMENSIONS, 8)) for row in rows]


def _with_inverted_scores(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Whoever exported the scores had 10 for the worst."""
    return [_with_scores(row, {name: round(10 - row.scores[name]) for name in DIMENSIONS}) for row in rows]


def _with_truncated_answers(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Every answer is cut in the middle, as a token limit of the training would."""
    cut = [row.answer[: len(row.answer) // 2] for row in rows]
    return [
        replace(row, answer=answer, messages=training_messages(ADVISOR_PROMPT, answer))
        for row, answer in zip(rows, cut, strict=True)
    ]


def _with_leaked_test(world: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """The photographs of the test are in the training too."""
    from mondrian_core.mini.scene_critic import ANSEL

    return [*rows, *scene_rows(world.test, ANSEL, "test")]


def _with_scores(row: DatasetRow, scores: Mapping[str, int]) -> DatasetRow:
    from mondrian_core.critique_parsing import parse_critique_strict

    comments = {name: each.comment for name, each in parse_critique_strict(row.answer).assessments.items()}
    return replace(_with_answer(row, canonical_answer(make_critique(dict(scores), comments))), scores=dict(scores))


def _with_answer(row: DatasetRow, answer: str) -> DatasetRow:
    return replace(row, answer=answer, messages=training_messages(ADVISOR_PROMPT, answer))


FAULTS: Mapping[str, PlantedFault] = {
    "sound": PlantedFault(_unchanged, "score_error"),
    "another advisor": PlantedFault(_with_other_advisor, "score_error"),
    "without photographs": PlantedFault(
        _with_grey_photographs, "score_error"
    ),  # it goes on looking, so that is no fault of health
    "mixed up": PlantedFault(_with_shuffled_photographs, "health", "photograph_dependence"),
    "always 8": PlantedFault(_with_constant_scores, "health", "mode_collapse"),
    "upside down": PlantedFault(_with_inverted_scores, "score_error"),
    "cut short": PlantedFault(_with_truncated_answers, "format_compliance"),
    "test in training": PlantedFault(_with_leaked_test, "health", "leakage"),
}


def _evaluate_faulty_training(
    base: BaseVLM, world: SceneSplit, rows: list[DatasetRow], epochs: int, folder: Path
) -> EvaluationReport:
    """Train on the rows and put the adapter through the gates."""
    from mondrian_core.mini import rendered_photographs
    from mondrian_core.mini.scene_critic import ANSEL
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.training import train_adapter

    result = train_adapter(base, rows, [], TrainRecipe(epochs=epochs), folder)
    test = [
        LabelledPhotograph(photograph=row.photo_id, image=row.image, scores=dict(row.scores), critique=row.answer)
        for row in scene_rows(world.test, ANSEL, "test")
    ]
    trained = TrainingProvenance(
        photo_ids=frozenset(row.photo_id for row in rows),
        perceptual_hashes=tuple(perceptual_hash(row.image) for row in rows),
        scores=tuple(dict(row.scores) for row in rows),
        critiques=tuple(row.answer for row in rows),
    )
    recipe: Recipe = recipe_from_values({"evaluate": EVALUATE_SETTINGS})
    known = CandidateInfo(
        problems=lora_layers.validate_adapter_folder(base, result.adapter),
        trained=trained,
        cache=folder.parent / "cache",
    )
    return evaluate_adapter(
        base, result.adapter, test, rendered_photographs(8, seed=77), ADVISOR_PROMPT, recipe, folder, known
    )


def _fault_result(name: str, report: EvaluationReport) -> dict[str, Any]:
    """What the gate that is meant for a fault said, and which others objected."""
    fault = FAULTS[name]
    gate = report.gate(fault.gate)
    meant = next((part for part in gate.parts if part.name == fault.check), gate)
    others = [
        each.name
        for each in report.gates
        if each.verdict != "PASS" and each.name not in (fault.gate, "latency_overhead")
    ]
    return {
        "fault": name,
        "gate": fault.check or fault.gate,
        "verdict": meant.verdict,
        "sentence": meant.sentence,
        "others": others,
        "report": report.verdict,
    }


def is_expected_fault_result(found: Mapping[str, Any]) -> bool:
    """The sound adapter isn't failed; a faulty one doesn't pass its gate."""
    return found["verdict"] != ("FAIL" if found["fault"] == "sound" else "PASS")


def _planted_faults_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    lines = ["| planted | gate that is meant for it | says | because | others that object |", "|---" * 5 + "|"]
    lines += [
        f"| {each['fault']} | {each['gate']} | {each['verdict']} | {each['sentence']} | "
        f"{', '.join(each['others']) or '-'} |"
        for each in found
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a fault gets through or the sound adapter doesn't."""
    from mondrian_core.mini.scene_critic import ANSEL
    from mondrian_core.models.base_model import load_base

    parser = argparse.ArgumentParser(prog="bench.planted_faults", description="Faults planted in real adapters.")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--photographs", type=int, default=48, help="to train on (default 48)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    unknown = set(options.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    world, base, found = make_scene_split(options.photographs, options.seed), load_base("mini"), []
    rows = scene_rows(world.train, ANSEL)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.faults or FAULTS:
            changed = FAULTS[name].transform(world, rows)
            report = _evaluate_faulty_training(
                base, world, changed, options.epochs, Path(folder) / name.replace(" ", "-")
            )
            found.append(_fault_result(name, report))
            print(f"{name}: {found[-1]['gate']} {found[-1]['verdict']}", file=sys.stderr)
    print(_planted_faults_markdown(found))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all(map(is_expected_fault_result, found)) else 1


if __name__ == "__main__":
    sys.exit(main())
