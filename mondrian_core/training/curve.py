"""The loss curve as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mondrian_core.files import write_atomic

FILE = "loss_curve.png"


def draw(lines: Sequence[dict[str, Any]], best_epoch: int, path: Path) -> None:
    """Training loss per step, its mean per epoch, validation loss, and the epoch that was chosen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([line["step"] for line in steps], [line["loss"] for line in steps], color="#b9c3d6", linewidth=1,
              label="training, each step")  # fmt: skip
    trained = [line for line in epochs if line.get("train_loss") is not None]
    axes.plot([line["step"] for line in trained], [line["train_loss"] for line in trained], "o-", color="#3b5b92",
              label="training, mean of the epoch")  # fmt: skip
    judged = [line for line in epochs if line.get("validation_loss") is not None]
    if judged:
        axes.plot([line["step"] for line in judged], [line["validation_loss"] for line in judged], "s-",
                  color="#c2572b", label="validation")  # fmt: skip
    chosen = [line for line in epochs if line["epoch"] == best_epoch]
    if chosen:
        axes.axvline(chosen[0]["step"], color="#555555", linestyle=":", label=f"chosen: epoch {best_epoch}")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("weighted loss, nats per token")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())
