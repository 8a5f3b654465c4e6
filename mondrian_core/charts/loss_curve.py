"""The charts of a training log: loss, rewards of preference tuning, score error; and several runs in one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mondrian_core.charts.axes_chart import AxesChart, LineSeries, Marker, line_chart
from mondrian_core.charts.drawing import Drawing

LogLines = Sequence[Mapping[str, Any]]
_STEPS = "optimizer step"


def training_charts(lines: LogLines, best: Mapping[str, int]) -> list[Drawing]:
    """Loss by step and epoch, and the score error where validation photographs were answered; [] without lines.

    A phase of preference tuning has its own charts with rewards and accuracy.

    Args:
        lines: the training log.
        best: the epoch that was chosen, by phase; "" is the first phase.
    """
    phases: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        phases.setdefault(line.get("phase", ""), []).append(line)
    panels = [panel for phase, logged in phases.items() for panel in _phase_panels(logged, phase, best.get(phase))]
    width = 760.0 if len(panels) == 1 else AxesChart.width
    return [line_chart(replace(chart, width=width), series) for chart, series in panels]


def loss_comparison_chart(logs: Mapping[str, LogLines]) -> Drawing:
    """The loss after each epoch of several runs: on validation photographs, of the training where none are held out.

    Preference tuning, whose loss means something else, is left out.

    Args:
        logs: the training log by the run's label; a run's style class is `run-1`, `run-2`, ... in this order.
    """
    series = []
    for number, (label, lines) in enumerate(logs.items(), start=1):
        epochs = [line for line in lines if line["kind"] == "epoch" and not line.get("phase")]
        validated = [line for line in epochs if line.get("validation_loss") is not None]
        name, kind = ("validation_loss", "validation") if validated else ("train_loss", "training")
        points = [(line["step"], line[name]) for line in validated or epochs if line.get(name) is not None]
        style = f"run-{number}"
        series.append(LineSeries(points=points, style=style, label=f"{label}, {kind}", marker="circle"))
    chart = AxesChart(
        title="Loss after each epoch", x_label=_STEPS, y_label="weighted loss, nats per token", width=760.0
    )
    return line_chart(chart, series)


Panel = tuple[AxesChart, list[LineSeries]]


def _phase_panels(lines: LogLines, phase: str, best: int | None) -> list[Panel]:
    steps, epochs = ([line for line in lines if line["kind"] == kind] for kind in ("step", "epoch"))
    answered = [line for line in epochs if line.get("answers_score_error") is not None]
    panels = [_rewards(steps, epochs), _accuracy(steps, epochs)] if phase else [_losses(steps, epochs)]
    if answered:
        panels.append(_score_errors(answered))
    chosen = next((line["step"] for line in epochs if line["epoch"] == best), None)
    if chosen is None:
        return panels
    text = f"chosen: epoch {best}" if best else "chosen: the start"
    return [(replace(chart, marked=(chosen, text)), series) for chart, series in panels]


def _losses(steps: LogLines, epochs: LogLines) -> Panel:
    series = [
        _curve(steps, "loss", "quiet", "training, each step"),
        *_known(epochs, "train_loss", "first", "training, mean of the epoch", "circle"),
        *_known(epochs, "validation_loss", "second", "validation", "square"),
    ]
    chart = AxesChart(title="Loss", x_label=_STEPS, y_label="weighted loss, nats per token", from_zero=True)
    return chart, series


def _rewards(steps: LogLines, epochs: LogLines) -> Panel:
    series = []
    for name, style, label in (
        ("chosen_reward", "first", "chosen"),
        ("rejected_reward", "second", "rejected"),
        ("margin", "third", "difference"),
    ):
        series.append(_curve(steps, name, f"{style} thin", f"{label}, each step"))
        validated = _known(epochs, f"validation_{name}", style, f"{label}, validation", "square")
        series += [replace(one, line=False) for one in validated]
    label = "reward: beta x gain over the reference, nats"
    return AxesChart(title="Preference: rewards", x_label=_STEPS, y_label=label), series


def _accuracy(steps: LogLines, epochs: LogLines) -> Panel:
    series = [
        _curve(steps, "accuracy", "quiet", "accuracy, each step"),
        *_known(epochs, "validation_accuracy", "second", "accuracy, validation", "square"),
        _curve(steps, "loss", "first thin dashed", "loss, each step"),
        *_known(epochs, "validation_loss", "first dashed", "loss, validation", "square"),
    ]
    chart = AxesChart(
        title="Preference: share of correctly ordered pairs, and loss",
        x_label=_STEPS,
        y_label="share of the pairs; loss, nats",
        from_zero=True,
    )
    return chart, series


def _score_errors(epochs: LogLines) -> Panel:
    """Each point shows how many answers were valid."""
    count = epochs[0]["answers_photographs"]
    series = replace(
        _curve(epochs, "answers_score_error", "third", f"{count} validation photographs"),
        marker="diamond",
        notes=[f"{line['answers_valid']}/{count}" for line in epochs],
    )
    chart = AxesChart(
        title="Answers: score error, and number of valid answers",
        x_label=_STEPS,
        y_label="squared error, points squared",
        from_zero=True,
        headroom=0.2,
    )
    return chart, [series]


def _curve(lines: LogLines, name: str, style: str, label: str) -> LineSeries:
    return LineSeries(points=[(line["step"], line[name]) for line in lines], style=style, label=label)


def _known(lines: LogLines, name: str, style: str, label: str, marker: Marker) -> list[LineSeries]:
    """The curve over the lines that have a value; [] when none has one."""
    known = [line for line in lines if line.get(name) is not None]
    return [replace(_curve(known, name, style, label), marker=marker)] if known else []
