"""Recorded evaluations: a FAIL counts until a later evaluation of the same photographs answers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import GateFailed
from mondrian_core.gate_strictness import judged_settings
from mondrian_core.recipes import recipe_from_values
from mondrian_core.registry import RecordedEvaluation, Registry
from mondrian_core.registry.evaluations import unanswered_failures
from tests.registry.conftest import gate_report, manifest, write_adapter

DEFAULTS = judged_settings(recipe_from_values({}))
LOOSE = judged_settings(recipe_from_values({"gates": {"p_value": 0.9}}))


def report(verdict: str, photographs: str = "abcdefgh", settings: Any = None, **gates: str) -> dict[str, Any]:
    found = {**gate_report(verdict, **gates), "photographs": sorted(photographs), "settings": settings or DEFAULTS}
    return {**found, "verdict": "FAIL" if "FAIL" in gates.values() else verdict}


FAILED = report("PASS", score_error="FAIL")


@pytest.mark.parametrize(
    ("later", "answered"),
    [
        (report("PASS"), True),
        (report("PASS", "abcdefghij"), True),
        (report("INCONCLUSIVE", score_error="PASS"), True),
        (report("PASS", "ijklmnop"), False),
        (report("PASS", "abcdefg"), False),
        (report("PASS", settings=LOOSE), False),
        (report("INCONCLUSIVE"), False),
        (report("PASS", health="FAIL"), False),
        ({"verdict": "PASS", "gates": []}, False),
    ],
    ids=["same", "more", "that gate", "others", "fewer", "loosened", "open", "other gate failed", "no gates"],
)
def test_what_answers_a_failure(registry: Registry, adapter: Path, later: dict[str, Any], answered: bool) -> None:
    registry.register("ansel", adapter, manifest(gate_report=FAILED), "rejected")
    version = registry.record_evaluation("ansel", "v0001", {**later, "run": "again"}, actor="person:test")
    assert (version.state, len(version.evaluations)) == ("candidate" if answered else "rejected", 2)
    if answered:
        registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="it passed")
        return
    with pytest.raises(GateFailed, match="refused v0001"):
        registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="it passed")


def test_a_later_failure_wins_over_a_pass_and_over_a_state(registry: Registry, adapter: Path) -> None:
    registry.register("ansel", adapter, manifest(gate_report=report("PASS")))
    assert registry.record_evaluation("ansel", "v0001", FAILED, actor="person:test").state == "rejected"
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="by eye", forced=True)
    registry.rollback("ansel", actor="person:test", reason="not by eye")
    assert registry.get("ansel", "v0001").state == "retired"
    with pytest.raises(GateFailed):
        registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="again")


def test_each_failure_needs_its_own_answer() -> None:
    failed, other = FAILED, report("PASS", "xyz", health="FAIL")
    found = [RecordedEvaluation(each) for each in (failed, other, report("PASS"))]
    assert unanswered_failures(found) == (found[1],)
    assert unanswered_failures([*found, RecordedEvaluation(report("PASS", "xyz"))]) == ()


def test_every_key_of_a_report_is_kept_and_a_run_is_recorded_once(registry: Registry, adapter: Path) -> None:
    registry.register("ansel", adapter, manifest(gate_report=None))
    first = {**report("PASS"), "run": "one", "look": {"number": 7, "spent": 0.01}, "interval": (1, 2)}
    for made in (first, {**first, "run": "two"}, first):
        registry.record_evaluation("ansel", "v0001", made, actor="person:test")
    entries = [entry for entry in registry.history("ansel") if entry.event == "evaluate"]
    assert [entry.detail["report"]["run"] for entry in entries] == ["one", "two"]
    assert entries[0].detail["report"]["look"] == first["look"] and entries[0].reason == "gates: PASS, look 7"
    assert registry.check("ansel") == ()


def test_a_copy_of_a_rejected_version_is_rejected(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """Exported, its version deleted and imported again, the weights keep their FAIL."""
    registry.register("ansel", adapter, manifest(gate_report=report("PASS")))
    registry.record_evaluation("ansel", "v0001", FAILED, actor="person:test")
    archive = registry.export("ansel", "v0001", tmp_path)
    assert registry.prune("ansel", keep=0, actor="person:test") == ["v0001"]
    copy = registry.import_from("ansel", archive, actor="person:test")
    assert (copy.version, copy.state, copy.report) == ("v0002", "rejected", None)
    luckier = registry.record_evaluation("ansel", "v0002", report("PASS", "xyz"), actor="person:test")
    assert luckier.state == "rejected"
    assert registry.record_evaluation("ansel", "v0002", report("PASS"), actor="person:test").state == "candidate"


def test_another_run_with_the_same_weights_gets_the_version_that_exists(registry: Registry, tmp_path: Path) -> None:
    first = registry.register("ansel", write_adapter(tmp_path / "a"), manifest(), run="monday")
    again = registry.register("ansel", write_adapter(tmp_path / "b"), manifest(), run="tuesday")
    other = registry.register("ansel", write_adapter(tmp_path / "c", 1), manifest(), run="wednesday")
    assert (again.version, again.manifest["run"], other.version) == ("v0001", "monday", "v0002")
    assert first.content == registry.version_with_content("ansel", tmp_path / "b").content
    registry.quarantine("ansel", "v0001", actor="person:test", reason="a bad disk")
    assert registry.register("ansel", tmp_path / "b", manifest(), run="thursday").version == "v0003"


def test_released_from_quarantine_a_rejected_version_is_still_rejected(registry: Registry, adapter: Path) -> None:
    registry.register("ansel", adapter, manifest(gate_report=report("PASS")))
    registry.register("ansel", write_adapter(adapter, 1), manifest(gate_report=report("PASS")))
    registry.record_evaluation("ansel", "v0001", FAILED, actor="person:test")
    registry.reject("ansel", "v0002", actor="person:test", reason="dull")
    for name in ("v0001", "v0002"):
        registry.quarantine("ansel", name, actor="person:test", reason="a bad disk")
        assert registry.release("ansel", name, actor="person:test", reason="copied again").state == "rejected"
