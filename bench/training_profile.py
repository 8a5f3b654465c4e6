"""`python -m bench.training_profile`: where the time and memory of a training row go, and what each saving brings.

    python -m bench.training_profile [--base wide|mini|FOLDER] [--tokens 800] [--answer 160] [--pairs 3] [--png FILE]

One row of noise, LoRA rank 8, loss and gradient, in one process. `plain` keeps what every layer computes and all logits
of the answer; the other variants change one thing. They alternate, and the ratios are to `plain` of the same round.
Time is CPU time, memory is MLX's peak above what was held before the row. The parts are differences between whole
passes, so that nothing is measured inside a graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.training_speed import ALPHA, RANK, make_wide_base
from mondrian_core.charts.interval_plot import IntervalPlot, IntervalRow, interval_plot
from mondrian_core.charts.png import png_bytes
from mondrian_core.files import write_atomic

PLAIN = "plain"
SAVINGS: dict[str, dict[str, bool]] = {
    PLAIN: {},
    "logits in pieces with slopes": {"pieces": True},
    "segments again": {"segments": True},
    "both": {"pieces": True, "segments": True},
    "whole layers again, and pieces": {"pieces": True, "layers": True},
}
Measurement = tuple[float, float]  # seconds of CPU time, bytes at the peak


class RowProfile:
    """One row of noise on a base with attached LoRA layers."""

    def __init__(self, base: str, tokens: int, answer: int) -> None:
        """`tokens` of the row, `answer` of them predicted."""
        import mlx.core as mx
        import numpy as np

        from mondrian_core.models.base_model import load_base
        from mondrian_core.models.lora import lora_layers
        from mondrian_core.recipes import TrainRecipe

        self.base = load_base(base)
        lora_layers.attach_lora(self.base, TrainRecipe(rank=RANK, alpha=ALPHA), seed=0)
        self.base.model.train()
        draw, width = np.random.default_rng(0), self.base.hidden_size
        vocabulary = self.base.language_model.args.vocab_size
        kind = self.base.language_model.model.norm.weight.dtype
        self.batch: dict[str, Any] = {
            "embeddings": mx.array(draw.normal(size=(1, tokens, width))).astype(kind),
            "positions": mx.broadcast_to(mx.arange(tokens, dtype=mx.int32), (3, 1, tokens)),
            "image_index": mx.arange(1, dtype=mx.int32),
            "deepstack": [],
            "places": mx.arange(tokens - answer - 1, tokens - 1, dtype=mx.int32),
            "targets": mx.array(draw.integers(0, vocabulary, answer).astype(np.int32)),
            "weights": mx.array(np.full(answer, 1.0 / answer, dtype=np.float32)),
        }

    def gradient(self, *, pieces: bool = False, segments: bool = False, layers: bool = False) -> Measurement:
        """Loss and gradient with the logits in pieces, and segments or whole layers computed again."""
        from mondrian_core.training.gradient_step import GradientStep

        step = GradientStep(self.base, compiled=False, threads=1, checkpointing=layers)
        with _settings(pieces=pieces, segments=segments):
            return _measured(lambda: step.loss_and_grad(self.base.model.trainable_parameters(), [self.batch]))

    def parts(self) -> dict[str, Measurement]:
        """What the row's parts add: layers, output layer, and the gradient of both, with every saving."""
        import mlx.core as mx

        from mondrian_core.models.forward_pass import DecoderInputs
        from mondrian_core.models.gradient_pass import states_at
        from mondrian_core.training.gradient_step import output_losses

        batch = self.batch
        inputs = DecoderInputs(batch["embeddings"], batch["positions"], batch["image_index"], batch["deepstack"])

        def states() -> mx.array:
            return states_at(self.base, inputs, batch["places"])

        def head(states: mx.array) -> mx.array:
            return mx.sum(output_losses(self.base, states, batch["targets"]) * batch["weights"])

        with _settings(pieces=True, segments=True):
            known = states()
            layers = _measured(lambda: mx.eval(states()))
            mx.eval(known)
            output = _measured(lambda: mx.eval(mx.value_and_grad(head)(known)))
        whole = self.gradient(pieces=True, segments=True)
        return {
            "layers, forward": layers,
            "output layer, losses and slopes": output,
            "layers, backward": (whole[0] - layers[0] - output[0], whole[1]),
        }


@contextmanager
def _settings(*, pieces: bool, segments: bool) -> Iterator[None]:
    from mondrian_core.models import gradient_pass
    from mondrian_core.training import gradient_step

    held = gradient_pass.SEGMENTS_FROM_WIDTH, gradient_step._LOGITS_AT_ONCE
    gradient_pass.SEGMENTS_FROM_WIDTH = 0 if segments else 1 << 30
    gradient_step._LOGITS_AT_ONCE = held[1] if pieces else 1 << 40
    try:
        yield
    finally:
        gradient_pass.SEGMENTS_FROM_WIDTH, gradient_step._LOGITS_AT_ONCE = held


def _measured(work: Callable[[], object]) -> Measurement:
    import mlx.core as mx

    mx.clear_cache()
    mx.reset_peak_memory()
    held, began = mx.get_active_memory(), time.process_time()
    work()
    return time.process_time() - began, float(mx.get_peak_memory() - held)


def measure_savings(row: RowProfile, pairs: int) -> dict[str, dict[str, list[float]]]:
    """Ratios to `plain` of CPU time and peak memory per round, and the bytes of the last one, by variant."""
    for settings in SAVINGS.values():
        row.gradient(**settings)
    found: dict[str, dict[str, list[float]]] = {name: {"time": [], "memory": [], "bytes": []} for name in SAVINGS}
    for number in range(pairs):
        order = list(SAVINGS) if number % 2 else list(SAVINGS)[::-1]
        measured = {name: row.gradient(**SAVINGS[name]) for name in order}
        for name, (seconds, nbytes) in measured.items():
            found[name]["time"].append(seconds / measured[PLAIN][0])
            found[name]["memory"].append(nbytes / measured[PLAIN][1])
            found[name]["bytes"].append(nbytes)
    return found


def profile_markdown(savings: Mapping[str, Mapping[str, Sequence[float]]], parts: Mapping[str, Measurement]) -> str:
    """Two tables: the savings, and the parts of a row with all of them."""
    lines = [
        "| kept for the gradient | CPU time, ratio [lowest, highest] | peak above the weights | ratio |",
        "|---|---|---|---|",
    ]
    for name, ratios in savings.items():
        times, memory = ratios["time"], statistics.median(ratios["memory"])
        spread = f"{statistics.median(times):.2f} [{min(times):.2f}, {max(times):.2f}]"
        lines.append(f"| {name} | {spread} | {statistics.median(ratios['bytes']) / 2**20:.0f} MB | {memory:.2f} |")
    total = sum(seconds for seconds, _ in parts.values())
    lines += ["", "| part of a row | share of the CPU time | peak of the pass |", "|---|---|---|"]
    lines += [
        f"| {name} | {seconds / total:.0%} | {nbytes / 2**20:.0f} MB |" for name, (seconds, nbytes) in parts.items()
    ]
    return "\n".join(lines)


def draw_savings(savings: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Write a PNG: CPU time on the left, peak memory on the right, each relative to `plain`."""
    plots = []
    for key, what in (("time", "CPU time of a row"), ("memory", "memory above the weights")):
        values = [value for ratios in savings.values() for value in ratios[key]]
        rows = [
            IntervalRow(
                title=name,
                value=statistics.median(ratios[key]),
                interval=(min(ratios[key]), max(ratios[key])),
                text=f"{statistics.median(ratios[key]):.2f}",
                style="good" if max(ratios[key]) < 1 else "open",
                emphasized=name == "both",
            )
            for name, ratios in savings.items()
        ]
        plot = IntervalPlot(
            name=key,
            label=what,
            low=0.0,
            high=max(1.1, *values),
            tick_text=lambda tick: f"{tick:.1f}",
            ends=(what, f"{PLAIN} = 1"),
            titles_width=210.0,
        )
        plots.append(interval_plot(plot, rows))
    write_atomic(path, png_bytes(plots))


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="bench.training_profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default="wide", help="wide, mini or a folder (default wide)")
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--answer", type=int, default=160)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--png", type=Path, help="file for the picture")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mondrian-wide-") as name:
        base = str(make_wide_base(Path(name) / "wide")) if options.base == "wide" else options.base
        row = RowProfile(base, options.tokens, options.answer)
        savings = measure_savings(row, options.pairs)
        print(profile_markdown(savings, row.parts()))
    if options.png:
        draw_savings(savings, options.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
