"""Backup and restore: complete, verified, nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.backup import (
    DamagedBackup,
    create_backup,
    creation,
    list_snapshots,
    restore_backup,
    verify_backup,
)
from mondrian_core.cli import main
from mondrian_core.errors import BadInput, NoDatabase, NoWorkspace
from mondrian_core.registry import Registry
from tests.backup.conftest import Machine, objects

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
