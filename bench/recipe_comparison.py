"""Cross-validated comparison of training recipes: score error on held-out photographs.

    python -m bench.recipe_comparison --out FOLDER score_spread=0.5 score_spread=1 dora=true [--workspace DIR]

Each argument is the default recipe with changed fields (separated by commas). Every recipe is trained once per fold of
the advisor's photographs. Near-duplicates stay in one fold; one part of SPLIT_PARTS selects the epoch and two are
evaluated. All recipes use the same folds and seeds, so they are compared per photograph. Results are kept in FOLDER:
running the command again continues.

Without --workspace it uses rendered photographs and a synthetic advisor.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mondrian_core.errors import MondrianError
from mondrian_core.recipes import Recipe, TrainRecipe

if TYPE_CHECKING:
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.models.base_model import BaseVLM

DEFAULT_NAME = "default"
SPLIT_PARTS = 8  # two are evaluated and one selects the epoch


@dataclass(frozen=True)
class RecipeFoldResult:
    """The result of one recipe on one fold.

    Attributes:
        errors: photograph -> mean over dimensions of the squared error of expected scores, points^2.
        valid: number of strictly valid answers.
        seconds: training time; meaningless on a busy machine.
        best_epoch: the selected epoch.
    """

    errors: Mapping[str, float]
    valid: int
    seconds: float
    best_epoch: int


def parse_recipe_changes(text: str) -> TrainRecipe:
    """The default recipe with the fields of `a=1,b=true` changed.

    Raises:
        SystemExit: a field or value isn't valid in a recipe.
    """
    if text == DEFAULT_NAME:
        return TrainRecipe()
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if not sign or name not in TrainRecipe.model_fields:
            raise SystemExit(f"{part}: give a field of [train] and its value, such as rank=16.")
        values[name] = value
    return TrainRecipe.model_validate(values)


def _workspace_rows(workspace: Path, advisor: str, base_model: str) -> list[DatasetRow]:
    """The rows of all splits of the workspace's dataset."""
    from mondrian_core import stages
    from mondrian_core.data.dataset.version import load_dataset_version
    from mondrian_core.data.splits.split import SPLITS
    from mondrian_core.settings import Settings

    context = stages.new_stage_context(Settings(workspace=workspace, base_model=base_model), advisor, Recipe())
    stages.link_stage(context)
    version = load_dataset_version(Path(stages.dataset_stage(context).path))
    return [row for split in SPLITS for row in version.rows(split) if row.photo_id in version.near_duplicate_groups]


def cross_validate_recipes(
    base: BaseVLM, rows: Sequence[DatasetRow], names: Sequence[str], out: Path, folds: int
) -> dict[str, list[RecipeFoldResult]]:
    """Train every recipe on every fold, or read the stored results.

    Args:
        base: the base model.
        rows: original and augmented rows of all photographs.
        names: recipes as `parse_recipe_changes` reads them.
        out: folder of the stored results.
        folds: number of folds, at most half of SPLIT_PARTS.
    """
    from mondrian_core.data.splits.split import folds_from_photographs
    from mondrian_core.dataset_types import original_rows
    from mondrian_core.near_duplicates import photograph_fingerprint

    part_of = folds_from_photographs(
        [photograph_fingerprint(row.photo_id, row.image) for row in original_rows(list(rows))],
        SPLIT_PARTS,
    )
    results: dict[str, list[RecipeFoldResult]] = {name: [] for name in names}
    for fold in range(folds):
        evaluated = {2 * fold % SPLIT_PARTS, (2 * fold + 1) % SPLIT_PARTS}
        selection = (2 * fold + 2) % SPLIT_PARTS
        for name in names:
            folder = out / f"{name}-fold{fold}"
            fold_rows = _FoldRows(
                train=[row for row in rows if part_of[row.photo_id] not in {*evaluated, selection}],
                selection=[row for row in rows if part_of[row.photo_id] == selection],
                evaluated=[row for row in rows if part_of[row.photo_id] in evaluated],
            )
            recipe = parse_recipe_changes(name).model_copy(update={"seed": fold})
            result = _load_fold_result(folder) or _train_fold(base, recipe, folder, fold_rows)
            results[name].append(result)
            error = float(np.mean(list(result.errors.values())))
            print(
                f"fold {fold + 1} of {folds}, {name}: error {error:.3f} on {len(result.errors)} photographs, "
                f"{result.valid} valid, epoch {result.best_epoch}",
                flush=True,
            )
    return results


def _load_fold_result(folder: Path) -> RecipeFoldResult | None:
    path = folder / "result.json"
    return RecipeFoldResult(**json.loads(path.read_text())) if path.is_file() else None


@dataclass(frozen=True)
class _FoldRows:
    """The rows of one fold: for training, for selecting the epoch, and for evaluation."""

    train: list[DatasetRow]
    selection: list[DatasetRow]
    evaluated: list[DatasetRow]


def _train_fold(base: BaseVLM, recipe: TrainRecipe, folder: Path, rows: _FoldRows) -> RecipeFoldResult:
    from mondrian_core.dataset_types import original_rows
    from mondrian_core.models.inference.generation import generate
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.rubric import MAX_ANSWER_TOKENS
    from mondrian_core.training import TrainingRows, train_adapter
    from mondrian_core.training.generative_validation import score_validation_answers

    began = time.perf_counter()
    result = train_adapter(
        base,
        TrainingRows(rows.train, rows.selection, feature_cache=folder.parent / "features"),
        recipe,
        folder,
        resume=folder.exists(),
    )
    seconds = time.perf_counter() - began
    asked, switch = original_rows(rows.evaluated), lora_layers.get_adapter_switch(base)
    try:
        switch.use(result.adapter)
        answers = [generate(base, row.messages, row.image, max_tokens=MAX_ANSWER_TOKENS) for row in asked]
    finally:
        switch.use(None)
    scored = {
        row.photo_id: score_validation_answers([row], [answer]) for row, answer in zip(asked, answers, strict=True)
    }
    fold_result = RecipeFoldResult(
        {name: score.score_error for name, score in scored.items()},
        sum(score.valid for score in scored.values()),
        seconds,
        result.best_epoch,
    )
    (folder / "result.json").write_text(json.dumps(asdict(fold_result)), encoding="utf-8")
    return fold_result


def recipe_comparison_rows(results_by_recipe: Mapping[str, Sequence[RecipeFoldResult]]) -> list[dict[str, Any]]:
    """A row per recipe: its error, and the paired difference to the first recipe with interval and both p-values."""
    from mondrian_core.statistics.intervals import student_mean_interval
    from mondrian_core.statistics.permutation_tests import sign_flip_p_value

    first = _errors(next(iter(results_by_recipe.values())))
    rows = []
    for name, results in results_by_recipe.items():
        errors = _errors(results)
        gain = np.array([first[photograph] - errors[photograph] for photograph in first])
        rows.append(
            {
                "recipe": name,
                "photographs": len(errors),
                "error": float(np.mean(list(errors.values()))),
                "valid": sum(result.valid for result in results),
                "gain": float(gain.mean()),
                "interval": student_mean_interval(gain),
                "p_better": sign_flip_p_value(gain),
                "p_worse": sign_flip_p_value(-gain),
                "epochs": [result.best_epoch for result in results],
                "by_fold": [float(np.mean(list(result.errors.values()))) for result in results],
                "seconds": sum(result.seconds for result in results),
            }
        )
    return rows


def _errors(results: Sequence[RecipeFoldResult]) -> dict[str, float]:
    return {photograph: error for result in results for photograph, error in result.errors.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print its results."""
    parser = argparse.ArgumentParser(prog="bench.recipe_comparison", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", nargs="+", metavar="FIELD=VALUE[,...]", help="a recipe to compare with the default")
    parser.add_argument("--out", type=Path, required=True, help="folder for results; running again continues")
    parser.add_argument("--workspace", type=Path, help="real photographs and critiques (default: rendered ones)")
    parser.add_argument("--advisor", default="ansel")
    parser.add_argument("--photographs", type=int, default=96, help="number of rendered photographs (default 96)")
    parser.add_argument("--folds", type=int, default=4, choices=range(1, SPLIT_PARTS // 2 + 1), help="default 4")
    parser.add_argument("--base-model", default="mini")
    options = parser.parse_args(arguments)
    names = [DEFAULT_NAME, *options.recipes]
    for name in names:
        parse_recipe_changes(name)
    try:
        results = cross_validate_recipes(*_load_base_and_rows(options), names, options.out, options.folds)
    except MondrianError as error:
        print(error, file=sys.stderr)
        return 2
    rows = recipe_comparison_rows(results)
    (options.out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['recipe']:<24} error {row['error']:.3f} (folds {', '.join(f'{x:.2f}' for x in row['by_fold'])}), "
            f"valid {row['valid']} of {row['photographs']}, gain {row['gain']:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"p better {row['p_better']:.3f}, worse {row['p_worse']:.3f}, epochs {row['epochs']}"
        )
    return 0


def _load_base_and_rows(options: argparse.Namespace) -> tuple[BaseVLM, list[DatasetRow]]:
    from mondrian_core.data.sample_workspace import create_workspace
    from mondrian_core.models.base_model import load_base

    workspace = options.workspace
    if workspace is None:
        workspace = options.out / "workspace"
        if not (workspace / "mondrian.db").exists():
            shutil.rmtree(workspace, ignore_errors=True)
            create_workspace(workspace, sample=True, photographs=options.photographs)
    return load_base(options.base_model), _workspace_rows(workspace, options.advisor, options.base_model)


if __name__ == "__main__":
    sys.exit(main())
