"""Detection of planted faults: adapters are trained on mini with typical data errors and pass through the gates.

    python -m bench.planted_faults [FAULT ...] [--photographs 48] [--epochs 4] [--out FILE]

A fault is detected when its gate says FAIL or INCONCLUSIVE. The adapter trained on correct data must not FAIL; on so
little data it may be INCONCLUSIVE. The latency gate is ignored: it is unrelated to these faults.
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

from bench.comment_faults import COMMENT_FAULTS, ScoredScene
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.evaluation import (
    CandidateInfo,
    EvaluationInputs,
    EvaluationReport,
    LabelledPhotograph,
    TrainingProvenance,
    evaluate_adapter,
    rescore_evaluation,
)
from mondrian_core.near_duplicates import photograph_fingerprint
from mondrian_core.prompts import AdvisorPrompt, training_messages
from mondrian_core.recipes import Recipe, TrainRecipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, canonical_answer, make_critique
from mondrian_core.samples_file import SAMPLES_NAME, SamplesFile

if TYPE_CHECKING:
    from mondrian_core.mini.scene import Scene
    from mondrian_core.mini.tastes import AdvisorTaste
    from mondrian_core.models.base_model import BaseVLM

ADVISOR_PROMPT = AdvisorPrompt("ansel", "Ansel Adams")
TEST_PHOTOGRAPHS = 24  # labelled photographs that no adapter is trained on
CATASTROPHE = 12  # one photograph without labels in so many gets a catastrophic answer: 3 of 36, 5 % of all 60
EVALUATE_SETTINGS = {
    "stop_early": False,  # every gate is measured
    "compliance_photographs": 60,
    "latency_pairs": 3,
    "latency_tokens": 8,
    "effect_photographs": 4,
    "edited_photographs": 4,
    "constrained_photographs": 0,
}
RowTransform = Callable[["SceneSplit", list[DatasetRow]], list[DatasetRow]]


@dataclass(frozen=True)
class SceneSplit:
    """Training and test scenes, the same for every fault."""

    train: tuple[Scene, ...]
    test: tuple[Scene, ...]


@dataclass(frozen=True)
class PlantedFault:
    """A change of the training rows, and the gate (or the check of a gate) that must detect it.

    `doctor` changes the recorded answers afterwards, for a fault that so few rows can't teach.
    """

    transform: RowTransform
    gate: str
    check: str | None = None
    doctor: Callable[[Path], None] | None = None


def make_scene_split(photographs: int, seed: int) -> SceneSplit:
    """Scenes of mini's renderer, `photographs` of them for training."""
    from mondrian_core.mini.scene import sample_scene

    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng) for _ in range(photographs + TEST_PHOTOGRAPHS)]
    return SceneSplit(tuple(scenes[:photographs]), tuple(scenes[photographs:]))


def _scene_row(scene: Scene, taste: AdvisorTaste, number: int, side: str = "train") -> DatasetRow:
    """A scene with one advisor's critique."""
    from mondrian_core.mini import scene_critic
    from mondrian_core.mini.renderer import render_scene

    critique = scene_critic.write_scene_critique(scene, taste, np.random.default_rng(number))
    answer = canonical_answer(critique)
    return DatasetRow(
        photo_id=f"{side}-{number}",
        image=render_scene(scene),
        messages=training_messages(ADVISOR_PROMPT, answer),
        answer=answer,
        scores=critique.scores,
        loss_dimensions=tuple(DIMENSIONS),
        weight=1.0,
    )


def scene_rows(scenes: Sequence[Scene], taste: AdvisorTaste, side: str = "train") -> list[DatasetRow]:
    """Every scene with one advisor's critique."""
    return [_scene_row(scene, taste, number, side) for number, scene in enumerate(scenes)]


def _unchanged(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """The correct data."""
    return rows


def _with_other_advisor(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Use another advisor's critiques."""
    from mondrian_core.mini.scene_critic import WATKINS

    return scene_rows(split.train, WATKINS)


def _with_grey_photographs(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Replace every photograph by plain grey."""
    return [replace(row, image=Image.new("RGB", row.image.size, (128, 128, 128))) for row in rows]


def _with_shuffled_photographs(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Pair every critique with another photograph."""
    return [replace(row, image=other.image) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]


def _with_constant_scores(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Set every score to 8."""
    return [with_scores(row, dict.fromkeys(DIMENSIONS, 8)) for row in rows]


def _with_inverted_scores(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Invert the scores: 10 is worst."""
    return [with_scores(row, {name: round(10 - row.scores[name]) for name in DIMENSIONS}) for row in rows]


def _with_truncated_answers(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Truncate every answer in the middle, as a token limit would."""
    cut = [row.answer[: len(row.answer) // 2] for row in rows]
    return [
        replace(row, answer=answer, messages=training_messages(ADVISOR_PROMPT, answer))
        for row, answer in zip(rows, cut, strict=True)
    ]


def _with_leaked_test(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    """Add the test photographs to the training rows."""
    from mondrian_core.mini.scene_critic import ANSEL

    return [*rows, *scene_rows(split.test, ANSEL, "test")]


def with_scores(row: DatasetRow, scores: Mapping[str, int]) -> DatasetRow:
    """The row with these scores in its answer."""
    from mondrian_core.critique_parsing import parse_critique_strict

    comments = {name: assessment.comment for name, assessment in parse_critique_strict(row.answer).assessments.items()}
    return replace(_with_answer(row, canonical_answer(make_critique(dict(scores), comments))), scores=dict(scores))


def _with_answer(row: DatasetRow, answer: str) -> DatasetRow:
    return replace(row, answer=answer, messages=training_messages(ADVISOR_PROMPT, answer))


def invert_some_answers(samples: Path) -> None:
    """Invert the candidate's scores on every `CATASTROPHE`th photograph without labels, in a file of samples."""
    file = SamplesFile(samples)
    labelled = {record["photograph"] for record in file.labels()}
    asked = [record for record in file.candidate_answers() if record["photograph"] not in labelled]
    for record in asked[::CATASTROPHE]:
        inverted = {
            key: {name: MAX_SCORE - score for name, score in record[key].items()}
            for key in ("scores", "expected_scores")
        }
        file.append("answer", {key: value for key, value in record.items() if key != "kind"} | inverted)


def _with_comment_fault(name: str) -> RowTransform:
    """Keep photographs and scores, and write faulty comments."""

    def transform(split: SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
        scored = [
            ScoredScene(scene, {key: round(score) for key, score in row.scores.items()})
            for scene, row in zip(split.train, rows, strict=True)
        ]
        comments = COMMENT_FAULTS[name](scored, np.random.default_rng(11))
        return [
            _with_answer(row, canonical_answer(make_critique(dict(each.scores), texts)))
            for row, each, texts in zip(rows, scored, comments, strict=True)
        ]

    return transform


FAULTS: Mapping[str, PlantedFault] = {
    "sound": PlantedFault(_unchanged, "score_error"),
    "another advisor": PlantedFault(_with_other_advisor, "score_error"),
    # the adapter still depends on the photograph, so the health gate doesn't detect this one
    "without photographs": PlantedFault(_with_grey_photographs, "score_error"),
    "mixed up": PlantedFault(_with_shuffled_photographs, "health", "photograph_dependence"),
    "always 8": PlantedFault(_with_constant_scores, "health", "mode_collapse"),
    "upside down": PlantedFault(_with_inverted_scores, "score_error"),
    "cut short": PlantedFault(_with_truncated_answers, "format_compliance"),
    "test in training": PlantedFault(_with_leaked_test, "health", "leakage"),
    "catastrophic on some": PlantedFault(_unchanged, "tail", doctor=invert_some_answers),
    **{name: PlantedFault(_with_comment_fault(name), "comments") for name in COMMENT_FAULTS},
}


def _evaluate_faulty_training(
    base: BaseVLM, split: SceneSplit, rows: list[DatasetRow], epochs: int, folder: Path
) -> EvaluationReport:
    """Train on the rows and evaluate the adapter."""
    from mondrian_core.mini import rendered_photographs
    from mondrian_core.mini.scene_critic import ANSEL, WATKINS
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.training import TrainingRows, train_adapter

    result = train_adapter(base, TrainingRows(rows), TrainRecipe(epochs=epochs), folder)
    test = [
        LabelledPhotograph(photograph=row.photo_id, image=row.image, scores=dict(row.scores), critique=row.answer)
        for row in scene_rows(split.test, ANSEL, "test")
    ]
    trained = TrainingProvenance(
        photo_ids=frozenset(row.photo_id for row in rows),
        fingerprints=tuple(photograph_fingerprint(row.photo_id, row.image) for row in rows),
        scores=tuple(dict(row.scores) for row in rows),
        critiques=tuple(row.answer for row in rows),
    )
    recipe: Recipe = recipe_from_values({"evaluate": EVALUATE_SETTINGS})
    known = CandidateInfo(
        problems=lora_layers.validate_adapter_folder(base, result.adapter),
        trained=trained,
        other_critiques=[row.answer for row in scene_rows(split.train, WATKINS)],
        cache=folder.parent / "cache",
    )
    inputs = EvaluationInputs(
        adapter=result.adapter,
        labelled=test,
        unlabelled=rendered_photographs(60 - TEST_PHOTOGRAPHS, seed=77),
        prompt=ADVISOR_PROMPT,
        recipe=recipe,
        out=folder,
        info=known,
    )
    return evaluate_adapter(base, inputs)


def _fault_result(name: str, report: EvaluationReport) -> dict[str, Any]:
    """The verdict of the gate for a fault, and the other gates that don't pass."""
    fault = FAULTS[name]
    gate = report.gate(fault.gate)
    intended = next((part for part in gate.parts if part.name == fault.check), gate)
    others = [
        each.name
        for each in report.gates
        if each.verdict != "PASS" and each.name not in (fault.gate, "latency_overhead")
    ]
    return {
        "fault": name,
        "gate": fault.check or fault.gate,
        "verdict": intended.verdict,
        "sentence": intended.sentence,
        "others": others,
        "report": report.verdict,
    }


def is_expected_fault_result(result: Mapping[str, Any]) -> bool:
    """True if the sound adapter doesn't FAIL, or a faulty one doesn't PASS its gate."""
    return result["verdict"] != ("FAIL" if result["fault"] == "sound" else "PASS")


def _planted_faults_markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = ["| fault | gate | verdict | reason | other gates that don't pass |", "|---" * 5 + "|"]
    lines += [
        f"| {each['fault']} | {each['gate']} | {each['verdict']} | {each['sentence']} | "
        f"{', '.join(each['others']) or '-'} |"
        for each in results
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; exit status 1 when a fault isn't detected, or the sound adapter fails."""
    from mondrian_core.mini.scene_critic import ANSEL
    from mondrian_core.models.base_model import load_base

    parser = argparse.ArgumentParser(prog="bench.planted_faults", description="Faults planted in real adapters.")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"one of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--photographs", type=int, default=48, help="training photographs (default 48)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    unknown = set(options.faults) - set(FAULTS)
    if unknown:
        parser.error(f"unknown fault: {', '.join(sorted(unknown))}")
    split, base, results = make_scene_split(options.photographs, options.seed), load_base("mini"), []
    rows = scene_rows(split.train, ANSEL)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.faults or FAULTS:
            changed = FAULTS[name].transform(split, rows)
            run = Path(folder) / name.replace(" ", "-")
            report = _evaluate_faulty_training(base, split, changed, options.epochs, run)
            if (doctor := FAULTS[name].doctor) is not None:
                doctor(run / SAMPLES_NAME)
                report = rescore_evaluation(run, recipe_from_values({"evaluate": EVALUATE_SETTINGS}))
            results.append(_fault_result(name, report))
            print(f"{name}: {results[-1]['gate']} {results[-1]['verdict']}", file=sys.stderr)
    print(_planted_faults_markdown(results))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0 if all(map(is_expected_fault_result, results)) else 1


if __name__ == "__main__":
    sys.exit(main())
