"""Time and memory of our training loop against mlx-vlm's Trainer: same base, rows, optimizer and learning rate.

    python -m bench.training_speed [--base mini|wide|FOLDER] [--rival mlx-vlm|lora] [--pairs 4] [--rows 8] [--epochs 2]

`wide` is a temporary base model with Qwen3-VL-2B's widths and vocabulary, two layers and random weights, and
photographs in the size that datasets store. It shows the cost of a large vocabulary and many tokens. Both sides train
a LoRA of the same rank on the same layers, one row at a time, on completions only, with gradients accumulated over four
rows. One measurement is a complete training, including preparation of the rows, divided by its optimizer steps; the
sides alternate in one process. Memory is MLX's peak above the start of the training, plus the weights of one base.
`--rival lora` compares our DoRA with our LoRA.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from bench.paired_timing import time_in_pairs
from mondrian_core.images import LONG_SIDE

ACCUMULATION, RANK, ALPHA, RATE = 4, 8, 16.0, 1e-3
MLX_VLM_TRAINER, LORA = "mlx-vlm", "lora"
WIDE = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
}


def rendered_rows(count: int) -> list[Any]:
    """Rendered photographs with critiques of the generic scene critic."""
    import numpy as np

    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.mini.scene_critic import write_scene_critique
    from mondrian_core.mini.tastes import GENERIC
    from mondrian_core.prompts import AdvisorPrompt, training_messages
    from mondrian_core.rubric import DIMENSIONS, canonical_answer

    rng, advisor_prompt, rows = np.random.default_rng(5), AdvisorPrompt("ansel", "Ansel Adams"), []
    for number in range(count):
        scene = sample_scene(rng)
        critique = write_scene_critique(scene, GENERIC, rng)
        answer = canonical_answer(critique)
        scores = {name: float(critique.assessments[name].score) for name in DIMENSIONS}
        rows.append(
            DatasetRow(
                photo_id=f"row{number}",
                image=render_scene(scene),
                messages=training_messages(advisor_prompt, answer),
                answer=answer,
                scores=scores,
                loss_dimensions=tuple(DIMENSIONS),
                weight=1.0,
            )
        )
    return rows


def make_wide_base(folder: Path) -> Path:
    """Write a base with a large model's widths: mini's vision tower and tokenizer, two random wide layers.

    Its processor accepts photographs in the size that datasets store, as a large model's does.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_vlm.utils import get_model_and_args, load_config

    from mondrian_core.mini import mini_weights_path

    shutil.copytree(mini_weights_path(), folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["text_config"].update(WIDE)
    values["vision_config"]["out_hidden_size"] = WIDE["hidden_size"]
    path.write_text(json.dumps(values))
    processor = folder / "preprocessor_config.json"
    limits = {"max_pixels": LONG_SIDE**2, "size": {"shortest_edge": 16_384, "longest_edge": LONG_SIDE**2}}
    processor.write_text(json.dumps({**json.loads(processor.read_text()), **limits}))
    config = load_config(folder)
    module, _ = get_model_and_args(config)
    mx.random.seed(0)
    model = module.Model(module.ModelConfig.from_dict(config))
    flat = {
        name: 0.02 * mx.random.normal(array.shape) if array.ndim > 1 else array
        for name, array in tree_flatten(model.parameters())
    }
    mx.save_safetensors(str(folder / "model.safetensors"), flat, metadata={"format": "mlx"})
    return folder


def _enlarge_photograph(row: Any) -> Any:
    """The row with its photograph in the size that datasets store."""
    factor = LONG_SIDE / max(row.image.size)
    size = (round(row.image.width * factor), round(row.image.height * factor))
    return replace(row, image=row.image.resize(size))


class _Side(ABC):
    """Losses and peak memory (bytes above the start) of the last training of one side.

    `first` is the loss of the first step of the first training: the rival's model isn't reset between trainings.
    """

    losses: list[float]
    first: float | None = None
    peak: int = 0

    def __call__(self) -> None:
        import mlx.core as mx

        mx.clear_cache()
        mx.reset_peak_memory()
        held = mx.get_active_memory()
        self.losses = self.train()
        self.first = self.losses[0] if self.first is None else self.first
        self.peak = mx.get_peak_memory() - held

    @abstractmethod
    def train(self) -> list[float]:
        """Train once; returns the loss of every optimizer step."""


class _MondrianSide(_Side):
    def __init__(self, base: str, rows: list[Any], epochs: int, *, dora: bool = False) -> None:
        from mondrian_core.models.base_model import load_base
        from mondrian_core.recipes import TrainRecipe

        self.base, self.rows = load_base(base), rows
        self.recipe = TrainRecipe(
            rank=RANK,
            alpha=ALPHA,
            dora=dora,
            epochs=epochs,
            accumulation=ACCUMULATION,
            score_weight=1.0,
            learning_rate=RATE,
            warmup_fraction=0.0,
            final_rate_fraction=1.0,
        )

    def train(self) -> list[float]:
        from mondrian_core.training import TrainingRows, train_adapter

        with tempfile.TemporaryDirectory(prefix="mondrian-bench-") as name:
            result = train_adapter(self.base, TrainingRows(self.rows), self.recipe, Path(name))
            lines = [json.loads(line) for line in result.log.read_text().splitlines()]
        return [line["loss"] for line in lines if line["kind"] == "step"]


class _MlxVlmSide(_Side):
    def __init__(self, base: str, rows: list[Any], epochs: int) -> None:
        from mlx_vlm import load
        from mlx_vlm.trainer.common.model import prepare_model_for_training

        from mondrian_core.models.base_model import resolve_base_path

        self.model, self.processor = load(str(resolve_base_path(base)))
        prepare_model_for_training(self.model, train_type="lora", lora_rank=RANK, lora_alpha=ALPHA)
        self.rows = [{"messages": row.messages, "images": [row.image]} for row in rows]
        self.iterations = epochs * len(rows)

    def train(self) -> list[float]:
        import mlx.optimizers
        from mlx_vlm.trainer import Trainer
        from mlx_vlm.trainer.vlm.config import VLMTrainingArgs

        with (
            tempfile.TemporaryDirectory(prefix="mondrian-bench-") as name,
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
        ):
            settings = VLMTrainingArgs(
                iters=self.iterations,
                gradient_accumulation_steps=ACCUMULATION,
                train_on_completions=True,
                steps_per_report=ACCUMULATION,
                steps_per_save=10**9,
                steps_per_eval=10**9,
                max_seq_length=4096,
                adapter_file=str(Path(name) / "adapters.safetensors"),
            )
            optimizer = mlx.optimizers.AdamW(RATE, weight_decay=0.0)
            trainer = Trainer(
                self.model, settings, train_dataset=self.rows, processing_class=self.processor, optimizer=optimizer
            )
            trainer.train()
        return [float(entry["train_loss"]) for entry in trainer.log_history if "train_loss" in entry]


def measure_training_speed(
    base: str, pairs: int, rows: int, epochs: int, rival: str = MLX_VLM_TRAINER
) -> dict[str, Any]:
    """Ratios ours/rival of seconds per optimizer step and peak memory, and the losses of the last trainings.

    Args:
        base: mini, wide or a folder.
        pairs: measurements per side.
        rows: training rows, a multiple of ACCUMULATION.
        epochs: epochs per training.
        rival: MLX_VLM_TRAINER or LORA.
    """
    with tempfile.TemporaryDirectory(prefix="mondrian-wide-") as name:
        chosen = str(make_wide_base(Path(name) / "wide")) if base == "wide" else base
        examples = [_enlarge_photograph(row) for row in rendered_rows(rows)] if base == "wide" else rendered_rows(rows)
        ours = _MondrianSide(chosen, examples, epochs, dora=rival != MLX_VLM_TRAINER)
        other = (
            _MlxVlmSide(chosen, examples, epochs)
            if rival == MLX_VLM_TRAINER
            else _MondrianSide(chosen, examples, epochs)
        )
        weights = _weight_bytes(ours.base.model)
        times = time_in_pairs(ours, other, pairs=pairs)
    steps = epochs * rows / ACCUMULATION
    memory = {"ours": weights + ours.peak, "rival": weights + other.peak}
    return {
        "base": base,
        "rival": rival,
        "seconds_per_step": {"ours": times.ours / steps, "rival": times.rival / steps},
        "ratio_of_times": {"median": times.ratio, "interval": [times.low, times.high], "pairs": times.pairs},
        "peak_bytes": memory,
        "ratio_of_peaks": memory["ours"] / memory["rival"],
        "weights_bytes": weights,
        "first_loss": {"ours": ours.first, "rival": other.first},
        "losses": {"ours": ours.losses, "rival": other.losses},
    }


def training_speed_text(result: dict[str, Any]) -> str:
    """A result of `measure_training_speed` as text."""
    times, peaks, seconds = result["ratio_of_times"], result["peak_bytes"], result["seconds_per_step"]
    rival = result["rival"]
    low, high = times["interval"]
    return (
        f"training ({result['base']}): seconds per step {seconds['ours']:.2f} (ours), "
        f"{seconds['rival']:.2f} ({rival})\n"
        f"  ratio {times['median']:.2f}, 95 % interval {low:.2f} to {high:.2f}, {times['pairs']} pairs\n"
        f"  peak memory {peaks['ours'] / 2**20:.0f} MB (ours), {peaks['rival'] / 2**20:.0f} MB ({rival}), "
        f"ratio {result['ratio_of_peaks']:.2f}; weights {result['weights_bytes'] / 2**20:.0f} MB\n"
        f"  first loss {result['first_loss']['ours']:.4f} and {result['first_loss']['rival']:.4f}"
    )


def _weight_bytes(model: Any) -> int:
    """Bytes of a model's arrays."""
    from mlx.utils import tree_flatten

    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(prog="bench.training_speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default="mini", help="mini, wide or a folder (default mini)")
    parser.add_argument(
        "--rival",
        choices=(MLX_VLM_TRAINER, LORA),
        default=MLX_VLM_TRAINER,
        help=f"{LORA}: compare our DoRA with our LoRA",
    )
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--rows", type=int, default=8, help="a multiple of 4 (default 8)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    if options.rows % ACCUMULATION or options.rows < ACCUMULATION:
        parser.error(f"--rows: a multiple of {ACCUMULATION}")
    result = measure_training_speed(options.base, options.pairs, options.rows, options.epochs, options.rival)
    print(training_speed_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
