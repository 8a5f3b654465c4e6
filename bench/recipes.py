"""Recipes against each other by cross-validation: which of them makes fewer errors on photographs it never saw.

    python -m bench.recipes --out FOLDER score_spread=0.5 score_spread=1 dora=true [--workspace DIR | --photographs 96]

Every argument is a recipe: the default one with the fields named changed (several, with commas between). Each is
trained once for every fold of the advisor's photographs; twins stay in one fold, an eighth of the photographs is held
out from training to choose the epoch by, and a quarter is judged. All recipes meet the same folds and seeds, so they
are compared photograph by photograph. What was done lies in FOLDER: called again, it goes on.

Without --workspace the photographs and critiques are a made-up advisor's, rendered for the occasion.
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
    from mondrian_core.models.base import Base
    from mondrian_core.rows import Row

PLAIN = "default"
PARTS = 8  # two are judged and one chooses the epoch, so four folds


@dataclass(frozen=True)
class Trained:
    """One recipe on one fold.

    Attributes:
        errors: photograph -> mean over dimensions of the squared error of expected scores, points^2.
        valid: answers that were strictly in form.
        seconds: of the training; on a busy machine they say little.
        best_epoch: the epoch that was chosen.
    """

    errors: Mapping[str, float]
    valid: int
    seconds: float
    best_epoch: int


def recipe_of(text: str) -> TrainRecipe:
    """The default recipe with the fields of `a=1,b=true` changed.

    Raises:
        SystemExit: when a field or value isn't one of a recipe.
    """
    if text == PLAIN:
        return TrainRecipe()
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if not sign or name not in TrainRecipe.model_fields:
            raise SystemExit(f"{part}: name a field of [train] and its value, such as rank=16.")
        values[name] = value
    return TrainRecipe.model_validate(values)


def rows_of(workspace: Path, advisor: str, base_model: str) -> list[Row]:
    """The rows of all splits of the dataset that the workspace's critiques make."""
    from mondrian_core import stages
    from mondrian_core.data.dataset import load
    from mondrian_core.data.split import SPLITS
    from mondrian_core.settings import Settings

    context = stages.new_context(Settings(workspace=workspace, base_model=base_model), advisor, Recipe())
    stages.link(context)
    version = load(Path(stages.dataset(context).path))
    return [row for split in SPLITS for row in version.rows(split) if row.lineage in version.groups]


def compare(base: Base, rows: Sequence[Row], names: Sequence[str], out: Path, folds: int) -> dict[str, list[Trained]]:
    """Train every recipe on every fold, or read what an earlier call left in `out`."""
    from mondrian_core.data.split import Subject
    from mondrian_core.data.split import folds as parts_of
    from mondrian_core.images import perceptual_hash
    from mondrian_core.rows import originals

    part_of = parts_of([Subject(row.lineage, perceptual_hash(row.image)) for row in originals(list(rows))], PARTS)
    found: dict[str, list[Trained]] = {name: [] for name in names}
    for fold in range(folds):
        judged = {2 * fold % PARTS, (2 * fold + 1) % PARTS}
        chooses = (2 * fold + 2) % PARTS
        for name in names:
            kept = out / f"{name}-fold{fold}"
            result = _read(kept) or _train(
                base,
                recipe_of(name).model_copy(update={"seed": fold}),
                kept,
                [row for row in rows if part_of[row.lineage] not in {*judged, chooses}],
                [row for row in rows if part_of[row.lineage] == chooses],
                [row for row in rows if part_of[row.lineage] in judged],
            )
            found[name].append(result)
            error = float(np.mean(list(result.errors.values())))
            print(
                f"fold {fold + 1} of {folds}, {name}: error {error:.3f} on {len(result.errors)} photographs, "
                f"{result.valid} valid, epoch {result.best_epoch}",
                flush=True,
            )
    return found


def _read(folder: Path) -> Trained | None:
    path = folder / "result.json"
    return Trained(**json.loads(path.read_text())) if path.is_file() else None


def _train(
    base: Base, recipe: TrainRecipe, folder: Path, rows: list[Row], chooses: list[Row], judged: list[Row]
) -> Trained:
    from mondrian_core.models import adapters
    from mondrian_core.models.generation import generate
    from mondrian_core.rows import originals
    from mondrian_core.rubric import MAX_ANSWER_TOKENS
    from mondrian_core.training import train
    from mondrian_core.training.answering import answered

    began = time.perf_counter()
    result = train(base, rows, chooses, recipe, folder, resume=folder.exists(), features=folder.parent / "features")
    seconds = time.perf_counter() - began
    asked, mounted = originals(judged), adapters.mount(base)
    try:
        mounted.use(result.adapter)
        said = [generate(base, row.messages, row.image, max_tokens=MAX_ANSWER_TOKENS) for row in asked]
    finally:
        mounted.use(None)
    each = {row.lineage: answered([row], [answer]) for row, answer in zip(asked, said, strict=True)}
    made = Trained(
        {name: one.score_error for name, one in each.items()},
        sum(one.valid for one in each.values()),
        seconds,
        result.best_epoch,
    )
    (folder / "result.json").write_text(json.dumps(asdict(made)), encoding="utf-8")
    return made


def table(found: Mapping[str, Sequence[Trained]]) -> list[dict[str, Any]]:
    """A row for each recipe: its error, and the paired difference to the first recipe with interval and p both ways."""
    from mondrian_core.evaluation.statistics import mean_interval, sign_flip_p

    first = _errors(next(iter(found.values())))
    rows = []
    for name, results in found.items():
        errors = _errors(results)
        gain = np.array([first[photograph] - errors[photograph] for photograph in first])
        rows.append(
            {
                "recipe": name,
                "photographs": len(errors),
                "error": float(np.mean(list(errors.values()))),
                "valid": sum(result.valid for result in results),
                "gain": float(gain.mean()),
                "interval": mean_interval(gain),
                "p_better": sign_flip_p(gain),
                "p_worse": sign_flip_p(-gain),
                "epochs": [result.best_epoch for result in results],
                "by_fold": [float(np.mean(list(result.errors.values()))) for result in results],
                "seconds": sum(result.seconds for result in results),
            }
        )
    return rows


def _errors(results: Sequence[Trained]) -> dict[str, float]:
    return {photograph: error for result in results for photograph, error in result.errors.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="bench.recipes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", nargs="+", metavar="FIELD=VALUE[,...]", help="a recipe held against the default")
    parser.add_argument("--out", type=Path, required=True, help="folder that keeps what was done")
    parser.add_argument("--workspace", type=Path, help="real photographs and critiques (default: rendered ones)")
    parser.add_argument("--advisor", default="ansel")
    parser.add_argument("--photographs", type=int, default=96, help="rendered ones (default 96)")
    parser.add_argument("--folds", type=int, default=4, choices=range(1, PARTS // 2 + 1), help="default 4")
    parser.add_argument("--base-model", default="mini")
    options = parser.parse_args(arguments)
    names = [PLAIN, *options.recipes]
    for name in names:
        recipe_of(name)
    try:
        found = compare(*_material(options), names, options.out, options.folds)
    except MondrianError as error:
        print(error, file=sys.stderr)
        return 2
    rows = table(found)
    (options.out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['recipe']:<24} error {row['error']:.3f} (folds {', '.join(f'{x:.2f}' for x in row['by_fold'])}), "
            f"valid {row['valid']} of {row['photographs']}, gain {row['gain']:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"p better {row['p_better']:.3f}, worse {row['p_worse']:.3f}, epochs {row['epochs']}"
        )
    return 0


def _material(options: argparse.Namespace) -> tuple[Base, list[Row]]:
    from mondrian_core.data.sample import make_workspace
    from mondrian_core.models.base import load_base

    workspace = options.workspace
    if workspace is None:
        workspace = options.out / "workspace"
        if not (workspace / "mondrian.db").exists():
            shutil.rmtree(workspace, ignore_errors=True)
            make_workspace(workspace, sample=True, photographs=options.photographs)
    return load_base(options.base_model), rows_of(workspace, options.advisor, options.base_model)


if __name__ == "__main__":
    sys.exit(main())
