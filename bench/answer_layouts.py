"""What an adapter loses or gains when it writes the dimensions side by side: score error and comment likelihood.

    python -m bench.answer_layouts --out FOLDER [--seeds 3] [--photographs 24] [--epochs 8] [--base-model BASE]

For each seed one adapter is trained for each layout of an answer on the same rendered photographs, with the same recipe
and seed, and measured on the same photographs that none was trained on: the squared error of its expected scores
(points^2; its own greedy answers), and the negative log-likelihood of the advisor's comments after the advisor's scores
(nats for all eight). Results are kept in FOLDER: running the command again continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mondrian_core.models  # noqa: F401  (loads the fast BLAS before mlx)
from bench.side_by_side import AnswerLayout, generate_side_by_side
from mondrian_core.recipes import TrainRecipe

if TYPE_CHECKING:
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.models.base_model import BaseVLM

_SELECTION = 8  # photographs that choose the epoch


@dataclass(frozen=True, kw_only=True)
class AnswerLayoutResult:
    """An adapter's figures on each held-out photograph.

    Attributes:
        score_errors: mean over dimensions of the squared error of the expected score, points^2.
        comment_nats: negative log-likelihood of the advisor's eight comments after the advisor's scores.
        score_nats: negative log-likelihood of the advisor's scores; in canonical order after the comments before them.
        best_epoch: the epoch that its own validation loss chose.
    """

    score_errors: list[float]
    comment_nats: list[float]
    score_nats: list[float]
    best_epoch: int


def advisor_rows(seed: int, count: int) -> list[DatasetRow]:
    """Rendered photographs with critiques of the synthetic advisor."""
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.mini.scene_critic import write_scene_critique
    from mondrian_core.mini.tastes import ANSEL
    from mondrian_core.prompts import AdvisorPrompt, training_messages
    from mondrian_core.rubric import DIMENSIONS
    from mondrian_core.training_target import training_target

    rng, advisor_prompt, rows = np.random.default_rng(seed), AdvisorPrompt("ansel", "Ansel Adams"), []
    for number in range(count):
        scene = sample_scene(rng)
        critique = write_scene_critique(scene, ANSEL, rng)
        answer = training_target(critique)
        rows.append(
            DatasetRow(
                photo_id=f"scene{number}",
                image=render_scene(scene),
                messages=training_messages(advisor_prompt, answer),
                answer=answer,
                scores={name: float(critique.scores[name]) for name in DIMENSIONS},
                loss_dimensions=tuple(DIMENSIONS),
                weight=1.0,
            )
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class LayoutComparison:
    """What is compared.

    Attributes:
        out: folder of the results.
        seeds: seeds of the photographs and trainings.
        photographs: to train on, and again as many to measure on.
        epochs: at most.
    """

    out: Path
    seeds: Sequence[int]
    photographs: int
    epochs: int

    def run(self, base: BaseVLM) -> dict[AnswerLayout, list[AnswerLayoutResult]]:
        """Train and measure each layout for each seed, or read the kept results."""
        results: dict[AnswerLayout, list[AnswerLayoutResult]] = {layout: [] for layout in AnswerLayout}
        for seed in self.seeds:
            rows = advisor_rows(1000 + seed, 2 * self.photographs + _SELECTION)
            for layout in AnswerLayout:
                folder = self.out / f"{layout}-{seed}"
                found = _kept(folder) or self._train_and_measure(base, layout, seed, rows)
                results[layout].append(found)
                print(
                    f"seed {seed}, {layout}: score error {np.mean(found.score_errors):.3f}, comments "
                    f"{np.mean(found.comment_nats):.2f} nats, scores {np.mean(found.score_nats):.2f} nats, "
                    f"epoch {found.best_epoch}",
                    flush=True,
                )
        return results

    def _train_and_measure(
        self, base: BaseVLM, layout: AnswerLayout, seed: int, rows: Sequence[DatasetRow]
    ) -> AnswerLayoutResult:
        from bench.branched_training import LaidOutRows, train_in_layout
        from mondrian_core.models.lora import lora_layers

        recipe = TrainRecipe(seed=seed, epochs=self.epochs, answered_photographs=0)
        selection, held_out = np.split(np.arange(self.photographs, len(rows)), [_SELECTION])
        laid_out = LaidOutRows(rows[: self.photographs], [rows[number] for number in selection], layout)
        folder = self.out / f"{layout}-{seed}"
        trained = train_in_layout(base, laid_out, recipe, folder)
        switch = lora_layers.get_adapter_switch(base)
        try:
            switch.use(trained.adapter)
            errors = [_score_error(base, rows[number], layout) for number in held_out]
            likelihoods = [negative_log_likelihoods(base, rows[number], layout) for number in held_out]
        finally:
            switch.use(None)
        result = AnswerLayoutResult(
            score_errors=errors,
            comment_nats=[comments for comments, _ in likelihoods],
            score_nats=[scores for _, scores in likelihoods],
            best_epoch=trained.best_epoch,
        )
        (folder / "result.json").write_text(json.dumps(asdict(result)), encoding="utf-8")
        return result


def _kept(folder: Path) -> AnswerLayoutResult | None:
    path = folder / "result.json"
    return AnswerLayoutResult(**json.loads(path.read_text())) if path.is_file() else None


def _score_error(base: BaseVLM, row: DatasetRow, layout: AnswerLayout) -> float:
    """Of a greedy answer."""
    from mondrian_core.models.inference.generation import generate, prepare_prompt
    from mondrian_core.rubric import DIMENSIONS, MAX_ANSWER_TOKENS

    prompt = prepare_prompt(base, row.messages, row.image)
    if layout is AnswerLayout.CANONICAL:
        made = generate(base, row.messages, None, prepared=prompt, max_tokens=MAX_ANSWER_TOKENS, constrained=True)
    else:
        made = generate_side_by_side(base, row.messages, prompt, layout, max_tokens=MAX_ANSWER_TOKENS)
    return float(np.mean([(made.expected_scores[name] - row.scores[name]) ** 2 for name in DIMENSIONS]))


def negative_log_likelihoods(base: BaseVLM, row: DatasetRow, layout: AnswerLayout) -> tuple[float, float]:
    """(nats of the comments, nats of the scores) of the advisor's critique, in one pass."""
    from bench.branched_training import encode_branched_row, make_branched_batch
    from mondrian_core.training.gradient_step import token_losses

    example = encode_branched_row(base, row, layout, 1.0)
    batch = make_branched_batch(base, example, example.prompt.image_tokens, 1.0)
    losses = np.array(token_losses(base, batch)[1])[: len(example.answer)]
    return float(losses[example.comments].sum()), float(losses[example.scores].sum())


def answer_layout_rows(results: dict[AnswerLayout, list[AnswerLayoutResult]]) -> list[dict[str, Any]]:
    """A row per figure and layout: its mean, and what it gains over the canonical one, paired over photographs."""
    from mondrian_core.statistics.intervals import student_mean_interval
    from mondrian_core.statistics.permutation_tests import sign_flip_p_value

    def by_seed(figure: str, layout: AnswerLayout) -> np.ndarray:
        return np.array([getattr(each, figure) for each in results[layout]])

    rows = []
    for figure in ("score_errors", "comment_nats", "score_nats"):
        canonical = by_seed(figure, AnswerLayout.CANONICAL)
        for layout in results:
            gain = canonical - by_seed(figure, layout)
            rows.append(
                {
                    "figure": figure,
                    "layout": layout,
                    "photographs": gain.size,
                    "mean": float(by_seed(figure, layout).mean()),
                    "gain": float(gain.mean()),
                    "interval": student_mean_interval(gain.ravel()),
                    "p_better": sign_flip_p_value(gain.ravel()),
                    "p_worse": sign_flip_p_value(-gain.ravel()),
                    "gain_by_seed": gain.mean(axis=1).tolist(),
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(prog="bench.answer_layouts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results; running again continues")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each layout (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--photographs", type=int, default=24, help="to train on, and to measure on (default 24)")
    parser.add_argument("--epochs", type=int, default=8, help="at most (default 8)")
    parser.add_argument("--base-model", default="mini")
    options = parser.parse_args(arguments)
    from mondrian_core.models.base_model import load_base

    seeds = range(options.first_seed, options.first_seed + options.seeds)
    comparison = LayoutComparison(out=options.out, seeds=seeds, photographs=options.photographs, epochs=options.epochs)
    rows = answer_layout_rows(comparison.run(load_base(options.base_model)))
    (options.out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        low, high = row["interval"]
        seeds_text = ", ".join(f"{gain:+.2f}" for gain in row["gain_by_seed"])
        print(
            f"{row['figure']:<13} {row['layout']:<12} {row['mean']:.3f}, gain {row['gain']:+.3f} [{low:+.3f}, "
            f"{high:+.3f}], p better {row['p_better']:.3f}, worse {row['p_worse']:.3f}, by seed {seeds_text}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
