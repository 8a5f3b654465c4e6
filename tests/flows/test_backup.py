"""The deployment `backup/scheduled` by a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments import arrange, watching
from deployments.bootstrap import Running
from mondrian_core.backup import Backup, Snapshot, list_snapshots, verify
from mondrian_core.data.sample import make_workspace
from tasks.backup import backed_up


def test_the_page_says_what_is_new_and_what_is_left_out() -> None:
    snapshot = Snapshot(name="20260120T180000Z", made_at="", program="0", entries=(), left_out=(("a|b.jpg", "broken"),))
    page = backed_up(Backup(snapshot, 3, 5_000_000))
    assert page.startswith("## Snapshot 20260120T180000Z: 0 files, 3 of them new")
    assert "a\\|b.jpg" in page and "5.0" in page


@pytest.mark.flow
@pytest.mark.timeout(300)
def test_a_backup_runs_and_says_where_none_is_named(machine: Running, tmp_path: Path) -> None:
    workspace, folder = tmp_path / "workspace", tmp_path / "backup"
    make_workspace(workspace, sample=False)
    given = {"workspace": str(workspace), "adapters": str(tmp_path / "adapters")}
    nowhere = watching.follow(machine.place, watching.begin(machine.place, "backup/scheduled", given), lambda _: None)
    assert nowhere.state == "Failed" and "MONDRIAN_BACKUP" in (nowhere.message or "")
    for _ in range(2):
        run = watching.begin(machine.place, "backup/scheduled", {**given, "to": str(folder), "keep": 1})
        seen = watching.follow(machine.place, run, lambda _: None)
        assert seen.state == "Completed", seen.message
    assert len(list_snapshots(folder)) == 1
    assert verify(folder).entries[0].path == "workspace/mondrian.db"
    with arrange.client_of(machine.place) as client:
        found = {each.key: str(each.data) for each in client.read_artifacts() if each.key}
    assert "## Snapshot" in found["backup"]
