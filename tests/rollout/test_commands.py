"""`mondrian adapters promote --rollout` and `mondrian rollout ...` on a real jobs table, without Prefect."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.registry import Registry
from mondrian_core.rollout import active_rollout
from mondrian_core.store import Store
from tests.rollout.conftest import assigned_jobs

Mondrian = Callable[..., tuple[int, Any]]
STEPS = [
    {"share": 0.1, "requests": 20, "hours": 0},
    {"share": 0.5, "requests": 50, "hours": 0},
    {"share": 1.0, "requests": 0, "hours": 0},
]


@pytest.fixture
def mondrian(registry: Registry, store: Store, capsys: pytest.CaptureFixture[str]) -> Mondrian:
    """Run a command with --json: its exit status and output."""

    def run(*words: str) -> tuple[int, Any]:
        given = [*words, "--json", "--adapters", str(registry.root), "--workspace", str(store.path.parent)]
        status = main(given)
        return status, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def begun(mondrian: Mondrian, tmp_path: Path) -> None:
    """v0002 at 10 %."""
    (tmp_path / "plan.json").write_text(json.dumps({"steps": STEPS}))
    status, told = mondrian(
        "adapters", "promote", "--advisor", "ansel", "--version", "v0002", "--plan", str(tmp_path / "plan.json")
    )
    assert (status, told["to"], told["rollout"]) == (0, "v0002", "at 10%")


def test_rollout_commands_from_first_share_to_completion(
    registry: Registry, store: Store, mondrian: Mondrian, begun: None
) -> None:
    now = datetime.now(UTC)
    for number, share in enumerate((0.5, 1.0)):
        rollout = active_rollout(registry, "ansel")
        assert rollout is not None
        store.import_jobs(assigned_jobs(rollout, 600, began=now, hours=0.001, first=1000 * number))
        assert mondrian("rollout", "show")[1][0]["decision"] == "advance"
        assert active_rollout(registry, "ansel") == rollout, "showing changes nothing"
        status, told = mondrian("rollout", "advance", "--advisor", "ansel")
        assert (status, told[0]["decision"], told[0]["share"]) == (0, "advance", share)
    assert active_rollout(registry, "ansel") is None and registry.current("ansel") == "v0002"
    assert mondrian("rollout", "advance") == (1, [])
    shares = [entry.detail["share"] for entry in registry.history("ansel") if "share" in entry.detail]
    assert shares == [0.1, 0.5, 1.0]
    assert registry.check("ansel") == ()


def test_failures_roll_back_with_reason(registry: Registry, store: Store, mondrian: Mondrian, begun: None) -> None:
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None
    jobs = assigned_jobs(
        rollout, 300, failing=lambda ours, number: ours and number % 2 == 0, began=datetime.now(UTC), hours=0.001
    )
    store.import_jobs(jobs)
    status, told = mondrian("rollout", "advance")
    assert (status, told[0]["decision"], told[0]["guardrail"]) == (1, "roll back", "failures")
    entry = registry.history("ansel")[-1]
    assert (entry.event, entry.after, entry.reason) == ("rollback", "v0001", told[0]["sentence"])
    ours = [job for job in jobs if job.details["rollout"]["candidate"]]
    failed = sum(job.status == "failed" for job in ours)
    assert f"{failed} of {len(ours)} answers failed, 0 of {300 - len(ours)} of the control's" in entry.reason
    status, told = mondrian("adapters", "promote", "--advisor", "ansel", "--version", "v0002", "--rollout")
    assert status == 1 and "may be rolled out again" in told["next_step"]


def test_insufficient_data_holds_rollout(registry: Registry, store: Store, mondrian: Mondrian, begun: None) -> None:
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None
    store.import_jobs(assigned_jobs(rollout, 40, began=datetime.now(UTC), hours=0.001))
    status, told = mondrian("rollout", "advance")
    assert (status, told[0]["decision"], told[0]["share"]) == (0, "hold", 0.1)
    assert "of 20 requests" in told[0]["sentence"]


def test_manual_share_needs_reason_and_later_step(registry: Registry, mondrian: Mondrian, begun: None) -> None:
    assert mondrian("rollout", "set", "--advisor", "ansel", "0.5")[0] == 2
    assert mondrian("rollout", "set", "--advisor", "ansel", "0.1", "--reason", "x")[0] == 2
    status, told = mondrian("rollout", "set", "--advisor", "ansel", "1.0", "--reason", "the exhibition is tomorrow")
    assert (status, told["status"]) == (0, "finished")
    entry = registry.history("ansel")[-1]
    assert (entry.event, entry.reason) == ("rollout", "Manually: the exhibition is tomorrow")
    assert mondrian("rollout", "set", "--advisor", "ansel", "1.0", "--reason", "again")[0] == 1


def test_list_shows_share_of_champion(mondrian: Mondrian, begun: None) -> None:
    rows = {row["version"]: (row["state"], row["rollout"]) for row in mondrian("adapters", "list")[1]}
    assert rows == {"v0001": ("retired", None), "v0002": ("champion", "at 10%"), "v0003": ("candidate", None)}


def test_prune_keeps_versions_of_active_rollout(registry: Registry, mondrian: Mondrian, begun: None) -> None:
    words = ("adapters", "prune", "--advisor", "ansel", "--keep")
    assert mondrian(*words, "0", "--dry-run") == (0, {"removed": ["v0003"], "dry_run": True})
    assert len(registry.versions("ansel")) == 3
    assert mondrian(*words, "1") == (1, {"removed": [], "dry_run": False})
    assert mondrian(*words, "0") == (0, {"removed": ["v0003"], "dry_run": False})
    status, told = mondrian(*words, "0", "--force")
    assert status == 1 and "is at 10%" in told["error"], "the version before still answers nine in ten"
    assert mondrian("rollout", "set", "--advisor", "ansel", "1.0", "--reason", "enough seen")[0] == 0
    assert mondrian(*words, "0", "--force") == (1, {"removed": [], "dry_run": False}), "the best champion so far stays"
    assert [version.version for version in registry.versions("ansel")] == ["v0001", "v0002"]


def test_active_rollout_blocks_promotion(registry: Registry, mondrian: Mondrian, begun: None) -> None:
    """v0002 answered a tenth: a rollback from v0003 must not give it all traffic."""
    for words in ((), ("--rollout",)):
        status, told = mondrian("adapters", "promote", "--advisor", "ansel", "--version", "v0003", *words)
        assert status == 1 and "v0002 of 'ansel' is at 10%" in told["error"]
    assert mondrian("adapters", "rollback", "--advisor", "ansel")[1]["to"] == "v0001"
    assert mondrian("adapters", "promote", "--advisor", "ansel", "--version", "v0003")[0] == 0


@pytest.mark.parametrize(("per_day", "place"), [(40, "in the shadow"), (1500, "at 5%")])
def test_default_plan_follows_traffic(
    registry: Registry, store: Store, mondrian: Mondrian, per_day: int, place: str
) -> None:
    from dataclasses import replace

    rollout_of_another_day = assigned_jobs(
        _some_rollout(), 2 * per_day, began=datetime.now(UTC) - timedelta(days=2), hours=48
    )
    store.import_jobs([replace(job, details={}) for job in rollout_of_another_day])
    status, told = mondrian("adapters", "promote", "--advisor", "ansel", "--version", "v0002", "--rollout")
    assert (status, told["rollout"]) == (0, place)


def _some_rollout() -> Any:
    from mondrian_core.rollout import Rollout, default_rollout_plan

    began = datetime.now(UTC).isoformat()
    return Rollout(
        advisor="ansel",
        version="v0002",
        control="v0001",
        salt="salt",
        plan=default_rollout_plan(5000),
        started_at=began,
        step_started_at=began,
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"stepps": 3}'])
def test_invalid_plan_is_rejected(mondrian: Mondrian, tmp_path: Path, registry: Registry, text: str) -> None:
    (tmp_path / "plan.json").write_text(text if text != "[]" else "[1]")
    words = ("adapters", "promote", "--advisor", "ansel", "--version", "v0002", "--plan", str(tmp_path / "plan.json"))
    assert mondrian(*words)[0] == 2
    assert registry.current("ansel") == "v0001"
