"""The last stage of a retraining: at once, or beginning with a share, as the recipe says."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core import stages
from mondrian_core.errors import BadInput
from mondrian_core.gate_strictness import judged_settings
from mondrian_core.models.base_model import base_fingerprint
from mondrian_core.promotion import check_manual_promotion
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.recipes import recipe_from_values
from mondrian_core.registry import ChampionReference, Registry
from mondrian_core.rollout import active_rollout
from mondrian_core.settings import Settings
from mondrian_core.stages import DatasetSummary, EvaluateSummary, PromoteSummary, StageContext, TrainSummary, register
from mondrian_core.store import Store
from tests.registry.conftest import gate_report, manifest, served_conditions, write_adapter
from tests.registry.faults import killed_at
from tests.rollout.conftest import begin_rollout

ANSEL = AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.")


def registered(tmp_path: Path, *, rollout: bool, adapters: str | None = None) -> StageContext:
    """A run up to its registered version v0002, whose gates all passed; v0001 is the champion."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with Store.create(workspace / "mondrian.db") as store:
        store.add_advisor(ANSEL)
    settings = Settings(workspace=workspace, adapters=adapters or tmp_path / "adapters", base_model="mini")
    context = stages.new_stage_context(
        settings, "ansel", recipe_from_values({"promote": {"rollout": rollout}}), run="a-run"
    )
    if adapters:
        return context
    registry = Registry(tmp_path / "adapters")
    first = registry.register("ansel", write_adapter(tmp_path / "first", 1), manifest(), actor="person:test")
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="first")
    evaluated(context, first.reference)
    stages.register_stage(context)
    return context


def evaluated(context: StageContext, champion: ChampionReference, **record: Any) -> None:
    """Leave what link, dataset, train and evaluate leave, with gates that all passed against that champion."""
    gates = gate_report()["gates"]
    gates.append({"name": "champion", "verdict": "PASS", "sentence": "better.", "n": 20})
    run = context.run_folder
    adapter = write_adapter(run / "adapter", 2)
    for name in ("curve.png", "log.jsonl", "report.html"):
        (run / name).touch()
    (run / "comparison_report.json").write_text(json.dumps({"verdict": "PASS", "gates": gates, "metrics": {}}))
    left = {
        "dataset": DatasetSummary(path=str(run), digest="d" * 64, photographs={"train": 9}, rows={"train": 27}),
        "train": TrainSummary(
            adapter=str(adapter),
            curve=str(run / "curve.png"),
            log=str(run / "log.jsonl"),
            steps=10,
            best_epoch=2,
            best_loss=1.0,
            seconds=5.0,
        ),
        "evaluate": EvaluateSummary(
            report=str(run / "comparison_report.json"),
            html=str(run / "report.html"),
            verdict="PASS",
            gates=gates,
            split="test",
            compared_with=champion.as_dict(),
            record={
                "run": context.run,
                "conditions": served_conditions(prompt=prompt_digest(ANSEL)),
                "settings": judged_settings(context.recipe),
                **record,
            },
        ),
    }
    for name, summary in left.items():
        (run / f"{name}.json").write_text(json.dumps(summary.as_dict()))


@pytest.mark.parametrize("rollout", [False, True])
def test_a_passed_candidate_is_promoted_as_the_recipe_says(tmp_path: Path, rollout: bool) -> None:
    context = registered(tmp_path, rollout=rollout)
    outcome = stages.promote_stage(context)
    registry = Registry(tmp_path / "adapters")
    assert (outcome.decision, registry.current("ansel")) == ("promoted", "v0002")
    running, last = active_rollout(registry, "ansel"), registry.history("ansel")[-1]
    assert (running is not None) is rollout and ("begins in the shadow" in outcome.sentence) is rollout
    assert last.verdicts["score_error"] == "PASS" and last.reason.startswith("Promoted: all")
    assert running is None or (running.version, running.control) == ("v0002", "v0001")


def test_a_registry_that_can_only_be_read_is_refused_before_any_work(tmp_path: Path) -> None:
    context = registered(tmp_path, rollout=True, adapters="memory://adapters")
    with pytest.raises(BadInput, match="can only be read"):
        stages.check_run_prerequisites(context)


def test_a_champion_that_came_meanwhile_stays(tmp_path: Path) -> None:
    """Promoted manually while the run trained or evaluated: nobody compared the two."""
    context = registered(tmp_path, rollout=False)
    registry = context.registry
    registry.register("ansel", write_adapter(tmp_path / "other", 7), manifest(), actor="person:test")
    registry.promote("ansel", "v0003", expected="v0001", actor="person:test", reason="better, by eye")
    outcome = stages.promote_stage(context)
    assert (outcome.decision, registry.current("ansel")) == ("candidate", "v0003")
    assert "the champion changed; evaluate again" in outcome.sentence
    assert outcome.command == "mondrian evaluate --advisor ansel --adapter v0002"
    with pytest.raises(BadInput, match="compared with v0001, and the champion is v0003 now"):
        check_manual_promotion(registry.get("ansel", "v0002"), registry.reference("ansel"), force=False, reason=None)


@pytest.mark.parametrize("rollout", [False, True])
def test_a_rollback_meanwhile_stays(tmp_path: Path, rollout: bool) -> None:
    context = registered(tmp_path, rollout=rollout)
    context.registry.rollback("ansel", actor="person:test", reason="it repeated itself")
    outcome = stages.promote_stage(context)
    assert (outcome.decision, context.registry.current("ansel")) == ("candidate", None)
    assert "compared with v0001, and the champion is the base alone now" in outcome.sentence


def test_a_rollout_begun_meanwhile_stays(tmp_path: Path) -> None:
    context = registered(tmp_path, rollout=True)
    registry = context.registry
    registry.register("ansel", write_adapter(tmp_path / "other", 7), manifest(), actor="person:test")
    begin_rollout(registry, "v0003", actor="person:test", reason="in steps")
    assert stages.promote_stage(context).decision == "candidate"
    running = active_rollout(registry, "ansel")
    assert running is not None and running.version == registry.current("ansel") == "v0003"


def test_the_champion_changes_between_decision_and_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = registered(tmp_path, rollout=False)
    registry, promote = context.registry, Registry.promote

    def overtaken(self: Registry, advisor: str, version: str, **facts: Any) -> Any:
        registry.rollback(advisor, actor="person:test", reason="just now")
        return promote(self, advisor, version, **facts)

    monkeypatch.setattr(Registry, "promote", overtaken)
    outcome = stages.promote_stage(context)
    assert (outcome.decision, registry.current("ansel")) == ("candidate", None)
    assert "the champion changed; evaluate again" in outcome.sentence


def test_a_later_evaluation_is_what_counts(tmp_path: Path) -> None:
    """Evaluated again against the present champion, the version may replace it, without a reason."""
    context = registered(tmp_path, rollout=False)
    registry = context.registry
    registry.rollback("ansel", actor="person:test", reason="r")
    report = {**gate_report(), "compared_with": registry.reference("ansel").as_dict()}
    report["conditions"] = served_conditions(prompt=prompt_digest(ANSEL))
    registry.record_evaluation("ansel", "v0002", report, actor="person:test")
    lines = len(registry.history("ansel"))
    version = registry.record_evaluation("ansel", "v0002", report, actor="person:test")
    assert len(registry.history("ansel")) == lines, "said again, it is not written again"
    check_manual_promotion(version, registry.reference("ansel"), force=False, reason=None)
    assert stages.promote_stage(context).decision == "promoted"


def test_what_a_person_rejected_no_evaluation_brings_back(tmp_path: Path) -> None:
    registry = registered(tmp_path, rollout=False).registry
    registry.reject("ansel", "v0002", actor="person:test", reason="its comments are dull")
    assert registry.record_evaluation("ansel", "v0002", gate_report(), actor="person:test").state == "rejected"


def test_a_run_promotes_once(tmp_path: Path) -> None:
    """Called again after a rollback, such as by a retry that comes late, it leaves the champion alone."""
    context = registered(tmp_path, rollout=False)
    registry, first = context.registry, stages.promote_stage(context)
    assert stages.promote_stage(context) == first
    registry.rollback("ansel", actor="person:test", reason="worse")
    lines = len(registry.history("ansel"))
    assert stages.promote_stage(context) == first
    assert registry.current("ansel") == "v0001" and len(registry.history("ansel")) == lines


def again(context: StageContext, run: str, **record: Any) -> StageContext:
    """Another run of the same workspace whose training gave the weights of v0002, up to its registration."""
    other = replace(context, run=run)
    evaluated(other, context.registry.reference("ansel"), **record)
    stages.register_stage(other)
    return other


def test_equal_weights_never_become_a_second_version(tmp_path: Path) -> None:
    context = registered(tmp_path, rollout=False)
    registry = context.registry
    assert stages.promote_stage(context).decision == "promoted"
    outcome = stages.promote_stage(again(context, "b-run"))
    assert (outcome.decision, outcome.version) == ("unchanged", "v0002")
    assert [version.version for version in registry.versions("ansel")] == ["v0001", "v0002"]
    assert [each.report["run"] for each in registry.get("ansel", "v0002").evaluations] == ["a-run", "b-run"]
    registry.rollback("ansel", actor="person:test", reason="worse")
    outcome = stages.promote_stage(again(context, "c-run"))
    assert (outcome.decision, registry.current("ansel")) == ("candidate", "v0001")
    assert "was champion before" in outcome.sentence


def test_a_changed_prompt_keeps_a_candidate(tmp_path: Path) -> None:
    """Somebody edits the prompt while the run evaluates."""
    context = registered(tmp_path, rollout=False)
    with sqlite3.connect(context.root / "mondrian.db") as database:
        database.execute("UPDATE advisors SET prompt = 'You are strict.'")
    database.close()
    outcome = stages.promote_stage(context)
    assert outcome.decision == "candidate" and "the advisor's prompt has changed" in outcome.sentence
    assert context.registry.current("ansel") == "v0001"


def test_loosened_gates_promote_nothing_automatically(tmp_path: Path) -> None:
    context = registered(tmp_path, rollout=False)
    loose = judged_settings(recipe_from_values({"gates": {"p_value": 0.9}}))
    outcome = stages.promote_stage(again(context, "b-run", settings=loose))
    assert outcome.decision == "candidate" and "with loosened gates (gates.p_value is 0.9" in outcome.sentence
    assert outcome.command is not None and outcome.command.endswith('--reason "..."')


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_anywhere_and_tried_again_a_run_has_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    """Register and promote, the process dead at every operation on a file (or every seventh), then both once more."""
    monkeypatch.setattr(register, "code_commit", lambda: "c" * 40)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    base_fingerprint("mini")  # a hash of 20 MB, kept for the children
    context = registered(tmp_path, rollout=True)
    (context.run_folder / "register.json").unlink()
    shutil.rmtree(tmp_path / "adapters" / "ansel" / "v0002")
    history = tmp_path / "adapters" / "ansel" / "history.jsonl"
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:2]))

    def keep(root: Path) -> PromoteSummary:
        here = replace(context, adapters=str(root / "adapters"), workspace=str(root / "workspace"))
        stages.register_stage(here)
        return stages.promote_stage(here)

    def copied(name: str) -> Path:
        for part in ("adapters", "workspace"):
            shutil.copytree(tmp_path / part, tmp_path / name / part)
        return tmp_path / name

    point, killed = 0, True
    while killed:  # until it comes to its end
        root = copied(f"at-{point}")
        killed = killed_at(point, lambda root=root: keep(root))  # type: ignore[misc]
        outcome, registry = keep(root), Registry(root / "adapters")
        assert outcome.decision == "promoted" and outcome.version in ("v0002", "v0003"), point
        versions = registry.versions("ansel")
        assert [each.version for each in versions if each.manifest["run"] == "a-run"] == [outcome.version], point
        promoted = [entry.version for entry in registry.history("ansel") if entry.event == "promote"]
        assert promoted == ["v0001", outcome.version] and registry.check("ansel") == (), point
        assert active_rollout(registry, "ansel") is not None
        shutil.rmtree(root)
        point += stride
    assert point > 40
