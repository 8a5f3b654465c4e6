"""/drift: live answers against the champion's evaluation, for every advisor."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from mondrian_core.charts.drift_charts import DistributionStrip, distribution_strip, evidence_chart
from mondrian_core.charts.svg import svg_markup
from mondrian_core.drift import DriftMonitor
from mondrian_core.drift.report import (
    DriftReport,
    SignalReport,
    drift_report,
    evidence_points,
    evidence_text,
    next_drift_steps,
)
from mondrian_core.drift.signals import ALARM_EVIDENCE, BINS, SIGNALS
from mondrian_core.registry import Registry
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.value_texts import VALUE_TEXTS, finite_values
from mondrian_core.settings import validate_advisor_id

_HTML: dict[int | str, dict[str, Any]] = {
    200: {"description": "As a page if HTML is preferred", "content": {"text/html": {}}}
}
STATUS_BADGES = {"alarm": "bad", "watching": "good", "inconclusive": "attention"}


@dataclass(frozen=True, kw_only=True)
class DrawnSignal:
    """A signal with its pictures: the distributions, and the evidence over time ("" before the first request)."""

    report: SignalReport
    strip: Markup
    evidence: Markup


def add_drift_routes(app: FastAPI, service: Service) -> None:
    """Add the route."""
    monitor = DriftMonitor(service.store, Registry(service.settings.adapters_root), service.root)
    one_at_a_time = Lock()

    @app.get("/drift", responses=_HTML)
    def drift(request: Request, advisor: Annotated[str, Query(max_length=64)] = "") -> Response:
        """Whether live answers still look like the champion's evaluation: each signal with band, state and evidence."""
        names = service.store.advisor_names()
        chosen = [service.store.advisor(validate_advisor_id(advisor)).advisor] if advisor else sorted(names)
        with one_at_a_time:
            reports = [drift_report(each, monitor.update(each)) for each in chosen]
        if not wants_html(request):
            return JSONResponse(finite_values([report.as_dict() for report in reports]))
        return HTMLResponse(
            render_template(
                "drift.html",
                current_page="/drift",
                text=VALUE_TEXTS,
                badges=STATUS_BADGES,
                limit=evidence_text(ALARM_EVIDENCE),
                evidence_text=evidence_text,
                names=names,
                shown=[(report, _drawn(report), next_drift_steps(report)) for report in reports],
            )
        )


def _drawn(report: DriftReport) -> list[DrawnSignal]:
    """The signals, those with an alarm first."""
    drawn = [_draw_signal(report, place) for place in range(len(report.signals))]
    return sorted(drawn, key=lambda each: each.report.status != "alarm")


def _draw_signal(report: DriftReport, place: int) -> DrawnSignal:
    signal = report.signals[place]
    points = evidence_points(report.watch, place) if report.watch is not None else ()
    strip = DistributionStrip(
        label=f"{signal.signal.title}: reference and live values",
        values=[SIGNALS[place].value(number) for number in range(BINS)],
        reference=[int(count) for count in signal.reference_counts],
        live=[int(count) for count in signal.live_counts],
        band=signal.band,
        most=_axis_end(signal),
    )
    known = signal.status != "no_reference" and bool(points)
    return DrawnSignal(
        report=signal,
        strip=Markup(svg_markup(distribution_strip(strip))) if signal.reference or signal.live else Markup(""),
        evidence=Markup(svg_markup(evidence_chart(points, ALARM_EVIDENCE, signal.signal.title)))
        if known
        else Markup(""),
    )


def _axis_end(signal: SignalReport) -> float:
    """The end of the axis: 10 points, 100 %, or the largest value."""
    if signal.signal.unit in ("points", "share"):
        return signal.signal.highest
    used = [place for place in range(BINS) if signal.reference_counts[place] or signal.live_counts[place]]
    return signal.signal.value(min(BINS - 1, max(used, default=BINS - 1) + 3))
