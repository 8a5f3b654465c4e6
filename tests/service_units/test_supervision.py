"""Generated units run real processes: server, worker and service come back after a kill of any process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from deployments import run_watcher
from deployments.bootstrap import SERVER, WORKER, bring_up, recorded_port, recorded_processes
from deployments.prefect_instance import PrefectInstance
from mondrian_core import ports, service_units
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.prefect_server import fetch_server_identity
from mondrian_core.service_units.launchd import Launchd
from mondrian_core.settings import Settings
from tasks.processes import ManagedProcess
from tasks.service_record import recorded_service
from tests.service_units.supervision import Supervisor, command_of_agent, kill, supervised
from tests.waiting import wait_until

FOUND = "Running: "  # a unit has found its part
ODD = "Föto % $HOME & \"two\" 'one' 写真"


class Machine:
    """A workspace with an odd name, whose units a supervisor keeps up."""

    def __init__(self, folder: Path) -> None:
        workspace = folder / ODD / "workspace"
        workspace.parent.mkdir()
        create_workspace(workspace, sample=True, photographs=3)
        self.settings = Settings(workspace=workspace, base_model="mini")
        self.home = folder / ODD / "home"
        self.home.mkdir()
        self.port, self.service_port = ports.find_free_port(), ports.find_free_port()

    def install(self) -> dict[str, Path]:
        """Write the files of the units; the paths of the agents by part."""
        launchd = Launchd(self.home, 501)
        plan = service_units.plan_units(
            self.settings,
            program=Path(sys.executable),
            home=launchd.folder,
            environment=os.environ,
            arguments={
                "server": ("server", "--port", str(self.port)),
                "worker": ("worker",),
                "service": ("service", "--service-port", str(self.service_port), "--model-mode", "base"),
            },
        )
        for file in launchd.files(plan):
            file.path.parent.mkdir(parents=True, exist_ok=True)
            file.path.write_text(file.text, encoding="utf-8")
        launchd.log_folder(plan).mkdir(parents=True)
        agents = self.home / "Library" / "LaunchAgents"
        return {part: agents / f"{launchd.unit_name(plan.identity, part)}.plist" for part in plan.arguments}

    @property
    def place(self) -> PrefectInstance:
        """The server of the workspace."""
        return PrefectInstance(self.settings, self.port)

    def server(self) -> ManagedProcess | None:
        """The server, when it answers."""
        found = fetch_server_identity(self.place.ui)
        return next((each for each in self.recorded(SERVER) if found and each.pid == found.pid), None)

    def worker(self) -> ManagedProcess | None:
        """The worker, when it runs."""
        return next((each for each in self.recorded(WORKER) if each.alive), None)

    def service(self) -> ManagedProcess | None:
        """The service, when it answers."""
        known = recorded_service(self.settings)
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.service_port}/health", trust_env=False, timeout=5)
        except httpx.HTTPError:
            return None
        return known[0] if known and known[0].alive and answer.status_code == 200 else None

    def recorded(self, name: str) -> list[ManagedProcess]:
        """Recorded processes of a name."""
        return [each for each in recorded_processes(self.settings) if each.name.startswith(name)]


@pytest.mark.mini
@pytest.mark.slow
def test_a_unit_keeps_the_service_running(tmp_path: Path) -> None:
    """The short form of the test below: no Prefect."""
    machine = Machine(tmp_path)
    with supervised({"service": command_of_agent(machine.install()["service"])}, machine.home) as keeper:
        first = wait_until(machine.service, "the service")
        kill(first.pid)
        second = wait_until(_other(machine.service, first), "another service")
        _survive_a_kill_of_the_unit(keeper, {"service": machine.service}, {"service": second})
    assert not second.alive and ports.is_port_free(machine.service_port)


@pytest.mark.soak
@pytest.mark.flow
@pytest.mark.timeout(1800)
def test_units_keep_server_worker_and_service_running(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    commands = {part: command_of_agent(path) for part, path in machine.install().items()}
    parts: dict[str, Callable[[], ManagedProcess | None]] = {
        "server": machine.server,
        "worker": machine.worker,
        "service": machine.service,
    }
    with supervised(commands, machine.home) as keeper:
        first = {part: wait_until(find, f"the {part}") for part, find in parts.items()}
        for process in first.values():
            kill(process.pid)
        second = {part: wait_until(_other(find, first[part]), f"another {part}") for part, find in parts.items()}
        assert recorded_port(machine.settings) == machine.port  # the worker and every bookmark find it again
        _survive_a_kill_of_the_unit(keeper, parts, second)
        before = {each.pid for each in recorded_processes(machine.settings)}
        bring_up(machine.settings)  # what `mondrian up` does: it finds everything running
        assert {each.pid for each in recorded_processes(machine.settings)} == before
        run = run_watcher.start_deployment_run(machine.place, "prune/scheduled", {"dry_run": True})
        assert run_watcher.follow_flow_run(machine.place, run, lambda _: None).state == "Completed"
    assert [each for each in recorded_processes(machine.settings) if each.alive] == []
    assert not second["service"].alive and ports.is_port_free(machine.service_port)


def _other(find: Callable[[], ManagedProcess | None], old: ManagedProcess) -> Callable[[], ManagedProcess | None]:
    """Finds a process that is not the old one."""

    def condition() -> ManagedProcess | None:
        found = find()
        return found if found is not None and found.pid != old.pid else None

    return condition


def _survive_a_kill_of_the_unit(
    keeper: Supervisor, parts: dict[str, Callable[[], ManagedProcess | None]], running: dict[str, ManagedProcess]
) -> None:
    """A kill of what launchd started: its next start finds the part running, and interrupts nothing."""
    starts, found = dict(keeper.starts), {part: keeper.said(part).count(FOUND) for part in parts}
    for part in parts:
        kill(wait_until(partial(keeper.pid, part), f"the unit of the {part}"))
    wait_until(lambda: all(keeper.starts[part] > starts[part] for part in parts), "the units' next starts")
    wait_until(lambda: all(keeper.said(part).count(FOUND) > found[part] for part in parts), "the units to find them")
    assert {part: wait_until(find, part) for part, find in parts.items()} == running
