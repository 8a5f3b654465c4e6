"""`python -m bench.studio_plan`: how far one studio's machines reach, from what one retraining costs.

Linking, the dataset, evaluation and promotion of every advisor are the data machine's; trainings go to any machine. Per
week and in hours: the data machine's own work is `advisors * (data + evaluate)`, all work together
`advisors * (data + train + evaluate)`. The week takes at least the larger of the first and of the second divided by
the number of machines, and never less than one retraining: a lower bound that ignores waiting.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

ADVISORS, MACHINES = (10, 1_000), (1, 2, 5, 10, 50)
WEEK_HOURS = 168.0
POLLS_PER_SECOND = 0.5  # PREFECT_WORKER_QUERY_SECONDS of a worker, and of a retraining that waits for its training


@dataclass(frozen=True)
class RetrainingCost:
    """Seconds of one retraining by where they are spent: on the data machine, on any machine, on the data machine."""

    data: float
    train: float
    evaluate: float


def week_hours(advisors: int, machines: int, cost: RetrainingCost) -> float:
    """The least number of hours in which the machines retrain every advisor once."""
    own = advisors * (cost.data + cost.evaluate)
    shared = own + advisors * cost.train
    return max(own, shared / machines, cost.data + cost.train + cost.evaluate) / 3600


def requests_per_second(machines: int) -> float:
    """Requests to the server while every machine trains: each worker polls, and each waiting retraining does."""
    return 2 * machines * POLLS_PER_SECOND


def plan_table(cost: RetrainingCost) -> str:
    """A Markdown table: hours of a week by advisors and machines."""
    head = ["machines", *(f"{advisors:,} advisors, hours" for advisors in ADVISORS), "requests a second"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for machines in MACHINES:
        hours = [week_hours(advisors, machines, cost) for advisors in ADVISORS]
        shown = [f"{each:.1f}{'' if each <= WEEK_HOURS else ' (more than a week)'}" for each in hours]
        lines.append(f"| {machines} | {' | '.join(shown)} | {requests_per_second(machines):.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table for the given costs."""
    parser = argparse.ArgumentParser(prog="bench.studio_plan", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=float, required=True, help="seconds of link, dataset, register, promote, Prefect"
    )
    parser.add_argument("--train", type=float, required=True, help="seconds of a training")
    parser.add_argument("--evaluate", type=float, required=True, help="seconds of an evaluation")
    options = parser.parse_args(arguments)
    print(plan_table(RetrainingCost(options.data, options.train, options.evaluate)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
