"""The last stage of a retraining: at once, or beginning with a share, as the recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mondrian_core import stages
from mondrian_core.errors import BadInput
from mondrian_core.prompts import Voice
from mondrian_core.recipes import recipe_of
from mondrian_core.registry import Registry
from mondrian_core.rollout import active
from mondrian_core.settings import Settings
from mondrian_core.stages import Context, EvaluateSummary, RegisterSummary
from mondrian_core.store import Store
from tests.registry.conftest import gate_report, manifest, write_adapter


def registered(tmp_path: Path, *, rollout: bool, adapters: str | None = None) -> Context:
    """A run up to its registered version v0002, whose gates all passed; v0001 is the champion."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with Store.create(workspace / "mondrian.db") as store:
        store.add_advisor(Voice("ansel", "Ansel Adams", "Landscapes."))
    settings = Settings(workspace=workspace, adapters=adapters or tmp_path / "adapters", base_model="mini")
    context = stages.new_context(settings, "ansel", recipe_of({"promote": {"rollout": rollout}}), run="a-run")
    if adapters:
        return context
    registry = Registry(tmp_path / "adapters")
    report = gate_report(champion="PASS")
    report["gates"].append({"name": "champion", "verdict": "PASS", "sentence": "better.", "n": 20})
    versions = [registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest(gate_report=report))
                for seed in (1, 2)]  # fmt: skip
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="first")
    context.run_folder.mkdir(parents=True)
    judged = context.run_folder / "comparison_report.json"
    judged.write_text(json.dumps(report))
    made = RegisterSummary("v0002", str(versions[1].path), "candidate")
    found = EvaluateSummary(str(judged), "report.html", "PASS", report["gates"], "test")
    for name, summary in (("register", made), ("evaluate", found)):
        (context.run_folder / f"{name}.json").write_text(json.dumps(summary.as_dict()))
    return context


@pytest.mark.parametrize("rollout", [False, True])
def test_a_passed_candidate_is_promoted_as_the_recipe_says(tmp_path: Path, rollout: bool) -> None:
    context = registered(tmp_path, rollout=rollout)
    outcome = stages.promote(context)
    registry = Registry(tmp_path / "adapters")
    assert (outcome.decision, registry.current("ansel")) == ("promoted", "v0002")
    running, last = active(registry, "ansel"), registry.history("ansel")[-1]
    assert (running is not None) is rollout and ("begins in the shadow" in outcome.sentence) is rollout
    assert last.verdicts["score_error"] == "PASS" and last.reason.startswith("Promoted: all")
    assert running is None or (running.version, running.control) == ("v0002", "v0001")


def test_a_rollout_that_could_not_be_held_is_refused_before_any_work(tmp_path: Path) -> None:
    context = registered(tmp_path, rollout=True, adapters="memory://adapters")
    with pytest.raises(BadInput, match="can't hold a rollout"):
        stages.check(context)
