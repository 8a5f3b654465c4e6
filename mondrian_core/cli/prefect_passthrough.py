"""`mondrian prefect ...`: Prefect's own commands, at the server of this workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace

from mondrian_core.cli.options import settings_from_options
from mondrian_core.prefect_server import prefect_client_environment


def prefect_command(options: Namespace) -> int:
    """Run `prefect` with these words; its exit status.

    Address and password go through the environment: a command line can be read by every user of the machine.

    Raises:
        PrefectUnavailable: no server runs for this workspace.
    """
    environment = prefect_client_environment(settings_from_options(options), os.environ)
    command = [sys.executable, "-m", "prefect", *options.words]
    return subprocess.run(command, env=environment, check=False).returncode
