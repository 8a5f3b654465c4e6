"""A training of several processes, or of one: `python -m tests.training.ranked_training FOLDER HOW`.

Every rank has a run folder of its own, FOLDER/<rank>, as on machines that don't share a disk. HOW: "whole"; "lost"
(the second rank is killed in the fifth step); "resume"; "rows" (the second has other rows).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.errors import MondrianError
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.models.base_model import load_base
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import training_loop
from mondrian_core.training.ranks import here
from tests.training.conftest import make_row

RECIPE = TrainRecipe(
    rank=2, alpha=4, epochs=3, accumulation=3, learning_rate=5e-3, patience=99, dropout=0.1, answered_photographs=1
)


def main(folder: Path, how: str) -> int:
    """Steps of three rows and of one, so with two ranks the second has none in every other step."""
    ranks = here()
    rows = [make_row(number, words=1 + number % 3) for number in range(4)]
    if how == "rows" and not ranks.first:
        rows[1] = make_row(9)

    def tell(event: StageEvent) -> None:
        if (
            how == "lost"
            and ranks.rank
            and isinstance(event, StageProgressed)
            and (event.stage, event.done) == ("train", 4)
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with ranks.taking_part():
            training_loop.train_supervised(
                load_base("mini"),
                rows,
                [make_row(7), make_row(8, words=2)],
                RECIPE,
                folder / str(ranks.rank),
                resume=how == "resume",
                listen=tell,
                ranks=ranks,
            )
    except MondrianError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
