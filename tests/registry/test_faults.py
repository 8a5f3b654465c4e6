"""Killed, or out of space, at every operation on a file: the champion is complete and the history true."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mondrian_core.errors import DiskFull, MondrianError
from mondrian_core.files import file_sha256
from mondrian_core.registry import Registry
from tests.registry.conftest import manifest
from tests.registry.faults import Disk, faulty, full, killed_at

Operation = Callable[[Registry, Path], object]


def register(registry: Registry, adapter: Path) -> object:
    return registry.register("ansel", adapter, manifest(), actor="a")


def promote(registry: Registry, adapter: Path) -> object:
    return registry.promote("ansel", "v0003", expected="v0002", actor="a", reason="r")


def roll_back(registry: Registry, adapter: Path) -> object:
    return registry.rollback("ansel", actor="a", reason="r")


def quarantine(registry: Registry, adapter: Path) -> object:
    return registry.quarantine("ansel", "v0002", actor="a", reason="r")


def quarantine_another(registry: Registry, adapter: Path) -> object:
    return registry.quarantine("ansel", "v0003", actor="a", reason="r")


def prune(registry: Registry, adapter: Path) -> object:
    return registry.prune("ansel", keep=0, actor="a", force=True)


def promote_and_back(registry: Registry, adapter: Path) -> object:
    registry.promote("ansel", "v0003", expected="v0002", actor="a", reason="r")
    return registry.rollback("ansel", actor="a", reason="r")


def nothing(registry: Registry, adapter: Path) -> object:
    return None


# Before it (what a dead process began), the operation, and what may serve when it is cut short.
OPERATIONS: dict[str, tuple[Operation, Operation, set[str | None]]] = {
    "register": (nothing, register, {"v0002"}),
    "promote": (nothing, promote, {"v0002", "v0003"}),
    "rollback": (nothing, roll_back, {"v0002", "v0001"}),
    "quarantine the champion": (nothing, quarantine, {"v0002", "v0001"}),
    "quarantine another": (nothing, quarantine_another, {"v0002"}),
    "prune": (nothing, prune, {"v0002"}),
    "promote and back": (nothing, promote_and_back, {"v0002", "v0003"}),
    "register after a promotion without its line": (promote, register, {"v0003"}),
    "rollback after a promotion without its line": (promote, roll_back, {"v0003", "v0002"}),
    "promote after a registration without its line": (register, promote, {"v0002", "v0003"}),
    "rollback after a removal without its line": (prune, roll_back, {"v0002", "v0001", None}),
}


@pytest.fixture
def template(filled: Registry) -> Path:
    """A registry whose champion is v0002, v0001 the one before."""
    filled.promote("ansel", "v0002", expected="v0001", actor="a", reason="r")
    return filled.root


def points_of(operation: Operation, template: Path, adapter: Path, copy: Path) -> list[str]:
    """Names of the operations on files."""
    shutil.copytree(template, copy)
    with faulty(Disk()) as disk:
        operation(Registry(copy), adapter)
    shutil.rmtree(copy)
    return disk.names


def begun(before: Operation, template: Path, adapter: Path, room: Path) -> Path:
    """A copy of the registry in which `before` was killed between its rename and its line."""
    root = room / "begun"
    if before is nothing:
        return template
    names = points_of(before, template, adapter, room / "count")
    renamed = min(names.index(name) for name in ("replace", "rename") if name in names)
    shutil.copytree(template, root)
    assert killed_at(renamed + 1, lambda: before(Registry(root), adapter))
    return root


def points_of_death(names: list[str]) -> list[int]:
    """The operations before which a dying process leaves something new: an fsync changes no byte."""
    return [point for point in range(len(names)) if point == 0 or names[point - 1] != "fsync"]


def left_behind(root: Path) -> str:
    """A digest of the files of a registry, whatever random name a temporary one has; times of lines are in it."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = "/".join(re.sub(r"^(\..*?)[0-9a-f]{8,}", r"\1", part) for part in path.relative_to(root).parts)
        found.update(f"{name} {path.stat().st_mode:o} {path.is_dir()}\n".encode())
        if path.is_file():
            found.update(file_sha256(path).encode())
    return found.hexdigest()


def examine(registry: Registry, champions: set[str | None]) -> None:
    """What must hold whenever somebody looks, and after the next writer."""
    champion = registry.champion("ansel")
    assert (champion.version if champion else None) in champions
    assert champion is None or registry.verify("ansel", champion.version) == ()
    assert registry.check("ansel") == ()
    _history_is_true(registry)
    before = {version.version: version.state for version in registry.versions("ansel")}
    assert all(registry.verify("ansel", name) == () for name in before)
    registry.register("ansel", registry.versions("ansel")[-1].path, manifest(), actor="a")
    after = {version.version: version.state for version in registry.versions("ansel")}
    assert before.items() <= after.items() and len(after) == len(before) + 1
    assert registry.check("ansel") == ()
    _history_is_true(registry)
    left = [path.name for path in (registry.root / "ansel").iterdir() if path.name.startswith(".")]
    assert left == [".lock"]


def _history_is_true(registry: Registry) -> None:
    """Replayed from nothing, the lines give what lies on disk."""
    champion, there = None, set()
    for serial, entry in enumerate(registry.history("ansel"), start=1):
        assert entry.serial == serial
        if entry.event in ("register", "adopt"):
            there.add(entry.version)
        if entry.event == "remove":
            there.remove(entry.version)
        if entry.moves_pointer:
            assert entry.before == champion
            champion = entry.after
    assert champion == registry.current("ansel")
    on_disk = {version.version for version in registry.versions("ansel")}
    going = {path.name.removeprefix(".removed-") for path in (registry.root / "ansel").glob(".removed-*")}
    assert there - going <= on_disk and len(on_disk - there) <= 1  # at most one that the next writer will adopt


@pytest.mark.no_cover  # the same lines at each of 200 points
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_operation(name: str, template: Path, adapter: Path, tmp_path: Path) -> None:
    before, operation, champions = OPERATIONS[name]
    start = begun(before, template, adapter, tmp_path)
    seen = set()
    for point in points_of_death(points_of(operation, start, adapter, tmp_path / "count")):
        root = tmp_path / f"at-{point}"
        shutil.copytree(start, root)
        assert killed_at(point, lambda root=root: operation(Registry(root), adapter))  # type: ignore[misc]
        if (left := left_behind(root)) not in seen:
            examine(Registry(root), champions)
            seen.add(left)
        shutil.rmtree(root)
    assert len(seen) > 1


@pytest.mark.no_cover
@pytest.mark.parametrize("name", OPERATIONS)
def test_disk_full_from_every_operation_on(name: str, template: Path, adapter: Path, tmp_path: Path) -> None:
    dead, operation, champions = OPERATIONS[name]
    start = begun(dead, template, adapter, tmp_path)
    seen = set()
    for point in range(len(points_of(operation, start, adapter, tmp_path / "count"))):
        root = tmp_path / f"at-{point}"
        shutil.copytree(start, root)
        before = {version.version for version in Registry(root).versions("ansel")}
        with faulty(Disk(point, full)), contextlib.suppress(DiskFull):
            operation(Registry(root), adapter)
        if name == "register":
            there = {version.version for version in Registry(root).versions("ansel")}
            lines = {entry.version for entry in Registry(root).history("ansel")}
            assert there <= lines or there == before, "what could not be recorded is not there"
        if (left := left_behind(root)) not in seen:
            examine(Registry(root), champions)
            seen.add(left)
        shutil.rmtree(root)


def test_failed_promotion_changes_nothing(template: Path, adapter: Path, tmp_path: Path) -> None:
    """A promotion that says "disk full" has not moved the pointer; one that moved it says nothing of the kind."""
    for point in range(len(points_of(promote, template, adapter, tmp_path / "count"))):
        root = tmp_path / f"at-{point}"
        shutil.copytree(template, root)
        refused = False
        with faulty(Disk(point, full)):
            try:
                promote(Registry(root), adapter)
            except MondrianError:
                refused = True
        assert Registry(root).current("ansel") == ("v0002" if refused else "v0003")


@pytest.mark.no_cover
def test_a_first_version_and_its_promotion_killed_anywhere(adapter: Path, tmp_path: Path) -> None:
    def begin(root: Path) -> None:
        registry = Registry(root)
        registry.register("ansel", adapter, manifest(), actor="a")
        registry.promote("ansel", "v0001", expected=None, actor="a", reason="r")

    with faulty(Disk()) as disk:
        begin(tmp_path / "count")
    for point in points_of_death(disk.names):
        root = tmp_path / f"at-{point}"
        assert killed_at(point, lambda root=root: begin(root))  # type: ignore[misc]
        registry = Registry(root)
        champion = registry.champion("ansel")
        assert champion is None or registry.verify("ansel", champion.version) == ()
        name = registry.register("ansel", adapter, manifest(), actor="a").version
        assert name in ("v0001", "v0002") and registry.check("ansel") == ()
        _history_is_true(registry)


def test_fault_injection_covers_200_points(template: Path, adapter: Path, tmp_path: Path) -> None:
    points = {}
    for name, (before, operation, _) in OPERATIONS.items():
        (room := tmp_path / name).mkdir()
        points[name] = len(points_of(operation, begun(before, template, adapter, room), adapter, room / "count"))
    assert sum(points.values()) >= 200, points  # a process dies at each of them, and the disk is full from each on
