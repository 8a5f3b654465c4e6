"""The report's section about comments: figures of every check, a plot, and the best and worst examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.charts.drawing import Drawing
from mondrian_core.charts.interval_plot import IntervalPlot, IntervalRow, interval_plot
from mondrian_core.evaluation.gates.comments_gate import COMMENTS
from mondrian_core.evaluation.gates.results import GateResult
from mondrian_core.evaluation.measure.comment_measurement import CommentMeasurement
from mondrian_core.evaluation.measure.comments.texts import WrittenAnswer, read_answer
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.report.worst_cases import photograph_title
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics import bootstrap

ADVISOR = "advisor"
EXAMPLES = 3  # of each kind
# check -> what its figures are
FIGURE_TITLES: Mapping[str, str] = {
    "likelihood": "held-out comments, nats per token",
    "comments_depend_on_photograph": "photograph found by the likelihood of the advisor's comments",
    "specificity": "photograph found by the arm's own comments",
    "voice": "answers attributed to the advisor",
    "agreement": "rank correlation of comments with scores",
    "copied": "words copied from critiques of training",
    "broken": "answers that say nothing",
}


def comment_metrics(found: CommentMeasurement | None, seconds: Mapping[str, float]) -> dict[str, Any] | None:
    """The figures by check and side as plain values, "specificity" by photograph and "likelihood" for the plot.

    Args:
        found: None where the comments weren't measured, as is then the result.
        seconds: processor time by part (`EvaluationSamples.processor_time`).
    """
    if found is None:
        return None
    figures: dict[str, dict[str, float]] = {**{name: {} for name in FIGURE_TITLES}, **_figures_of_words(found)}
    plotted: dict[str, Any] = {}
    if (read := found.likelihood) is not None:
        figures["likelihood"] = {BASE: float(read.base.mean()), CANDIDATE: float(read.candidate.mean())}
        plotted = _likelihoods(read.base, read.candidate, read.base_told, read.candidate_told)
        if len(read.candidate_told):
            figures["comments_depend_on_photograph"] = {CANDIDATE: read.found / len(read.candidate_told)}
    for arm, specific in ((BASE, found.base_specificity), (CANDIDATE, found.specificity)):
        if specific is not None:
            figures["specificity"][arm] = specific.found / len(specific.photographs)
    own = found.specificity
    return {
        "photographs": found.photographs,
        "figures": figures,
        "specificity": dict(zip(own.photographs, own.excess.tolist(), strict=True)) if own is not None else {},
        "likelihood": plotted,
        "processor_time": dict(seconds),
    }


def _figures_of_words(found: CommentMeasurement) -> dict[str, dict[str, float]]:
    """The figures, by check and side, that need no likelihood."""
    figures: dict[str, dict[str, float]] = {}
    if (voice := found.voice) is not None:
        figures["voice"] = {CANDIDATE: voice.attributed / len(voice.candidate)}
        if voice.base:
            figures["voice"][BASE] = sum(value > 0 for value in voice.base.values()) / len(voice.base)
        figures["voice"][ADVISOR] = voice.recognized / (2 * voice.critiques)
    if (agreement := found.agreement) is not None:
        sides = {BASE: agreement.base, CANDIDATE: agreement.candidate, ADVISOR: agreement.advisor}
        figures["agreement"] = {side: each.correlation for side, each in sides.items() if each is not None}
    if (copied := found.copied) is not None:
        figures["copied"] = {CANDIDATE: float(copied.candidate.mean()), ADVISOR: float(copied.advisor.mean())}
    figures["broken"] = {CANDIDATE: len(found.broken.broken) / max(1, found.broken.n)}
    if found.broken.advisor_n:
        figures["broken"][ADVISOR] = found.broken.advisor_broken / found.broken.advisor_n
    return figures


def _likelihoods(
    base: NDArray[np.float64],
    candidate: NDArray[np.float64],
    base_told: NDArray[np.float64],
    candidate_told: NDArray[np.float64],
) -> dict[str, Any]:
    """Title -> (mean, interval) of the plot."""
    rows = {"base, right photograph": base, "candidate, right photograph": candidate}
    if len(candidate_told) == len(candidate):
        rows = {
            "base, another photograph": base + base_told,
            "base, right photograph": base,
            "candidate, another photograph": candidate + candidate_told,
            "candidate, right photograph": candidate,
        }
    return {title: (float(values.mean()), bootstrap.bca_mean_interval(values)) for title, values in rows.items()}


def comment_rows(metrics: Mapping[str, Any] | None, gates: Sequence[GateResult]) -> list[dict[str, Any]]:
    """One row of the table for each check: its figures, and the result that it led to; none without results."""
    parts = {part.name: part for gate in gates if gate.name == COMMENTS.name for part in gate.parts}
    if metrics is None or not parts:
        return []
    return [
        {"title": title, "result": parts[name], **{side: metrics["figures"][name].get(side) for side in _SIDES}}
        for name, title in FIGURE_TITLES.items()
    ]


_SIDES = (BASE, CANDIDATE, ADVISOR)


def comment_plot(metrics: Mapping[str, Any] | None) -> Drawing | None:
    """Nats per token of the advisor's held-out comments, with the right and with another photograph; None without."""
    estimates = metrics["likelihood"] if metrics else {}
    if not estimates:
        return None
    ends = [value for mean, interval in estimates.values() for value in (mean, *(interval or ()))]
    plot = IntervalPlot(
        name="comments",
        label="Nats per token of the advisor's held-out comments",
        low=0.0,
        high=max(*ends, 0.1) * 1.02,
        tick_text=lambda tick: f"{tick:g}",
        ends=("likelier", "nats per token"),
        titles_width=220.0,
    )
    rows = [
        IntervalRow(
            title=title,
            value=mean,
            interval=tuple(interval) if interval else None,
            text=f"{mean:.2f}",
            style="good" if title.startswith(CANDIDATE) else "open",
            emphasized=title == "candidate, right photograph",
        )
        for title, (mean, interval) in estimates.items()
    ]
    return interval_plot(plot, rows)


def comment_examples(
    metrics: Mapping[str, Any] | None,
    labels: Mapping[str, Mapping[str, Any]],
    outcomes: Mapping[tuple[str, str], EvaluationOutcome],
) -> list[dict[str, Any]]:
    """The photographs whose comments fit best and worst, with the words of advisor and candidate by dimension.

    Args:
        metrics: of `comment_metrics`.
        labels: label records by photograph.
        outcomes: answers by arm and photograph.
    """
    excess = metrics["specificity"] if metrics else {}
    order = sorted(excess, key=lambda name: -excess[name])
    best = order[: min(EXAMPLES, len(order) // 2)]
    worst = order[::-1][: min(EXAMPLES, len(order) - len(best))]
    found = []
    for why, names in (("fits best", best), ("fits worst", worst)):
        for name in names:
            advisor = read_answer(name, labels[name].get("critique") or "")
            candidate = read_answer(name, outcomes[CANDIDATE, name].text)
            if advisor is not None and candidate is not None:
                found.append(
                    {
                        "photograph": photograph_title(name, labels[name]),
                        "picture": labels[name].get("picture"),
                        "why": f"{why}: {excess[name]:+.2f}",
                        "rows": [
                            (DIMENSION_TITLES[key], _said(advisor, key), _said(candidate, key)) for key in DIMENSIONS
                        ],
                    }
                )
    return found


def _said(answer: WrittenAnswer, dimension: str) -> str:
    """The comment on a dimension, and the recommendation if there is one."""
    recommendation = answer.recommendations.get(dimension)
    return answer.comments[dimension] + (f" Recommendation: {recommendation}" if recommendation else "")
