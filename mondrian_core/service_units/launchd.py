"""launchd agents of a Mac: property lists as launchd.plist(5) defines them, and the commands of launchctl(1)."""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any

from mondrian_core.service_units.unit_files import UnitFile, UnitPart, UnitPlan

PREFIX = "org.mondrian"
EXIT_SECONDS = 90
THROTTLE_SECONDS = 10


class Launchd:
    """Agents in `~/Library/LaunchAgents`. They run while their user is logged in."""

    name = "launchd"

    def __init__(self, user_home: Path, uid: int) -> None:
        self._home, self._domain = user_home, f"gui/{uid}"

    @property
    def folder(self) -> Path:
        """Folder of launcher and environment, for all workspaces."""
        return self._home / "Library" / "Application Support" / "Mondrian" / "services"

    def log_folder(self, plan: UnitPlan) -> Path:
        """Folder of what the launchers print."""
        return self._home / "Library" / "Logs" / "Mondrian" / plan.identity

    def unit_name(self, identity: str, part: UnitPart) -> str:
        """The agent's label."""
        return f"{PREFIX}.{identity}.{part}"

    def files(self, plan: UnitPlan) -> list[UnitFile]:
        """An agent for each part, and what they share."""
        agents = [
            UnitFile(
                self._agent_path(self.unit_name(plan.identity, part)),
                plistlib.dumps(self.agent(plan, part), sort_keys=False).decode(),
            )
            for part in plan.arguments
        ]
        return [*plan.shared_files(self.log_folder(plan)), *agents]

    def agent(self, plan: UnitPlan, part: UnitPart) -> dict[str, Any]:
        """The values of an agent's property list."""
        log = str(self.log_folder(plan) / f"{part}.log")
        return {
            "Label": self.unit_name(plan.identity, part),
            "ProgramArguments": ["/bin/sh", str(plan.launcher), part],
            "RunAtLoad": True,
            "KeepAlive": True,
            "ThrottleInterval": THROTTLE_SECONDS,
            "ExitTimeOut": EXIT_SECONDS,
            # what the unit started must outlive it: its next start finds a training where it was
            "AbandonProcessGroup": True,
            # otherwise macOS throttles processor and disk of a training
            "ProcessType": "Interactive",
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }

    def activation(self, names: list[str]) -> list[list[str]]:
        """Commands that load and start agents, also ones that are loaded already with an older file."""
        commands = []
        for name in names:
            commands += [
                ["-launchctl", "bootout", f"{self._domain}/{name}"],
                ["launchctl", "enable", f"{self._domain}/{name}"],
                ["launchctl", "bootstrap", self._domain, str(self._agent_path(name))],
            ]
        return commands

    def deactivation(self, names: list[str]) -> list[list[str]]:
        """Commands that stop and unload agents."""
        return [["-launchctl", "bootout", f"{self._domain}/{name}"] for name in names]

    def start(self, names: list[str]) -> list[list[str]]:
        """Commands that start agents; loaded ones go on."""
        return [["-launchctl", "bootstrap", self._domain, str(self._agent_path(name))] for name in names]

    def stop(self, names: list[str]) -> list[list[str]]:
        """Commands that stop agents until the next login: launchd would revive one that was only killed."""
        return self.deactivation(names)

    def after_removal(self) -> list[list[str]]:
        """Commands after the files were removed."""
        return []

    def state_command(self, name: str) -> list[str]:
        """The command whose output says whether an agent runs."""
        return ["launchctl", "print", f"{self._domain}/{name}"]

    def is_running(self, printed: str) -> bool:
        """Read the output of `state_command`."""
        return "state = running" in printed

    def lasting(self, user: str) -> list[str]:
        """The command that makes units outlive a logout; [] where there is none."""
        return []

    @property
    def notice(self) -> str:
        """What these units can't do."""
        return (
            "launchd agents run while you are logged in: they survive sleep, a locked screen and a restart with "
            "automatic login, but not a logout."
        )

    def _agent_path(self, name: str) -> Path:
        return self._home / "Library" / "LaunchAgents" / f"{name}.plist"
