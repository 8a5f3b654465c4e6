"""The pictures of the registry's pages: lineage, loss curves, reliability plot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mondrian_core.charts.drawing import Point
from mondrian_core.charts.lineage_chart import LineageNode, ReignSpan, lineage_chart
from mondrian_core.charts.loss_curve import training_charts
from mondrian_core.charts.reliability_plot import reliability_plot
from mondrian_core.charts.svg import svg_markup
from mondrian_core.errors import BadAdapter
from mondrian_core.registry import AdapterVersion, Registry, read_version_answers
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.runs import MAX_FILE_BYTES, logged_lines
from mondrian_core.samples_file import CANDIDATE, SAMPLES_NAME
from mondrian_core.serving.http.registry_values import seconds_of
from mondrian_core.serving.http.value_texts import moment_text

MOST_DRAWN = 40  # versions in the lineage, the newest
LOG_FILE = "training_log.jsonl"


def lineage_svg(values: Mapping[str, Any]) -> Markup:
    """The lineage of an advisor's newest versions, from `advisor_values`; "" without versions."""
    rows: Sequence[Mapping[str, Any]] = list(reversed(values["versions"][:MOST_DRAWN]))
    if not rows:
        return Markup("")
    champions = {reign["version"] for reign in values["reigns"]}
    nodes = [
        LineageNode(
            name=row["version"],
            state=row["state"],
            parent=row.get("parent"),
            was_champion=row["version"] in champions,
            tooltip=f"{row['version']}: {row['state']}, {row.get('verdict') or 'not measured'}",
        )
        for row in rows
    ]
    spans = _reign_spans(values["reigns"], time.time())
    ends = (moment_text(values["reigns"][0]["since"])[:10], "now") if spans else ("nothing was promoted yet", "")
    return Markup(svg_markup(lineage_chart(nodes, spans, ends), at_scale=True))


def _reign_spans(reigns: Sequence[Mapping[str, Any]], now: float) -> list[ReignSpan]:
    """Reigns with readable times. A clock that went back gives no negative span."""
    spans: list[ReignSpan] = []
    for reign in reigns:
        start, end = seconds_of(reign["since"]), now if reign["until"] is None else seconds_of(reign["until"])
        if start is not None and end is not None:
            start = max(start, spans[-1].end) if spans else start
            spans.append(ReignSpan(reign["version"], start, max(start, end)))
    return spans


def version_loss_charts(registry: Registry, version: AdapterVersion) -> list[Markup]:
    """The loss curve and the learning curve of a version's training; [] without a log."""
    path = _small_file(registry, version, LOG_FILE)
    if path is None:
        return []
    best = (version.manifest.get("training") or {}).get("best_epoch")
    chosen = {"": best} if isinstance(best, int) else {}
    return [Markup(svg_markup(chart)) for chart in training_charts(logged_lines(path), chosen)]


def version_reliability_plot(registry: Registry, version: AdapterVersion, workspace: Path) -> Markup:
    """The version's scores against the advisor's, from its stored answers; "" without any."""
    fetch_answers(registry, version)
    found = read_version_answers(version, workspace)
    points: list[Point] = [
        (found.answers[name].scores[dimension], scores[dimension])
        for name, scores in found.labels.items()
        if name in found.answers and found.answers[name].scores
        for dimension in DIMENSIONS
    ]
    return Markup(svg_markup(reliability_plot({CANDIDATE: points}))) if points else Markup("")


def fetch_answers(registry: Registry, version: AdapterVersion) -> None:
    """Download a version's answers when the registry is an object store, so that they can be read."""
    _small_file(registry, version, SAMPLES_NAME)


def _small_file(registry: Registry, version: AdapterVersion, name: str) -> Path | None:
    """A listed file of at most 64 MB; None when it is missing, larger, or damaged in an object store."""
    size = ((version.manifest.get("files") or {}).get(name) or {}).get("bytes")
    if not isinstance(size, int) or size > MAX_FILE_BYTES:
        return None
    try:
        return registry.fetch_file(version, name)
    except BadAdapter:
        return None
