"""Five critiques on mini, trained on all of them with folds: what is trained, recorded and measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mondrian_core import stages
from mondrian_core.cli import main
from mondrian_core.data.dataset.version import DatasetVersion, load_dataset_version
from mondrian_core.data.sample_workspace import add_sample_critiques, create_workspace
from mondrian_core.evaluation.measure.samples import EvaluationSamples, load_evaluation_samples
from mondrian_core.events import ignore_events
from mondrian_core.recipes import DataRecipe, Recipe, recipe_from_values
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from mondrian_core.stages import DatasetSummary, StageContext, TrainSummary, read_stage_summary, training_data

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(300)]
RECIPE = recipe_from_values(
    {
        "data": {"variants": 1},
        "train": {"epochs": 1, "rank": 2, "accumulation": 2},
        "evaluate": {
            "folds": 2,
            "compliance_photographs": 1,
            "edited_photographs": 0,
            "constrained_photographs": 0,
            "latency_pairs": 3,
            "latency_tokens": 8,
            "effect_photographs": 1,
            "max_tokens": 400,
        },
        "gates": {"score_photographs": 5, "overhead_ratio": 50},
    }
)


def retrained(workspace: Path, recipe: Recipe = RECIPE) -> StageContext:
    settings = Settings(workspace=workspace, adapters=workspace.parent / "adapters", base_model="mini")
    context = stages.new_stage_context(settings, "ansel", recipe)
    stages.retrain_adapter(context)
    return context


def report_of(context: StageContext) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((context.run_folder / "comparison_report.json").read_text())
    return found | {"gates": {gate["name"]: gate for gate in found["gates"]}}


def samples_of(context: StageContext) -> EvaluationSamples:
    return load_evaluation_samples(context.run_folder / "samples.jsonl")


def dataset_of(context: StageContext) -> DatasetVersion:
    return load_dataset_version(Path(read_stage_summary(context, "dataset", DatasetSummary).path))


def test_small_dataset_is_trained_entirely_and_evaluated_by_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, registry = tmp_path / "workspace", Registry(tmp_path / "adapters")
    create_workspace(workspace, sample=True, photographs=5)
    first = retrained(workspace)
    version = dataset_of(first)
    everything = set(version.near_duplicate_groups)
    assert 0 < version.photographs["validation"] < 5 == len(everything)

    told = json.loads((first.run_folder / "train.json").read_text())["trained_on"]
    rows = training_data.select_training_data(version, RECIPE).rows
    assert told == {"extent": "all", "photographs": 5, "rows": len(rows)}
    assert read_stage_summary(first, "train", TrainSummary).steps == math.ceil(len(rows) / RECIPE.train.accumulation)

    made = registry.get("ansel", "v0001")
    assert made.manifest["dataset"]["trained_on"] == "all" and made.manifest["dataset"]["evaluated_on"] == "folds"

    show = ["adapters", "show", "v0001", "--advisor", "ansel", "--adapters", str(tmp_path / "adapters")]
    assert main([*show, "--workspace", str(workspace)]) == 0
    assert "trained on all 5 photographs; its scores come from cross-validation" in capsys.readouterr().out

    nothing_of_its_own(first, everything)
    gate = report_of(first)["gates"]["score_error"]
    assert gate["n"] == 5 and "no held-out photographs: it was trained on all 5" in gate["sentence"]
    assert report_of(first)["gates"]["champion"]["verdict"] == "PASS"

    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="the first one", forced=True)
    known = training_data.load_training_provenance(
        made.path, workspace / "datasets" / "ansel", ignore_events, load_dataset_version
    )
    assert known is not None and known.whole_dataset and known.photo_ids == everything

    add_sample_critiques(workspace, 5)
    second = retrained(workspace, RECIPE.model_copy(update={"data": DataRecipe(variants=0)}))
    grown = dataset_of(second)
    new = set(grown.near_duplicate_groups) - everything
    assert len(new) == 5
    asked = {
        outcome.photograph
        for outcome in (*samples_of(second).outcomes, *samples_of(second).folds.outcomes)
        if outcome.arm == "champion"
    }
    assert asked == new, "the champion answers about what it never saw, and about nothing else"
    gate = report_of(second)["gates"]["champion"]
    assert gate["n"] == 5 and gate["observed"] is not None
    assert "By folds" in gate["sentence"] and "the champion was on" not in gate["sentence"]


def nothing_of_its_own(context: StageContext, trained: set[str]) -> None:
    """No figure of the adapter comes from a photograph that it was trained on."""
    measured = samples_of(context)
    asked = {outcome.photograph for outcome in (*measured.outcomes, *measured.constrained)}
    asked |= {each.outcome.photograph for each in measured.edited} | set(measured.divergences)
    assert asked and not asked & trained and not measured.labels
    metrics = report_of(context)["metrics"]
    assert metrics["arms"]["candidate"]["scores"]["n"] == 0 and metrics["per_photograph"] == []
    assert metrics["against_base"] is None and metrics["arms"]["candidate"]["format"]["ran"] == 1
    assert {outcome.photograph for outcome in measured.folds.outcomes} == trained
