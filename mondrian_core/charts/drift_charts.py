"""Charts of the drift watch: two distributions on one axis, and the evidence of a signal over the requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mondrian_core.charts.drawing import (
    Drawing,
    LinearScale,
    LineShape,
    Point,
    Shape,
    TextShape,
    nice_ticks,
    rectangle,
    segment,
)

_WIDTH, _LEFT, _RIGHT = 420.0, 62.0, 10.0
_ROW, _GAP, _BARS = 44.0, 10.0, 40
_EVIDENCE_HEIGHT = 110.0


@dataclass(frozen=True, kw_only=True)
class DistributionStrip:
    """Values of the reference above those of live answers.

    Attributes:
        label: for people who can't see it.
        values: (B,) the middle of each bin, ascending.
        reference, live: (B,) counts.
        band: ends of the reference's band, or None.
        most: end of the axis; it begins at 0.
    """

    label: str
    values: Sequence[float]
    reference: Sequence[int]
    live: Sequence[int]
    band: tuple[float, float] | None
    most: float


def distribution_strip(strip: DistributionStrip) -> Drawing:
    """Two rows of bars with one axis; the band is shaded behind both. Bars show shares, so the rows compare."""
    x = LinearScale(0.0, strip.most, _LEFT, _WIDTH - _RIGHT)
    bottom = 2 * _ROW + _GAP
    shapes: list[Shape] = []
    if strip.band is not None:
        shapes.append(rectangle(x(strip.band[0]), 0.0, max(x(strip.band[1]), x(strip.band[0]) + 1), bottom, "band"))
    for tick in nice_ticks(0.0, strip.most, 5):
        shapes.append(segment((x(tick), 0.0), (x(tick), bottom), "grid"))
        shapes.append(TextShape(at=(x(tick), bottom + 15), text=f"{tick:g}", style="tick", anchor="middle"))
    rows = (("reference", strip.reference, "reference"), ("live", strip.live, "live"))
    bars = [_shares(strip, counts) for _, counts, _ in rows]
    tallest = max((max(row, default=0.0) for row in bars), default=0.0) or 1.0
    for number, ((title, counts, style), row) in enumerate(zip(rows, bars, strict=True)):
        base = _ROW * (number + 1) + _GAP * number
        shapes.append(segment((_LEFT, base), (_WIDTH - _RIGHT, base), "axis"))
        shapes.append(TextShape(at=(0.0, base - 16), text=title, style="tick"))
        shapes.append(TextShape(at=(0.0, base - 3), text=f"n {sum(counts):,}", style="tick"))
        width = strip.most / _BARS
        for place, share in enumerate(row):
            if share > 0:
                top = base - max(1.5, (_ROW - 4) * share / tallest)
                shapes.append(rectangle(x(place * width), top, x((place + 1) * width) - 1, base, style))
    return Drawing(
        name="strip",
        label=strip.label,
        origin=(0.0, 0.0),
        width=_WIDTH,
        height=bottom + 22.0,
        shapes=tuple(shapes),
    )


def _shares(strip: DistributionStrip, counts: Sequence[int]) -> list[float]:
    """Share of the values in each of the bars."""
    row, total = [0.0] * _BARS, sum(counts)
    for value, count in zip(strip.values, counts, strict=True):
        if count:
            row[min(_BARS - 1, int(value / strip.most * _BARS + 1e-9))] += count / total
    return row


def evidence_chart(points: Sequence[Point], limit: float, title: str) -> Drawing:
    """The evidence over the requests that counted, on a logarithmic axis, with the limit of the alarm.

    Args:
        points: (requests, log10 of the evidence), in their order.
        limit: evidence at which the alarm is raised.
        title: of the signal.
    """
    alarm = math.log10(limit)
    low, high = min([-1.0, *(value for _, value in points)]), max([alarm + 0.5, *(value for _, value in points)])
    x = LinearScale(0.0, max(points[-1][0], 10.0), _LEFT, _WIDTH - _RIGHT)
    y = LinearScale(low, high, _EVIDENCE_HEIGHT, 6.0)
    shapes: list[Shape] = []
    step = max(1, math.ceil((high - low) / 4))
    for power in range(math.ceil(low), math.floor(high) + 1, step):
        shapes.append(segment((_LEFT, y(power)), (_WIDTH - _RIGHT, y(power)), "grid"))
        shapes.append(TextShape(at=(_LEFT - 6, y(power) + 4), text=f"{10.0**power:g}", style="tick", anchor="end"))
    for tick in nice_ticks(0.0, x.high, 5):
        text = f"{tick:g}"
        shapes.append(TextShape(at=(x(tick), _EVIDENCE_HEIGHT + 16), text=text, style="tick", anchor="middle"))
    shapes.append(segment((_LEFT, y(alarm)), (_WIDTH - _RIGHT, y(alarm)), "mark"))
    shapes.append(TextShape(at=(_LEFT + 4, y(alarm) - 4), text="alarm", style="tick"))
    placed = tuple((x(at), y(value)) for at, value in points)
    shapes.append(LineShape(points=placed if len(placed) > 1 else (placed[0], placed[0]), style="evidence"))
    return Drawing(
        name="evidence",
        label=f"{title}: evidence of drift over the requests that counted",
        origin=(0.0, 0.0),
        width=_WIDTH,
        height=_EVIDENCE_HEIGHT + 22.0,
        shapes=tuple(shapes),
    )
