"""Install, find, start, stop and remove the units of a workspace. Nothing but the recorded files is ever removed."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.errors import BadInput, Broken
from mondrian_core.files import make_folder, make_private_folder, read_json, write_atomic, write_json
from mondrian_core.service_units.launchd import Launchd
from mondrian_core.service_units.systemd import Systemd
from mondrian_core.service_units.unit_files import PARTS, RECORD, UnitFile, UnitPart, UnitPlan, unit_identity
from mondrian_core.settings import Settings

COMMAND_SECONDS = 120.0
SYSTEMD, MAC = "linux", "darwin"
LAUNCHD_BUSY = ("5: Input/output error", "36: Operation now in progress", "37: Operation already in progress")


UnitSupervisor = Launchd | Systemd


@dataclass(frozen=True)
class InstalledUnits:
    """The units that were installed for a workspace: names by part, and every file that was written."""

    identity: str
    workspace: Path
    program: Path
    parts: tuple[UnitPart, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class UnitState:
    """A unit, and whether it runs; None is unknown."""

    name: str
    part: UnitPart
    running: bool | None


def supervisor_of_machine(settings: Settings, platform: str = sys.platform) -> UnitSupervisor:
    """The supervisor of this user.

    Raises:
        BadInput: this system has neither launchd nor systemd.
    """
    if platform == MAC:
        return Launchd(Path.home(), os.getuid())
    if platform == SYSTEMD:
        return Systemd(settings.config_home.expanduser())
    raise BadInput(f"Services can't be installed on {platform}.", "Use `mondrian up`, or a Mac or Linux.")


def install_units(supervisor: UnitSupervisor, plan: UnitPlan) -> list[str]:
    """Write and start the units; gives notices. A repeated call replaces them and gives the same files.

    Raises:
        Broken: the supervisor doesn't answer; nothing is left behind.
    """
    before = read_record(plan.record)
    files = supervisor.files(plan)
    write_record(plan, files)
    for file in files:
        make_folder(file.path.parent)
        write_atomic(file.path, file.text)
        file.path.chmod(file.mode)
    if before is not None:
        _remove_files(set(before.files) - {file.path for file in files})
        gone = [part for part in before.parts if part not in plan.arguments]
        _run_commands(
            supervisor.deactivation([supervisor.unit_name(plan.identity, part) for part in gone]) if gone else []
        )
    log_folder = supervisor.log_folder(plan)
    if log_folder is not None:
        make_folder(log_folder)
    try:
        _run_commands(supervisor.activation([supervisor.unit_name(plan.identity, part) for part in plan.arguments]))
    except Broken:
        if before is None:
            _remove_files([*(file.path for file in files), plan.record])
        raise
    return _make_lasting(supervisor)


def _make_lasting(supervisor: UnitSupervisor) -> list[str]:
    command = supervisor.lasting(getpass.getuser())
    if command:
        with suppress(Broken):
            _run_commands([command])
            return []
        return [f"{supervisor.notice} An administrator can allow it: `{' '.join(command)}`."]
    return [supervisor.notice]


def uninstall_units(supervisor: UnitSupervisor, installed: InstalledUnits) -> list[Path]:
    """Stop and remove the units; gives the removed files. Logs and the workspace are left alone."""
    _run_commands(supervisor.deactivation(_names(supervisor, installed)))
    removed = _remove_files([*installed.files, supervisor.folder / installed.identity / RECORD])
    _run_commands(supervisor.after_removal())
    return removed


def find_installed_units(supervisor: UnitSupervisor, settings: Settings) -> InstalledUnits | None:
    """What is installed for a workspace, which may be gone; None for nothing."""
    return read_record(supervisor.folder / unit_identity(settings) / RECORD)


def installed_here(settings: Settings) -> tuple[UnitSupervisor, InstalledUnits] | None:
    """The supervisor and the units of a workspace; None when there are none."""
    try:
        supervisor = supervisor_of_machine(settings)
    except BadInput:
        return None
    installed = find_installed_units(supervisor, settings)
    return None if installed is None else (supervisor, installed)


def start_units(supervisor: UnitSupervisor, installed: InstalledUnits) -> None:
    """Start the units that don't run.

    Raises:
        Broken: the supervisor doesn't answer.
    """
    _run_commands(supervisor.start(_names(supervisor, installed)))


def stop_units(supervisor: UnitSupervisor, installed: InstalledUnits, parts: Sequence[UnitPart] = PARTS) -> None:
    """Stop the units of some parts; they start again at the next login, or by `start_units`.

    Raises:
        Broken: the supervisor doesn't answer.
    """
    _run_commands(supervisor.stop(_names(supervisor, installed, parts)[::-1]))  # the server last


def unit_states(supervisor: UnitSupervisor, installed: InstalledUnits) -> list[UnitState]:
    """The units, and which of them run."""
    return [_state(supervisor, supervisor.unit_name(installed.identity, part), part) for part in installed.parts]


def _state(supervisor: UnitSupervisor, name: str, part: UnitPart) -> UnitState:
    try:
        done = _run(supervisor.state_command(name))
    except Broken:
        return UnitState(name, part, None)
    return UnitState(name, part, supervisor.is_running(done.stdout))


def _names(supervisor: UnitSupervisor, installed: InstalledUnits, parts: Sequence[UnitPart] = PARTS) -> list[str]:
    return [supervisor.unit_name(installed.identity, part) for part in installed.parts if part in parts]


def write_record(plan: UnitPlan, files: Sequence[UnitFile]) -> None:
    """Record what will be written, before it is written: an interrupted installation can be removed."""
    make_private_folder(plan.home)
    write_json(
        plan.record,
        {
            "identity": plan.identity,
            "workspace": str(plan.workspace),
            "program": str(plan.program),
            "parts": list(plan.arguments),
            "files": [str(file.path) for file in files],
        },
    )


def read_record(path: Path) -> InstalledUnits | None:
    """The record of an installation; None when there is none, or it can't be read."""
    try:
        values = read_json(path)
        return InstalledUnits(
            identity=str(values["identity"]),
            workspace=Path(values["workspace"]),
            program=Path(values["program"]),
            parts=tuple(part for part in PARTS if part in values["parts"]),
            files=tuple(map(Path, values["files"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove_files(files: Sequence[Path] | set[Path]) -> list[Path]:
    removed = []
    for path in sorted(files):
        with suppress(FileNotFoundError):
            path.unlink()
            removed.append(path)
    for folder in {path.parent for path in files}:
        with suppress(OSError):  # only Mondrian's own folder is empty now
            if folder.name not in ("LaunchAgents", "user"):
                folder.rmdir()
    return removed


def _run_commands(commands: Sequence[Sequence[str]]) -> None:
    """Run commands in order; one that starts with a dash may fail.

    Raises:
        Broken: another one failed.
    """
    for first, *rest in commands:
        done = _run_when_ready([first.removeprefix("-"), *rest], required=not first.startswith("-"))
        if done.returncode and not first.startswith("-"):
            raise Broken(
                f"`{' '.join([first, *rest])}` failed: {' '.join(done.stderr.split())[-300:] or 'no message'}.",
                "Log in as the user who owns the services (not with su or sudo) and try again; `mondrian up` works "
                "without them.",
            )


def _run_when_ready(command: Sequence[str], *, required: bool) -> subprocess.CompletedProcess[str]:
    """Run a command; a required one again while launchd is still stopping an older process of the same agent.

    launchd gives the same error for an agent that is loaded already, which is why others aren't repeated.
    """
    until = time.monotonic() + COMMAND_SECONDS
    while True:
        done = _run(command, required=required)
        busy = done.returncode and any(text in done.stderr for text in LAUNCHD_BUSY)
        if not (busy and required) or time.monotonic() > until:
            return done
        time.sleep(1.0)


def _run(command: Sequence[str], *, required: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if not required:
            return subprocess.CompletedProcess(list(command), 1, "", str(error))
        raise Broken(
            f"`{command[0]}` can't be run ({error}).", "This machine has no supervisor for services; use `mondrian up`."
        ) from None
