"""The decision on a candidate, without files, clock or model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mondrian_core.decision import Keep, Promote, Reject, check_promotable, decide
from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.registry.version import State, Version
from tests.registry.conftest import gate_report


def test_all_pass_promotes() -> None:
    assert decide(gate_report(), None) == Promote("Promoted: all 6 gates passed; it is the first champion.")


def test_any_fail_rejects_and_says_which() -> None:
    decision = decide(gate_report("PASS", score_error="FAIL"), None)
    assert isinstance(decision, Reject) and "score_error was seen" in decision.sentence


def test_unsure_keeps_with_the_exact_commands() -> None:
    decision = decide(gate_report("INCONCLUSIVE", effect="PASS"), None, advisor="ansel", version="v0003")
    assert isinstance(decision, Keep) and "effect" not in decision.sentence
    assert decision.command == 'mondrian adapters promote --advisor ansel --version v0003 --reason "..."'
    assert decision.deployment.startswith(
        "mondrian prefect deployment run 'promote/manual' -p advisor=ansel -p version=v0003"
    )


def test_a_gate_that_was_not_measured_is_not_passed() -> None:
    report = gate_report()
    report["gates"] = report["gates"][1:]
    decision = decide(report, None)
    assert isinstance(decision, Keep) and "not measured: integrity" in decision.sentence
    assert isinstance(decide({"verdict": "PASS", "gates": []}, None), Keep)
    assert isinstance(decide({}, None), Keep)


def test_with_a_champion_it_must_have_been_compared() -> None:
    report = gate_report()
    assert isinstance(decide(report, "v0001"), Keep)
    report["gates"].append({"name": "champion", "verdict": "PASS", "n": 0})
    uncompared = decide(report, "v0001")
    assert isinstance(uncompared, Keep) and "not compared with v0001" in uncompared.sentence
    assert isinstance(decide(report, None), Promote)
    report["gates"][-1]["n"] = 12
    decision = decide(report, "v0001")
    assert isinstance(decision, Promote) and "replaces v0001" in decision.sentence


@pytest.mark.parametrize(("summary", "kind"), [("FAIL", Reject), ("INCONCLUSIVE", Keep)])
def test_a_summary_worse_than_its_gates_is_believed(summary: str, kind: type) -> None:
    assert isinstance(decide({**gate_report(), "verdict": summary}, None), kind)


def test_a_summary_better_than_its_gates_is_not() -> None:
    assert isinstance(decide({**gate_report("FAIL"), "verdict": "PASS"}, None), Reject)


def version(verdict: str | None, state: State = "candidate") -> Version:
    report = gate_report(verdict) if verdict else None
    return Version("ansel", "v0001", Path("x"), {"gate_report": report}, state)


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
def test_by_hand(verdict: str | None, state: State, force: bool, reason: str | None, error: type | None) -> None:
    if error is None:
        check_promotable(version(verdict, state), force=force, reason=reason)
        return
    with pytest.raises(error):
        check_promotable(version(verdict, state), force=force, reason=reason)
