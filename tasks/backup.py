"""Task that adds a snapshot to the backup folder. It holds no model and waits for none."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.backup import Backup, back_up
from mondrian_core.errors import DatabaseBusy
from mondrian_core.markdown import table
from mondrian_core.settings import Settings
from tasks.pages import page
from tasks.telling import Progress, artifact_key, leave_page, only


@task(name="backup", retries=2, retry_delay_seconds=30, retry_condition_fn=only(DatabaseBusy), cache_policy=NO_CACHE)
def backup(settings: Settings, to: str | None, keep: int | None) -> Backup:
    """Database, photographs and registry; what the folder has already is not copied again."""
    folder = settings.require_backup_folder(Path(to) if to else None)
    made = back_up(settings.root, settings.local_registry, folder, keep=keep, listen=Progress("backup", "workspace"))
    leave_page(artifact_key("backup"), backed_up(made), "The last backup")
    return made


def backed_up(made: Backup) -> str:
    """The backup as Markdown."""
    snapshot = made.snapshot
    verdict = f"## Snapshot {snapshot.name}: {len(snapshot.entries):,} files, {made.new_files:,} of them new"
    figures = table(
        ("what", "value"),
        [
            ("megabytes a restore brings back", f"{snapshot.bytes / 1e6:,.1f}"),
            ("megabytes copied now", f"{made.new_bytes / 1e6:,.1f}"),
            ("older snapshots deleted", len(made.deleted)),
            ("files left out", len(snapshot.left_out)),
        ],
    )
    files = table(("left out", "reason"), list(snapshot.left_out))
    return page(verdict, figures, files if snapshot.left_out else "")
