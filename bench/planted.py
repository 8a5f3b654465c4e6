"""Faults planted in real adapters: each is trained on mini as somebody might by mistake, and put through the gates.

    python -m bench.planted [FAULT ...] [--photographs 48] [--epochs 4] [--out FILE]

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

from mondrian_core.evaluation import Known, Labelled, Report, Trained, evaluate
from mondrian_core.images import perceptual_hash
from mondrian_core.prompts import Voice, training_messages
from mondrian_core.recipes import Recipe, TrainRecipe, recipe_of
from mondrian_core.rows import Row
from mondrian_core.rubric import DIMENSIONS, canonical, make_critique

if TYPE_CHECKING:
    from mondrian_core.mini.scene import Scene
    from mondrian_core.mini.tastes import Taste
    from mondrian_core.models.base import Base

VOICE = Voice("ansel", "Ansel Adams")
TESTED = 24  # photographs with labels that no adapter is trained on
SETTINGS = {
    "compliance_photographs": 32,
    "latency_pairs": 3,
    "latency_tokens": 8,
    "effect_photographs": 4,
    "edited_photographs": 4,
    "constrained_photographs": 0,
}
Change = Callable[["World", list[Row]], list[Row]]


@dataclass(frozen=True)
class World:
    """Scenes to train on and scenes to test with; the same for every fault."""

    train: tuple[Scene, ...]
    test: tuple[Scene, ...]


@dataclass(frozen=True)
class Fault:
    """What is done to the training rows, and the gate (or its check) that is meant to notice."""

    change: Change
    gate: str
    part: str | None = None


def world_of(photographs: int, seed: int) -> World:
    """Scenes of mini's renderer, `photographs` of them to train on."""
    from mondrian_core.mini import render

    rng = np.random.default_rng(seed)
    scenes = [render.sample_scene(rng) for _ in range(photographs + TESTED)]
    return World(tuple(scenes[:photographs]), tuple(scenes[photographs:]))


def row_of(scene: Scene, taste: Taste, number: int, side: str = "train") -> Row:
    """A scene with one advisor's critique."""
    from mondrian_core.mini import critic, render

    critique = critic.write_critique(scene, taste, np.random.default_rng(number))
    answer = canonical(critique)
    return Row(
        lineage=f"{side}-{number}",
        image=render.render(scene),
        messages=training_messages(VOICE, answer),
        answer=answer,
        scores=critique.scores,
        loss_dimensions=tuple(DIMENSIONS),
        weight=1.0,
    )


def rows_of(scenes: Sequence[Scene], taste: Taste, side: str = "train") -> list[Row]:
    """Every scene with one advisor's critique."""
    return [row_of(scene, taste, number, side) for number, scene in enumerate(scenes)]


def as_it_is(world: World, rows: list[Row]) -> list[Row]:
    """Nothing is wrong."""
    return rows


def of_another_advisor(world: World, rows: list[Row]) -> list[Row]:
    """The critiques are Watkins's."""
    from mondrian_core.mini.critic import WATKINS

    return rows_of(world.train, WATKINS)


def without_photographs(world: World, rows: list[Row]) -> list[Row]:
    """The pictures got lost on the way; the model was trained on plain grey."""
    return [replace(row, image=Image.new("RGB", row.image.size, (128, 128, 128))) for row in rows]


def mixed_up(world: World, rows: list[Row]) -> list[Row]:
    """Every critique lies beside another photograph."""
    return [replace(row, image=other.image) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]


def always_eight(world: World, rows: list[Row]) -> list[Row]:
    """Every score is 8."""
    return [_with_scores(row, dict.fromkeys(DIMENSIONS, 8)) for row in rows]


def upside_down(world: World, rows: list[Row]) -> list[Row]:
    """Whoever exported the scores had 10 for the worst."""
    return [_with_scores(row, {name: round(10 - row.scores[name]) for name in DIMENSIONS}) for row in rows]


def cut_short(world: World, rows: list[Row]) -> list[Row]:
    """Every answer is cut in the middle, as a token limit of the training would."""
    cut = [row.answer[: len(row.answer) // 2] for row in rows]
    return [
        replace(row, answer=answer, messages=training_messages(VOICE, answer))
        for row, answer in zip(rows, cut, strict=True)
    ]


def with_the_test(world: World, rows: list[Row]) -> list[Row]:
    """The photographs of the test are in the training too."""
    from mondrian_core.mini.critic import ANSEL

    return [*rows, *rows_of(world.test, ANSEL, "test")]


def _with_scores(row: Row, scores: Mapping[str, int]) -> Row:
    from mondrian_core.rubric import read_strict

    comments = {name: each.comment for name, each in read_strict(row.answer).assessments.items()}
    return replace(_with_answer(row, canonical(make_critique(dict(scores), comments))), scores=dict(scores))


def _with_answer(row: Row, answer: str) -> Row:
    return replace(row, answer=answer, messages=training_messages(VOICE, answer))


FAULTS: Mapping[str, Fault] = {
    "sound": Fault(as_it_is, "score_error"),
    "another advisor": Fault(of_another_advisor, "score_error"),
    "without photographs": Fault(
        without_photographs, "score_error"
    ),  # it goes on looking, so that is no fault of health
    "mixed up": Fault(mixed_up, "health", "photograph_dependence"),
    "always 8": Fault(always_eight, "health", "mode_collapse"),
    "upside down": Fault(upside_down, "score_error"),
    "cut short": Fault(cut_short, "format_compliance"),
    "test in training": Fault(with_the_test, "health", "leakage"),
}


def judged(base: Base, world: World, rows: list[Row], epochs: int, folder: Path) -> Report:
    """Train on the rows and put the adapter through the gates."""
    from mondrian_core.mini import rendered_photographs
    from mondrian_core.mini.critic import ANSEL
    from mondrian_core.models import adapters
    from mondrian_core.training import train

    result = train(base, rows, [], TrainRecipe(epochs=epochs), folder)
    test = [
        Labelled(photograph=row.lineage, image=row.image, scores=dict(row.scores), critique=row.answer)
        for row in rows_of(world.test, ANSEL, "test")
    ]
    trained = Trained(
        lineages=frozenset(row.lineage for row in rows),
        looks=tuple(perceptual_hash(row.image) for row in rows),
        scores=tuple(dict(row.scores) for row in rows),
        critiques=tuple(row.answer for row in rows),
    )
    recipe: Recipe = recipe_of({"evaluate": SETTINGS})
    known = Known(problems=adapters.check(base, result.adapter), trained=trained, cache=folder.parent / "cache")
    return evaluate(base, result.adapter, test, rendered_photographs(8, seed=77), VOICE, recipe, folder, known)


def outcome(name: str, report: Report) -> dict[str, Any]:
    """What the gate that is meant for a fault said, and which others objected."""
    fault = FAULTS[name]
    gate = report.gate(fault.gate)
    meant = next((part for part in gate.parts if part.name == fault.part), gate)
    others = [
        each.name
        for each in report.gates
        if each.verdict != "PASS" and each.name not in (fault.gate, "latency_overhead")
    ]
    return {
        "fault": name,
        "gate": fault.part or fault.gate,
        "verdict": meant.verdict,
        "sentence": meant.sentence,
        "others": others,
        "report": report.verdict,
    }


def as_meant(found: Mapping[str, Any]) -> bool:
    """The sound adapter isn't failed; a faulty one doesn't pass its gate."""
    return found["verdict"] != ("FAIL" if found["fault"] == "sound" else "PASS")


def table(found: Sequence[Mapping[str, Any]]) -> str:
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
    from mondrian_core.mini.critic import ANSEL
    from mondrian_core.models.base import load_base

    parser = argparse.ArgumentParser(prog="bench.planted", description="Faults planted in real adapters.")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--photographs", type=int, default=48, help="to train on (default 48)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    unknown = set(options.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    world, base, found = world_of(options.photographs, options.seed), load_base("mini"), []
    rows = rows_of(world.train, ANSEL)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.faults or FAULTS:
            changed = FAULTS[name].change(world, rows)
            report = judged(base, world, changed, options.epochs, Path(folder) / name.replace(" ", "-"))
            found.append(outcome(name, report))
            print(f"{name}: {found[-1]['gate']} {found[-1]['verdict']}", file=sys.stderr)
    print(table(found))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all(map(as_meant, found)) else 1


if __name__ == "__main__":
    sys.exit(main())
