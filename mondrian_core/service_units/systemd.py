"""systemd user units of Linux: unit files as systemd.service(5) defines them, and the commands of systemctl(1)."""

from __future__ import annotations

from pathlib import Path

from mondrian_core.service_units.unit_files import UnitFile, UnitPart, UnitPlan

STOP_SECONDS = 90
RESTART_SECONDS = 5


class Systemd:
    """Units in `~/.config/systemd/user`. With lingering they run from boot on, without a login."""

    name = "systemd"

    def __init__(self, config_home: Path) -> None:
        self._config = config_home

    @property
    def folder(self) -> Path:
        """Folder of launcher and environment, for all workspaces."""
        return self._config / "mondrian" / "services"

    def log_folder(self, plan: UnitPlan) -> Path | None:
        """None: the journal keeps what the launchers print."""
        return None

    def unit_name(self, identity: str, part: UnitPart) -> str:
        """The unit's name."""
        return f"mondrian-{identity}-{part}.service"

    def files(self, plan: UnitPlan) -> list[UnitFile]:
        """A unit for each part, and what they share."""
        folder = self._config / "systemd" / "user"
        units = [
            UnitFile(folder / self.unit_name(plan.identity, part), self.unit_text(plan, part))
            for part in plan.arguments
        ]
        return [*plan.shared_files(None), *units]

    def unit_text(self, plan: UnitPlan, part: UnitPart) -> str:
        """The text of a unit file."""
        command = " ".join(["/bin/sh", quoted_word(str(plan.launcher)), part])
        lines = [
            "# Written by `mondrian install-service`, removed by `mondrian uninstall-service`.",
            "[Unit]",
            f"Description=Mondrian {part} of {str(plan.workspace).replace('%', '%%')}",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={command}",
            "Restart=always",
            f"RestartSec={RESTART_SECONDS}",
            "# what the unit started must outlive it: its next start finds a training where it was",
            "KillMode=process",
            f"TimeoutStopSec={STOP_SECONDS}",
            "",
            "[Install]",
            "WantedBy=default.target",
        ]
        return "\n".join(lines) + "\n"

    def activation(self, names: list[str]) -> list[list[str]]:
        """Commands that enable and start units, also ones that run already with an older file."""
        return [
            ["systemctl", "--user", "daemon-reload"],
            ["systemctl", "--user", "enable", *names],
            ["systemctl", "--user", "restart", *names],
        ]

    def deactivation(self, names: list[str]) -> list[list[str]]:
        """Commands that stop and disable units."""
        return [["-systemctl", "--user", "disable", "--now", *names]]

    def start(self, names: list[str]) -> list[list[str]]:
        """Commands that start units; running ones go on."""
        return [["systemctl", "--user", "start", *names]]

    def stop(self, names: list[str]) -> list[list[str]]:
        """Commands that stop units until the next login or start."""
        return [["systemctl", "--user", "stop", *names]]

    def after_removal(self) -> list[list[str]]:
        """Commands after the files were removed."""
        return [["-systemctl", "--user", "daemon-reload"]]

    def state_command(self, name: str) -> list[str]:
        """The command whose output says whether a unit runs."""
        return ["systemctl", "--user", "is-active", name]

    def is_running(self, printed: str) -> bool:
        """Read the output of `state_command`."""
        return printed.strip() == "active"

    def lasting(self, user: str) -> list[str]:
        """The command that makes units start at boot and outlive a logout."""
        return ["loginctl", "enable-linger", user]

    @property
    def notice(self) -> str:
        """What these units can't do."""
        return "Without lingering (`loginctl enable-linger`), units end at logout and start at login."


def quoted_word(word: str) -> str:
    """A word of ExecStart= in double quotes, by the rules of systemd.syntax(7): no expansion of `%` and `$`."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
