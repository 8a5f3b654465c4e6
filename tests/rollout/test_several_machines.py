"""Rollouts with the registry in a real S3 server: one of several writers wins, and all machines' answers count."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import ChampionChanged, MondrianError, NothingToDo
from mondrian_core.object_store import ObjectStore, Unreachable, WriteConflict, open_object_store
from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    Advance,
    ObservationLog,
    RollBack,
    Rollout,
    RolloutPlan,
    RolloutRequest,
    RolloutStep,
    active_rollout,
    apply_rollout_decision,
    check_rollout,
    count_observations,
    load_rollout,
    observation_log,
    rollout_requests,
)
from mondrian_core.settings import cache_folder_from_url
from tests.registry.conftest import gate_report, manifest, write_adapter
from tests.rollout.conftest import NOW, assigned_jobs, begin_rollout
from tests.s3_server import Machine, machine, s3_server, url

__all__ = ["machine", "s3_server", "url"]  # fixtures


@pytest.fixture
def filled(machine: Machine, tmp_path: Path) -> Registry:
    """v0001 the champion, v0002 and v0003 candidates, by machine a."""
    registry = machine("a", clock=lambda: NOW)
    for seed in range(3):
        report = gate_report(compared_with="v0001" if seed else None)
        registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest(gate_report=report), actor="a")
    registry.promote("ansel", "v0001", expected=None, actor="person:a", reason="first")
    return registry


@pytest.fixture
def running(filled: Registry) -> Rollout:
    """v0002 at 5 %."""
    begin_rollout(filled, now=NOW)
    rollout = active_rollout(filled, "ansel")
    assert rollout is not None
    return rollout


def _advance(rollout: Rollout, registry: Registry) -> None:
    apply_rollout_decision(registry, rollout, Advance(0.10, "Advanced.", {"failures": 0.5}), actor="m", now=NOW)


def _roll_back(rollout: Rollout, registry: Registry) -> None:
    apply_rollout_decision(registry, rollout, RollBack("failures", "Rolled back."), actor="m", now=NOW)


def _race(url: str, cache: Path, number: int, barrier: Any, results: Any) -> None:
    """Three rounds in a process of its own: start, advance, roll back; all begin at the same moment."""
    registry = Registry(cache_folder_from_url(url, cache))
    rollout: Rollout | None = None
    for round_ in range(3):
        if round_:
            rollout = active_rollout(registry, "ansel")
        barrier.wait()
        try:
            if round_ == 0:
                begin_rollout(registry, f"v000{2 + number % 2}", reason="r", expected="v0001", now=NOW)
            else:
                assert rollout is not None
                (_advance, _roll_back)[round_ - 1](rollout, registry)
            results.put((round_, "won"))
        except MondrianError as error:
            results.put((round_, type(error).__name__))
        barrier.wait()


@pytest.mark.slow
def test_one_of_several_machines_starts_advances_and_ends(filled: Registry, url: str, tmp_path: Path) -> None:
    context = get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    racers = [
        context.Process(target=_race, args=(url, tmp_path / f"racer-{number}", number, barrier, results))
        for number in range(2)
    ]
    for racer in racers:
        racer.start()
    ends = [results.get(timeout=250) for _ in range(6)]
    for racer in racers:
        racer.join()
    for round_ in range(3):
        assert [end for its, end in ends if its == round_].count("won") == 1, ends
    assert {end for _, end in ends} <= {"won", "ChampionChanged", "NothingToDo"}
    events = [entry.event for entry in filled.history("ansel")]
    assert (events.count("promote"), events.count("rollout"), events.count("rollback")) == (2, 1, 1)
    assert filled.current("ansel") == "v0001" and active_rollout(filled, "ansel") is None
    assert filled.check("ansel") == ()


def test_a_promotion_meanwhile_ends_the_rollout_that_was_to_advance(
    running: Rollout, filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens between the reading and the writing of the history."""
    write, waiting = ObjectStore.write_if, [lambda: machine("b").rollback("ansel", actor="b", reason="no")]

    def late(self: ObjectStore, path: str, *arguments: Any, **options: Any) -> Any:
        if path.endswith("history.jsonl") and waiting:
            waiting.pop()()
        return write(self, path, *arguments, **options)

    monkeypatch.setattr(ObjectStore, "write_if", late)
    with pytest.raises(ChampionChanged):
        _advance(running, filled)
    assert active_rollout(machine("c"), "ansel") is None and filled.current("ansel") == "v0001"
    assert not [entry for entry in filled.history("ansel") if entry.event == "rollout"]


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("act", [_advance, _roll_back])
def test_a_machine_that_dies_at_any_write_leaves_one_of_two_states(
    act: Callable[[Rollout, Registry], None],
    running: Rollout,
    filled: Registry,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_object_store(filled.url or "")
    saved = {path: store.read(f"ansel/{path}") for path in store.listing("ansel")}
    states = set()
    for point in range(50):
        for path, data in saved.items():
            store._fs.pipe_file(store._at(f"ansel/{path}"), data)
        count = iter(range(1000))

        def write(self: ObjectStore, *arguments: Any, _real: Any = ObjectStore.write_if, **options: Any) -> Any:
            if next(count) == point:  # noqa: B023  (called in this round)
                raise Died
            return _real(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, "write_if", write)
            try:
                act(running, machine(f"b{point}", clock=lambda: NOW))
                alive = True
            except Died:
                alive = False
        there = machine(f"c{point}")
        state = load_rollout(there, "ansel")
        assert state is not None and there.check("ansel") == ()
        states.add((there.current("ansel"), state.status, state.revision))
        if alive:
            break
    after = ("v0002", "running", 1) if act is _advance else ("v0001", "rolled_back", 1)
    assert states == {("v0002", "running", 0), after} and point >= 1


# --- observations -----------------------------------------------------------------------------------------------------


def test_answers_of_all_machines_decide_together(running: Rollout, machine: Machine, url: str) -> None:
    """Neither machine has enough answers to advance; both have."""
    jobs = assigned_jobs(running, 1300)
    halves = jobs[::2], jobs[1::2]
    later = NOW + timedelta(hours=9)
    logs = [ObservationLog(open_object_store(url), running, name) for name in ("a", "b")]
    for log, half in zip(logs, halves, strict=True):
        log.append(rollout_requests(half, running))
    whole = count_observations(rollout_requests(jobs, running), running)
    seen = check_rollout(machine("b"), "ansel", halves[1], actor="flow:b", now=later)
    assert seen.observed.strata == whole.strata and seen.observed.in_step == whole.in_step
    assert isinstance(seen.decision, Advance)
    alone = count_observations(rollout_requests(halves[1], running), running)
    assert alone.in_step < running.plan.steps[0].requests <= whole.in_step


def test_showing_counts_what_is_not_published_and_writes_nothing(running: Rollout, machine: Machine, url: str) -> None:
    jobs = assigned_jobs(running, 100)
    seen = check_rollout(machine("b"), "ansel", jobs, actor="person:b", now=NOW, carry_out="nothing")
    assert sum(each.candidate.requests + each.control.requests for each in seen.observed.strata) == 100
    assert not open_object_store(url).listing("ansel/rollouts")


def request(unit: str, job: str, **facts: Any) -> RolloutRequest:
    return RolloutRequest(**{"unit": unit, "share": 0.05, "candidate": True, "job": job, **facts})


def test_a_photograph_on_two_machines_counts_once_and_stays_counted(running: Rollout, url: str) -> None:
    store = open_object_store(url)
    first, second = (ObservationLog(store, running, name) for name in ("a", "b"))
    assert second.append([request("same", "1", failed=True), request("own", "2")]) == 2
    before = count_observations(first.requests(), running)
    assert first.append([request("same", "3"), request("else", "4")]) == 2
    after = count_observations(second.requests(), running)
    assert (before.candidate.failures, before.candidate.requests) == (1, 2)
    assert (after.candidate.failures, after.candidate.requests) == (1, 3), "the record that was first counts"
    assert first.append([request("same", "3"), request("else", "4", rating=4.0)]) == 1, "only the rating is new"
    assert first.append([request("else", "4", rating=2.0)]) == 0, "the first rating counts"
    assert [(each.job, each.rating) for each in second.requests()][-1] == ("4", 4.0)


def test_machines_of_different_speed_make_no_version_slower(running: Rollout) -> None:
    """The fast machine's candidate answers and the slow one's control answers are never a pair."""
    requests = [
        request(f"{name} {number}", f"{name} {number}", machine=name, seconds=seconds, candidate=number % 2 > 0)
        for number in range(20)
        for name, seconds in (("fast", 1.0), ("slow", 9.0))
    ]
    observed = count_observations(requests, running).latency
    assert (observed.worse, observed.better) == (0, 20)
    failing = [replace(each, failed=each.machine == "slow") for each in requests if each.candidate]
    assert count_observations(failing, running).longest_run == 10
    alternate = [replace(each, failed=True) for each in failing[:2]]
    assert count_observations(alternate, running).longest_run == 1, "in a row means on one machine"


def test_appends_at_once_lose_nothing_and_agree_on_one_order(
    running: Rollout, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation_log, "SEGMENT_LINES", 7)
    store, ready = open_object_store(url), threading.Barrier(4)
    prefixes: list[list[str]] = []

    def publish(name: str) -> None:
        log, mine = ObservationLog(store, running, name), []
        ready.wait()
        for number in range(6):
            mine.append(request(f"{name}{number}", f"{name}{number}"))
            log.append(mine)
            prefixes.append([each.job for each in log.requests()])

    threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = [each.job for each in ObservationLog(store, running).requests()]
    assert sorted(final) == sorted(f"{name}{number}" for name in "abcd" for number in range(6))
    assert len(prefixes) == 24 and all(seen == final[: len(seen)] for seen in prefixes)
    assert len(store.listing(f"ansel/rollouts/{running.salt}")) == 4


def test_an_append_that_arrived_twice_counts_once(running: Rollout, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, twice = ObjectStore.write_if, []

    def lost(self: ObjectStore, path: str, data: bytes, token: str | None) -> None:
        real(self, path, data, token)
        if not twice:
            twice.append(path)
            raise WriteConflict("sent twice")

    monkeypatch.setattr(ObjectStore, "write_if", lost)
    log = ObservationLog(open_object_store(url), running)
    log.append([request("one", "1")])
    assert twice and [each.job for each in log.requests()] == ["1"]


def test_a_damaged_line_counts_for_nobody(running: Rollout, url: str) -> None:
    store = open_object_store(url)
    log = ObservationLog(store, running, "a")
    log.append([request("one", "1")])
    place = f"ansel/rollouts/{running.salt}/000000.jsonl"
    store._fs.pipe_file(store._at(place), store.read(place) + b'{"job": "2", "scores": 3}\n[]\n{\n')
    log.append([request("three", "3")])
    assert [each.job for each in log.requests()] == ["1", "3"]


def test_without_the_store_nothing_is_decided(
    running: Rollout, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = machine("b")
    active_rollout(there, "ansel")

    def down(self: ObjectStore, prefix: str = "") -> Any:
        with self._translate_errors():
            raise ConnectionError("no route")

    monkeypatch.setattr(ObjectStore, "listing", down)
    with pytest.raises(Unreachable):
        check_rollout(there, "ansel", assigned_jobs(running, 10), actor="b", now=NOW)


def test_a_plan_in_the_store_reaches_everything(filled: Registry, machine: Machine) -> None:
    """From the shadow to the end, each step on another machine."""
    plan = RolloutPlan(steps=(RolloutStep(0.5, 10, 0.0), RolloutStep(1.0, 0, 0.0)))
    rollout = begin_rollout(filled, "v0002", plan, now=NOW)
    seen = check_rollout(machine("b"), "ansel", assigned_jobs(rollout, 60), actor="flow:b", now=NOW)
    assert seen.after.status == "finished" and active_rollout(machine("c"), "ansel") is None
    with pytest.raises(NothingToDo):
        check_rollout(machine("c"), "ansel", [], actor="flow:c", now=NOW)
    assert machine("d").current("ansel") == "v0002"
