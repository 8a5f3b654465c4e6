"""The ledger of looks: numbers, levels, evidence and the best champion, through crashes, rollbacks and retention."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mondrian_core.registry import LookRequest, LookRules, Registry, earlier_differences
from mondrian_core.registry.looks import YEAR_OF_LOOKS, look_of_run, looks_in_history
from tests.registry.conftest import manifest, write_adapter
from tests.registry.faults import killed_at
from tests.registry.test_writers import at_once

RULES = LookRules(yearly_level=0.05, first_level=0.01, per_year=52)
BEGAN = datetime(2026, 1, 5, tzinfo=UTC)


def look_request(run: str, candidate: str = "", photographs: int = 20, **values: object) -> LookRequest:
    names = [f"{number:064x}"[::-1] for number in range(photographs)]
    given = {"run": run, "candidate": candidate or run, "question": "q", "photographs": names, "rules": RULES}
    return LookRequest(**{**given, **values})


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Registry:
    return Registry(tmp_path / "adapters", clock=clock)


def promoted(registry: Registry, folder: Path, seed: int, *, better: bool) -> str:
    """Register and promote a version whose look said whether it was better than the best champion."""
    run = f"run-{seed}"
    look = registry.take_look("ansel", look_request(run), actor="test")
    registry.record_look_result("ansel", look, {"p": 1.0}, better_than_best=better, actor="test")
    made = registry.register("ansel", write_adapter(folder / run, seed), manifest(), run=run)
    before = registry.reference("ansel")
    return registry.promote("ansel", made.version, expected=before, actor="test", reason="gates").version


def test_looks_are_counted_and_share_the_years_level(ledger: Registry, clock: Clock) -> None:
    looks = []
    for week in range(52):
        clock.now = BEGAN + timedelta(weeks=week)
        looks.append(ledger.take_look("ansel", look_request(f"run-{week}", photographs=20 + week // 4), actor="test"))
    assert [look.number for look in looks] == list(range(1, 53))
    assert looks[0].level == 0.01
    assert [look.level for look in looks[1:]] == sorted(look.level for look in looks[1:])
    assert all(look.level > 0 for look in looks)
    spent = [look.spent for look in looks]
    assert spent == sorted(spent)
    assert 0.049 < spent[-1] <= 0.05 + 1e-6
    assert [look.fresh for look in looks[:5]] == [20, 0, 0, 0, 1]
    one_more = ledger.take_look("ansel", look_request("same week"), actor="test")
    assert (one_more.number, one_more.level) == (53, 0.0)
    clock.now = BEGAN + YEAR_OF_LOOKS
    assert ledger.take_look("ansel", look_request("next year"), actor="test").level == 0.01


def test_run_has_one_look_however_often_it_is_repeated(ledger: Registry, tmp_path: Path) -> None:
    first = ledger.take_look("ansel", look_request("a"), actor="test")
    second = ledger.take_look("ansel", look_request("b"), actor="test")
    assert (first.number, second.number) == (1, 2)
    after_restart = Registry(tmp_path / "adapters")
    assert after_restart.take_look("ansel", look_request("a"), actor="test") == first
    assert len(looks_in_history(after_restart.history("ansel"))) == 2
    assert after_restart.check("ansel") == ()


def test_run_that_trained_again_takes_another_look(ledger: Registry) -> None:
    """Otherwise one run could try seed after seed at the level of its first look."""
    looks = [ledger.take_look("ansel", look_request("a", f"seed-{seed}"), actor="test") for seed in (0, 1, 0)]
    assert [look.number for look in looks] == [1, 2, 1]


def test_same_candidate_costs_a_second_look_but_counts_once_as_evidence(ledger: Registry) -> None:
    for run, candidate, value in (("a", "one", 1.0), ("b", "two", 2.0), ("c", "one", 3.0)):
        look = ledger.take_look("ansel", look_request(run, candidate), actor="test")
        ledger.record_look_result("ansel", look, {"p": value}, better_than_best=False, actor="test")
    again = ledger.take_look("ansel", look_request("d", "one"), actor="test")
    assert again.number == 4
    assert earlier_differences(ledger.history("ansel"), again) == [{"p": 2.0}]
    other = ledger.take_look("ansel", look_request("e", "three"), actor="test")
    assert sorted(found["p"] for found in earlier_differences(ledger.history("ansel"), other)) == [2.0, 3.0]
    elsewhere = ledger.take_look("ansel", look_request("f", question="another base"), actor="test")
    assert earlier_differences(ledger.history("ansel"), elsewhere) == []


def test_evidence_that_begins_again_begins_at_a_low_level(ledger: Registry) -> None:
    """Otherwise another base late in the year would be tested alone at the level of much evidence."""
    for week in range(40):
        last = ledger.take_look("ansel", look_request(f"run-{week}"), actor="test")
    other = ledger.take_look("ansel", look_request("other", question="another base"), actor="test")
    more = ledger.take_look("ansel", look_request("more", question="another base"), actor="test")
    assert other.number == 41
    assert other.level == more.level == 0.0002 < last.level
    back = ledger.take_look("ansel", look_request("back"), actor="test")
    assert back.level > last.level


def test_clock_that_goes_back_begins_no_new_year(ledger: Registry, clock: Clock) -> None:
    ledger.take_look("ansel", look_request("a"), actor="test")
    clock.now = BEGAN - timedelta(days=900)
    assert ledger.take_look("ansel", look_request("b"), actor="test").number == 2


def test_stricter_recipe_in_mid_year_leaves_nothing_to_spend(ledger: Registry) -> None:
    ledger.take_look("ansel", look_request("a"), actor="test")
    strict = LookRules(yearly_level=0.005, first_level=0.001, per_year=52)
    assert ledger.take_look("ansel", look_request("b", rules=strict), actor="test").level == 0.0


def test_looks_at_once_get_different_numbers(ledger: Registry) -> None:
    def take(run: str) -> Callable[[], object]:
        return lambda: ledger.take_look("ansel", look_request(run), actor="test")

    assert at_once([take(f"run-{k}") for k in range(8)]) == [0] * 8
    looks = looks_in_history(ledger.history("ansel"))
    assert sorted(look.number for look in looks) == list(range(1, 9))
    assert len({look.run for look in looks}) == 8
    assert ledger.check("ansel") == ()


def test_look_survives_a_kill_a_rollback_and_retention(ledger: Registry, tmp_path: Path) -> None:
    first = promoted(ledger, tmp_path, 1, better=False)
    second = promoted(ledger, tmp_path, 2, better=True)
    ledger.rollback("ansel", actor="test", reason="bad in service")
    for seed in range(3, 7):
        ledger.register("ansel", write_adapter(tmp_path / f"extra-{seed}", seed), manifest())
    ledger.prune("ansel", keep=0, actor="test", force=True)
    assert [look.run for look in looks_in_history(ledger.history("ansel"))] == ["run-1", "run-2"]
    assert ledger.take_look("ansel", look_request("next"), actor="test").number == 3
    assert ledger.best_champion("ansel", manifest()["base"]["fingerprint"]) == first != second


def test_torn_line_of_a_look_is_not_counted_and_the_next_one_is(ledger: Registry, tmp_path: Path) -> None:
    ledger.take_look("ansel", look_request("a"), actor="test")
    path = tmp_path / "adapters" / "ansel" / "history.jsonl"
    whole = path.read_bytes()
    ledger.take_look("ansel", look_request("b"), actor="test")
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:-30])
    assert ledger.take_look("ansel", look_request("c"), actor="test").number == 2
    assert ledger.check("ansel") == ()


def test_edited_ledger_is_noticed(ledger: Registry, tmp_path: Path) -> None:
    for run in "abc":
        ledger.take_look("ansel", look_request(run), actor="test")
    path = tmp_path / "adapters" / "ansel" / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    assert any("changed or removed" in problem for problem in ledger.check("ansel"))


def test_champion_that_was_not_shown_better_never_becomes_the_best(ledger: Registry, tmp_path: Path) -> None:
    fingerprint = manifest()["base"]["fingerprint"]
    assert ledger.best_champion("ansel", fingerprint) is None
    first = promoted(ledger, tmp_path, 1, better=False)
    promoted(ledger, tmp_path, 2, better=False)
    assert ledger.best_champion("ansel", fingerprint) == first
    third = promoted(ledger, tmp_path, 3, better=True)
    assert ledger.best_champion("ansel", fingerprint) == third
    promoted(ledger, tmp_path, 4, better=False)
    ledger.prune("ansel", keep=0, actor="test", force=True)
    assert third in {version.version for version in ledger.versions("ansel")}
    assert ledger.best_champion("ansel", "another base") is None
    ledger.quarantine("ansel", third, actor="test", reason="damaged")
    assert ledger.best_champion("ansel", fingerprint) in (first, None)


def test_look_is_one_line_that_the_chain_covers(ledger: Registry) -> None:
    ledger.take_look("ansel", look_request("a"), actor="flow:retrain")
    entry = ledger.history("ansel")[-1]
    assert (entry.event, entry.actor, entry.version) == ("look", "flow:retrain", None)
    assert json.loads(entry.line)["detail"]["look"]["level"] == 0.01


def test_look_killed_at_every_operation_is_counted_once(tmp_path: Path) -> None:
    died = True
    point = 0
    while died:
        root = tmp_path / f"at-{point}"
        Registry(root).take_look("ansel", look_request("before"), actor="test")

        def take(root: Path = root) -> object:
            return Registry(root).take_look("ansel", look_request("a"), actor="test")

        died = killed_at(point, take)
        recorded = look_of_run(Registry(root).history("ansel"), "a", "a")
        again = Registry(root).take_look("ansel", look_request("a"), actor="test")
        assert again.number == 2
        assert recorded in (None, again)
        assert len(looks_in_history(Registry(root).history("ansel"))) == 2
        assert Registry(root).check("ansel") == ()
        point += 1
    assert point > 2


def test_look_of_a_killed_evaluation_still_counts(ledger: Registry) -> None:
    """The process dies after its look and before any verdict."""
    child = os.fork()
    if child == 0:
        ledger.take_look("ansel", look_request("killed"), actor="test")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert ledger.take_look("ansel", look_request("next"), actor="test").number == 2
