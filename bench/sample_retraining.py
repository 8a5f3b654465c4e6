"""`python -m bench.sample_retraining`: retrain on the sample workspace, and what constants score on its test split.

The workspace is that of `mondrian init --sample`. With --constants no model is loaded: the table shows the squared
errors of answers that ignore the photograph. With --run the table is made from a run folder that exists already.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.sample_workspace import ADVISOR, create_workspace
from mondrian_core.data.splits.split import TEST, TRAIN, assign_splits
from mondrian_core.errors import Broken
from mondrian_core.evaluation.measure.baselines import BASELINE_TITLES
from mondrian_core.images import open_photograph
from mondrian_core.near_duplicates import critique_fingerprint, photograph_fingerprint
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Store

CONSTANT_SCORE = 8.0


def constant_prediction_errors(workspace: Path) -> dict[str, float]:
    """Squared error (points squared) on the test photographs of a workspace, by title of the constant prediction."""
    with Store(workspace / "mondrian.db", read_only=True) as store:
        records = link_critiques(store, workspace, ADVISOR).used
    prints = [
        photograph_fingerprint(
            each.sha256,
            open_photograph(workspace / each.photograph).image,
            critique_fingerprint(each.scores, each.comments),
        )
        for each in records
    ]
    splits = assign_splits(prints, DataRecipe())
    rows = {
        split: np.array(
            [[each.scores[name] for name in DIMENSIONS] for each in records if splits[each.sha256] == split]
        )
        for split in (TRAIN, TEST)
    }
    mean = rows[TRAIN].mean(axis=0)
    return {
        f"{BASELINE_TITLES['training_mean']} ({len(rows[TRAIN])} photographs)": float(
            ((rows[TEST] - mean) ** 2).mean()
        ),
        BASELINE_TITLES["always_8"]: float(((rows[TEST] - CONSTANT_SCORE) ** 2).mean()),
    }


def _constants_markdown(errors: Mapping[str, float]) -> str:
    lines = ["| without looking at the photograph | squared error on the test photographs |", "|---|---|"]
    return "\n".join([*lines, *(f"| {title} | {error:.2f} |" for title, error in errors.items())])


def evaluation_markdown(report: Mapping[str, Any]) -> str:
    """The scores of an evaluation's report (the values of `comparison_report.json`) and its verdict, as two tables."""
    lines = ["| scores of | squared error | as written | rank correlation |", "|---|---|---|---|"]
    metrics = report["metrics"]
    for arm, values in metrics["arms"].items():
        lines.append(_score_row(arm, values["scores"], values["written_scores"]["mse"]))
    lines += [_score_row(BASELINE_TITLES.get(name, name), values) for name, values in metrics["rivals"].items()]
    gates = ", ".join(f"{gate['name']} {gate['verdict']}" for gate in report["gates"])
    against = metrics["against_base"] or {}
    lines += ["", "| verdict | gates | photographs | p, paired with the base |", "|---|---|---|---|"]
    return "\n".join(
        [*lines, f"| {report['verdict']} | {gates} | {against.get('n')} | {against.get('p_better', 1):.2g} |"]
    )


def _score_row(title: str, values: Mapping[str, Any], written: float | None = None) -> str:
    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    return f"| {title} | {shown(values['mse'])} | {shown(written)} | {shown(values['rank_correlation'])} |"


def _retrained_run(workspace: Path, recipe: Sequence[str]) -> Path:
    """Retrain in a workspace, whatever the decision; the run's folder.

    Raises:
        Broken: the retraining ended without an evaluation.
    """
    command = [sys.executable, "-m", "mondrian", "retrain", "--advisor", ADVISOR, *recipe]
    command += ["--workspace", str(workspace), "--adapters", str(workspace.parent / "adapters")]
    subprocess.run(command, stdout=sys.stderr, check=False)
    reports = sorted((workspace / "runs").glob("*/comparison_report.json"))  # other folders are caches and locks
    if not reports:
        raise Broken("The retraining ended without an evaluation.", "Read its output above.")
    return reports[-1].parent


def _report_of(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(next(run.rglob("comparison_report.json")).read_text(encoding="utf-8"))
    return report


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="bench.sample_retraining", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--constants", action="store_true", help="only what constants score; no model")
    parser.add_argument("--recipe", help="recipe of the retraining (default: the default recipe)")
    parser.add_argument("--run", type=Path, help="a run folder that exists already")
    options = parser.parse_args(arguments)
    if options.run:
        print(evaluation_markdown(_report_of(options.run)))
        return 0
    with tempfile.TemporaryDirectory(prefix="mondrian-figure-") as folder:
        workspace = Path(folder) / "workspace"
        create_workspace(workspace, sample=True)
        if options.constants:
            print(_constants_markdown(constant_prediction_errors(workspace)))
        else:
            recipe = ["--recipe", options.recipe] if options.recipe else []
            print(evaluation_markdown(_report_of(_retrained_run(workspace, recipe))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
