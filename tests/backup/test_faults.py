"""Full disks and damaged backups: nothing half-written, nothing restored that is not what was backed up."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.backup import (
    DamagedBackup,
    NoRoomForBackup,
    create_backup,
    restore_backup,
    snapshots,
    verify_backup,
)
from mondrian_core.errors import DiskFull
from tests.backup.conftest import Machine, objects


class _Full:
    """A file on a disk with room for so many bytes more."""

    def __init__(self, stream: Any, room: list[int]) -> None:
        self.stream, self.room = stream, room

    def write(self, data: bytes) -> int:
        self.room[0] -= len(data)
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self.stream.write(data))

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def fill_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    left, real = [room], snapshots.open_private
    monkeypatch.setattr(snapshots, "open_private", lambda path: _Full(real(path), left))


@pytest.mark.parametrize("room", [0, 60_000, 90_000])
def test_disk_full_leaves_no_partial_backup(
    machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    first = create_backup(machine.workspace, machine.adapters, folder)
    before = sorted(path for path in folder.rglob("*"))
    for number in range(20):
        (machine.workspace / "source" / f"many_{number}.jpg").write_bytes(os.urandom(5000))
    with monkeypatch.context() as patch:
        fill_after(patch, room)
        with pytest.raises(DiskFull):
            create_backup(machine.workspace, machine.adapters, folder)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == [path for path in before if path.is_file()]
    assert verify_backup(folder).name == first.snapshot.name
    assert create_backup(machine.workspace, machine.adapters, folder).new_files == 20


def test_insufficient_space_is_reported_before_copying(
    machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(machine.workspace)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(NoRoomForBackup, match="free"):
        create_backup(machine.workspace, machine.adapters, folder)
    assert objects(folder) == set()


def test_disk_full_during_restore_changes_nothing(
    machine: Machine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_backup(machine.workspace, machine.adapters, folder)
    fill_after(monkeypatch, 20_000)
    with pytest.raises(DiskFull):
        restore_backup(folder, tmp_path / "new" / "workspace", tmp_path / "new" / "adapters")
    assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == []


def damage_content(folder: Path) -> None:
    victim = max((folder / "objects").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))


def remove_content(folder: Path) -> None:
    max((folder / "objects").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0).unlink()


def change_list(folder: Path) -> None:
    (path,) = (folder / "snapshots").glob("*.json")
    path.write_text(path.read_text().replace("source/one.jpg", "source/two.jpg"))


def cut_list(folder: Path) -> None:
    (path,) = (folder / "snapshots").glob("*.json")
    path.write_text(path.read_text()[:-100])


@pytest.mark.parametrize("damage", [damage_content, remove_content, change_list, cut_list])
def test_a_damaged_backup_restores_nothing(
    machine: Machine, folder: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    create_backup(machine.workspace, machine.adapters, folder)
    damage(folder)
    with pytest.raises(DamagedBackup):
        verify_backup(folder)
    with pytest.raises(DamagedBackup):
        restore_backup(folder, tmp_path / "new" / "workspace", tmp_path / "new" / "adapters")
    assert not (tmp_path / "new" / "workspace").exists()
    before = machine.files()
    with pytest.raises(DamagedBackup):
        restore_backup(folder, machine.workspace, machine.adapters, force=True)
    assert machine.files() == before


@pytest.mark.parametrize("path", ["workspace/../../evil", "/etc/evil", "evil", "workspace/a\\..\\b", "adapters/../x"])
def test_snapshot_with_path_traversal_is_rejected(machine: Machine, folder: Path, tmp_path: Path, path: str) -> None:
    create_backup(machine.workspace, machine.adapters, folder)
    (file,) = (folder / "snapshots").glob("*.json")
    values = json.loads(file.read_text())
    values["entries"][-1]["path"] = path
    values["entries_sha256"] = snapshots._digest(values["entries"])
    file.write_text(json.dumps(values))
    with pytest.raises(DamagedBackup, match="points outside"):
        restore_backup(folder, tmp_path / "new" / "workspace", tmp_path / "new" / "adapters")
