"""The statistics against scipy, published tables and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mondrian_core.statistics import significance


@pytest.mark.parametrize(("k", "n"), [(59, 59), (92, 93), (122, 124), (150, 153)])
def test_clopper_pearson_matches_published_sample_sizes(k: int, n: int) -> None:
    assert significance.clopper_pearson_lower(k, n) >= 0.95
    assert significance.clopper_pearson_lower(k, n - 1 if k < n else n) >= 0.95
    assert significance.clopper_pearson_lower(k - 1, n) < 0.95


@pytest.mark.parametrize(("k", "n"), [(0, 7), (1, 7), (6, 7), (7, 7), (56, 60), (118, 120)])
def test_bounds_are_clopper_and_pearsons(k: int, n: int) -> None:
    test = stats.binomtest(k, n, alternative="greater").proportion_ci(0.95, "exact")
    assert significance.clopper_pearson_lower(k, n) == pytest.approx(test.low)
    test = stats.binomtest(k, n, alternative="less").proportion_ci(0.95, "exact")
    assert significance.clopper_pearson_upper(k, n) == pytest.approx(test.high)


def test_rate_bounds_without_data() -> None:
    assert (significance.clopper_pearson_lower(0, 0), significance.clopper_pearson_upper(0, 0)) == (0.0, 1.0)


@pytest.mark.parametrize(("rate", "needed"), [(0.90, 29), (0.95, 59)])
def test_perfect_run_sample_size(rate: float, needed: int) -> None:
    assert significance.perfect_trials_needed(rate) == needed
    assert (
        significance.clopper_pearson_lower(needed, needed)
        >= rate
        > significance.clopper_pearson_lower(needed - 1, needed - 1)
    )


@pytest.mark.parametrize("n", [4, 9, 16])
def test_exact_sign_flip_matches_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.4, 1, n)
    exact = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert significance.sign_flip_p_value(values) == pytest.approx(exact.pvalue)


def test_drawn_sign_flips_come_close_to_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 15)
    exact = significance.sign_flip_p_value(values)
    monkeypatch.setattr(significance, "EXACT_SIGNS", 3)
    drawn = significance.sign_flip_p_value(values, seed=3)
    assert drawn == significance.sign_flip_p_value(values, seed=3)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / significance.DRAWS))


def test_sign_flip_of_empty_or_zero_data() -> None:
    assert significance.sign_flip_p_value([]) == significance.sign_flip_p_value([0.0] * 30) == 1.0


def test_all_better_reaches_the_smallest_p() -> None:
    assert (
        significance.sign_flip_p_value([1.0, 2.0, 3.0, 0.5, 1.5])
        == significance.smallest_sign_flip_p_value(5)
        == 1 / 32
    )


@pytest.mark.parametrize("n", [5, 9, 12, 25, 48])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_median_bounds_coverage(n: int, alpha: float) -> None:
    """The order statistic that is taken covers the median with at least 1 - alpha, and the next one inside doesn't."""
    low, high = significance.median_order_statistic_bounds(np.arange(n), alpha)
    if math.isinf(high):
        assert stats.binom.cdf(0, n, 0.5) > alpha
        return
    k = round(low)
    assert (low, high) == (k, n - 1 - k)
    assert stats.binom.cdf(k, n, 0.5) <= alpha < stats.binom.cdf(k + 1, n, 0.5)


def test_bca_interval_is_scipys() -> None:
    rng = np.random.default_rng(4)
    theirs = rng.gamma(2, 1, 25)
    ours = theirs * rng.uniform(0.4, 1.1, 25)

    def reduction(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return 1 - a.mean(axis=axis) / b.mean(axis=axis)

    other = stats.bootstrap((ours, theirs), reduction, paired=True, vectorized=True, n_resamples=9999, rng=rng)
    mine = significance.bca_reduction_interval(ours, theirs, draws=9999)
    assert mine == pytest.approx((other.confidence_interval.low, other.confidence_interval.high), abs=0.02)


def test_interval_of_equal_arms_is_a_point_at_zero() -> None:
    errors = np.random.default_rng(0).gamma(2, 1, 20)
    assert significance.bca_reduction_interval(errors, errors) == pytest.approx((0.0, 0.0))


def test_interval_needs_data() -> None:
    assert significance.bca_reduction_interval([1.0, 2.0], [2.0, 3.0]) is None
    assert significance.bca_reduction_interval([0.0] * 9, [0.0] * 9) is None


def test_holm_is_the_textbook_example() -> None:
    assert significance.holm_adjusted_p_values([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pairing_test_power_and_null() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 1, (15, 8))
    linked = ((truth[None] + rng.normal(0, 0.8, truth.shape)[None] - truth[:, None]) ** 2).mean(axis=2)
    assert significance.pairing_permutation_p_value(linked) < 0.001
    assert significance.pairing_permutation_p_value(np.ones((15, 15))) == 1.0
    assert significance.pairing_permutation_p_value(np.where(np.eye(4), 0.0, 1.0)) == pytest.approx(1 / 24)


def test_pairing_test_false_positive_rate() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        truth, guess = rng.normal(0, 1, (10, 8)), rng.normal(0, 1, (10, 8))
        table = ((guess[None] - truth[:, None]) ** 2).mean(axis=2)
        hits += significance.pairing_permutation_p_value(table, draws=400) <= 0.05
    assert hits <= stats.binom.ppf(0.999, 200, 0.05)


def test_detectable_effect_is_detected_in_four_of_five_runs() -> None:
    rng = np.random.default_rng(6)
    n, scale = 40, 2.0
    pilot = rng.normal(0, 1, 4000)
    effect = significance.minimum_detectable_reduction(pilot[:n] / pilot[:n].std(ddof=1), scale)
    assert effect is not None
    found = sum(significance.sign_flip_p_value(rng.normal(effect * scale, 1, n), draws=500) <= 0.05 for _ in range(300))
    assert 0.72 <= found / 300 <= 0.88


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_scipys(ties: bool) -> None:
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=30), rng.normal(size=30)
    if ties:
        first, second = np.round(first), np.round(second)
    assert significance.spearman_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_rank_correlation_of_a_constant_is_unknown() -> None:
    assert significance.spearman_correlation([8.0] * 9, range(9)) is None


def test_exchange_share_definition() -> None:
    rng = np.random.default_rng(4)
    errors = rng.gamma(2, 1, (9, 9))
    share, drawn = significance.pairing_error_reduction(errors, seed=1)
    off = errors[~np.eye(9, dtype=bool)]
    assert share == pytest.approx(1 - np.trace(errors) / 9 / off.mean())
    # one bootstrap sample, computed manually: pairs of the same photograph aren't exchanges
    again = significance._resamples(9, 1, 2000)[0].astype(int)
    index = np.repeat(np.arange(9), again)
    pairs = [(i, j) for a, i in enumerate(index) for b, j in enumerate(index) if i != j and a != b]
    expected = 1 - errors[index, index].mean() / np.mean([errors[i, j] for i, j in pairs])
    assert drawn[0] == pytest.approx(expected)


def test_exchange_share_of_perfect_and_blind_critics() -> None:
    truth = np.random.default_rng(5).normal(0, 2, (30, 8))
    seeing = ((truth[None] - truth[:, None]) ** 2).mean(axis=2)
    assert significance.pairing_error_reduction(seeing)[0] == pytest.approx(1.0)
    assert significance.pairing_error_reduction(np.full((30, 30), 3.0))[0] == pytest.approx(0.0)


def test_pairing_inside_groups_exchanges_nothing_across() -> None:
    rng = np.random.default_rng(7)
    truth = rng.normal(0, 1, (9, 8))
    linked = ((truth[None] + rng.normal(0, 0.3, truth.shape)[None] - truth[:, None]) ** 2).mean(axis=2)
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3])
    assert significance.pairing_permutation_p_value(linked, groups) == pytest.approx(
        1 / (2 * 6 * 6)
    )  # all the orders there are
    spoilt = np.where(groups[:, None] == groups[None, :], linked, 0.0)  # nothing across groups is looked at
    assert significance.pairing_permutation_p_value(spoilt, groups) == significance.pairing_permutation_p_value(
        linked, groups
    )
    assert (
        significance.pairing_permutation_p_value(linked, np.arange(9)) == 1.0
    )  # nobody to exchange with shows nothing


def test_pairing_by_draws_agrees_with_all_orders() -> None:
    rng = np.random.default_rng(9)
    truth, guess = rng.normal(0, 1, (8, 8)), rng.normal(0, 1, (8, 8))
    table = ((guess[None] - truth[:, None]) ** 2).mean(axis=2) - 0.3 * np.eye(8)
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    exact = significance.pairing_permutation_p_value(table, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "EXACT_ORDERS", 1)
        assert significance.pairing_permutation_p_value(table, groups) == pytest.approx(exact, abs=0.01)


def test_pairing_inside_groups_keeps_its_level_where_levels_differ() -> None:
    """Each group's answers have a level of their own that goes against its truth, as in cross-validation."""
    rng, groups = np.random.default_rng(11), np.repeat(np.arange(5), 3)
    hits = pooled = 0
    for _ in range(300):
        level = rng.normal(0, 2, 5)[groups]
        truth = level[:, None] + rng.normal(0, 1, (15, 8))
        guess = level[:, None] + rng.normal(0, 1, (15, 8))  # knows the group, and nothing of the photograph
        table = ((guess[None] - truth[:, None]) ** 2).mean(axis=2)
        hits += significance.pairing_permutation_p_value(table, groups, draws=400) <= 0.05
        pooled += significance.pairing_permutation_p_value(table, draws=400) <= 0.05
    assert hits <= stats.binom.ppf(0.999, 300, 0.05) < pooled


def test_exchange_share_inside_groups_is_what_its_words_say() -> None:
    rng, groups = np.random.default_rng(4), np.array([0, 0, 0, 1, 1])
    errors = rng.gamma(2, 1, (5, 5))
    share, drawn = significance.pairing_error_reduction(errors, seed=1, groups=groups)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j and groups[i] == groups[j]]
    assert share == pytest.approx(1 - np.trace(errors) / 5 / np.mean([errors[pair] for pair in pairs]))
    again = np.repeat(np.arange(5), significance._resamples(5, 1, 2000)[0].astype(int))
    found = [
        errors[i, j]
        for a, i in enumerate(again)
        for b, j in enumerate(again)
        if i != j and a != b and groups[i] == groups[j]
    ]
    assert drawn[0] == pytest.approx(1 - errors[again, again].mean() / np.mean(found))
