"""Pictures of the page, as SVG text whose colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS

_ROW, _LEFT, _WIDTH = 30, 170, 640


def forest_plot_svg(dimensions: Sequence[Mapping[str, Any]], overall: Mapping[str, Any] | None) -> str:
    """Reduction of the error with 95 % interval, a row per dimension and one overall; right of the line is better."""
    rows = [(DIMENSION_TITLES[row["name"]], row["reduction"], row["interval"]) for row in dimensions]
    if overall:
        rows.append(("All eight", overall["reduction"], overall["interval"]))
    ends = [value for _, mid, ends in rows if mid is not None for value in (mid, *(ends or ()))]
    if not ends:
        return ""
    low, high = max(-1.5, min(-0.1, *ends)), min(1.0, max(0.1, *ends))
    inner = _WIDTH - _LEFT - 70

    def x(value: float) -> float:
        return _LEFT + inner * (min(max(value, low), high) - low) / (high - low)

    height = _ROW * len(rows) + 46
    parts = [
        f'<svg class="forest" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Drop of the error by dimension">'
    ]
    for tick in _ticks(low, high):
        parts.append(
            f'<line class="grid{" zero" if abs(tick) < 1e-9 else ""}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" '
            f'y1="6" y2="{height - 34}"/><text class="tick" x="{x(tick):.1f}" y="{height - 18}" '
            f'text-anchor="middle">{tick:+.0%}</text>'.replace(">+0%<", ">0<")
        )
    for k, (title, mid, span) in enumerate(rows):
        parts.append(
            _forest_row(title, mid, span, x, 6 + _ROW * k + _ROW / 2, last=bool(overall) and k == len(rows) - 1)
        )
    parts.append(f'<text class="tick" x="{_LEFT}" y="{height - 3}">worse than the base</text>')
    parts.append(f'<text class="tick" x="{_LEFT + inner}" y="{height - 3}" text-anchor="end">better</text></svg>')
    return "".join(parts)


def _forest_row(title: str, mid: float | None, span: Sequence[float] | None, x: Any, y: float, *, last: bool) -> str:
    kind = "overall" if last else "one"
    text = f'<text class="name {kind}" x="0" y="{y + 4:.1f}">{escape(title)}</text>'
    if mid is None:
        return text
    side = "good" if span and span[0] > 0 else "bad" if span and span[1] < 0 else "open"
    if span:
        text += f'<line class="span {side}" x1="{x(span[0]):.1f}" x2="{x(span[1]):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    size = 5.5 if last else 4.5
    text += f'<circle class="dot {side}" cx="{x(mid):.1f}" cy="{y:.1f}" r="{size}"/>'
    return text + f'<text class="value" x="{_WIDTH}" y="{y + 4:.1f}" text-anchor="end">{mid:+.0%}</text>'


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.1, 0.2, 0.25, 0.5, 1.0) if (high - low) / step <= 7)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def radar_chart_svg(series: Mapping[str, Mapping[str, float]]) -> str:
    """Mean scores (0-10) of the eight dimensions by name of the series, on one wheel."""
    size, radius = 420, 140
    middle = size / 2

    def point(k: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * k / len(DIMENSIONS) - math.pi / 2
        return middle + radius * value / 10 * math.cos(angle), middle + radius * value / 10 * math.sin(angle)

    parts = [f'<svg class="radar" viewBox="-60 30 {size + 120} {size - 60}" role="img" aria-label="Mean scores">']
    for ring in (2, 4, 6, 8, 10):
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in (point(k, ring) for k in range(len(DIMENSIONS))))
        parts.append(
            f'<polygon class="grid" points="{corners}"/><text class="tick" x="{middle + 3}" '
            f'y="{middle - radius * ring / 10 + 10:.1f}">{ring}</text>'
        )
    for k, name in enumerate(DIMENSIONS):
        a, b = point(k, 11)
        anchor = "middle" if abs(a - middle) < 12 else "start" if a > middle else "end"
        title = escape(DIMENSION_TITLES[name].split(" &")[0])
        parts.append(f'<text class="name" x="{a:.1f}" y="{b + 4:.1f}" text-anchor="{anchor}">{title}</text>')
    for arm, means in series.items():
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in (point(k, means[name]) for k, name in enumerate(DIMENSIONS)))
        parts.append(f'<polygon class="arm {escape(arm)}" points="{corners}"/>')
    return "".join([*parts, "</svg>"])


def quintile_means(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of both coordinates over five groups of about equal size, in the order of the first; [] below ten pairs."""
    if len(pairs) < 10:
        return []
    ordered = sorted(pairs)
    edges = [round(k * len(ordered) / 5) for k in range(6)]
    groups = [ordered[low:high] for low, high in pairwise(edges)]
    return [(sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group)) for group in groups]


def reliability_plot_svg(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Reliability: the model's score (across) and the advisor's (up), 0-10, by arm; on the diagonal they agree."""
    size, edge = 360, 34
    span = size - 2 * edge

    def place(value: float, up: bool) -> float:
        return size - edge - span * value / 10 if up else edge + span * value / 10

    parts = [f'<svg class="scatter" viewBox="0 0 {size} {size}" role="img" aria-label="Scores against the advisor\'s">']
    for tick in (0, 2, 4, 6, 8, 10):
        a, b = place(tick, False), place(tick, True)
        parts += [
            f'<line class="grid" x1="{a}" x2="{a}" y1="{edge}" y2="{size - edge}"/>',
            f'<line class="grid" x1="{edge}" x2="{size - edge}" y1="{b}" y2="{b}"/>',
            f'<text class="tick" x="{a}" y="{size - edge + 15}" text-anchor="middle">{tick}</text>',
            f'<text class="tick" x="{edge - 6}" y="{b + 4}" text-anchor="end">{tick}</text>',
        ]
    parts.append(f'<line class="zero" x1="{edge}" y1="{size - edge}" x2="{size - edge}" y2="{edge}"/>')
    for arm, pairs in points.items():
        parts += [
            f'<circle class="point {escape(arm)}" cx="{place(a, False):.1f}" cy="{place(b, True):.1f}" r="3"/>'
            for a, b in pairs
        ]
    for arm, pairs in points.items():
        line = " ".join(f"{place(a, False):.1f},{place(b, True):.1f}" for a, b in quintile_means(pairs))
        parts.append(f'<polyline class="curve {escape(arm)}" points="{line}"/>')
    parts.append(
        f'<text class="tick" x="{size / 2}" y="{size - 3}" text-anchor="middle">model</text>'
        f'<text class="tick" x="4" y="{edge - 12}">advisor</text></svg>'
    )
    return "".join(parts)
