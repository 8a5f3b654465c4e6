"""What the units of a workspace run, and the files that both formats share: a launcher and an environment.

A unit runs `/bin/sh LAUNCHER ROLE`. So all quoting of paths and values happens once, in the shell's own rules, and no
unit holds a secret: the environment is a file that only its owner can read.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mondrian_core.errors import BadInput
from mondrian_core.settings import Settings, absolute_settings, environment_names

UnitPart = Literal["server", "worker", "service"]
PARTS: tuple[UnitPart, ...] = ("server", "worker", "service")
LAUNCHER, ENVIRONMENT, RECORD = "launch", "environment", "installed.json"
# Besides Mondrian's own settings: what the programs below it read. PREFECT_* is left out: `mondrian up` sets it.
PASSED_ON = frozenset(
    (
        *("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    )
)
PASSED_ON_PREFIXES = ("HF_", "HUGGINGFACE_", "AWS_", "FSSPEC_")
ENVIRONMENT_HEAD = "# Variables of Mondrian's units, with secrets. `mondrian install-service` writes this file again.\n"
RETRY_SECONDS = 300  # between two attempts when the program is gone
MAX_LAUNCH_LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class UnitFile:
    """A file to write: path, content and permissions."""

    path: Path
    text: str
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class UnitPlan:
    """What the units of a workspace run.

    Attributes:
        identity: identifies the workspace in names of units: letters a-z, digits and dashes.
        workspace: absolute path.
        program: the Python of the environment that Mondrian is installed in.
        checkout: the folder from which that Python can import Mondrian.
        arguments: of `mondrian foreground`, by part.
        environment: variables of the processes, with secrets.
        home: folder of launcher and environment.
    """

    identity: str
    workspace: Path
    program: Path
    checkout: Path
    arguments: Mapping[UnitPart, tuple[str, ...]]
    environment: Mapping[str, str]
    home: Path

    @property
    def launcher(self) -> Path:
        """The shell script that every unit runs."""
        return self.home / LAUNCHER

    @property
    def record(self) -> Path:
        """The list of installed files."""
        return self.home / RECORD

    def shared_files(self, log_folder: Path | None) -> list[UnitFile]:
        """Launcher and environment; `log_folder` is where launchd keeps what the launcher prints."""
        return [
            UnitFile(self.home / ENVIRONMENT, environment_text(self.environment), 0o600),
            UnitFile(self.launcher, launcher_text(self, log_folder), 0o700),
        ]


def plan_units(
    settings: Settings,
    *,
    program: Path,
    home: Path,
    environment: Mapping[str, str],
    arguments: Mapping[UnitPart, tuple[str, ...]],
) -> UnitPlan:
    """The plan for a workspace.

    Args:
        settings: workspace, registry and base model, which the units keep as they are now.
        program: the Python to run.
        home: folder that holds a folder for each workspace.
        environment: of the command that installs; the part that the processes need is kept.
        arguments: of `mondrian foreground` by part; a part that is missing gets no unit.

    Raises:
        BadInput: a path has a line break or a control character, which units can't hold.
    """
    identity = unit_identity(settings)
    checkout = Path(__file__).resolve().parents[2]
    for path in (settings.root, program, home, checkout):
        if any(unicodedata.category(letter) == "Cc" for letter in str(path)):
            raise BadInput(
                f"{str(path)!r} has a control character.", "Rename that folder; service units can't hold its name."
            )
    own = {"MONDRIAN_ADAPTERS": str(settings.adapters_root), **absolute_settings(settings)}
    own |= {"MONDRIAN_WORKSPACE": str(settings.root), "MONDRIAN_BASE_MODEL": settings.base}
    return UnitPlan(
        identity=identity,
        workspace=settings.root,
        program=program,
        checkout=checkout,
        arguments=arguments,
        environment={**passed_on(environment), **own},
        home=home / identity,
    )


def unit_identity(settings: Settings) -> str:
    """The workspace's name in names of units: `photos-1a2b3c4d`, in letters a-z, digits and dashes."""
    name, _, digest = settings.workspace_id.rpartition("-")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return f"{re.sub(r'[^a-z0-9]+', '-', plain).strip('-')[:40] or 'workspace'}-{digest}"


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the processes need: Mondrian's settings, credentials of the hub and of buckets, proxies."""
    names = {*environment_names(), *PASSED_ON} - {name for name in environment_names() if name.startswith("PREFECT_")}
    return {
        name: value
        for name, value in sorted(environment.items())
        if name in names or name.startswith(PASSED_ON_PREFIXES)
    }


def environment_text(environment: Mapping[str, str]) -> str:
    """Lines that a shell reads: `export NAME='value'`."""
    return ENVIRONMENT_HEAD + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def launcher_text(plan: UnitPlan, log_folder: Path | None) -> str:
    """The script that a unit runs; without its program it says so every few minutes instead of failing in a loop."""
    gone = (
        f"Mondrian is gone: {plan.program} can't be run from {plan.checkout}. Install it there again, or install the "
        "services again from its new place with `mondrian install-service`."
    )
    remove = f"To remove the services of {plan.workspace} manually, delete the files that {plan.record} lists."
    bound = ""
    if log_folder is not None:
        bound = (
            f'log={shlex.quote(str(log_folder))}/"$1".log\n'
            f'if [ -f "$log" ] && [ "$(wc -c < "$log")" -gt {MAX_LAUNCH_LOG_BYTES} ]; then : > "$log"; fi\n'
        )
    cases = "".join(f"  {part}) set -- {shlex.join(words)} ;;\n" for part, words in plan.arguments.items())
    return f"""#!/bin/sh
# Written by `mondrian install-service`, removed by `mondrian uninstall-service`.
program={shlex.quote(str(plan.program))}
checkout={shlex.quote(str(plan.checkout))}
{bound}. {shlex.quote(str(plan.home / ENVIRONMENT))}
case "$1" in
{cases}  *) echo "There is no part '$1'." >&2; exit 2 ;;
esac
if [ ! -x "$program" ] || ! cd "$checkout"; then
  echo {shlex.quote(gone)} >&2
  echo {shlex.quote(remove)} >&2
  exec sleep {RETRY_SECONDS}
fi
exec "$program" -m mondrian foreground "$@"
"""
