"""Routes for the runs of the workspace: a table, one run, several compared, the report."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from mondrian_core.charts.loss_curve import loss_comparison_chart, training_charts
from mondrian_core.charts.svg import svg_markup
from mondrian_core.runs import MOST_COMPARED, RunCatalogue, RunRecord, compare_runs
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.stored_reports import REPORT_RESPONSES, report_response
from mondrian_core.serving.http.value_texts import VALUE_TEXTS, finite_values

_HTML: dict[int | str, dict[str, Any]] = {
    200: {"description": "As a page if HTML is preferred", "content": {"text/html": {}}}
}
RunName = Annotated[str, Path(max_length=200)]


def add_run_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    catalogue = RunCatalogue(service.root)

    @app.get("/runs", responses=_HTML)
    def runs(request: Request) -> Response:
        """The runs of this workspace, the latest first."""
        found = catalogue.runs()
        if not wants_html(request):
            return JSONResponse(finite_values([run.as_dict() for run in found]))
        return _page("runs.html", runs=found, most=MOST_COMPARED, advisors=sorted({run.advisor for run in found}))

    @app.get("/runs/compare", responses=_HTML)
    def compare(request: Request, run: Annotated[list[str], Query(max_length=50)] = []) -> Response:  # noqa: B006
        """Runs side by side: the settings that differ, figures, and their losses in one chart."""
        chosen = [catalogue.run(name) for name in run]
        compared = compare_runs(chosen)
        if not wants_html(request):
            return JSONResponse(finite_values(compared))
        logs = {each.name: catalogue.training_log(each.name) for each in chosen}
        chart = loss_comparison_chart(logs) if any(logs.values()) else None
        return _page(
            "runs_compare.html", runs=chosen, compared=compared, chart=Markup(svg_markup(chart)) if chart else ""
        )

    @app.get("/runs/{run}", responses=_HTML)
    def one_run(request: Request, run: RunName) -> Response:
        """One training or evaluation: what it did, its settings and its loss curve."""
        record = catalogue.run(run)
        if not wants_html(request):
            return JSONResponse(finite_values(record.as_dict()))
        return _page("run.html", run=record, before=_run_before(catalogue, record), charts=_charts(catalogue, record))

    @app.get("/runs/{run}/report", response_class=Response, responses=REPORT_RESPONSES)
    def report(run: RunName) -> Response:
        """The evaluation report of a run. It is a stand-alone page."""
        return report_response(catalogue.file(run, "report.html"), f"The run {run}")


def _run_before(catalogue: RunCatalogue, run: RunRecord) -> RunRecord | None:
    """The run of the same advisor before this one."""
    runs = [each for each in catalogue.runs() if each.advisor == run.advisor]
    later = [each.name for each in runs].index(run.name) if run in runs else len(runs)
    return next(iter(runs[later + 1 :]), None)


def _charts(catalogue: RunCatalogue, run: RunRecord) -> list[Markup]:
    best = {"": run.best_epoch} if run.best_epoch is not None else {}
    return [Markup(svg_markup(chart)) for chart in training_charts(catalogue.training_log(run.name), best)]


def _page(template: str, **values: Any) -> Response:
    return HTMLResponse(render_template(template, current_page="/runs", text=VALUE_TEXTS, **values))
