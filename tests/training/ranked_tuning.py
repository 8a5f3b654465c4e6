"""Preference tuning by several processes, or by one: `python -m tests.training.ranked_tuning FOLDER`.

Every rank has a run folder of its own, FOLDER/<rank>, as on machines that don't share a disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import OTHER_PHOTOGRAPH, PreferencePair
from mondrian_core.models.base_model import load_base
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import PreferencePairSplit, train_adapter
from mondrian_core.training.ranks import here
from tests.training.conftest import make_row

RECIPE = TrainRecipe(
    rank=2,
    alpha=4,
    epochs=1,
    accumulation=2,
    learning_rate=5e-3,
    answered_photographs=0,
    preference_epochs=2,
    preference_pairs=2,
    preference_learning_rate=2e-3,
    preference_reference="start",
)


def main(folder: Path) -> None:
    """Three pairs in steps of two: with two ranks the second has none in every other step."""
    ranks = here()
    pairs = [
        PreferencePair(make_row(number), make_row(number + 1, words=2).answer, OTHER_PHOTOGRAPH) for number in range(5)
    ]
    with ranks.taking_part():
        train_adapter(
            load_base("mini"),
            [make_row(0), make_row(1)],
            [],
            RECIPE,
            folder / str(ranks.rank),
            pairs=PreferencePairSplit(pairs[:3], pairs[3:]),
            ranks=ranks,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
