"""What the gain of an adapter is: one sentence for the first screen of the report, and the plot behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.charts.drawing import Drawing
from mondrian_core.charts.error_plot import error_plot
from mondrian_core.evaluation.gates.results import short_number
from mondrian_core.evaluation.measure.baselines import BASELINE_TITLES
from mondrian_core.evaluation.measure.calibration import UNCALIBRATED
from mondrian_core.samples_file import CANDIDATE

MOST = 0.5  # share of the gain from which most of it is an offset


def gain_sentence(
    against_base: Mapping[str, Any] | None, calibrations: Mapping[str, Any] | None, *, by_folds: bool = False
) -> str:
    """The gain over the base and over its best calibration, and how much of it is an offset; "" without a comparison.

    Args:
        against_base: `ArmComparison` with the base, as plain values.
        calibrations: `CalibrationComparison`, as plain values; None where no calibration could be fitted.
        by_folds: both come from cross-validation.
    """
    gain = (against_base or {}).get("reduction")
    if against_base is None or gain is None:
        return ""
    prefix = "By folds, which measure the recipe: " if by_folds else ""
    says = f"{prefix}{_difference(gain, ' error')} than the base"
    rival = calibrations["against"] if calibrations else None
    if calibrations is None or rival is None or rival["reduction"] is None:
        return f"{says} (p = {short_number(against_base['p_better'])}); no calibration of the base could be fitted."
    p_value = f"(p = {short_number(rival['p_better'])})"
    if calibrations["chosen"] == UNCALIBRATED:
        return f"{says} {p_value}, which no calibration improves."
    title = BASELINE_TITLES[calibrations["chosen"]]
    return f"{says}; {_difference(rival['reduction'])} than {title} {p_value}{_offset(calibrations)}."


def _difference(reduction: float, of: str = "") -> str:
    """ "37% lower error", "3% higher"."""
    share = f"{abs(reduction):.0%}"
    return f"no lower{of}" if share == "0%" else f"{share} {'lower' if reduction > 0 else 'higher'}{of}"


def _offset(calibrations: Mapping[str, Any]) -> str:
    """How much of the gain needs no adapter; the end of a sentence."""
    share, interval, best = (calibrations[key] for key in ("offset_share", "offset_interval", "best_share"))
    if share is None:
        return ""
    span = f", 95% interval {interval[0]:.0%} to {interval[1]:.0%}" if interval else ""
    if share >= MOST:
        return f": most of the gain is an offset ({share:.0%} of it{span})"
    if best is not None and best >= MOST:
        return f": most of the gain needs no adapter ({best:.0%} of it)"
    return f": an offset brings {max(share, 0.0):.0%} of the gain{span and f' ({span[2:]})'}"


def calibration_plot(calibrations: Mapping[str, Any] | None, *, by_folds: bool = False) -> Drawing | None:
    """Errors of the base, its calibrations and the candidate on the same photographs, with 95 % intervals.

    Args:
        calibrations: `CalibrationComparison`, as plain values.
        by_folds: the figures come from cross-validation, so they are the recipe's.
    """
    if calibrations is None:
        return None
    titles = {**BASELINE_TITLES, CANDIDATE: "the recipe" if by_folds else "the candidate"}
    errors = {titles[name]: tuple(found) for name, found in calibrations["errors"].items() if name != CANDIDATE}
    ours = calibrations["errors"].get(CANDIDATE)
    return error_plot(
        {**errors, **({titles[CANDIDATE]: tuple(ours)} if ours else {})},
        emphasized=titles[CANDIDATE],
        best=titles[calibrations["chosen"]],
    )
