"""A registry with a history, and a server in memory that may die at any call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.domain_events import DomainEvent, EventServer
from mondrian_core.errors import PrefectUnavailable
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tests.registry.conftest import manifest, write_adapter


class MemoryServer(EventServer):
    """Prefect as far as events need it: known events by ID, variables, and the moment at which it dies."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.events: dict[str, DomainEvent] = {}
        self.received: list[str] = []
        self.variables: dict[str, Any] = {}
        self.dies_at: int | None = None
        self.calls = 0

    def send_new(self, events: Sequence[DomainEvent]) -> list[DomainEvent]:
        self._call()
        new = [event for event in events if str(event.id) not in self.events]
        self.events |= {str(event.id): event for event in new}
        self.received += [str(event.id) for event in new]
        self._call()
        return new

    def read_variable(self, name: str) -> Any:
        self._call()
        return json.loads(self.variables[name]) if name in self.variables else None

    def write_variable(self, name: str, value: Mapping[str, Any], tags: Sequence[str] = ()) -> None:
        self._call()
        self.variables[name] = json.dumps(dict(value))

    def forget(self, *ids: str) -> None:
        """Accepted events that were not stored when the server was killed."""
        for each in ids:
            del self.events[each]

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise PrefectUnavailable("The server died.", "")

    @property
    def names(self) -> list[str]:
        """What was received, in order."""
        return [f"{self.events[each].name} {self.events[each].version}" for each in self.received]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    workspace = tmp_path / "workspace"
    (workspace / ".prefect").mkdir(parents=True)
    return Settings(workspace=workspace, adapters=tmp_path / "adapters", base_model="mini")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings.adapters_root)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


def add_version(registry: Registry, advisor: str = "ansel", verdict: str = "PASS", **values: Any) -> str:
    """Register a further version, whose weights no other has."""
    number = len(registry.versions(advisor))
    folder = write_adapter(registry.root.parent / f"trained-{advisor}-{number}", 100 + number)
    state: Any = "rejected" if verdict == "FAIL" else "candidate"
    made = manifest(verdict, **values)
    return registry.register(advisor, folder, made, state, actor="flow:x", run=f"run-{number + 1}").version


def promote(registry: Registry, version: str, advisor: str = "ansel", reason: str = "better") -> None:
    registry.promote(advisor, version, expected=registry.reference(advisor), actor="person:anna", reason=reason)
