"""How often `beyond_calibration` errs: an adapter that is a calibrated base must not pass, a real gain should.

    python -m bench.calibration_gate [--runs 200] [--judged]

Simulated scores, eight dimensions, errors of a photograph correlated between dimensions. The advisor scores as the
base does, minus an offset by dimension, plus an error that no calibration removes. The adapter removes the offset and a
share `gain` of that error, photograph by photograph: without one it is a shifted base. It learned the offset from the
training photographs ("learned") or knows it exactly ("exact"), which no adapter does. "Noisy" adapters are as close to
the advisor as the shifted base, but differ from it on every photograph.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from mondrian_core.evaluation.gates.calibration_gate import BEYOND_CALIBRATION
from mondrian_core.evaluation.gates.results import PASS, GateMeasurements, Verdict
from mondrian_core.evaluation.measure.calibration import CalibrationComparison, calibrate_base
from mondrian_core.evaluation.measure.metrics import ArmComparison, ScoreTable
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE
from mondrian_core.statistics.permutation_tests import sign_flip_p_value

SIZES = (8, 12, 20, 40, 80)
TRAINING = 48  # photographs, as in the demo
DRAWS = 2000  # sign patterns of a test
SPREAD, SHARED = 1.3, 0.7  # standard deviation of an error, and of its part that all dimensions share


@dataclass(frozen=True)
class AdapterScenario:
    """What an adapter learned: `exact` offset or that of the training photographs, `gain` (0-1), `noisy` errors.

    A gain is the share of the squared error that remains after the shift and that the adapter removes.
    """

    title: str
    gain: float = 0.0
    exact: bool = False
    noisy: bool = False


NULLS = (
    AdapterScenario("learned shift"),
    AdapterScenario("exact shift", exact=True),
    AdapterScenario("noisy, exact shift", exact=True, noisy=True),
)
GAINS = (
    AdapterScenario("learned shift, every error 10% smaller", 0.1),
    AdapterScenario("noisy, exact shift, 20% lower error", 0.2, exact=True, noisy=True),
    AdapterScenario("noisy, exact shift, 40% lower error", 0.4, exact=True, noisy=True),
)


def simulated_verdict(adapter: AdapterScenario, n: int, training: bool, rng: np.random.Generator) -> Verdict:
    """The gate's verdict on one simulated evaluation on `n` photographs.

    Args:
        adapter: what it learned.
        n: judged photographs.
        training: calibrations are fitted on `TRAINING` other photographs; False: cross-fitted on the judged ones.
        rng: draws everything.
    """
    base, advisor, ours = _simulate_scores(adapter, n + TRAINING, rng)
    judged = _table(advisor[:n], base[:n])
    calibrated = calibrate_base(judged, _table(advisor[n:], base[n:]) if training else None)
    if calibrated is None:
        return BEYOND_CALIBRATION.evaluate(GateMeasurements(), GateRecipe()).verdict
    mine, theirs = (((scores - advisor[:n]) ** 2).mean(axis=1) for scores in (ours[:n], calibrated.best))
    against = ArmComparison(
        n=n,
        error_ours=float(mine.mean()),
        error_theirs=float(theirs.mean()),
        reduction=1 - float(mine.mean() / theirs.mean()),
        interval=None,
        p_better=sign_flip_p_value(theirs - mine, draws=DRAWS),
        p_worse=1.0,
        p_not_inferior=sign_flip_p_value((1 - calibrated.fit_cost) * theirs - mine, draws=DRAWS),
        detectable=None,
        needed=None,
        penalised=0,
        left_out=0,
        no_answer=0,
    )
    comparison = CalibrationComparison(
        chosen=calibrated.chosen,
        fitted_on=calibrated.fitted_on,
        photographs=calibrated.photographs,
        fit_cost=calibrated.fit_cost,
        against=against,
        offset_share=None,
        offset_interval=None,
        best_share=None,
        errors={},
    )
    return BEYOND_CALIBRATION.evaluate(GateMeasurements(calibrations=comparison), GateRecipe()).verdict


def _simulate_scores(
    adapter: AdapterScenario, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(count, D) scores of the base, the advisor and the adapter; the last `TRAINING` photographs are trained on."""
    width = len(DIMENSIONS)
    base = np.clip(rng.normal(6, 1.5, (count, 1)) + rng.normal(0, 1, (count, width)), 0, MAX_SCORE)
    offset, error = rng.normal(1.0, 0.5, width), _errors(count, rng)
    advisor = base - offset + error
    learned = offset if adapter.exact else (base - advisor)[-TRAINING:].mean(axis=0)
    ours = base - learned + (1 - (1 - adapter.gain) ** 0.5) * error
    if adapter.noisy:  # an error of the same size as the base's, correlated with it at 0.5
        ours = advisor - (1 - adapter.gain) ** 0.5 * (0.5 * error + 0.75**0.5 * _errors(count, rng))
    return base, np.clip(advisor, 0, MAX_SCORE), np.clip(ours, 0, MAX_SCORE)


def _errors(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    own = (SPREAD**2 - SHARED**2) ** 0.5
    return np.asarray(SHARED * rng.normal(size=(count, 1)) + own * rng.normal(size=(count, len(DIMENSIONS))))


def _table(advisor: NDArray[np.float64], base: NDArray[np.float64]) -> ScoreTable:
    names = tuple(map(str, range(len(base))))
    return ScoreTable(names, advisor, {"base": base}, {"base": np.zeros(len(base), dtype=np.bool_)})


def calibration_gate_pass_rates(
    runs: int, adapters: Sequence[AdapterScenario], *, training: bool, sizes: Sequence[int] = SIZES, seed: int = 0
) -> dict[tuple[str, int], float]:
    """By adapter and number of photographs: the share (0-1) of simulated evaluations that pass.

    Args:
        runs: evaluations per cell.
        adapters: to simulate.
        training: calibrations are fitted on training photographs; False: on the judged ones.
        sizes: numbers of judged photographs.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    return {
        (adapter.title, n): sum(simulated_verdict(adapter, n, training, rng) == PASS for _ in range(runs)) / runs
        for adapter in adapters
        for n in sizes
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when an adapter without a gain of its own passes more often than 5 % allow."""
    parser = argparse.ArgumentParser(prog="bench.calibration_gate", description="How often beyond_calibration errs.")
    parser.add_argument("--runs", type=int, default=200, help="simulated evaluations per cell (default 200)")
    parser.add_argument(
        "--judged",
        action="store_true",
        help="cross-fit calibrations on the judged photographs",
    )
    options = parser.parse_args(arguments)
    runs, most = options.runs, 0.0
    if runs < 20:
        parser.error("--runs: at least 20")
    print(f"| adapter | {' | '.join(map(str, SIZES))} |\n{'|---' * (len(SIZES) + 1)}|")
    for adapter in (*NULLS, *GAINS):
        found = calibration_gate_pass_rates(runs, (adapter,), training=not options.judged)
        most = max(most, *found.values()) if adapter in NULLS else most
        print(f"| {adapter.title} | {' | '.join(f'{share:.1%}' for share in found.values())} |", flush=True)
    print(f"\nfalse passes at most {most:.1%} of {runs} evaluations")
    return 0 if most <= binom.ppf(0.999, runs, 0.05) / runs else 1


if __name__ == "__main__":
    sys.exit(main())
