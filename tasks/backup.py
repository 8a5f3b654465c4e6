"""Task that adds a snapshot to the backup folder. It needs no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.backup import BackupResult, create_backup
from mondrian_core.errors import DatabaseBusy
from mondrian_core.markdown import markdown_table
from mondrian_core.settings import Settings
from tasks.artifact_pages import join_markdown
from tasks.reporting import ProgressReporter, artifact_key, publish_markdown_artifact, retry_only_on


@task(
    name="backup",
    retries=2,
    retry_delay_seconds=30,
    retry_condition_fn=retry_only_on(DatabaseBusy),
    cache_policy=NO_CACHE,
)
def backup_task(settings: Settings, to: str | None, keep: int | None) -> BackupResult:
    """Back up database, photographs and registry; known contents are not copied again."""
    folder = settings.require_backup_folder(Path(to) if to else None)
    made = create_backup(
        settings.root, settings.local_registry, folder, keep=keep, listen=ProgressReporter("backup", "workspace")
    )
    publish_markdown_artifact(artifact_key("backup"), backup_markdown(made), "The last backup")
    return made


def backup_markdown(made: BackupResult) -> str:
    """The backup as Markdown."""
    snapshot = made.snapshot
    verdict = f"## Snapshot {snapshot.name}: {len(snapshot.entries):,} files, {made.new_files:,} of them new"
    figures = markdown_table(
        ("what", "value"),
        [
            ("megabytes in the snapshot", f"{snapshot.bytes / 1e6:,.1f}"),
            ("megabytes copied now", f"{made.new_bytes / 1e6:,.1f}"),
            ("older snapshots deleted", len(made.deleted)),
            ("files not in the backup", len(snapshot.left_out)),
        ],
    )
    files = markdown_table(("not in the backup", "reason"), list(snapshot.left_out))
    return join_markdown(verdict, figures, files if snapshot.left_out else "")
