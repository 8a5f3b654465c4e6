"""Routes for the registry: all advisors, one advisor, one version, its report, two versions compared.

The routes that change the champion are in promotion_routes.py.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from mondrian_core.registry import Registry, compare_versions
from mondrian_core.rubric import DIMENSION_TITLES
from mondrian_core.serving.http import registry_charts, registry_values
from mondrian_core.serving.http.pages import render_template
from mondrian_core.serving.http.responses import wants_html
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.stored_reports import REPORT_RESPONSES, report_response
from mondrian_core.serving.http.value_texts import VALUE_TEXTS, finite_values
from mondrian_core.settings import validate_advisor_id

AdvisorName = Annotated[str, Path(max_length=64)]
VersionParameter = Annotated[str, Path(max_length=128)]
_HTML: dict[int | str, dict[str, Any]] = {
    200: {"description": "As a page if HTML is preferred", "content": {"text/html": {}}}
}
COMPARED_PHOTOGRAPHS = 3
# The sections of a comparison by the first word of a row.
_SECTIONS = {
    "state": "Gates",
    "verdict": "Gates",
    "gate": "Gates",
    "recipe": "Recipe",
    "dataset": "Data",
    "metrics": "Metrics",
}


def add_registry_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    registry = Registry(service.settings.adapters_root)
    _add_advisor_routes(app, service, registry)
    _add_diff_routes(app, service, registry)
    _add_version_routes(app, service, registry)


def _add_advisor_routes(app: FastAPI, service: Service, registry: Registry) -> None:
    @app.get("/registry", responses=_HTML)
    def overview(request: Request) -> Response:
        """Which adapter answers for each advisor: champion, verdict, waiting candidates, and the rollout in force."""
        names = {each.advisor: each.name for each in service.store.advisors()}
        advisors = registry_values.registry_overview(registry, names)
        if not wants_html(request):
            return JSONResponse(finite_values(advisors))
        return registry_page("registry.html", advisors=advisors, place=registry.url or registry.root.name)

    @app.get("/registry/{advisor}", responses=_HTML)
    def advisor_page(request: Request, advisor: AdvisorName) -> Response:
        """The versions of an advisor's adapter, with their lineage and the history."""
        values = registry_values.advisor_values(registry, validate_advisor_id(advisor))
        if not wants_html(request):
            return JSONResponse(finite_values(values))
        return registry_page(
            "registry_advisor.html",
            values=values,
            name=next((each.name for each in service.store.advisors() if each.advisor == advisor), ""),
            lineage=registry_charts.lineage_svg(values),
            drawn=registry_charts.MOST_DRAWN,
            remote=registry.url is not None,
            changed="changed" in request.query_params,
        )


def _add_diff_routes(app: FastAPI, service: Service, registry: Registry) -> None:
    @app.get("/registry/{advisor}/diff", status_code=303, response_class=RedirectResponse)
    def choose_diff(
        advisor: AdvisorName,
        first: Annotated[str, Query(max_length=128)],
        second: Annotated[str, Query(max_length=128)],
    ) -> Response:
        """Go to the comparison of two versions; the form of an advisor's page leads here."""
        validate_advisor_id(advisor)
        return RedirectResponse(f"/registry/{advisor}/diff/{quote(first, safe='')}/{quote(second, safe='')}", 303)

    @app.get("/registry/{advisor}/diff/{first}/{second}", responses=_HTML)
    def diff(request: Request, advisor: AdvisorName, first: VersionParameter, second: VersionParameter) -> Response:
        """What distinguishes two versions: the figures of `mondrian adapters diff`."""
        pair = [registry_values.find_version(registry, validate_advisor_id(advisor), name) for name in (first, second)]
        for version in pair:
            registry_charts.fetch_answers(registry, version)
        compared = compare_versions(pair[0], pair[1], service.root, COMPARED_PHOTOGRAPHS)
        compared["answers"] = {name: source is not None for name, source in compared["answers"].items()}
        if not wants_html(request):
            return JSONResponse(finite_values(compared))
        sections: dict[str, list[Any]] = {}
        for row in compared["differences"]:
            sections.setdefault(_SECTIONS.get(row["what"].split()[0].split(".")[0], "Other"), []).append(row)
        return registry_page(
            "registry_diff.html",
            advisor=advisor,
            compared=compared,
            sections=sections,
            dimension_titles=DIMENSION_TITLES,
        )


def _add_version_routes(app: FastAPI, service: Service, registry: Registry) -> None:
    @app.get("/registry/{advisor}/{version}", responses=_HTML)
    def version_page(request: Request, advisor: AdvisorName, version: VersionParameter) -> Response:
        """One version of an adapter: manifest, gates, curves, files with verified hashes, history."""
        found = registry_values.find_version(registry, validate_advisor_id(advisor), version)
        values = registry_values.version_values(registry, found)
        if not wants_html(request):
            return JSONResponse(finite_values(values))
        return registry_page(
            "registry_version.html",
            values=values,
            charts=registry_charts.version_loss_charts(registry, found),
            reliability=registry_charts.version_reliability_plot(registry, found, service.root),
            champion=registry.current(advisor),
            run_exists=(service.root / "runs" / str(values.get("run"))).is_dir(),
        )

    @app.get("/registry/{advisor}/{version}/report", response_class=Response, responses=REPORT_RESPONSES)
    def report(advisor: AdvisorName, version: VersionParameter) -> Response:
        """The evaluation report of a version. It is a stand-alone page, as it was registered."""
        found = registry_values.find_version(registry, validate_advisor_id(advisor), version)
        facts = (found.manifest.get("files") or {}).get(registry_values.REPORT_FILE) or {}
        path = registry.fetch_file(found, registry_values.REPORT_FILE)
        return report_response(path, f"{version} of '{advisor}'", str(facts.get("sha256")))


def registry_page(template: str, status: int = 200, **values: Any) -> Response:
    """A page of the registry."""
    return HTMLResponse(render_template(template, current_page="/registry", text=VALUE_TEXTS, **values), status)
