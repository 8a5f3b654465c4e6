"""Statistics compared with scipy, published tables and simulations."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from mondrian_core.statistics import bootstrap, correlation, intervals, multiple_testing, permutation_tests, sample_size
from mondrian_core.statistics.permutation_tests import pairing_permutation_p_value


@pytest.mark.parametrize(("k", "n"), [(59, 59), (92, 93), (122, 124), (150, 153)])
def test_clopper_pearson_matches_published_sample_sizes(k: int, n: int) -> None:
    assert intervals.clopper_pearson_lower(k, n) >= 0.95
    assert intervals.clopper_pearson_lower(k, n - 1 if k < n else n) >= 0.95
    assert intervals.clopper_pearson_lower(k - 1, n) < 0.95


@pytest.mark.parametrize(("k", "n"), [(0, 7), (1, 7), (6, 7), (7, 7), (56, 60), (118, 120)])
def test_clopper_pearson_matches_scipy(k: int, n: int) -> None:
    test = stats.binomtest(k, n, alternative="greater").proportion_ci(0.95, "exact")
    assert intervals.clopper_pearson_lower(k, n) == pytest.approx(test.low)
    test = stats.binomtest(k, n, alternative="less").proportion_ci(0.95, "exact")
    assert intervals.clopper_pearson_upper(k, n) == pytest.approx(test.high)


def test_rate_bounds_without_data() -> None:
    assert (intervals.clopper_pearson_lower(0, 0), intervals.clopper_pearson_upper(0, 0)) == (0.0, 1.0)


@pytest.mark.parametrize(("rate", "needed"), [(0.90, 29), (0.95, 59)])
def test_perfect_run_sample_size(rate: float, needed: int) -> None:
    assert intervals.perfect_trials_needed(rate) == needed
    assert (
        intervals.clopper_pearson_lower(needed, needed)
        >= rate
        > intervals.clopper_pearson_lower(needed - 1, needed - 1)
    )


@pytest.mark.parametrize("n", [4, 9, 16])
def test_exact_sign_flip_matches_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.4, 1, n)
    exact = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert permutation_tests.sign_flip_p_value(values) == pytest.approx(exact.pvalue)


def test_drawn_sign_flips_approximate_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 15)
    exact = permutation_tests.sign_flip_p_value(values)
    monkeypatch.setattr(permutation_tests, "EXACT_SIGNS", 3)
    drawn = permutation_tests.sign_flip_p_value(values, seed=3)
    assert drawn == permutation_tests.sign_flip_p_value(values, seed=3)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / permutation_tests.DRAWS))


def test_sign_flip_of_empty_or_zero_data() -> None:
    assert permutation_tests.sign_flip_p_value([]) == permutation_tests.sign_flip_p_value([0.0] * 30) == 1.0


def test_all_better_gives_smallest_p() -> None:
    assert permutation_tests.sign_flip_p_value([1.0, 2.0, 3.0, 0.5, 1.5]) == 0.5**5 == 1 / 32


@pytest.mark.parametrize("n", [5, 9, 12, 25, 48])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_median_bounds_coverage(n: int, alpha: float) -> None:
    """The chosen order statistic covers the median with at least 1 - alpha, and the next one inside doesn't."""
    low, high = intervals.median_order_statistic_bounds(np.arange(n), alpha)
    if math.isinf(high):
        assert stats.binom.cdf(0, n, 0.5) > alpha
        return
    k = round(low)
    assert (low, high) == (k, n - 1 - k)
    assert stats.binom.cdf(k, n, 0.5) <= alpha < stats.binom.cdf(k + 1, n, 0.5)


def test_bca_interval_matches_scipy() -> None:
    rng = np.random.default_rng(4)
    theirs = rng.gamma(2, 1, 25)
    ours = theirs * rng.uniform(0.4, 1.1, 25)

    def reduction(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return 1 - a.mean(axis=axis) / b.mean(axis=axis)

    other = stats.bootstrap((ours, theirs), reduction, paired=True, vectorized=True, n_resamples=9999, rng=rng)
    mine = bootstrap.bca_reduction_interval(ours, theirs, draws=9999)
    assert mine == pytest.approx((other.confidence_interval.low, other.confidence_interval.high), abs=0.02)


def test_interval_of_equal_arms_is_zero() -> None:
    errors = np.random.default_rng(0).gamma(2, 1, 20)
    assert bootstrap.bca_reduction_interval(errors, errors) == pytest.approx((0.0, 0.0))


def test_interval_needs_data() -> None:
    assert bootstrap.bca_reduction_interval([1.0, 2.0], [2.0, 3.0]) is None
    assert bootstrap.bca_reduction_interval([0.0] * 9, [0.0] * 9) is None


def test_holm_matches_textbook_example() -> None:
    assert multiple_testing.holm_adjusted_p_values([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pairing_test_power_and_null() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 1, (15, 8))
    linked = ((truth[None] + rng.normal(0, 0.8, truth.shape)[None] - truth[:, None]) ** 2).mean(axis=2)
    assert pairing_permutation_p_value(linked) < 0.001
    assert pairing_permutation_p_value(np.ones((15, 15))) == 1.0
    assert pairing_permutation_p_value(np.where(np.eye(4), 0.0, 1.0)) == pytest.approx(1 / 24)


def test_pairing_test_false_positive_rate() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        truth, guess = rng.normal(0, 1, (10, 8)), rng.normal(0, 1, (10, 8))
        table = ((guess[None] - truth[:, None]) ** 2).mean(axis=2)
        hits += pairing_permutation_p_value(table, draws=400) <= 0.05
    assert hits <= stats.binom.ppf(0.999, 200, 0.05)


def test_detectable_effect_is_detected_in_four_of_five_runs() -> None:
    rng = np.random.default_rng(6)
    n, scale = 40, 2.0
    pilot = rng.normal(0, 1, 4000)
    effect = sample_size.minimum_detectable_reduction(pilot[:n] / pilot[:n].std(ddof=1), scale)
    assert effect is not None
    found = sum(
        permutation_tests.sign_flip_p_value(rng.normal(effect * scale, 1, n), draws=500) <= 0.05 for _ in range(300)
    )
    assert 0.72 <= found / 300 <= 0.88


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_matches_scipy(ties: bool) -> None:
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=30), rng.normal(size=30)
    if ties:
        first, second = np.round(first), np.round(second)
    assert correlation.spearman_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_rank_correlation_of_constant_is_none() -> None:
    assert correlation.spearman_correlation([8.0] * 9, range(9)) is None


def test_pairing_error_reduction_definition() -> None:
    rng = np.random.default_rng(4)
    errors = rng.gamma(2, 1, (9, 9))
    share, drawn = bootstrap.pairing_error_reduction(errors, seed=1)
    off = errors[~np.eye(9, dtype=bool)]
    assert share == pytest.approx(1 - np.trace(errors) / 9 / off.mean())
    # one bootstrap sample computed directly: pairs of the same photograph are not an exchange
    again = bootstrap.bootstrap_counts(9, 1, 2000)[0].astype(int)
    index = np.repeat(np.arange(9), again)
    pairs = [(i, j) for a, i in enumerate(index) for b, j in enumerate(index) if i != j and a != b]
    expected = 1 - errors[index, index].mean() / np.mean([errors[i, j] for i, j in pairs])
    assert drawn[0] == pytest.approx(expected)


def test_pairing_error_reduction_of_perfect_and_blind_critics() -> None:
    truth = np.random.default_rng(5).normal(0, 2, (30, 8))
    seeing = ((truth[None] - truth[:, None]) ** 2).mean(axis=2)
    assert bootstrap.pairing_error_reduction(seeing)[0] == pytest.approx(1.0)
    assert bootstrap.pairing_error_reduction(np.full((30, 30), 3.0))[0] == pytest.approx(0.0)


def test_grouped_pairing_test_exchanges_within_groups() -> None:
    rng = np.random.default_rng(7)
    truth = rng.normal(0, 1, (9, 8))
    linked = ((truth[None] + rng.normal(0, 0.3, truth.shape)[None] - truth[:, None]) ** 2).mean(axis=2)
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3])
    assert pairing_permutation_p_value(linked, groups) == pytest.approx(1 / (2 * 6 * 6))  # all orders
    spoilt = np.where(groups[:, None] == groups[None, :], linked, 0.0)  # pairs across groups are ignored
    assert pairing_permutation_p_value(spoilt, groups) == pairing_permutation_p_value(linked, groups)
    assert pairing_permutation_p_value(linked, np.arange(9)) == 1.0  # nothing to exchange with


def test_drawn_pairing_test_matches_exact_one() -> None:
    rng = np.random.default_rng(9)
    truth, guess = rng.normal(0, 1, (8, 8)), rng.normal(0, 1, (8, 8))
    table = ((guess[None] - truth[:, None]) ** 2).mean(axis=2) - 0.3 * np.eye(8)
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    exact = pairing_permutation_p_value(table, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permutation_tests, "EXACT_ORDERS", 1)
        assert pairing_permutation_p_value(table, groups) == pytest.approx(exact, abs=0.01)


def test_grouped_pairing_test_keeps_level_with_group_offsets() -> None:
    """Each group's answers have a mean level that correlates negatively with its truth, as in cross-validation."""
    rng, groups = np.random.default_rng(11), np.repeat(np.arange(5), 3)
    hits = pooled = 0
    for _ in range(300):
        level = rng.normal(0, 2, 5)[groups]
        truth = level[:, None] + rng.normal(0, 1, (15, 8))
        guess = level[:, None] + rng.normal(0, 1, (15, 8))  # depends on the group, not on the photograph
        table = ((guess[None] - truth[:, None]) ** 2).mean(axis=2)
        hits += pairing_permutation_p_value(table, groups, draws=400) <= 0.05
        pooled += pairing_permutation_p_value(table, draws=400) <= 0.05
    assert hits <= stats.binom.ppf(0.999, 300, 0.05) < pooled


def test_grouped_pairing_error_reduction_definition() -> None:
    rng, groups = np.random.default_rng(4), np.array([0, 0, 0, 1, 1])
    errors = rng.gamma(2, 1, (5, 5))
    share, drawn = bootstrap.pairing_error_reduction(errors, seed=1, groups=groups)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j and groups[i] == groups[j]]
    assert share == pytest.approx(1 - np.trace(errors) / 5 / np.mean([errors[pair] for pair in pairs]))
    again = np.repeat(np.arange(5), bootstrap.bootstrap_counts(5, 1, 2000)[0].astype(int))
    found = [
        errors[i, j]
        for a, i in enumerate(again)
        for b, j in enumerate(again)
        if i != j and a != b and groups[i] == groups[j]
    ]
    assert drawn[0] == pytest.approx(1 - errors[again, again].mean() / np.mean(found))


@pytest.mark.parametrize(("k", "n"), [(0, 7), (1, 10), (5, 9), (7, 7), (56, 60)])
def test_wilson_interval_matches_scipy(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert intervals.wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert intervals.wilson_interval(0, 0) is None


def test_student_interval_matches_scipy() -> None:
    values = np.random.default_rng(3).normal(5, 2, 11)
    expected = stats.t.interval(0.9, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert intervals.student_mean_interval(values, 0.9) == pytest.approx(expected)
    assert intervals.student_mean_interval([1.0]) is None


@pytest.mark.parametrize("n", [5, 6, 20, 61])
def test_median_interval_matches_scipy_quantile_test(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    expected = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    found = intervals.median_order_statistic_bounds(values, 0.025)
    assert found == ((-np.inf, np.inf) if n < 6 else (expected.low, expected.high))


def test_nearest_rank_quantile() -> None:
    assert intervals.nearest_rank_quantile([], 0.5) is None
    assert [intervals.nearest_rank_quantile([4.0, 2.0, 3.0, 1.0], share) for share in (0.5, 0.51, 0.95)] == [2, 3, 4]


def test_bootstrap_interval_of_a_median_matches_scipy() -> None:
    values = np.random.default_rng(2).lognormal(size=41)
    expected = stats.bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(1))
    found = bootstrap.median_interval(values, seed=1)
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.05)


def test_core_rollout_and_service_start_without_scipy() -> None:
    code = (
        "import sys, mondrian_core.rollout, mondrian_core.serving.jobs.ab_comparison, mondrian_core.serving.http.app;"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'scipy']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
