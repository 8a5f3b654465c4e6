"""Generated units: paths with every odd character, secrets, installing twice, two workspaces, and exact removal."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mondrian_core import service_units
from mondrian_core.base_checks import DoctorCheck
from mondrian_core.doctor import run_doctor_checks
from mondrian_core.errors import BadInput, Broken
from mondrian_core.service_units import UnitPlan, installation, plan_units
from mondrian_core.service_units.launchd import Launchd
from mondrian_core.service_units.systemd import Systemd
from mondrian_core.settings import Settings, environment_names
from tests.service_units.supervision import LaunchAgent, command_of_agent, command_of_unit

ODD = "Föto % $HOME & \"two\" 'one' \\ `x` 100%h 写真"
ARGUMENTS: dict[service_units.UnitPart, tuple[str, ...]] = {
    "server": ("server", "--port", "4200"),
    "worker": ("worker",),
    "service": ("service", "--service-port", "5100", "--model-mode", "fine_tuned"),
}
SECRET = "hf_0123 'quoted' $(touch pwned) \"x\"\nsecond line"

Supervisors = Launchd | Systemd


@pytest.fixture(params=["launchd", "systemd"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Supervisors:
    home = tmp_path / ODD.replace("/", "") / "home"
    home.mkdir(parents=True)
    return Launchd(home, 501) if request.param == "launchd" else Systemd(home / ".config")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """launchctl, systemctl and loginctl that succeed and write down how they were called."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    calls.touch()
    for name in ("launchctl", "systemctl", "loginctl"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> "{calls}"\n[ ! -e "{tmp_path}/broken" ]\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return calls


def plan_for(
    tmp_path: Path, supervisor: Supervisors, name: str = ODD, program: Path = Path(sys.executable)
) -> UnitPlan:
    workspace = tmp_path / name
    workspace.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HF_TOKEN": SECRET, "PREFECT_API_URL": "http://x", "EDITOR": "vi"}
    return plan_units(
        Settings(workspace=workspace),
        program=program,
        home=supervisor.folder,
        environment=environment,
        arguments=ARGUMENTS,
    )


def unit_paths(supervisor: Supervisors, plan: UnitPlan) -> dict[str, Path]:
    ending = ".plist" if isinstance(supervisor, Launchd) else ".service"
    files = [file.path for file in supervisor.files(plan) if file.path.suffix == ending]
    return {part: path for part in ARGUMENTS for path in files if path.stem.endswith(part)}


def test_every_unit_runs_the_launcher_whatever_the_path(
    tmp_path: Path, supervisor: Supervisors, programs: Path
) -> None:
    """The generated command line is run: the program sees its arguments, the environment and no expansion."""
    shown = tmp_path / "shown.json"
    program = tmp_path / f"program {ODD}"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"json.dump([sys.argv[1:], dict(os.environ), os.getcwd()], open({str(shown)!r}, 'w'))\n"
    )
    program.chmod(0o755)
    plan = plan_for(tmp_path, supervisor, program=program)
    service_units.install_units(supervisor, plan)
    for part, path in unit_paths(supervisor, plan).items():
        read = command_of_agent(path) if isinstance(supervisor, Launchd) else command_of_unit(path)
        subprocess.run(read.words, env={"HOME": str(tmp_path)}, cwd="/", check=True)
        words, environment, folder = json.loads(shown.read_text())
        assert words == ["-m", "mondrian", "foreground", *ARGUMENTS[part]]  # type: ignore[index]
        assert environment["MONDRIAN_WORKSPACE"] == str((tmp_path / ODD).resolve())
        assert environment["HF_TOKEN"] == SECRET and environment["PATH"] == os.environ["PATH"]
        assert "PREFECT_API_URL" not in environment and "EDITOR" not in environment
        assert Path(folder) == Path(service_units.__file__).resolve().parents[2]
    assert not list(tmp_path.rglob("pwned"))


def test_secrets_are_in_one_private_file(tmp_path: Path, supervisor: Supervisors, programs: Path) -> None:
    plan = plan_for(tmp_path, supervisor)
    service_units.install_units(supervisor, plan)
    for file in supervisor.files(plan):
        mode = stat.S_IMODE(file.path.stat().st_mode)
        assert ("hf_0123" in file.path.read_text()) == (mode == 0o600) == (file.path.name == "environment")
    assert stat.S_IMODE(plan.home.stat().st_mode) == 0o700


def test_all_settings_reach_the_units(tmp_path: Path, supervisor: Supervisors) -> None:
    given = dict.fromkeys(environment_names(), "value")
    kept = service_units.unit_files.passed_on(given)
    assert set(kept) == {name for name in given if not name.startswith("PREFECT_")}


def test_relative_paths_of_settings_become_absolute(tmp_path: Path, supervisor: Supervisors) -> None:
    settings = Settings(workspace=tmp_path, cache=Path("cache"), adapters=Path("s3://bucket/adapters"))
    plan = plan_units(settings, program=Path("/x"), home=supervisor.folder, environment={}, arguments=ARGUMENTS)
    assert plan.environment["MONDRIAN_CACHE"] == str(Path.cwd() / "cache")
    assert plan.environment["MONDRIAN_ADAPTERS"] == "s3://bucket/adapters"


def test_installing_twice_changes_nothing_and_removal_is_exact(
    tmp_path: Path, supervisor: Supervisors, programs: Path
) -> None:
    home = tmp_path / ODD / "home"
    (home / "Library" / "LaunchAgents").mkdir(parents=True)
    (home / "Library" / "LaunchAgents" / "org.somebody.else.plist").write_text("not ours")
    before = contents(home)
    plan = plan_for(tmp_path, supervisor)
    service_units.install_units(supervisor, plan)
    once = contents(home)
    service_units.install_units(supervisor, plan)
    assert contents(home) == once and len(once) == len(before) + 6
    installed = service_units.find_installed_units(supervisor, Settings(workspace=tmp_path / ODD))
    assert installed is not None and installed.parts == service_units.PARTS
    removed = service_units.uninstall_units(supervisor, installed)
    assert len(removed) == 6 and contents(home) == before
    assert service_units.find_installed_units(supervisor, Settings(workspace=tmp_path / ODD)) is None


def test_a_part_that_is_no_longer_wanted_is_removed(tmp_path: Path, supervisor: Supervisors, programs: Path) -> None:
    plan = plan_for(tmp_path, supervisor)
    service_units.install_units(supervisor, plan)
    path = unit_paths(supervisor, plan)["service"]
    fewer = {part: words for part, words in ARGUMENTS.items() if part != "service"}
    smaller = UnitPlan(**{**plan.__dict__, "arguments": fewer})
    service_units.install_units(supervisor, smaller)
    assert not path.exists() and plan.launcher.exists()
    assert supervisor.unit_name(plan.identity, "service") in programs.read_text()


def test_two_workspaces_of_one_name_have_units_of_their_own(
    tmp_path: Path, supervisor: Supervisors, programs: Path
) -> None:
    plans = []
    for parent in ("one", "two"):
        (tmp_path / parent).mkdir()
        plans.append(plan_for(tmp_path / parent, supervisor, "workspace"))
        service_units.install_units(supervisor, plans[-1])
    first, second = ({file.path for file in supervisor.files(plan)} for plan in plans)
    assert not first & second
    installed = service_units.find_installed_units(supervisor, Settings(workspace=tmp_path / "one" / "workspace"))
    assert installed is not None
    service_units.uninstall_units(supervisor, installed)
    assert not any(path.exists() for path in first) and all(path.exists() for path in second)


def test_nothing_stays_when_the_supervisor_does_not_answer(
    tmp_path: Path, supervisor: Supervisors, programs: Path
) -> None:
    (tmp_path / "broken").touch()
    before = contents(tmp_path / ODD)
    with pytest.raises(Broken, match="mondrian up"):
        service_units.install_units(supervisor, plan_for(tmp_path, supervisor))
    assert contents(tmp_path / ODD) == before


def test_a_path_that_units_can_not_hold_is_refused(tmp_path: Path, supervisor: Supervisors) -> None:
    with pytest.raises(BadInput, match="Rename"):
        plan_for(tmp_path, supervisor, "line\nbreak")


def test_a_program_that_is_gone_is_said_once_and_the_unit_waits(
    tmp_path: Path, supervisor: Supervisors, programs: Path
) -> None:
    plan = plan_for(tmp_path, supervisor, program=tmp_path / "removed" / "python")
    service_units.install_units(supervisor, plan)
    sleeping = programs.parent / "bin" / "sleep"
    sleeping.write_text('#!/bin/sh\necho "slept $1"\n')
    sleeping.chmod(0o755)
    text = plan.launcher.read_text().replace("exec sleep", f"exec {sleeping}")
    plan.launcher.write_text(text)
    done = subprocess.run(["/bin/sh", str(plan.launcher), "worker"], capture_output=True, text=True, check=False)
    assert "removed/python can't be run" in done.stderr and "mondrian install-service" in done.stderr
    assert str(plan.record) in done.stderr and done.stdout == "slept 300\n"


def test_agents_match_launchd_plist(tmp_path: Path) -> None:
    launchd = Launchd(tmp_path, 501)
    plan = plan_for(tmp_path, launchd)
    for part in ARGUMENTS:
        text = next(file.text for file in launchd.files(plan) if file.path.stem.endswith(part))
        agent = LaunchAgent.model_validate(plistlib.loads(text.encode()))
        assert agent.Label == f"org.mondrian.{plan.identity}.{part}" and agent.EnvironmentVariables == {}


def test_the_launchers_log_is_bounded(tmp_path: Path, programs: Path) -> None:
    launchd = Launchd(tmp_path, 501)
    plan = plan_for(tmp_path, launchd, program=Path(shutil.which("true") or "/bin/true"))
    service_units.install_units(launchd, plan)
    log = launchd.log_folder(plan) / "worker.log"
    log.write_bytes(b"x" * 1_000_001)
    subprocess.run(["/bin/sh", str(plan.launcher), "worker"], check=True)
    assert log.stat().st_size == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path, programs: Path) -> None:
    systemd = Systemd(tmp_path / ODD.replace("/", ""))
    plan = plan_for(tmp_path, systemd)
    service_units.install_units(systemd, plan)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"}
    for path in unit_paths(systemd, plan).values():
        done = subprocess.run(
            ["systemd-analyze", "--user", "--man=no", "verify", str(path)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and path.name not in done.stderr, done.stderr


def test_commands_of_both_supervisors(tmp_path: Path, programs: Path) -> None:
    launchd, systemd = Launchd(tmp_path, 501), Systemd(tmp_path)
    service_units.install_units(launchd, plan_for(tmp_path, launchd, "w"))
    service_units.install_units(systemd, plan_for(tmp_path, systemd, "w"))
    called = programs.read_text()
    identity = plan_for(tmp_path, launchd, "w").identity
    agent = tmp_path / "Library" / "LaunchAgents" / f"org.mondrian.{identity}.server.plist"
    assert f"launchctl bootstrap gui/501 {agent}\n" in called
    assert "systemctl --user daemon-reload\n" in called and "loginctl enable-linger" in called
    names = " ".join(f"mondrian-{identity}-{part}.service" for part in ARGUMENTS)
    assert f"systemctl --user enable {names}\n" in called


def test_an_agent_that_is_still_stopping_is_waited_for(tmp_path: Path, programs: Path) -> None:
    """launchd refuses to load an agent whose older process has not ended yet."""
    script = programs.parent / "bin" / "launchctl"
    script.write_text(
        f'#!/bin/sh\necho "launchctl $*" >> "{programs}"\n[ "$1" != bootstrap ] && exit 0\n'
        f'[ -e "{tmp_path}/ended" ] && exit 0\n'
        f'touch "{tmp_path}/ended"; echo "Bootstrap failed: 5: Input/output error" >&2; exit 5\n'
    )
    launchd = Launchd(tmp_path, 501)
    service_units.install_units(launchd, plan_for(tmp_path, launchd, "w"))
    assert programs.read_text().count("launchctl bootstrap") == len(ARGUMENTS) + 1


def test_doctor_knows_the_units(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    settings = Settings(workspace=tmp_path / "w", config_home=tmp_path / "config")
    systemd = Systemd(tmp_path / "config")
    assert _services_check(settings).ok is None
    plan = plan_for(tmp_path, systemd, "w", program=tmp_path / "python")
    service_units.install_units(systemd, plan)
    assert "is gone" in _services_check(settings).finding
    (tmp_path / "python").touch()
    stopped = _services_check(settings)  # this systemctl prints nothing
    assert stopped.ok is False and "mondrian up" in stopped.next_step
    (programs.parent / "bin" / "systemctl").write_text("#!/bin/sh\necho active\n")
    assert _services_check(settings).ok is True


def _services_check(settings: Settings) -> DoctorCheck:
    (found,) = [check for check in run_doctor_checks(settings) if check.name == "services at login"]
    return found


def test_a_system_without_either_is_refused() -> None:
    with pytest.raises(BadInput, match="mondrian up"):
        installation.supervisor_of_machine(Settings(), platform="win32")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
