"""`mondrian join` and `mondrian leave`: a real second machine on the tests' server, and what stands in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import prefect
import pytest

from deployments import prefect_setup
from deployments.bootstrap import RunningPrefect, bring_up, recorded_processes
from deployments.down import DownOptions, down_command
from deployments.join import JoinOptions, LeaveOptions, join_command, leave_command
from deployments.machines import Machine, plan_workers, registered_machines
from deployments.prefect_instance import POOL
from mondrian_core.doctor import run_doctor_checks
from mondrian_core.errors import BadInput, NothingToDo, PrefectUnavailable
from mondrian_core.ports import find_free_port
from mondrian_core.prefect_server import auth_string_path, join_record_path, prefect_client_environment
from mondrian_core.settings import Settings
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]


@pytest.fixture
def password(machine: RunningPrefect, tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{machine.place.auth}\n")
    return path


@pytest.fixture
def options(tmp_path: Path, password: Path) -> Callable[..., JoinOptions]:
    def make(**more: object) -> JoinOptions:
        given: dict[str, object] = {"name": "second", "role": ("control",), "auth_file": password}
        return JoinOptions(workspace=tmp_path / "w2", adapters=tmp_path / "a2", base_model="mini", **{**given, **more})

    return make


def test_a_machine_joins_works_rests_and_leaves(
    machine: RunningPrefect,
    options: Callable[..., JoinOptions],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a person's shell has of Prefect, and another server's address, changes nothing."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "3600")
    chosen = options()
    assert join_command(machine.place.ui, options=chosen) == 0
    settings = Settings(workspace=chosen.workspace, adapters=chosen.adapters, base_model="mini")
    try:
        assert machine.place.auth not in capsys.readouterr().out
        assert auth_string_path(settings).stat().st_mode & 0o777 == 0o600
        assert machine.place.auth not in join_record_path(settings).read_text()
        with prefect_setup.prefect_client(machine.place) as client:
            assert "second" in [each.name for each in registered_machines(client)]
            online = [each.name for each in client.read_workers_for_work_pool(POOL) if "ONLINE" in str(each.status)]
        assert "second" in online
        environment = prefect_client_environment(settings, {"PREFECT_API_URL": "http://127.0.0.1:9/api"})
        assert environment["PREFECT_API_URL"] == machine.place.api
        assert "PREFECT_WORKER_QUERY_SECONDS" not in environment

        def doctor_finds_the_worker() -> bool:  # a busy server may not answer it in time
            checks = {check.name: check for check in run_doctor_checks(settings)}
            worker = checks.get("prefect worker")
            return worker is not None and worker.ok is True and "second" in worker.finding

        wait_until(doctor_finds_the_worker, "doctor")

        again = bring_up(settings)
        assert again.started == () and [each.name for each in again.processes] == ["prefect worker"]
        assert down_command(options=DownOptions(workspace=settings.root)) == 0
        assert not any(process.alive for process in recorded_processes(settings))
        assert machine.place.api and all(process.alive for process in machine.processes), "the server's own go on"
    finally:
        assert leave_command(options=LeaveOptions(workspace=settings.root)) == 0
    with prefect_setup.prefect_client(machine.place) as client:
        assert "second" not in [each.name for each in registered_machines(client)]
    assert not join_record_path(settings).exists() and not auth_string_path(settings).exists()
    with pytest.raises(NothingToDo):
        leave_command(options=LeaveOptions(workspace=settings.root))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"name": "Not Valid"}, "not a valid name"),
        ({"role": ("data",)}, "has no database"),
        ({"role": ("accelerator",)}, "MONDRIAN_SHARED"),
        ({"auth_file": Path("/no/such/file")}, "can't be read"),
        ({"auth_file": None}, "password is missing"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    machine: RunningPrefect, options: Callable[..., JoinOptions], more: dict[str, object], problem: str
) -> None:
    chosen = options(**more)
    with pytest.raises(BadInput, match=problem):
        join_command(machine.place.ui, options=chosen)
    settings = Settings(workspace=chosen.workspace)
    assert not join_record_path(settings).exists() and not auth_string_path(settings).exists()
    assert recorded_processes(settings) == []


def test_the_name_of_another_machine_is_refused(machine: RunningPrefect, options: Callable[..., JoinOptions]) -> None:
    taken = machine.place.settings.machine_name
    with pytest.raises(BadInput, match=f"a machine called '{taken}' already"):
        join_command(machine.place.ui, options=options(name=taken))


def test_the_database_stays_with_one_machine(
    machine: RunningPrefect, options: Callable[..., JoinOptions], tmp_path: Path
) -> None:
    (tmp_path / "w2").mkdir()
    (tmp_path / "w2" / "mondrian.db").touch()
    with pytest.raises(BadInput, match="is the data machine of this server already"):
        join_command(machine.place.ui, options=options(role=("data",)))


def test_addresses_and_passwords_that_lead_nowhere(
    machine: RunningPrefect, options: Callable[..., JoinOptions], password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PrefectUnavailable, match="doesn't answer"):
        join_command(f"http://127.0.0.1:{find_free_port()}", options=options())
    for address in ("ftp://studio", "http://", "not an address"):
        with pytest.raises(BadInput, match="address"):
            join_command(address, options=options())
    with pytest.raises(BadInput, match="has a password in it"):
        join_command("http://me:secret@127.0.0.1:4200", options=options())
    password.write_text("mondrian:wrong")
    with pytest.raises(BadInput, match="rejects the password") as refused:
        join_command(machine.place.ui, options=options())
    assert "wrong" not in str(refused.value)
    password.write_text(machine.place.auth)
    monkeypatch.setattr(prefect, "__version__", "3.0.0")
    with pytest.raises(PrefectUnavailable, match=r"this machine has 3\.0\.0"):
        join_command(machine.place.ui, options=options())


def test_a_workspace_has_one_server(
    machine: RunningPrefect, options: Callable[..., JoinOptions], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="has a Prefect server of its own"):
        join_command(machine.place.ui, options=options(workspace=machine.place.settings.root))
    record = tmp_path / "w2" / ".prefect" / "join.json"
    record.parent.mkdir(parents=True)
    record.write_text(
        json.dumps({"api_url": "http://other:4200/api", "server": "x", "machine": "m2", "roles": ["control"]})
    )
    with pytest.raises(BadInput, match="has joined http://other:4200 as 'm2'"):
        join_command(machine.place.ui, options=options())
    record.write_text("{")
    with pytest.raises(BadInput, match="can't be read"):
        bring_up(Settings(workspace=tmp_path / "w2"))


def test_only_with_several_machines_has_the_accelerator_a_worker_of_its_own() -> None:
    roles = ("control", "serving", "data", "accelerator")
    alone = plan_workers(Machine(name="mac", roles=roles))
    assert [(each.name, each.limit) for each in alone] == [("mac", None)]
    assert alone[0].queues == (*roles, "default")
    several = plan_workers(Machine(name="mac", roles=roles, several=True))
    assert [(each.name, each.queues, each.limit) for each in several] == [
        ("mac", ("control", "serving", "data", "default"), None),
        ("mac-accelerator", ("accelerator",), 1),
    ]
    joined = plan_workers(Machine(name="m2", roles=("serving", "accelerator"), joined=True, several=True))
    assert [each.queues for each in joined] == [("serving-m2",), ("accelerator",)]
