"""The gates as a function of numbers: boundaries, and their error rates over many simulated evaluations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mondrian_core.evaluation.gates.comparison_gates import SCORE_ERROR
from mondrian_core.evaluation.gates.definitions import GATES, LATENCY_OVERHEAD, evaluate_gates
from mondrian_core.evaluation.gates.format_gate import FORMAT_COMPLIANCE
from mondrian_core.evaluation.gates.results import GateMeasurements, GateResult, overall_verdict
from mondrian_core.evaluation.measure.latency import (
    INTERIM_LOOKS,
    LatencyPair,
    enough_latency_pairs,
    overhead_from_pairs,
)
from mondrian_core.evaluation.measure.metrics import FormatStatistics, ScoreTable, compare_paired_errors
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS

RECIPE = GateRecipe()


def counts(valid: int, ran: int, asked: int | None = None) -> GateMeasurements:
    """A candidate with so many valid answers."""
    return GateMeasurements(
        formats={
            "candidate": FormatStatistics(
                asked=asked or ran, ran=ran, valid=valid, mended=0, cut=0, reasons={}, tokens=40.0, seconds=0.1
            )
        }
    )


@pytest.mark.parametrize(
    ("valid", "ran", "verdict"),
    [
        (0, 0, "INCONCLUSIVE"),
        (20, 20, "INCONCLUSIVE"),
        (28, 28, "INCONCLUSIVE"),
        (29, 29, "PASS"),
        (60, 60, "PASS"),
        (59, 60, "PASS"),
        (58, 60, "INCONCLUSIVE"),
        (57, 60, "INCONCLUSIVE"),
        (56, 60, "FAIL"),
        (10, 20, "FAIL"),
        (0, 5, "FAIL"),
        (117, 120, "PASS"),
        (113, 120, "FAIL"),
    ],
)
def test_format_compliance_gate(valid: int, ran: int, verdict: str) -> None:
    assert FORMAT_COMPLIANCE.evaluate(counts(valid, ran), RECIPE).verdict == verdict


def test_many_unanswered_photographs_make_compliance_inconclusive() -> None:
    assert FORMAT_COMPLIANCE.evaluate(counts(60, 60, asked=70), RECIPE).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        ([], "INCONCLUSIVE"),
        (["PASS", "PASS"], "PASS"),
        (["PASS", "INCONCLUSIVE"], "INCONCLUSIVE"),
        (["FAIL", "INCONCLUSIVE", "PASS"], "FAIL"),
    ],
)
def test_overall_verdict_combines_gates(verdicts: list[str], overall: str) -> None:
    assert (
        overall_verdict(
            [
                GateResult(name="x", rule="", threshold=None, observed=None, n=0, interval=None, verdict=v, sentence="")
                for v in verdicts
            ]
        )
        == overall
    )


def test_missing_measurements_pass_only_gates_that_need_none() -> None:
    passed = {gate.name for gate in evaluate_gates(GateMeasurements(), RECIPE) if gate.verdict == "PASS"}
    assert passed == {"integrity", "champion"}


def test_absolute_time_is_a_gate_on_metal_only() -> None:
    conditional = {"best_champion", "seconds_per_photograph"}
    always = [gate.name for gate in GATES if gate.name not in conditional]
    assert [gate.name for gate in evaluate_gates(GateMeasurements(), RECIPE)] == always
    slow = {
        "candidate": FormatStatistics(asked=60, ran=60, valid=60, mended=0, cut=0, reasons={}, tokens=40.0, seconds=3.5)
    }
    last = evaluate_gates(GateMeasurements(formats=slow, metal=True), RECIPE)[-1]
    assert (last.name, last.verdict) == ("seconds_per_photograph", "FAIL")


def table(base: np.ndarray, candidate: np.ndarray) -> ScoreTable:
    """Predictions (N, DIMENSIONS) around labels of 0, as if they were errors."""
    n = len(base)
    none = np.zeros(n, dtype=np.bool_)
    return ScoreTable(
        tuple(map(str, range(n))),
        np.zeros_like(base),
        {"base": base, "candidate": candidate},
        {"base": none, "candidate": none},
    )


def errors(rng: np.random.Generator, n: int, gain: float = 0.0) -> ScoreTable:
    """Errors of a realistic structure: sd 1.3 with a shared part of 0.7, arms correlated at 0.6."""

    def parts(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        both, one, two = (rng.normal(size=shape) for _ in range(3))
        return 0.6**0.5 * both + 0.4**0.5 * one, 0.6**0.5 * both + 0.4**0.5 * two

    shared, own = parts((n, 1)), parts((n, len(DIMENSIONS)))
    base, candidate = (0.7 * a + (1.3**2 - 0.7**2) ** 0.5 * b for a, b in zip(shared, own, strict=True))
    return table(base, candidate * (1 - gain) ** 0.5)


def verdict(scores: ScoreTable) -> str:
    found = compare_paired_errors(scores, "base", margin=0.1, wanted=0.05, seed=1)
    return SCORE_ERROR.evaluate(GateMeasurements(against_base=found), RECIPE).verdict


@pytest.mark.parametrize("n", [8, 12, 20])
def test_false_pass_rate_of_the_score_gate_is_at_most_five_percent(n: int) -> None:
    rng = np.random.default_rng(n)
    passes = sum(verdict(errors(rng, n)) == "PASS" for _ in range(200))
    assert passes <= stats.binom.ppf(0.999, 200, 0.05)


def test_large_gain_on_forty_photographs_usually_passes() -> None:
    rng = np.random.default_rng(40)
    assert sum(verdict(errors(rng, 40, gain=0.4)) == "PASS" for _ in range(40)) >= 32


def test_gain_below_the_required_one_is_inconclusive_however_certain() -> None:
    base = np.full((40, len(DIMENSIONS)), 2.0)
    assert verdict(table(base, base * 0.98**0.5)) == "INCONCLUSIVE"


@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_no_score_improvement_fails(factor: float) -> None:
    base = np.random.default_rng(0).normal(0, 1, (20, len(DIMENSIONS)))
    assert verdict(table(base, base * factor)) == "FAIL"


def pairs(rng: np.random.Generator, n: int, overhead_ratio: float, noise: float) -> list[LatencyPair]:
    """Timed pairs with this true ratio and relative noise."""
    base = rng.lognormal(0, noise, n)
    candidate = overhead_ratio * rng.lognormal(0, noise, n)
    return [
        LatencyPair(base_prefill=0.2 * b, base_decode=0.8 * b, candidate_prefill=0.2 * c, candidate_decode=0.8 * c)
        for b, c in zip(base, candidate, strict=True)
    ]


def watched(rng: np.random.Generator, ratio: float, noise: float, wanted: int = 12) -> tuple[str, int]:
    """Measure pairs until `EvaluationRunner.measure_latency` would stop; the decision and the number of pairs."""
    drawn = pairs(rng, wanted * INTERIM_LOOKS[-1], ratio, noise)
    for n in range(1, len(drawn) + 1):
        if enough_latency_pairs(drawn[:n], wanted, 1.10):
            found = overhead_from_pairs(drawn[:n], wanted, 1.10)
            return found.decision, n
    raise AssertionError("never finished")


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_repeated_latency_looks_keep_false_pass_rate(noise: float) -> None:
    rng = np.random.default_rng(7)
    passes = sum(watched(rng, 1.10, noise)[0] == "pass" for _ in range(300))
    assert passes <= stats.binom.ppf(0.999, 300, 0.05)


def test_quiet_machine_decides_at_the_first_test() -> None:
    rng = np.random.default_rng(8)
    assert [watched(rng, 1.02, 0.01) for _ in range(20)] == [("pass", 12)] * 20
    assert [watched(rng, 1.30, 0.01) for _ in range(20)] == [("fail", 12)] * 20


def test_noisy_latency_is_inconclusive_at_pair_limit() -> None:
    rng = np.random.default_rng(9)
    found = [watched(rng, 1.08, 0.5) for _ in range(30)]
    assert max(n for _, n in found) == 48
    assert sum(decision == "open" for decision, _ in found) > 20


def test_pairs_between_interim_tests_decide_nothing() -> None:
    quick = pairs(np.random.default_rng(1), 11, 1.0, 0.001)
    assert overhead_from_pairs(quick, 12, 1.10).decision == "open"
    assert (
        LATENCY_OVERHEAD.evaluate(GateMeasurements(overhead=overhead_from_pairs(quick, 12, 1.10)), RECIPE).verdict
        == "INCONCLUSIVE"
    )


def test_nan_divergence_fails_effect_gate() -> None:
    effect = evaluate_gates(GateMeasurements(divergences=(float("nan"),)), RECIPE)[1]
    assert effect.verdict == "FAIL"


def test_gate_result_survives_json() -> None:
    for gate in evaluate_gates(replace(counts(57, 60), has_champion=True), RECIPE):
        assert GateResult.from_dict(gate.as_dict()) == gate
