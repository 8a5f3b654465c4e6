"""Who may read what is written: the umask decides, and what belongs to a workspace is its owner's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondrian_core.data import sample_workspace
from mondrian_core.files import make_private_folder, restrict_to_owner, write_atomic, write_json
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import Store


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may read, and the usual umask."""
    folder = tmp_path / "shared"
    folder.mkdir()
    before = os.umask(0o022)
    folder.chmod(0o755)
    yield folder
    os.umask(before)


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o027, 0o640, 0o750)]
)
def test_a_new_file_follows_the_umask(shared: Path, umask: int, file: int, folder: int) -> None:
    os.umask(umask)
    write_json(shared / "new" / "a.json", {})
    assert (mode_of(shared / "new" / "a.json"), mode_of(shared / "new")) == (file, folder)


def test_what_lies_in_a_private_folder_is_private(shared: Path) -> None:
    make_private_folder(shared / "runs")
    write_atomic(shared / "runs" / "one" / "two" / "a.txt", "x")
    assert mode_of(shared / "runs") == mode_of(shared / "runs" / "one" / "two") == 0o700
    assert mode_of(shared / "runs" / "one" / "two" / "a.txt") == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_that_is_replaced_keeps_its_permissions(shared: Path, mode: int) -> None:
    path = shared / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    write_atomic(path, "new")
    assert (path.read_text(), mode_of(path)) == ("new", mode)


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o755, 0o700), (0o664, 0o660), (0o600, 0o600)])
def test_private_mode_removes_others_and_keeps_group_write(shared: Path, before: int, after: int) -> None:
    path = shared / "a"
    path.write_text("x")
    path.chmod(before)
    restrict_to_owner(path)
    assert mode_of(path) == after


def test_the_database_its_companions_and_its_copies_are_private(shared: Path) -> None:
    path = shared / "mondrian.db"
    with Store.create(path) as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        assert {mode_of(each) for each in shared.glob("mondrian.db*")} == {0o600}
        assert len(list(shared.glob("mondrian.db*"))) == 3
    path.chmod(0o644)  # as an older project left it
    with Store(path) as store:
        with store.transaction() as connection:
            connection.execute("PRAGMA user_version = 0")
        assert {mode_of(each) for each in shared.glob("mondrian.db*")} == {0o600}


def test_a_database_is_copied_for_a_migration_with_its_permissions(shared: Path) -> None:
    import sqlite3
    from contextlib import closing

    from mondrian_core.store.migrations import ORIGINAL_TABLES

    with closing(sqlite3.connect(shared / "mondrian.db")) as connection, connection:
        for statement in ORIGINAL_TABLES.values():
            connection.execute(statement)
    with Store(shared / "mondrian.db"):
        found = {each.name: mode_of(each) for each in shared.glob("mondrian.db*")}
    assert any("backup" in name for name in found) and set(found.values()) == {0o600}


def test_a_new_workspace_is_private(shared: Path) -> None:
    sample_workspace.create_workspace(shared / "workspace", sample=False)
    folders = [shared / "workspace", *(each for each in (shared / "workspace").rglob("*") if each.is_dir())]
    assert len(folders) > 3
    assert {mode_of(each) for each in folders} == {0o700}
