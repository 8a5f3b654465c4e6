"""Trains adapters on shuffled scores on mini and records what they answer, for `bench.null_models`.

    python -m bench.worthless_adapters [--photographs 48] [--epochs 4] [--tested 64] [--out FILE]

Each adapter learns the advisor's critiques with the scores exchanged between photographs by a permutation of its own.
So none of them knows more than another, and which of two is closer to the advisor is chance. An adapter trained on the
correct scores is recorded too. All answer the same photographs, which none was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.planted_faults import ADVISOR_PROMPT, TEST_PHOTOGRAPHS, make_scene_split, scene_rows, with_scores
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.evaluation.measure.mlx_model import MlxModel
from mondrian_core.evaluation.measure.outcomes import outcome_from_answer
from mondrian_core.files import write_atomic
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import critique_messages
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import BASE

if TYPE_CHECKING:
    from mondrian_core.models.base_model import BaseVLM

RECORD = Path(__file__).with_suffix(".json")
SOUND = "sound"
SHUFFLES = 4  # adapters trained on shuffled scores


@dataclass(frozen=True)
class RecordedArms:
    """Scores (0-10) of the same N photographs.

    Attributes:
        labels: (N, D) the advisor's.
        predictions: by arm (N, D) expected scores: the base, `SOUND`, and "shuffled-0" and so on.
    """

    labels: NDArray[np.float64]
    predictions: dict[str, NDArray[np.float64]]

    @property
    def worthless(self) -> list[str]:
        """The arms that were trained on shuffled scores."""
        return [arm for arm in self.predictions if arm.startswith("shuffled")]


def load_recorded_arms(path: Path = RECORD) -> RecordedArms:
    """The recorded scores, without photographs that an arm gave no complete answer to."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    arms = {arm: np.array(rows, dtype=np.float64) for arm, rows in stored.items() if arm not in ("command", "labels")}
    kept = ~np.isnan(np.stack(list(arms.values()))).any(axis=(0, 2))
    return RecordedArms(np.array(stored["labels"])[kept], {arm: rows[kept] for arm, rows in arms.items()})


def _with_shuffled_scores(rows: Sequence[DatasetRow], seed: int) -> list[DatasetRow]:
    """Every critique with the scores of another row."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [
        with_scores(row, {name: round(rows[other].scores[name]) for name in DIMENSIONS})
        for row, other in zip(rows, order, strict=True)
    ]


def _answers(base: BaseVLM, rows: Sequence[DatasetRow], adapter: Path | None) -> list[list[float | None]]:
    """The expected scores of each row's photograph; None where a dimension has no score."""
    model, messages = MlxModel(base, ADVISOR_PROMPT), critique_messages(ADVISOR_PROMPT)
    found = []
    for row in rows:
        answer = model.ask(Question(messages=messages, image=row.image, adapter=adapter, constrained=False))
        scores = outcome_from_answer(row.photo_id, BASE, answer).best_scores
        found.append([round(scores[name], 3) if name in scores else None for name in DIMENSIONS])
    model.use(None)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Train, ask and write the record."""
    from mondrian_core.mini.scene_critic import ANSEL
    from mondrian_core.models.base_model import load_base
    from mondrian_core.training import TrainingRows, train_adapter

    parser = argparse.ArgumentParser(prog="bench.worthless_adapters", description="Record worthless adapters.")
    parser.add_argument("--photographs", type=int, default=48, help="training photographs (default 48)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--tested", type=int, default=64, help="photographs to answer (default 64)")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args(arguments)
    split = make_scene_split(options.photographs + max(0, options.tested - TEST_PHOTOGRAPHS), seed=16)
    test = scene_rows((*split.test, *split.train[options.photographs :])[: options.tested], ANSEL, "test")
    rows, base = scene_rows(split.train[: options.photographs], ANSEL), load_base("mini")
    training = {SOUND: rows} | {f"shuffled-{k}": _with_shuffled_scores(rows, k) for k in range(SHUFFLES)}
    predictions = {BASE: _answers(base, test, None)}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, learned) in enumerate(training.items()):
            recipe = TrainRecipe(epochs=options.epochs, seed=number)
            trained = train_adapter(base, TrainingRows(learned), recipe, Path(folder) / name)
            predictions[name] = _answers(base, test, trained.adapter)
            print(f"{name}: trained and asked", file=sys.stderr, flush=True)
    labels = [[row.scores[name] for name in DIMENSIONS] for row in test]
    settings = {"photographs": options.photographs, "epochs": options.epochs, "tested": options.tested}
    write_atomic(options.out, record_text({"command": settings, "labels": labels, **predictions}))
    return 0


def record_text(values: Mapping[str, Any]) -> str:
    """JSON with one row of scores on a line."""
    parts = []
    for key, value in values.items():
        rows = ",\n".join(json.dumps(row) for row in value) if isinstance(value, list) else ""
        parts.append(f"{json.dumps(key)}: " + (f"[\n{rows}\n]" if rows else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
