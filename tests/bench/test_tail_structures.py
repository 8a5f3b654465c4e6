"""Catastrophes on a few photographs: the table is right, and it notices a tail gate that doesn't look."""

from __future__ import annotations

import numpy as np
import pytest

from bench import tail_structures
from bench.simulated_evaluations import (
    ONE_LOOK,
    SPREAD,
    SimulatedPassRates,
    simulated_measurements,
    simulated_pass_rates,
)
from bench.tail_structures import HONEST_STRUCTURES, TAIL_STRUCTURES, honest_gain, keeps_tail_promises
from mondrian_core.evaluation.gates.comparison_gates import SCORE_ERROR
from mondrian_core.evaluation.measure.metrics import compare_paired_errors, score_table
from mondrian_core.recipes import GateRecipe

WORST = "50 % better, catastrophic on 5 %, mean 50 % worse"


@pytest.mark.parametrize(("gain", "change"), [(0.25, 0.0), (0.25, 0.2), (0.5, 0.5)])
def test_catastrophes_change_the_mean_as_they_say(gain: float, change: float) -> None:
    answers = tail_structures.catastrophic_on_some(gain, change)(np.random.default_rng(1), 40_000)
    theirs = ((answers.base - answers.labels) ** 2).mean(axis=1)
    ours = ((answers.candidate - answers.labels) ** 2).mean(axis=1)
    assert ours.mean() / theirs.mean() == pytest.approx(1 + change, abs=0.05)
    assert np.median(ours) / np.median(theirs) == pytest.approx(1 - gain, abs=0.08)
    assert theirs.mean() == pytest.approx(SPREAD**2, rel=0.02)


def test_shortened_comparison_equals_the_product_s() -> None:
    answers = honest_gain(0.3)(np.random.default_rng(2), 30)
    measured = simulated_measurements(answers, 12)
    assert measured.samples is not None and measured.against_base is not None
    labels = {name: record["scores"] for name, record in measured.samples.labels.items()}
    table = score_table(labels, measured.samples.outcomes)
    real = compare_paired_errors(table, "base", margin=0.1, wanted=0.05, seed=0)
    short = measured.against_base
    assert short.n == real.n
    assert short.p_better == pytest.approx(real.p_better)
    assert short.reduction == pytest.approx(real.reduction)
    assert SCORE_ERROR.evaluate(measured, GateRecipe()).n == 12


def test_tail_gate_stops_catastrophes_and_keeps_power() -> None:
    chosen = {name: TAIL_STRUCTURES[name] for name in (WORST,)} | {"50 % better": HONEST_STRUCTURES["50 % better"]}
    cells = simulated_pass_rates(chosen, (8,), 40)
    worst, honest = cells
    assert worst.mean_change > 0.3 > 0 > honest.mean_change
    assert worst.score_error > 0.25, "the sign-flip test alone lets it through"
    assert honest.both > 0.5
    assert keeps_tail_promises(cells)


def test_table_notices_a_tail_gate_that_does_not_look() -> None:
    blind = ONE_LOOK.model_copy(update={"tail_deviation": 1e6})
    assert not keeps_tail_promises(simulated_pass_rates({WORST: TAIL_STRUCTURES[WORST]}, (8,), 40, recipe=blind))


def test_table_notices_lost_power() -> None:
    refuses = [
        SimulatedPassRates(name="50 % better", photographs=20, runs=400, score_error=0.9, both=kept, mean_change=-0.5)
        for kept in (0.88, 0.6)
    ]
    assert [keeps_tail_promises([cell]) for cell in refuses] == [True, False]


def test_bounds_from_labels_alone_refuse_honest_adapters() -> None:
    found = tail_structures.labelled_bound_pass_rates(honest_gain(0.5), 20, 20)
    assert (found.empirical_bernstein, found.best_bet) == (0.0, 0.0)


def test_bounds_from_labels_alone_pass_where_there_are_thousands() -> None:
    found = tail_structures.labelled_bound_pass_rates(honest_gain(0.5), 4000, 2)
    assert (found.empirical_bernstein, found.best_bet) == (1.0, 1.0)
