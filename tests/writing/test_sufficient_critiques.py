"""What the progress line promises, against the gates themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mondrian_core.evaluation.gates.comparison_gates import SCORE_ERROR
from mondrian_core.evaluation.gates.results import GateMeasurements
from mondrian_core.evaluation.measure.metrics import ArmComparison, ScoreTable, compare_paired_errors
from mondrian_core.evaluation.measure.pooled_evidence import LookEvidence
from mondrian_core.recipe_choice import SHOWN_REDUCTION, SIMULATED_SPREAD, choose_recipe_for
from mondrian_core.recipes import Recipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics.permutation_tests import fewest_pairs_for_p_value, sign_flip_p_value
from mondrian_core.writing.adapter_errors import AdapterErrors
from mondrian_core.writing.sufficient_critiques import (
    deciding_photographs,
    photographs_to_decide,
    sufficiency,
)

RECIPE = Recipe()


def far_better(n: int, seed: int = 0) -> ArmComparison:
    """A candidate that is closer to the advisor than the base on each of `n` photographs."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, 8, (n, len(DIMENSIONS))).astype(float)
    predictions = {"candidate": labels + 0.1, "base": labels + 2 + rng.random(labels.shape)}
    failed = {arm: np.zeros(n, dtype=bool) for arm in predictions}
    table = ScoreTable(tuple(map(str, range(n))), labels, predictions, failed)
    return compare_paired_errors(table, "base", margin=0.1, wanted=0.05, seed=0)


def verdict(n: int, level: float, *, by_folds: bool = False) -> str:
    compared = far_better(n)
    look = LookEvidence(
        number=1,
        level=level,
        spent=level,
        yearly_level=0.05,
        photographs=n,
        fresh=n,
        candidates=1,
        p_value=compared.p_better,
    )
    values: dict[str, Any] = {"by_folds": compared, "untested": n} if by_folds else {"against_base": compared}
    return SCORE_ERROR.evaluate(GateMeasurements(look=look, **values), RECIPE.gates).verdict


@pytest.mark.parametrize("level", [0.01, 0.002, 0.0002])
@pytest.mark.parametrize("by_folds", [False, True])
def test_gate_can_pass_at_the_promised_number_and_not_below(level: float, by_folds: bool) -> None:
    needed = photographs_to_decide(RECIPE.gates, level)
    assert needed is not None
    assert verdict(needed, level, by_folds=by_folds) == "PASS"
    assert verdict(needed - 1, level, by_folds=by_folds) == "INCONCLUSIVE"


@pytest.mark.parametrize("level", [0.3, 0.05, 0.0039, 1.6e-5])
def test_fewest_pairs_reach_a_level(level: float) -> None:
    n = fewest_pairs_for_p_value(level)
    assert n is not None
    assert sign_flip_p_value([1.0] * n) <= level < sign_flip_p_value([1.0] * (n - 1) or [0.0])


def test_drawn_signs_limit_the_level() -> None:
    assert fewest_pairs_for_p_value(0.0) is None and fewest_pairs_for_p_value(1e-9) is None
    assert sign_flip_p_value([1.0] * 40) > 1e-9


def test_deciding_photographs_are_those_of_real_splits() -> None:
    from mondrian_core.data.splits.split import TRAIN, split_point

    for count in (24, 48, 400):
        held_out = []
        for draw in range(40):
            points = [split_point(f"{draw}-{each}") for each in range(count)]
            edge = 0.25 if count >= RECIPE.data.test_from else 0.40
            held_out.append(sum(point < edge for point in points))
        expected, by_folds = deciding_photographs(count, RECIPE)
        assert not by_folds and abs(np.mean(held_out) - expected) < 1.5, TRAIN


def test_small_sets_decide_by_folds() -> None:
    before, now = sufficiency(2), sufficiency(8)
    assert (before.more_to_decide, now.more_to_decide) == (6, 0)
    assert before.sentence == "2 critiques. 6 more and the gates can decide about an adapter's scores, by 5 folds."
    assert now.by_folds and now.deciding == 8
    assert now.sentence.startswith("8 critiques: enough for the gates to decide about scores, on all 8, by folds.")


def test_halved_error_passes_the_gate_as_often_as_promised() -> None:
    """Simulated errors with the spread that the promise assumes, judged by the gate itself."""
    found = sufficiency(10)
    assert found.more_to_show is not None
    assert found.sentence.endswith("more and a halved error passes in four of five looks.")
    n, passed = deciding_photographs(10 + found.more_to_show, choose_recipe_for(10 + found.more_to_show).recipe)[0], 0
    rng = np.random.default_rng(0)
    for _ in range(200):
        differences = rng.normal(SHOWN_REDUCTION, SIMULATED_SPREAD, n)
        passed += sign_flip_p_value(differences) <= RECIPE.gates.first_look_level
    assert passed / 200 > 0.7
    assert sufficiency(n * 10).more_to_show == 0


def test_own_recipe_without_folds_needs_more() -> None:
    recipe = recipe_from_values({"evaluate": {"folds": 0}})
    found = sufficiency(12, recipe=recipe)
    assert found.deciding == 4
    assert found.more_to_decide == 8  # 20 critiques hold out 8
    assert found.sentence.endswith("by the photographs held out.")


def test_improvement_of_the_present_adapter_sets_the_goal() -> None:
    rng = np.random.default_rng(1)
    names = [str(each) for each in range(12)]
    base = dict(zip(names, 4 + rng.random(12) * 3, strict=True))
    own = {name: value * (0.4 + rng.random()) for name, value in base.items()}
    measured = AdapterErrors(version="v0003", base_errors=base, own_errors=own)
    found = sufficiency(12, measured=measured)
    better = {name: value * 0.2 for name, value in base.items()}
    easy = sufficiency(12, measured=AdapterErrors(version="v0004", base_errors=base, own_errors=better))
    assert found.more_to_show and found.more_to_show > 100
    assert found.sentence.endswith(
        f"{found.more_to_show} more and an improvement such as that of v0003 passes in four of five looks."
    )
    assert easy.more_to_show == 0
