"""Rollouts started concurrently, and started or advanced by a process that dies."""

from __future__ import annotations

import shutil
from multiprocessing import get_context
from pathlib import Path

from mondrian_core.errors import MondrianError
from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    Advance,
    RollBack,
    active_rollout,
    apply_rollout_decision,
    check_rollout,
    load_rollout,
)
from tests.registry.faults import Disk, faulty, killed_at
from tests.rollout.conftest import NOW, begin_rollout


def _begin(root: Path, version: str, barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        begin_rollout(Registry(root), version, actor=version, reason="r", expected="v0001", now=NOW)
    except MondrianError as error:
        results.put((version, type(error).__name__))  # type: ignore[attr-defined]
    else:
        results.put((version, "won"))  # type: ignore[attr-defined]


def test_concurrent_starts_leave_one_active_rollout(registry: Registry) -> None:
    """A loser's file must never be next to the winner's pointer: the winner would get all traffic at once."""
    context = get_context("fork")
    for round_ in range(3):
        root = registry.root.parent / f"round-{round_}"
        shutil.copytree(registry.root, root)
        barrier, results = context.Barrier(6), context.Queue()
        versions = ["v0002", "v0003"] * 3
        racers = [context.Process(target=_begin, args=(root, version, barrier, results)) for version in versions]
        for racer in racers:
            racer.start()
        ends = [results.get(timeout=250) for _ in racers]
        for racer in racers:
            racer.join()
        winners = [version for version, end in ends if end == "won"]
        assert len(winners) == 1, ends
        rollout = active_rollout(Registry(root), "ansel")
        assert rollout is not None and (rollout.version, rollout.share) == (winners[0], 0.05)


def test_kill_at_any_point_of_start(registry: Registry, tmp_path: Path) -> None:
    def begin(root: Path) -> None:
        begin_rollout(Registry(root), now=NOW)

    shutil.copytree(registry.root, tmp_path / "count")
    with faulty(Disk()) as disk:
        begin(tmp_path / "count")
    seen = set()
    for point in range(disk.count):
        root = tmp_path / f"at-{point}"
        shutil.copytree(registry.root, root)
        assert killed_at(point, lambda root=root: begin(root))  # type: ignore[misc]
        left = Registry(root)
        rollout = active_rollout(left, "ansel")
        seen.add(left.current("ansel"))
        assert (left.current("ansel") == "v0002") == (rollout is not None and rollout.share == 0.05)
    assert seen == {"v0001", "v0002"} and disk.count >= 10


def test_kill_at_any_point_of_advance(registry: Registry, tmp_path: Path) -> None:
    begin_rollout(registry, now=NOW)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None

    def advance(root: Path) -> None:
        apply_rollout_decision(
            Registry(root), rollout, Advance(0.10, "Advanced.", {"failures": 0.5}), actor="dead", now=NOW
        )

    shutil.copytree(registry.root, tmp_path / "count")
    with faulty(Disk()) as disk:
        advance(tmp_path / "count")
    for point in range(disk.count):
        root = tmp_path / f"at-{point}"
        shutil.copytree(registry.root, root)
        assert killed_at(point, lambda root=root: advance(root))  # type: ignore[misc]
        left = Registry(root)
        share = (active_rollout(left, "ansel") or rollout).share
        lines = [entry for entry in left.history("ansel") if entry.event == "rollout"]
        assert [entry.detail["share"] for entry in lines] == ([0.10] if share == 0.10 else [])
        assert all(entry.reason == "Advanced." for entry in lines)
        later = check_rollout(left, "ansel", [], actor="next", now=NOW)
        assert later.after.share == share and left.check("ansel") == ()


def test_kill_at_any_point_of_rollback(registry: Registry, tmp_path: Path) -> None:
    begin_rollout(registry, now=NOW)
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None

    def roll_back(root: Path) -> None:
        decision = RollBack("failures", "Rolled back.")
        apply_rollout_decision(Registry(root), rollout, decision, actor="dead", now=NOW)

    shutil.copytree(registry.root, tmp_path / "count")
    with faulty(Disk()) as disk:
        roll_back(tmp_path / "count")
    seen = set()
    for point in range(disk.count):
        root = tmp_path / f"at-{point}"
        shutil.copytree(registry.root, root)
        assert killed_at(point, lambda root=root: roll_back(root))  # type: ignore[misc]
        left = Registry(root)
        state = load_rollout(left, "ansel")
        assert state is not None
        seen.add((left.current("ansel"), state.status))
    assert seen == {("v0002", "running"), ("v0001", "rolled_back")}, "one step ends both"
