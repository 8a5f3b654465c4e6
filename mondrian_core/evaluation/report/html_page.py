"""The report as one standalone HTML file: no scripts, no external addresses, all model output escaped."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from mondrian_core.charts.drawing import Drawing
from mondrian_core.charts.forest_plot import forest_plot
from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.reliability_plot import reliability_plot
from mondrian_core.charts.svg import svg_markup
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS
from mondrian_core.evaluation.gates.tail_gate import TAIL
from mondrian_core.evaluation.measure.baselines import BASELINE_TITLES
from mondrian_core.evaluation.measure.calibration import FITTED_ON_TEXTS
from mondrian_core.evaluation.measure.metrics import score_table
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.evaluation.report.builder import ARMS
from mondrian_core.evaluation.report.caveats import photographs_sentence
from mondrian_core.evaluation.report.comments_section import comment_examples, comment_plot, comment_rows
from mondrian_core.evaluation.report.evaluation_report import (
    EvaluationReport,
    interval_text,
    number_text,
    percent_text,
    points_text,
)
from mondrian_core.evaluation.report.gain import calibration_plot
from mondrian_core.evaluation.report.worst_cases import deviant_photographs, photograph_title, worst_photographs
from mondrian_core.files import write_atomic
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE, CHAMPION

if TYPE_CHECKING:
    from jinja2 import Template

SIDE_BY_SIDE = 6
UNREADABLE = 12
_WORD = {PASS: "Pass", FAIL: "Fail", INCONCLUSIVE: "Inconclusive"}


def write_report_html(report: EvaluationReport, samples: EvaluationSamples, path: Path) -> None:
    """Write report.html."""
    write_atomic(path, report_html(report, samples))


@cache
def _template() -> Template:
    """Compiled once per process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number_text, interval=interval_text, percent=percent_text, points=points_text)
    return environment.get_template("report.html")


def report_html(report: EvaluationReport, samples: EvaluationSamples) -> str:
    """The HTML."""
    asked = [outcome for outcome in samples.outcomes if outcome.arm in ARMS]
    arms, comparison, by_folds = report.scores
    labels, scored = samples.scored
    outcomes = [outcome for outcome in scored if outcome.arm in ARMS]
    rows = (report.metrics["folds"] if by_folds else report.metrics)["per_photograph"]
    means = _means(arms)
    by_key = {(outcome.arm, outcome.photograph): outcome for outcome in outcomes}
    return _template().render(
        report=report,
        word=_WORD,
        meaning=report.meaning,
        photographs=photographs_sentence(report.metrics["photographs"], str(report.about.get("split") or "validation")),
        titles=DIMENSION_TITLES,
        calibrations=report.calibrations,
        fitted_on=FITTED_ON_TEXTS,
        errors=_svg(calibration_plot(report.calibrations, by_folds=report.metrics["gain"]["by_folds"])),
        forest=_svg(forest_plot(comparison["dimensions"], comparison)) if comparison else "",
        comparison=comparison,
        by_folds=by_folds,
        who="recipe" if by_folds else CANDIDATE,
        radar=_svg(radar_chart(means, "Mean scores")) if means else "",
        scatter=_svg(reliability_plot(_points(labels, outcomes))) if labels else "",
        arms=report.metrics["arms"],
        by_dimension=_by_dimension(arms),
        rivals=[
            (BASELINE_TITLES[name], found)
            for name, found in report.metrics["rivals"].items()
            if found["mse"] is not None
        ],
        rival_titles=BASELINE_TITLES,
        cards=[_card(name, why, labels[name], by_key) for name, why in _chosen(_by_change(rows)) if name in labels],
        comments=comment_rows(report.metrics.get("comments"), report.gates),
        comments_plot=_svg(comment_plot(report.metrics.get("comments"))),
        comment_examples=comment_examples(report.metrics.get("comments"), labels, by_key),
        worst=worst_photographs(rows, labels, by_key),
        deviant=deviant_photographs({gate.name: gate for gate in report.gates}.get(TAIL.name), samples),
        unreadable=[
            (photograph_title(outcome.photograph, labels.get(outcome.photograph)), outcome)
            for outcome in asked
            if outcome.status != "valid"
        ][:UNREADABLE],
        unreadable_total=sum(outcome.status != "valid" for outcome in asked),
    )


def _svg(drawing: Drawing | None) -> Markup:
    return Markup(svg_markup(drawing) if drawing else "")


def _by_dimension(arms: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Title and figures of each dimension for base and candidate; empty where one of them has no scores."""
    if BASE not in arms or CANDIDATE not in arms:
        return []
    return [(DIMENSION_TITLES[name], [arms[BASE][name], arms[CANDIDATE][name]]) for name in DIMENSIONS]


def _means(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for arm in (BASE, CANDIDATE):
        if dimensions := arms.get(arm):
            means[arm] = {name: dimensions[name]["mean"] for name in DIMENSIONS}
            means["advisor"] = {name: dimensions[name]["advisor_mean"] for name in DIMENSIONS}
    return means


def _points(
    labels: Mapping[str, Mapping[str, Any]], outcomes: Sequence[EvaluationOutcome]
) -> dict[str, list[tuple[float, float]]]:
    table = score_table({name: record["scores"] for name, record in labels.items()}, outcomes)
    found = {}
    for arm in (BASE, CANDIDATE):
        if arm in table.predictions:
            kept = table.readable(arm)
            found[arm] = list(
                zip(table.predictions[arm][kept].ravel().tolist(), table.labels[kept].ravel().tolist(), strict=True)
            )
    return found


def _by_change(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, str]]:
    """Difference of the errors (candidate - base) and photograph, most improved first; only where both are known."""
    known = [
        (row[CANDIDATE] - row[BASE], row["photograph"])
        for row in rows
        if row.get(CANDIDATE) is not None and row.get(BASE) is not None
    ]
    return sorted(known)


def _chosen(order: Sequence[tuple[float, str]]) -> list[tuple[str, str]]:
    """Photographs to show, each with the reason: the largest changes in both directions, then typical ones."""
    if not order:
        return []
    names = [name for _, name in order]
    middle = names[len(names) // 2 :][:2]
    wanted = [(names[-1], "most worsened" if order[-1][0] > 0 else "least improved"), (names[0], "most improved")]
    wanted += [(name, "typical") for name in middle] + [(name, "among the worse") for name in names[-3:-1]]
    first: dict[str, str] = {}
    for name, why in wanted:
        first.setdefault(name, why)
    return list(first.items())[:SIDE_BY_SIDE]


def _card(
    name: str, why: str, label: Mapping[str, Any], outcomes: Mapping[tuple[str, str], EvaluationOutcome]
) -> dict[str, Any]:
    """One photograph with the scores and comments of advisor and arms for each dimension."""
    arms = [arm for arm in (BASE, CHAMPION, CANDIDATE) if (arm, name) in outcomes]
    comments = {arm: _comments(outcomes[arm, name].text) for arm in arms}
    advisor = _comments(label.get("critique") or "")
    rows = []
    for dimension in DIMENSIONS:
        truth = label["scores"][dimension]
        cells = []
        for arm in arms:
            comment = comments[arm].get(dimension, "")
            before = comments.get(BASE, {}).get(dimension, "")
            shown = word_diff(before, comment) if arm == CANDIDATE else escape(comment)
            score = outcomes[arm, name].best_scores.get(dimension)
            cells.append(
                {"arm": arm, "score": score, "away": None if score is None else score - truth, "comment": shown}
            )
        rows.append(
            {
                "title": DIMENSION_TITLES[dimension],
                "advisor": truth,
                "comment": advisor.get(dimension, ""),
                "cells": cells,
            }
        )
    return {
        "name": photograph_title(name, label),
        "why": why,
        "picture": label.get("picture"),
        "arms": arms,
        "rows": rows,
        "has_critique": bool(advisor),
    }


def _comments(text: str) -> dict[str, str]:
    try:
        assessments = parse_critique_lenient(text).critique.assessments
    except CritiqueParseError:
        return {}
    return {name: assessment.comment for name, assessment in assessments.items()}


def word_diff(before: str, after: str) -> Markup:
    """`after` with the differences to `before` marked; both are escaped."""
    if not before:
        return escape(after)
    old, new = before.split(), after.split()
    parts: list[Markup] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        removed, added = escape(" ".join(old[a:b])), escape(" ".join(new[c:d]))
        if kind == "equal":
            parts.append(added)
            continue
        if removed:
            parts.append(Markup("<del>{}</del>").format(removed))
        if added:
            parts.append(Markup("<ins>{}</ins>").format(added))
    return Markup(" ").join(parts)
