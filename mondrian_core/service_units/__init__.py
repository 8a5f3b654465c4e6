"""Services at login: launchd agents on a Mac, systemd user units on Linux, for server, worker and service.

unit_files.py    the files as values: launcher, environment, and what both formats need to know
launchd.py       property lists, and the commands of launchctl      systemd.py   unit files, and those of systemctl
installation.py  write and remove them, start and stop them, and what is installed
"""

from mondrian_core.service_units.installation import (
    InstalledUnits,
    UnitState,
    find_installed_units,
    install_units,
    installed_here,
    start_units,
    stop_units,
    supervisor_of_machine,
    uninstall_units,
    unit_states,
)
from mondrian_core.service_units.unit_files import ENVIRONMENT_HEAD, PARTS, UnitFile, UnitPart, UnitPlan, plan_units

__all__ = [
    "ENVIRONMENT_HEAD",
    "PARTS",
    "InstalledUnits",
    "UnitFile",
    "UnitPart",
    "UnitPlan",
    "UnitState",
    "find_installed_units",
    "install_units",
    "installed_here",
    "plan_units",
    "start_units",
    "stop_units",
    "supervisor_of_machine",
    "uninstall_units",
    "unit_states",
]
