"""What makes an evaluation stale, and what a promotion says about it; no model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.gate_strictness import judged_settings
from mondrian_core.promotion import (
    EvaluationConditions,
    check_manual_promotion,
    condition_differences,
    conditions_in_force,
    promotion_objections,
)
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.recipes import Recipe, recipe_from_values
from mondrian_core.registry import AdapterVersion, ChampionReference, RecordedEvaluation
from mondrian_core.settings import Settings
from mondrian_core.stages.promotion_decision import (
    Keep,
    Promote,
    Reject,
    decide_registered_promotion,
)
from mondrian_core.store import Store
from tests.registry.conftest import gate_report

BASE = {"name": "mini", "fingerprint": "f" * 64, "weights": "w" * 64, "settings": {}, "templates": {}}
NOW = EvaluationConditions(base=BASE, prompt="p" * 64, exif=False, answer_schema="s" * 64)
LOOSE = judged_settings(recipe_from_values({"gates": {"p_value": 0.9}}))
OTHERS: dict[str, EvaluationConditions] = {
    "another base": replace(NOW, base={**BASE, "fingerprint": "e" * 64, "weights": "v" * 64}),
    "chat template": replace(NOW, base={**BASE, "fingerprint": "e" * 64, "settings": {"chat template": "t" * 64}}),
    "advisor's prompt": replace(NOW, prompt="q" * 64),
    "EXIF_ENABLED": replace(NOW, exif=True),
    "answer format": replace(NOW, answer_schema="t" * 64),
}


def identity(fingerprint_of: EvaluationConditions) -> dict[str, Any]:
    """The record of those conditions, with the fingerprint that its digests really have."""
    from mondrian_core.models.base_identity import BaseIdentity

    base = fingerprint_of.base or {}
    found = BaseIdentity(base["weights"], base["settings"], base["templates"])
    return {**fingerprint_of.as_dict(), "base": found.record("mini")}


def version(*reports: dict[str, Any], number: int = 2, state: Any = "candidate") -> AdapterVersion:
    return AdapterVersion(
        advisor="ansel",
        version=f"v{number:04d}",
        path=Path("x"),
        manifest={},
        state=state,
        manifest_sha256=str(number) * 64,
        recorded=tuple(RecordedEvaluation(each, "2026-11-20T10:00", serial=k) for k, each in enumerate(reports)),
    )


def report(verdict: str = "PASS", under: EvaluationConditions = NOW, **others: Any) -> dict[str, Any]:
    return {**gate_report(verdict), "conditions": identity(under), "settings": judged_settings(Recipe()), **others}


def decided(candidate: AdapterVersion, champion: AdapterVersion | None = None) -> Any:
    reference = champion.reference if champion else ChampionReference()
    return decide_registered_promotion(candidate, reference, champion, NOW)


@pytest.mark.parametrize("name", OTHERS)
def test_each_other_condition_is_named_and_stops_a_promotion(name: str) -> None:
    assert condition_differences(identity(NOW), NOW).changed == ()
    stale = version(report(under=OTHERS[name]))
    (objection,) = promotion_objections(stale, None, NOW)
    assert name in objection.sentence and objection.needs_force
    assert "mondrian evaluate --advisor ansel --adapter v0002" in objection.next_step
    kept = decided(stale)
    assert isinstance(kept, Keep) and name in kept.sentence
    assert kept.command == "mondrian evaluate --advisor ansel --adapter v0002", "a reason alone would be refused"
    for reason in ("", "it passed"):
        with pytest.raises(GateFailed, match="no longer holds"):
            check_manual_promotion(stale, ChampionReference(), force=False, reason=reason, objections=(objection,))
    overridden = check_manual_promotion(
        stale, ChampionReference(), force=True, reason="by eye", objections=(objection,)
    )
    assert overridden == (objection.sentence,)


def test_the_newest_evaluation_that_holds_decides() -> None:
    other = OTHERS["advisor's prompt"]
    assert isinstance(decided(version(report(), report("INCONCLUSIVE", other))), Promote)
    assert isinstance(decided(version(report(), report("INCONCLUSIVE"))), Keep)
    assert isinstance(decided(version(report("INCONCLUSIVE"), report())), Promote)
    assert isinstance(decided(version(report(), report("FAIL", other))), Reject), "a FAIL under other conditions too"


@pytest.mark.parametrize("missing", ["base", "prompt", "answer_schema", "settings"])
def test_what_a_record_leaves_out_needs_a_reason(missing: str) -> None:
    conditions = {key: value for key, value in identity(NOW).items() if key != missing}
    left_out: dict[str, Any] = {"settings": {}} if missing == "settings" else {}
    old = version(report(conditions=conditions, **left_out))
    assert isinstance(decided(old), Keep)
    objections = promotion_objections(old, None, NOW)
    with pytest.raises(BadInput, match="doesn't record"):
        check_manual_promotion(old, ChampionReference(), force=False, reason="", objections=objections)
    check_manual_promotion(old, ChampionReference(), force=False, reason="by eye", objections=objections)


def test_camera_settings_are_never_measured() -> None:
    now = replace(NOW, exif=True)
    (objection,) = promotion_objections(version(report(under=now)), None, now)
    assert "no evaluation measures camera settings" in objection.sentence and not objection.needs_force


def test_loosened_gates_keep_a_candidate() -> None:
    kept = decided(version(report(settings=LOOSE)))
    assert isinstance(kept, Keep) and "with loosened gates (gates.p_value is 0.9, not 0.05)" in kept.sentence
    assert kept.command.endswith('--version v0002 --reason "..."')


def test_an_older_version_never_replaces_a_newer_champion_by_itself() -> None:
    champion = version(report(), number=5, state="champion")
    against = {"compared_with": champion.reference.as_dict()}
    never = promotion_objections(version(report()), champion, NOW)
    assert [each.sentence for each in never] == [
        "v0002 is older than the champion v0005 and was never compared with it"
    ]
    with pytest.raises(BadInput, match=r"^v0002 is older than the champion v0005 .* Its promotion needs a reason"):
        check_manual_promotion(version(report(**against)), champion.reference, force=False, reason="", objections=never)
    compared = report(**against)
    compared["gates"] = [*compared["gates"], {"name": "champion", "verdict": "PASS", "n": 9}]
    kept = decided(version(compared), champion)
    assert isinstance(kept, Keep) and "older than the champion v0005 although the two were compared" in kept.sentence
    assert isinstance(decided(version(compared, number=6), champion), Promote)


def test_a_version_that_was_champion_before_does_not_come_back_by_itself() -> None:
    kept = decided(version(report(), state="retired"))
    assert isinstance(kept, Keep) and "was champion before" in kept.sentence


def test_conditions_in_force_are_those_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(workspace=tmp_path, base_model="mini")
    assert conditions_in_force(settings, "ansel").prompt is None
    ansel = AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.")
    with Store.create(tmp_path / "mondrian.db") as store:
        store.add_advisor(ansel)
    monkeypatch.setenv("EXIF_ENABLED", "1")
    found = conditions_in_force(Settings(workspace=tmp_path, base_model="mini"), "ansel")
    assert (found.prompt, found.exif) == (prompt_digest(ansel), True)
    assert found.base is not None and found.base["settings"]["chat template"]
    assert conditions_in_force(Settings(workspace=tmp_path, base_model="no/such"), "dorothea").base is None
