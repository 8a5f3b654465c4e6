"""Adjusting p values when several hypotheses are tested together. SciPy has no Holm, only false discovery rates."""

from __future__ import annotations

from collections.abc import Sequence


def holm_adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the given order, that bound the chance of any false alarm (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
