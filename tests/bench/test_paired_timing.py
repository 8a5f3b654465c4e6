"""Interleaved timing finds the ratio that is there, and only that."""

from __future__ import annotations

import pytest

from bench.paired_timing import time_in_pairs


class Machine:
    """A clock that work moves forward, on a machine that gets slower all the time."""

    def __init__(self, drift: float) -> None:
        self.now = 0.0
        self.drift = drift
        self.order: list[str] = []

    def work(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.now += seconds * (1 + self.drift * len(self.order))


@pytest.mark.parametrize("drift", [0.0, 0.01])
@pytest.mark.parametrize("true_ratio", [0.5, 1.0, 2.0])
def test_paired_timing_is_robust_to_machine_drift(true_ratio: float, drift: float) -> None:
    machine = Machine(drift)
    found = time_in_pairs(
        lambda: machine.work("ours", true_ratio),
        lambda: machine.work("rival", 1.0),
        pairs=20,
        clock=lambda: machine.now,
    )
    assert found.ratio == pytest.approx(true_ratio, rel=0.02)
    assert found.low <= true_ratio <= found.high or found.low == pytest.approx(true_ratio)


def test_order_alternates_after_one_round_of_warming_up() -> None:
    machine = Machine(0.0)
    time_in_pairs(
        lambda: machine.work("A", 1.0),
        lambda: machine.work("B", 1.0),
        pairs=4,
        clock=lambda: machine.now,
    )
    assert "".join(machine.order) == "AB" + "ABBAABBA"


def test_single_pair_is_rejected() -> None:
    with pytest.raises(ValueError, match="too few for an interval"):
        time_in_pairs(lambda: None, lambda: None, pairs=1)
