"""`python -m deployments.prepared_deploy`: apply prefect.yaml in a process that imports while the server starts.

`prefect deploy --all` spends most of its time on importing Prefect and the flows, for which it needs no server.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import TracebackType
from typing import Self

from deployments.prefect_instance import ROOT, PrefectInstance
from mondrian_core.errors import PrefectUnavailable


class PreparedDeploy:
    """A process that waits to apply prefect.yaml; leaving the block without `apply` ends it, and nothing is applied."""

    def __init__(self, place: PrefectInstance) -> None:
        # Prefect fills in the variables that it knows, so MONDRIAN_CHECKOUT must not be one of them yet.
        environment = {name: value for name, value in place.environment().items() if name != "MONDRIAN_CHECKOUT"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deployments.prepared_deploy"],
            cwd=ROOT,
            text=True,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate()

    def apply(self) -> None:
        """Apply prefect.yaml, now that the server answers.

        Raises:
            PrefectUnavailable: prefect.yaml can't be applied.
        """
        printed, _ = self._process.communicate("apply\n")
        if self._process.returncode:
            output = " ".join(printed.split())[-600:]
            raise PrefectUnavailable(
                f"prefect.yaml could not be applied: {output}", "Fix it and run `mondrian up` again."
            )


def main() -> None:
    """Import Prefect and the flows; apply prefect.yaml after a line of input, and nothing when there is none."""
    from prefect.cli import app

    import_module("prefect.cli.deploy")
    for path in sorted((ROOT / "flows").glob("*.py")):
        import_module(f"flows.{path.stem}")
    if sys.stdin.readline():
        sys.argv[1:] = ["--no-prompt", "deploy", "--all"]
        app()


if __name__ == "__main__":
    main()
