"""Conformal test martingales: fair bets, exact ranks, and the alarm's chance in small streams."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest

from mondrian_core.statistics.conformal_martingale import (
    BETS,
    BetKind,
    add_values,
    bet_factors,
    bet_shares,
    smoothed_ranks,
    start_martingale,
)

KINDS: tuple[BetKind, ...] = ("two_sided", "upper", "rate")


@pytest.mark.parametrize("bet", range(BETS))
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_bet_is_fair(kind: int, bet: int) -> None:
    if not bet_shares(KINDS)[kind, bet]:
        return
    edges = [0.5, 1 - 1 / 4, 1 - 1 / 16, 1 - 1 / 64]
    mean = quad(lambda rank: bet_factors(np.full(3, rank), KINDS)[kind, bet], 0, 1, points=edges, limit=400)[0]
    assert mean == pytest.approx(1.0, abs=1e-6)


def test_stakes_share_the_capital() -> None:
    assert np.allclose(bet_shares(KINDS).sum(axis=-1), 1.0)
    state = start_martingale(np.ones((3, 5)), KINDS, capital=0.25)
    assert np.allclose(state.evidence, 0.25)
    assert np.allclose(start_martingale(np.ones((3, 5)), KINDS, capital=7.0).evidence, 1.0), "evidence is not inherited"


def test_smoothed_rank_counts_the_bag_and_the_value_itself() -> None:
    bag = np.array([[1, 0, 2, 0]]).cumsum(axis=-1)
    assert smoothed_ranks(bag, [0], [0.5]) == pytest.approx((0 + 0.5 * 2) / 4)
    assert smoothed_ranks(bag, [2], [0.5]) == pytest.approx((1 + 0.5 * 3) / 4)
    assert smoothed_ranks(bag, [3], [0.5]) == pytest.approx((3 + 0.5 * 1) / 4)


def test_ranks_of_discrete_values_are_uniform_with_a_small_reference() -> None:
    rng = np.random.default_rng(1)
    runs, ranks = 400, []
    draw = lambda: rng.binomial(4, 0.3, (runs, 1))  # noqa: E731  (a stream of five values with many ties)
    state = start_martingale(sum((draw()[..., None] == np.arange(5)).astype(int) for _ in range(10)), ("two_sided",))
    for _ in range(10):
        bins, ties = draw(), rng.random((runs, 1))
        ranks.append(smoothed_ranks(state.bag, bins, ties))
        state = add_values(state, ("two_sided",), bins, ties)
    assert kstest(np.ravel(ranks), "uniform").pvalue > 0.001


def test_alarms_of_exchangeable_values_are_as_rare_as_promised() -> None:
    """At 1/alpha = 10 no more than 10 % of the streams; 200 streams exceed 16.9 % once in 1,000 runs."""
    rng = np.random.default_rng(2)
    runs = 200
    reference = (rng.integers(0, 30, (runs, 1, 20))[..., None] == np.arange(30)).sum(axis=-2)
    state = start_martingale(reference, ("two_sided",))
    highest = np.ones(runs)
    for _ in range(300):
        state = add_values(state, ("two_sided",), rng.integers(0, 30, (runs, 1)), rng.random((runs, 1)))
        highest = np.maximum(highest, state.evidence[:, 0])
    assert (highest >= 10).mean() <= 0.169
    assert (highest >= 2).mean() > 0.05, "it does bet"


def test_unknown_value_changes_nothing() -> None:
    state = start_martingale(np.ones((3, 5)), KINDS)
    same = add_values(state, KINDS, [0, 1, 2], [0.5, 0.5, 0.5], known=[False, False, True])
    assert np.array_equal(same.bag[:2], state.bag[:2])
    assert np.array_equal(same.evidence[:2], state.evidence[:2])
    assert same.bag[2, -1] == 6
