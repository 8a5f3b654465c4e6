"""Backup and restore: complete, verified, nothing half-written, nothing overwritten."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.backup import (
    DamagedBackup,
    NoRoomForBackup,
    create_backup,
    creation,
    list_snapshots,
    restore_backup,
    snapshots,
    verify_backup,
)
from mondrian_core.cli import main
from mondrian_core.errors import BadInput, DiskFull, NoDatabase, NoWorkspace
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Job, Store

WRITER = """
import sys, time
from pathlib import Path
from mondrian_core.store import Store
root = Path(sys.argv[1])
with Store(root / "mondrian.db") as store:
    print("writing", flush=True)
    for number in range(100_000):
        name = f"upload_{number}.jpg"
        (root / "source" / f".{name}").write_bytes(b"x" * 5000)
        (root / "source" / f".{name}").rename(root / "source" / name)
        store.add_job("ansel", name)
"""


class Machine:
    """A workspace and a registry of one user."""

    def __init__(self, home: Path) -> None:
        self.workspace, self.adapters = home / "workspace", home / "adapters"

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Content and mode of everything that must come back, by path."""
        found = {}
        for root in (self.workspace, self.adapters):
            for path in sorted(root.rglob("*")):
                inside = path.relative_to(root.parent).as_posix()
                if path.is_file() and not path.name.startswith(".") and "mondrian.db" not in path.name:
                    found[inside] = (path.read_bytes(), path.stat().st_mode & 0o777)
        return found

    def rows(self) -> list[Any]:
        with Store(self.workspace / "mondrian.db", read_only=True) as store:
            return [store.advisors(), store.profiles(), list(store.jobs())]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Two advisors, photographs (one folder a link to elsewhere), an analysis, a registry with a champion."""
    from safetensors.numpy import save_file

    made = Machine(tmp_path / "mac")
    (made.workspace / "source" / "2023").mkdir(parents=True)
    (made.workspace / "analysis_md").mkdir()
    (made.workspace / "source" / "2023" / "Schön # 1.jpg").write_bytes(os.urandom(4000))
    (made.workspace / "source" / "one.jpg").write_bytes(b"the same bytes" * 300)
    (made.workspace / "source" / "copy of one.jpg").write_bytes(b"the same bytes" * 300)
    (made.workspace / "source" / "empty.jpg").write_bytes(b"")
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    (elsewhere / "far.jpg").write_bytes(os.urandom(3000))
    (made.workspace / "source" / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(made.workspace / "source")
    (made.workspace / "analysis_md" / "a.md").write_text("```json\n{}\n```")
    (made.workspace / "source" / "one.jpg").chmod(0o600)
    (made.workspace / "my-recipe.toml").write_text("[train]\nepochs = 3\n")
    with Store.create(made.workspace / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams", "Landscapes."))
        comments = dict.fromkeys(DIMENSIONS, "Calm light over the valley.")
        store.add_profiles(
            [
                DimensionalProfile(
                    id="p1",
                    advisor="ansel",
                    image_path="source/one.jpg",
                    scores=dict.fromkeys(DIMENSIONS, 7.0),
                    comments=comments,
                    overall_grade="7.0",
                )
            ]
        )
        store.import_jobs(
            [Job(id="j1", filename="one.jpg", advisor="ansel", status="completed", analysis_markdown="a.md")]
        )
    registry = Registry(made.adapters)
    weights = tmp_path / "made"
    weights.mkdir()
    for number in (1, 2):
        pair = {name: np.full((2, 2), number, np.float32) for name in ("layer.lora_a", "layer.lora_b")}
        save_file(pair, weights / "adapters.safetensors")
        (weights / "adapter_config.json").write_text("{}")
        registry.register("ansel", weights, {"base": {"name": "mini", "fingerprint": "fake"}})
    registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="a test", forced=True)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "backup"


def objects(folder: Path) -> set[str]:
    return {path.name for path in (folder / "objects").rglob("*") if path.is_file()}


def test_restore_on_empty_machine_is_complete(machine: Machine, folder: Path, tmp_path: Path) -> None:
    made = create_backup(machine.workspace, machine.adapters, folder)
    assert made.snapshot.left_out == ()
    before, rows = machine.files(), machine.rows()
    new = Machine(tmp_path / "new mac")
    shutil.rmtree(tmp_path / "mac")
    shutil.rmtree(tmp_path / "other disk")
    done = restore_backup(folder, new.workspace, new.adapters)
    assert done.moved_aside == ()
    assert new.files() == {**before, "workspace/source/linked/far.jpg": new.files()["workspace/source/linked/far.jpg"]}
    assert new.rows() == rows
    registry = Registry(new.adapters)
    assert registry.current("ansel") == "v0002"
    assert [each.version for each in registry.versions("ansel")] == ["v0001", "v0002"]
    assert [entry.event for entry in registry.history("ansel")] == ["register", "register", "promote"]
    assert create_backup(new.workspace, new.adapters, folder).new_files <= 1, "only the database may differ"


def test_a_second_backup_copies_what_is_new_and_reads_nothing_else(machine: Machine, folder: Path) -> None:
    first = create_backup(machine.workspace, machine.adapters, folder)
    (machine.workspace / "source" / "two.jpg").write_bytes(os.urandom(5000))
    old = machine.workspace / "source" / "2023" / "Schön # 1.jpg"
    facts, content = old.stat(), old.read_bytes()
    old.write_bytes(b"?" * len(content))  # a change that size and time don't show: seen only by who reads the file
    os.utime(old, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    second = create_backup(machine.workspace, machine.adapters, folder)
    assert (second.new_files, second.new_bytes) == (1, 5000)
    assert len(second.snapshot.entries) == len(first.snapshot.entries) + 1
    (machine.workspace / "source" / "moved.jpg").write_bytes(content)  # known by its content
    assert create_backup(machine.workspace, machine.adapters, folder).new_files == 0
    assert [each.name for each in list_snapshots(folder)] == sorted(each.name for each in list_snapshots(folder))


def test_backup_deduplicates_contents_with_private_permissions(machine: Machine, folder: Path) -> None:
    made = create_backup(machine.workspace, machine.adapters, folder)
    hashes = [entry.sha256 for entry in made.snapshot.entries]
    assert len(hashes) > len(set(hashes))
    assert objects(folder) == set(hashes)
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*") if path.name != ".lock"} == {0}
    text = "".join(path.read_text() for path in (folder / "snapshots").glob("*.json"))
    assert str(machine.workspace.parent) not in text, "no path of this machine"


def test_backup_excludes_reproducible_files(machine: Machine, folder: Path) -> None:
    for path in (
        "datasets/ansel/d1/train/rows.arrow",
        "datasets/ansel/d1/manifest.json",
        "runs/r1/report.html",
        "runs/r1/checkpoints/state.json",
        "runs/r1/adapters.safetensors",
        ".prefect/prefect.db",
        "thumbnails/320/ab/cached.jpg",
        "recipes/mine.toml",
        "mondrian.db.backup-0",
    ):
        (machine.workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (machine.workspace / path).write_text("x" + path)
    paths = {entry.path for entry in create_backup(machine.workspace, machine.adapters, folder).snapshot.entries}
    assert paths >= {
        "workspace/datasets/ansel/d1/manifest.json",
        "workspace/runs/r1/report.html",
        "workspace/recipes/mine.toml",
        "workspace/mondrian.db",
        "workspace/mondrian.db.backup-0",
        "workspace/my-recipe.toml",
        "adapters/ansel/promoted.json",
    }
    recreated = ("arrow", "checkpoints", ".prefect", "runs/r1/ad", "thumbnails")
    assert not [path for path in paths if any(part in path for part in recreated)]


def test_a_snapshot_is_of_one_moment_while_others_write(machine: Machine, folder: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(machine.workspace)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        made = [create_backup(machine.workspace, machine.adapters, folder) for _ in range(3)]
    finally:
        writer.kill()
        writer.communicate()
    for each in made:
        verify_backup(folder, each.snapshot.name)
        paths = {entry.path for entry in each.snapshot.entries}
        database = next(entry for entry in each.snapshot.entries if entry.path == "workspace/mondrian.db")
        with closing(sqlite3.connect(folder / "objects" / database.sha256[:2] / database.sha256)) as connection:
            named = {row[0] for row in connection.execute("SELECT filename FROM jobs WHERE id <> 'j1'")}
        assert {f"workspace/source/{name}" for name in named} <= paths


KILLED_AFTER_20_FILES = """
import os, signal, sys
from pathlib import Path
from mondrian_core.cli import main

kept, replace = [], Path.replace

def counted(path, target):
    kept.append(target)
    if len(kept) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = counted
main(sys.argv[1:])
"""


def test_a_backup_that_is_killed_leaves_no_snapshot_and_the_next_one_is_whole(machine: Machine, folder: Path) -> None:
    for number in range(30):
        (machine.workspace / "source" / f"many_{number}.jpg").write_bytes(os.urandom(2_000))
    words = ["backup", str(folder), "--workspace", str(machine.workspace), "--adapters", str(machine.adapters)]
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_20_FILES, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = objects(folder)
    assert len([name for name in left if not name.startswith(".")]) == 20 < len(left), "one was written half"
    assert list_snapshots(folder) == []
    made = create_backup(machine.workspace, machine.adapters, folder)
    assert verify_backup(folder) == made.snapshot
    assert objects(folder) == {entry.sha256 for entry in made.snapshot.entries}


def test_a_file_that_is_removed_meanwhile_is_no_failure(
    machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = machine.workspace / "source" / "passing.jpg"
    passing.write_bytes(b"soon gone")
    real = creation._BackupJob._require_free_space

    def remove_first(self: Any, *found: Any) -> None:
        passing.unlink()
        real(self, *found)

    monkeypatch.setattr(creation._BackupJob, "_require_free_space", remove_first)
    made = create_backup(machine.workspace, machine.adapters, folder)
    assert made.snapshot.left_out == ()
    assert "workspace/source/passing.jpg" not in {entry.path for entry in made.snapshot.entries}


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


def test_a_damaged_database_is_not_backed_up_over_a_sound_one(machine: Machine, folder: Path) -> None:
    first = create_backup(machine.workspace, machine.adapters, folder)
    database = machine.workspace / "mondrian.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            "INSERT INTO jobs (id, filename) VALUES (?, ?)", [(str(n), "x" * 200) for n in range(500)]
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(database.read_bytes())
    for page in range(4, len(data) // 4096 - 1):
        data[page * 4096 : page * 4096 + 100] = os.urandom(100)
    database.write_bytes(bytes(data))
    with pytest.raises((DamagedBackup, NoDatabase)):
        create_backup(machine.workspace, machine.adapters, folder)
    assert [each.name for each in list_snapshots(folder)] == [first.snapshot.name]


def test_a_restore_overwrites_nothing(machine: Machine, folder: Path) -> None:
    create_backup(machine.workspace, machine.adapters, folder)
    (machine.workspace / "source" / "written since.jpg").write_bytes(b"not in the backup")
    before = machine.files()
    with pytest.raises(BadInput, match="--force"):
        restore_backup(folder, machine.workspace, machine.adapters)
    assert machine.files() == before
    done = restore_backup(folder, machine.workspace, machine.adapters, force=True)
    workspace, advisor = done.moved_aside
    assert (workspace / "source" / "written since.jpg").read_bytes() == b"not in the backup"
    assert (advisor / "promoted.json").is_file()
    assert not (machine.workspace / "source" / "written since.jpg").exists()
    assert Registry(machine.adapters).current("ansel") == "v0002"
    assert list(Registry(machine.adapters).advisors()) == ["ansel"]


def test_restore_keeps_other_files_in_registry_root(machine: Machine, folder: Path, tmp_path: Path) -> None:
    create_backup(machine.workspace, machine.adapters, folder)
    clone = tmp_path / "clone" / "adapters"
    (clone / "dorothea").mkdir(parents=True)
    (clone / "README.md").write_text("The registry.")
    restore_backup(folder, tmp_path / "clone" / "workspace", clone)
    assert (clone / "README.md").read_text() == "The registry."
    assert sorted(path.name for path in clone.iterdir()) == ["README.md", "ansel", "dorothea"]


def test_a_registry_in_the_workspace_comes_back_there(machine: Machine, folder: Path, tmp_path: Path) -> None:
    machine.adapters = Path(shutil.move(machine.adapters, machine.workspace / "adapters"))
    made = create_backup(machine.workspace, machine.adapters, folder)
    assert not [entry.path for entry in made.snapshot.entries if entry.path.startswith("workspace/adapters")]
    new = tmp_path / "new" / "workspace"
    restore_backup(folder, new, new / "adapters")
    assert Registry(new / "adapters").current("ansel") == "v0002"


def test_keep_deletes_old_snapshots_and_contents_that_no_other_names(machine: Machine, folder: Path) -> None:
    made = None
    for number in range(4):
        changing = machine.workspace / "source" / "changing.jpg"
        changing.write_bytes(os.urandom(1000 + number))
        made = create_backup(machine.workspace, machine.adapters, folder, keep=2)
    assert made is not None and len(made.deleted) == 1
    kept = list_snapshots(folder)
    assert len(kept) == 2
    assert objects(folder) == {entry.sha256 for each in kept for entry in each.entries}
    for each in kept:
        verify_backup(folder, each.name)


def test_invalid_backup_and_restore_requests_are_rejected(machine: Machine, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is inside"):
        create_backup(machine.workspace, machine.adapters, machine.workspace / "backup")
    with pytest.raises(NoWorkspace):
        create_backup(tmp_path / "none", None, folder)
    with pytest.raises(BadInput, match="no snapshot"):
        restore_backup(folder, tmp_path / "new", tmp_path / "adapters")
    (machine.workspace / "mondrian.db").unlink()
    with pytest.raises(NoDatabase):
        create_backup(machine.workspace, machine.adapters, folder)


def test_backup_and_restore_commands_print_summary(
    machine: Machine, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONDRIAN_BACKUP", raising=False)
    places = ["--workspace", str(machine.workspace), "--adapters", str(machine.adapters), "--json"]

    def run(*arguments: str) -> tuple[int, Any]:
        status = main([*arguments])
        return status, json.loads(capsys.readouterr().out)

    status, said = run("backup", *places)
    assert status == 2 and "MONDRIAN_BACKUP" in said["next_step"]
    monkeypatch.setenv("MONDRIAN_BACKUP", str(folder))
    status, said = run("backup", *places)
    assert status == 0 and said["new_files"] > 5 and said["left_out"] == []
    (machine.workspace / "source" / "gone.jpg").symlink_to("/nowhere/at/all")
    status, said = run("backup", *places, "--keep", "5")
    assert status == 1 and said["left_out"] == [{"path": "workspace/source/gone.jpg", "reason": "a broken link"}]
    assert run("backup", *places, "--verify")[0] == 0
    status, listed = run("backup", *places, "--list")
    assert status == 0 and len(listed) == 2
    assert run("restore", str(folder), *places)[0] == 2
    new = ["--workspace", str(tmp_path / "n" / "w"), "--adapters", str(tmp_path / "n" / "a"), "--json"]
    status, said = run("restore", str(folder), "--snapshot", listed[0]["snapshot"], *new)
    assert status == 0 and said["files"] == listed[0]["files"]
    assert run("restore", str(folder), "--snapshot", "none", *new[:3], str(tmp_path / "x"), "--json")[0] == 2
