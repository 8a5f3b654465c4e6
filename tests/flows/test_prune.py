"""The flow of the deployment `prune/scheduled` against a real server."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from deployments import prefect_setup
from deployments.bootstrap import RunningPrefect
from flows.prune import prune_flow

OLD = 1_700_000_000.0


@pytest.mark.flow
def test_a_dry_run_deletes_nothing_and_the_page_says_what_is_kept(
    machine: RunningPrefect, prefect_here: AbstractContextManager[object], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    cached = workspace / "runs" / "cache" / "features" / "old.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x" * 3_000_000)
    os.utime(cached, (OLD, OLD))
    (workspace / "source").mkdir()
    given = {"workspace": str(workspace), "adapters": str(tmp_path / "adapters")}
    with prefect_here:
        tried = prune_flow(dry_run=True, **given, return_state=True)
        assert tried.message == "3.0 MB would be freed: 1 items." and cached.exists()
        done = prune_flow(**given, return_state=True)
        assert done.message == "3.0 MB freed: 1 items." and not cached.exists()
    with prefect_setup.prefect_client(machine.place) as client:
        pages = [str(each.data) for each in client.read_artifacts() if each.key == "prune"]
    assert any("features" in page and "nothing can make them again" in page for page in pages)
