"""A training that can be killed at any moment: `python -m tests.training.killable OUT EPOCHS`.

It prints "begun" before its first step and the number of each step. Every step is followed by a checkpoint, so that a
kill also falls into the writing of one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import TrainingRows, train_adapter, training_loop
from tests.training.conftest import make_row

STEPS_PER_EPOCH = 2


def train(base: BaseVLM, out: Path, epochs: int) -> None:
    """Train, or continue from what is there."""
    rows = [make_row(number) for number in range(4)]
    # nothing is answered in between: that is resumed in test_training, and would be most of the time here
    recipe = TrainRecipe(
        rank=2,
        alpha=4,
        epochs=epochs,
        accumulation=2,
        learning_rate=5e-3,
        patience=99,
        dropout=0.1,
        answered_photographs=0,
    )

    def tell(event: StageEvent) -> None:
        if isinstance(event, StageProgressed) and event.stage == "encode" and event.detail == "validation":
            print("begun", flush=True)
        if isinstance(event, StageProgressed) and event.stage == "train":
            print(event.done, flush=True)

    train_adapter(base, TrainingRows(rows, rows[:1]), recipe, out, resume=True, listen=tell)
    print("ended", flush=True)


if __name__ == "__main__":
    training_loop._CHECKPOINT_SECONDS = 0.0
    train(load_base("mini"), Path(sys.argv[1]), int(sys.argv[2]))
