"""A real server and worker for the tests that carry the mark `flow`: free port, home and workspace of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.bootstrap import RunningPrefect, bring_up, take_down
from mondrian_core.settings import Settings


@pytest.fixture(scope="package")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "workspace").mkdir()
    return Settings(workspace=folder / "workspace", adapters=folder / "adapters", base_model="mini")


@pytest.fixture(scope="package")
def machine(settings: Settings) -> Iterator[RunningPrefect]:
    """Server, worker and deployments; the same for all tests of this folder, because they take ten seconds to start."""
    running = bring_up(settings)
    yield running
    take_down(settings)


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]
