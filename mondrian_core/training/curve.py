"""The loss curve as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mondrian_core.files import write_atomic

FILE = "loss_curve.png"


def draw(lines: Sequence[dict[str, Any]], best_epoch: int, path: Path) -> None:
    """Loss per step and epoch; beside it, where validation photographs were answered, the error of their scores."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [line for line in lines if line["kind"] == "epoch"]
    answered = [line for line in epochs if line.get("answers_score_error") is not None]
    chosen = next((line["step"] for line in epochs if line["epoch"] == best_epoch), None)
    figure = Figure(figsize=(12 if answered else 8, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if answered else 1, squeeze=False)[0]
    _losses(panels[0], [line for line in lines if line["kind"] == "step"], epochs)
    if answered:
        _answers(panels[1], answered)
    for axes in panels:
        if chosen is not None:
            axes.axvline(chosen, color="#555555", linestyle=":", label=f"chosen: epoch {best_epoch}")
        axes.set_xlabel("optimizer step")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())


def _losses(axes: Any, steps: Sequence[dict[str, Any]], epochs: Sequence[dict[str, Any]]) -> None:
    axes.plot([line["step"] for line in steps], [line["loss"] for line in steps], color="#b9c3d6", linewidth=1,
              label="training, each step")  # fmt: skip
    for name, style, color, label in (("train_loss", "o-", "#3b5b92", "training, mean of the epoch"),
                                      ("validation_loss", "s-", "#c2572b", "validation")):  # fmt: skip
        known = [line for line in epochs if line.get(name) is not None]
        if known:
            axes.plot([line["step"] for line in known], [line[name] for line in known], style, color=color, label=label)
    axes.set(title="Loss", ylabel="weighted loss, nats per token")


def _answers(axes: Any, epochs: Sequence[dict[str, Any]]) -> None:
    """Each point says how many of the answers were in form."""
    steps, errors = [line["step"] for line in epochs], [line["answers_score_error"] for line in epochs]
    count = epochs[0]["answers_photographs"]
    axes.plot(steps, errors, "D-", color="#2e7d4f", label=f"{count} validation photographs")
    for line, step, error in zip(epochs, steps, errors, strict=True):
        axes.annotate(f"{line['answers_valid']}/{count}", (step, error), textcoords="offset points", xytext=(0, 8),
                      ha="center", fontsize=8, color="#555555")  # fmt: skip
    axes.set(title="Answers: error of the scores (and how many are in form)", ylabel="squared error, points²")
    axes.set_ylim(top=1.2 * max(errors) or 1.0)
