"""The deployment `backup/scheduled` by a real worker."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from flows.backup import backup_flow
from mondrian_core.backup import BackupResult, BackupSnapshot, list_snapshots, verify_backup
from mondrian_core.data.sample_workspace import create_workspace
from tasks.backup import backup_markdown


def test_the_page_says_what_is_new_and_what_is_left_out() -> None:
    snapshot = BackupSnapshot(
        name="20260120T180000Z", made_at="", program="0", entries=(), left_out=(("a|b.jpg", "broken"),)
    )
    page = backup_markdown(BackupResult(snapshot, 3, 5_000_000))
    assert page.startswith("## Snapshot 20260120T180000Z: 0 files, 3 of them new")
    assert "a\\|b.jpg" in page and "5.0" in page


@pytest.mark.flow
@pytest.mark.timeout(900)
def test_a_backup_runs_and_says_where_none_is_named(
    machine: RunningPrefect, prefect_here: AbstractContextManager[object], tmp_path: Path
) -> None:
    workspace, folder = tmp_path / "workspace", tmp_path / "backup"
    create_workspace(workspace, sample=False)
    given: dict[str, Any] = {"workspace": str(workspace), "adapters": str(tmp_path / "adapters")}
    there = {**given, "to": str(folder), "keep": 1}
    with prefect_here:
        nowhere = backup_flow(**given, return_state=True)
        assert nowhere.name == "Failed" and "MONDRIAN_BACKUP" in str(nowhere.message)
        assert backup_flow(**there, return_state=True).name == "Completed"
    run = run_watcher.start_deployment_run(machine.place, "backup/scheduled", there)
    seen = run_watcher.follow_flow_run(machine.place, run, lambda _: None)
    assert seen.state == "Completed", seen.message
    assert len(list_snapshots(folder)) == 1
    assert verify_backup(folder).entries[0].path == "workspace/mondrian.db"
    with prefect_setup.prefect_client(machine.place) as client:
        found = {each.key: str(each.data) for each in client.read_artifacts() if each.key}
    assert "## Snapshot" in found["backup"]
