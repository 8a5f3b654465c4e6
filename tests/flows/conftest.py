"""A real server and worker for the tests that carry the mark `flow`: free port, home and workspace of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.bootstrap import RunningPrefect, bring_up, take_down
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.settings import Settings

HOLD_VARIABLE = "MONDRIAN_TEST_HOLD"
LAST_FILE = "test_lifecycle.py"  # it kills the server and the worker that all other tests of this folder use


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What kills the shared server runs after everything that needs it."""
    items.sort(key=lambda item: item.path.name == LAST_FILE)


@pytest.fixture(scope="package")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "workspace").mkdir()
    return Settings(
        workspace=folder / "workspace",
        adapters=folder / "adapters",
        base_model="mini",
        notifications="none",  # a run that a test makes fail would start another one; test_automations.py wants them
    )


@pytest.fixture(scope="package")
def machine(settings: Settings) -> Iterator[RunningPrefect]:
    """Server, worker and deployments; the same for all tests of this folder, because they take ten seconds to start."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parent / "held"))  # tests/flows/held/sitecustomize.py
        environment.setenv(HOLD_VARIABLE, str(settings.root.parent))
        running = bring_up(settings)
    yield running
    take_down(settings)


@dataclass(frozen=True)
class Hold:
    """Holds the runs of `machine` where they open a certain file."""

    folder: Path

    @contextmanager
    def opening(self, pattern: str) -> Iterator[Callable[[], bool]]:
        """Inside the block whoever opens a path that matches waits; gives a function that says whether one does."""
        asked, held = self.folder / ".held-pattern", self.folder / ".held-at"
        held.unlink(missing_ok=True)
        asked.write_text(pattern, encoding="utf-8")
        try:
            yield held.exists
        finally:
            asked.unlink()


@pytest.fixture
def hold(settings: Settings) -> Hold:
    return Hold(settings.root.parent)


@pytest.fixture
def prefect_here(machine: RunningPrefect) -> AbstractContextManager[object]:
    """Within it, flows called in this process report to the machine's server: no process of a run has to start."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    return temporary_settings({PREFECT_API_URL: machine.place.api, PREFECT_API_AUTH_STRING: machine.place.auth})


@pytest.fixture(scope="package")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with twelve rendered photographs and their critiques."""
    folder = tmp_path_factory.mktemp("sample") / "workspace"
    create_workspace(folder, sample=True, photographs=12)
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]
