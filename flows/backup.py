"""Back up this machine's workspace and registry. `mondrian backup` does the same without Prefect."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.backup import backup_task
from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters

SnapshotsToKeep = Annotated[int, Field(ge=1)]


@flow(name="backup", flow_run_name=flow_run_name)
@fail_without_traceback
def backup_flow(
    to: str | None = None,
    keep: SnapshotsToKeep | None = None,
    workspace: str | None = None,
    adapters: str | None = None,
) -> State:
    """Add a snapshot to a backup folder; only new contents are copied, and every copy is verified.

    Args:
        to: the backup folder on the worker's machine, best on another disk; empty: MONDRIAN_BACKUP.
        keep: snapshots to keep; older ones are deleted afterwards. Empty: all.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    made = backup_task(settings_from_parameters(workspace, adapters), to, keep)
    left_out = f", {len(made.snapshot.left_out)} left out" if made.snapshot.left_out else ""
    return Completed(message=f"Snapshot {made.snapshot.name}: {made.new_files} new files{left_out}.")
