"""The loss curve as a picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mondrian_core.files import write_atomic

LOSS_CURVE_FILE = "loss_curve.png"
LogLines = Sequence[dict[str, Any]]
_QUIET, _FIRST, _SECOND, _THIRD, _GREY = "#b9c3d6", "#3b5b92", "#c2572b", "#2e7d4f", "#555555"


def draw_loss_curve(lines: LogLines, best: Mapping[str, int], path: Path) -> None:
    """Loss per step and epoch; beside it, where validation photographs were answered, the error of their scores.

    A phase of preference tuning has rewards and accuracy in panels of its own.

    Args:
        best: phase -> the epoch that was chosen; "" is the first phase.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    phases: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        phases.setdefault(line.get("phase", ""), []).append(line)
    panels = [panel for phase, own in phases.items() for panel in _panels(own, phase, best.get(phase))]
    figure = Figure(figsize=(8 if len(panels) == 1 else 6 * len(panels), 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes)
        axes.set_xlabel("optimizer step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())


def _panels(lines: LogLines, phase: str, best: int | None) -> list[Callable[[Any], None]]:
    steps, epochs = ([line for line in lines if line["kind"] == kind] for kind in ("step", "epoch"))
    answered = [line for line in epochs if line.get("answers_score_error") is not None]
    chosen = next((line["step"] for line in epochs if line["epoch"] == best), None)

    def marked(draw_on: Callable[..., None], *arguments: Any) -> Callable[[Any], None]:
        def panel(axes: Any) -> None:
            draw_on(axes, *arguments)
            if chosen is not None:
                text = f"chosen: epoch {best}" if best else "chosen: as it began"
                axes.axvline(chosen, color=_GREY, linestyle=":", label=text)

        return panel

    found = [marked(_rewards, steps, epochs), marked(_accuracy, steps, epochs)] if phase else []
    found = found or [marked(_losses, steps, epochs)]
    return [*found, marked(_answers, answered)] if answered else found


def _losses(axes: Any, steps: LogLines, epochs: LogLines) -> None:
    axes.plot(
        [line["step"] for line in steps],
        [line["loss"] for line in steps],
        color=_QUIET,
        linewidth=1,
        label="training, each step",
    )
    for name, style, color, label in (
        ("train_loss", "o-", _FIRST, "training, mean of the epoch"),
        ("validation_loss", "s-", _SECOND, "validation"),
    ):
        _line(axes, epochs, name, style, color, label)
    axes.set(title="Loss", ylabel="weighted loss, nats per token")
    axes.set_ylim(bottom=0)


def _rewards(axes: Any, steps: LogLines, epochs: LogLines) -> None:
    for name, color, label in (
        ("chosen_reward", _FIRST, "chosen"),
        ("rejected_reward", _SECOND, "rejected"),
        ("margin", _THIRD, "difference"),
    ):
        axes.plot(
            [line["step"] for line in steps],
            [line[name] for line in steps],
            color=color,
            linewidth=1,
            alpha=0.6,
            label=f"{label}, each step",
        )
        _line(axes, epochs, f"validation_{name}", "s", color, f"{label}, validation")
    axes.set(title="Preference: rewards", ylabel="reward: beta x gain over the reference, nats")


def _accuracy(axes: Any, steps: LogLines, epochs: LogLines) -> None:
    axes.plot(
        [line["step"] for line in steps],
        [line["accuracy"] for line in steps],
        color=_QUIET,
        linewidth=1,
        label="accuracy, each step",
    )
    _line(axes, epochs, "validation_accuracy", "s-", _SECOND, "accuracy, validation")
    axes.plot(
        [line["step"] for line in steps],
        [line["loss"] for line in steps],
        ":",
        color=_FIRST,
        linewidth=1,
        label="loss, each step",
    )
    _line(axes, epochs, "validation_loss", "s:", _FIRST, "loss, validation")
    axes.set(title="Preference: pairs the right way round, and loss", ylabel="share of the pairs; loss, nats")
    axes.set_ylim(bottom=0)


def _line(axes: Any, epochs: LogLines, name: str, style: str, color: str, label: str) -> None:
    known = [line for line in epochs if line.get(name) is not None]
    if known:
        axes.plot([line["step"] for line in known], [line[name] for line in known], style, color=color, label=label)


def _answers(axes: Any, epochs: LogLines) -> None:
    """Each point says how many of the answers were in form."""
    steps, errors = [line["step"] for line in epochs], [line["answers_score_error"] for line in epochs]
    count = epochs[0]["answers_photographs"]
    axes.plot(steps, errors, "D-", color=_THIRD, label=f"{count} validation photographs")
    for line, step, error in zip(epochs, steps, errors, strict=True):
        axes.annotate(
            f"{line['answers_valid']}/{count}",
            (step, error),
            textcoords="offset points",
            xytext=(0, 8),
            ha="center",
            fontsize=8,
            color=_GREY,
        )
    axes.set(title="Answers: error of the scores (and how many are in form)", ylabel="squared error, points²")
    axes.set_ylim(bottom=0, top=1.2 * max(errors) or 1.0)
