"""The decision on a candidate, without files, clock or model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.promotion import check_manual_promotion
from mondrian_core.registry.version import AdapterVersion, ChampionReference, VersionState
from mondrian_core.stages.promotion_decision import Keep, Promote, Reject, decide_promotion
from tests.registry.conftest import GATES, gate_report

NOBODY, V1 = ChampionReference(), ChampionReference("v0001", "1" * 64)


def test_all_gates_passing_promotes() -> None:
    sentence = f"Promoted: all {len(GATES)} gates passed; it is the first champion."
    assert decide_promotion(gate_report(), NOBODY) == Promote(sentence)


def test_failed_gate_rejects_and_is_named() -> None:
    decision = decide_promotion(gate_report("PASS", score_error="FAIL"), NOBODY)
    assert isinstance(decision, Reject) and "score_error was seen" in decision.sentence


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_a_reported_gate_stops_nothing_and_is_not_counted(verdict: str) -> None:
    reported = {"name": "beyond_calibration", "verdict": verdict, "sentence": "it was seen", "decides": False}
    report = gate_report()
    report["gates"] = [*report["gates"], reported]
    assert decide_promotion(report, NOBODY) == decide_promotion(gate_report(), NOBODY)
    required = {**report, "gates": [*report["gates"][:-1], {**reported, "decides": True}]}
    assert isinstance(decide_promotion(required, NOBODY), Reject if verdict == "FAIL" else Keep)


def test_a_required_gate_that_claims_to_be_only_reported_was_not_measured() -> None:
    report = gate_report()
    report["gates"] = [{**report["gates"][0], "verdict": "FAIL", "decides": False}, *report["gates"][1:]]
    decision = decide_promotion(report, NOBODY)
    assert isinstance(decision, Keep) and "not measured: integrity" in decision.sentence


def test_unsure_keeps_with_the_exact_commands() -> None:
    decision = decide_promotion(gate_report("INCONCLUSIVE", effect="PASS"), NOBODY, advisor="ansel", version="v0003")
    assert isinstance(decision, Keep) and "effect" not in decision.sentence
    assert decision.command == 'mondrian adapters promote --advisor ansel --version v0003 --reason "..."'
    assert decision.deployment.startswith(
        "mondrian prefect deployment run 'promote/manual' -p advisor=ansel -p version=v0003"
    )


def test_a_gate_that_was_not_measured_is_not_passed() -> None:
    report = gate_report()
    report["gates"] = report["gates"][1:]
    decision = decide_promotion(report, NOBODY)
    assert isinstance(decision, Keep) and "not measured: integrity" in decision.sentence
    assert isinstance(decide_promotion({"verdict": "PASS", "gates": []}, NOBODY), Keep)
    assert isinstance(decide_promotion({}, NOBODY), Keep)


def test_with_a_champion_it_must_have_been_compared() -> None:
    report = {**gate_report(), "compared_with": V1.as_dict()}
    assert isinstance(decide_promotion(report, V1), Keep)
    report["gates"].append({"name": "champion", "verdict": "PASS", "n": 0})
    uncompared = decide_promotion(report, V1)
    assert isinstance(uncompared, Keep) and "not compared with v0001" in uncompared.sentence
    report["gates"][-1]["n"] = 12
    decision = decide_promotion(report, V1)
    assert isinstance(decision, Promote) and "replaces v0001" in decision.sentence


@pytest.mark.parametrize(
    ("compared", "champion"),
    [
        (NOBODY, V1),  # somebody promoted meanwhile
        (V1, NOBODY),  # somebody rolled back
        (ChampionReference("v0002", "2" * 64), V1),
        (ChampionReference("v0001", "2" * 64), V1),  # the same name, such as of a registry put back from a backup
        (None, V1),
        (None, NOBODY),
    ],
)
def test_a_report_against_another_champion_promotes_nothing(
    compared: ChampionReference | None, champion: ChampionReference
) -> None:
    report = gate_report()
    report["gates"].append({"name": "champion", "verdict": "PASS", "n": 12})
    report["compared_with"] = compared.as_dict() if compared else None
    decision = decide_promotion(report, champion, advisor="ansel", version="v0003")
    assert isinstance(decision, Keep) and "the champion changed; evaluate again" in decision.sentence
    assert decision.command == "mondrian evaluate --advisor ansel --adapter v0003"
    assert decision.deployment == "mondrian prefect deployment run 'evaluate/version' -p advisor=ansel -p version=v0003"
    failed = {**report, "verdict": "FAIL"}
    assert isinstance(decide_promotion(failed, champion), Reject), "a failed gate stays a failed gate"


@pytest.mark.parametrize(("summary", "kind"), [("FAIL", Reject), ("INCONCLUSIVE", Keep)])
def test_a_summary_worse_than_its_gates_is_believed(summary: str, kind: type) -> None:
    assert isinstance(decide_promotion({**gate_report(), "verdict": summary}, NOBODY), kind)


def test_a_summary_better_than_its_gates_is_not() -> None:
    assert isinstance(decide_promotion({**gate_report("FAIL"), "verdict": "PASS"}, NOBODY), Reject)


def version(verdict: str | None, state: VersionState = "candidate") -> AdapterVersion:
    report = gate_report(verdict) if verdict else None
    return AdapterVersion(
        advisor="ansel", version="v0001", path=Path("x"), manifest={"gate_report": report}, state=state
    )


@pytest.mark.parametrize(
    ("verdict", "state", "force", "reason", "error"),
    [
        ("PASS", "candidate", False, None, None),
        ("PASS", "retired", False, "", None),
        ("PASS", "candidate", True, None, BadInput),
        ("INCONCLUSIVE", "candidate", False, None, BadInput),
        ("INCONCLUSIVE", "candidate", False, " ", BadInput),
        ("INCONCLUSIVE", "candidate", False, "seen by eye", None),
        ("FAIL", "rejected", False, "please", GateFailed),
        ("FAIL", "retired", False, "please", GateFailed),
        ("FAIL", "rejected", True, None, BadInput),
        ("FAIL", "rejected", True, "please", None),
        ("PASS", "rejected", False, "please", GateFailed),
        (None, "candidate", False, "please", GateFailed),
        (None, "candidate", True, "please", None),
    ],
)
def test_manual_promotion_rules(
    verdict: str | None, state: VersionState, force: bool, reason: str | None, error: type | None
) -> None:
    if error is None:
        check_manual_promotion(version(verdict, state), NOBODY, force=force, reason=reason)
        return
    with pytest.raises(error):
        check_manual_promotion(version(verdict, state), NOBODY, force=force, reason=reason)


@pytest.mark.parametrize(
    "manifest", [{"gate_report": gate_report()}, {"gate_report": gate_report(), "parent": "v0007"}]
)
def test_by_hand_over_another_champion_needs_a_reason(manifest: dict[str, Any]) -> None:
    version = AdapterVersion(advisor="ansel", version="v0002", path=Path("x"), manifest=manifest, state="candidate")
    with pytest.raises(BadInput, match="compared with the base alone, and the champion is v0001 now") as refused:
        check_manual_promotion(version, V1, force=False, reason=" ")
    assert "mondrian evaluate --advisor ansel --adapter v0002" in refused.value.next_step
    check_manual_promotion(version, V1, force=False, reason="seen by eye")


@pytest.mark.parametrize(("parent", "fits"), [("v0001", True), ("v0007", False), (None, False)])
def test_a_manifest_of_an_older_release_is_taken_at_its_parent(parent: str | None, fits: bool) -> None:
    report = {name: value for name, value in gate_report().items() if name != "compared_with"}
    version = AdapterVersion(
        advisor="ansel",
        version="v0002",
        path=Path("x"),
        manifest={"gate_report": report, "parent": parent},
        state="candidate",
    )
    if fits:
        check_manual_promotion(version, V1, force=False, reason=None)
        return
    with pytest.raises(BadInput, match="The champion changed"):
        check_manual_promotion(version, V1, force=False, reason=None)
