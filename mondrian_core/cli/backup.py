"""`mondrian backup` and `mondrian restore`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core.backup import BackupSnapshot, create_backup, list_snapshots, restore_backup, verify_backup
from mondrian_core.cli.options import CommandOptions, settings_from_options, whole_number
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.settings import Settings

MAX_LEFT_OUT_SHOWN = 5


_Folder = Annotated[
    Path | None, Parameter(name="folder", help="the backup folder, best on another disk (MONDRIAN_BACKUP)")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SnapshotOptions(CommandOptions):
    """Options of `mondrian backup` and `mondrian restore`."""

    list: Annotated[bool, Parameter(help="list the snapshots in the folder and exit")] = False
    snapshot: Annotated[str | None, Parameter(help="a snapshot named by --list (default: the latest)")] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BackupOptions(SnapshotOptions):
    """Options of `mondrian backup`."""

    keep: Annotated[
        int | None, Parameter(converter=whole_number, help="afterwards delete all but the latest N snapshots")
    ] = None
    verify: Annotated[bool, Parameter(help="read every file of a snapshot again and exit")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RestoreOptions(SnapshotOptions):
    """Options of `mondrian restore`."""

    force: Annotated[bool, Parameter(help="restore although there is data already; it is moved aside, not deleted")] = (
        False
    )


def backup_command(given: _Folder = None, /, *, options: BackupOptions = BackupOptions()) -> int:
    """Add a snapshot to a backup folder; exit status 1 when files had to be left out."""
    settings = settings_from_options(options)
    folder = settings.require_backup_folder(given)
    if options.list:
        return _print_snapshots(options, folder)
    if options.verify:
        return _verify_snapshot(options, folder)
    with show_progress(options.json) as listen:
        made = create_backup(settings.root, settings.local_registry, folder, keep=options.keep, listen=listen)
    value = {**made.as_dict(), "folder": str(folder), "registry_elsewhere": settings.local_registry is None}

    def draw(screen: Console) -> None:
        screen.print(f"Snapshot {made.snapshot.name} in {escape(str(folder))}: {_size(made.snapshot)}")
        screen.print(f"  new: {made.new_files} files, {made.new_bytes / 1e6:,.1f} MB")
        if made.deleted:
            screen.print(f"  deleted: {len(made.deleted)} older snapshots")
        if settings.local_registry is None:
            screen.print(f"  the registry is not included: it is stored at {escape(str(settings.adapters))}")
        _draw_left_out(screen, made.snapshot)
        screen.print(f"To restore it: mondrian restore {escape(str(folder))}")

    print_result(options.json, value, draw)
    return 1 if made.snapshot.left_out else 0


def restore_command(given: _Folder = None, /, *, options: RestoreOptions = RestoreOptions()) -> int:
    """Restore a snapshot to the workspace and the registry."""
    settings = settings_from_options(options)
    folder = settings.require_backup_folder(given)
    if options.list:
        return _print_snapshots(options, folder)
    with show_progress(options.json) as listen:
        done = restore_backup(
            folder,
            settings.root,
            _registry_root(settings),
            snapshot=options.snapshot,
            force=options.force,
            listen=listen,
        )

    def draw(screen: Console) -> None:
        screen.print(f"Snapshot {done.snapshot.name} of {done.snapshot.made_at} is restored: {_size(done.snapshot)}")
        screen.print(f"  workspace {escape(str(settings.root))}, registry {escape(str(_registry_root(settings)))}")
        for path in done.moved_aside:
            screen.print(f"  the previous files were moved to {escape(str(path))}")
        _draw_left_out(screen, done.snapshot)
        screen.print("Next: mondrian doctor, then mondrian up")

    print_result(options.json, {**done.as_dict(), "workspace": str(settings.root)}, draw)
    return 0


def _registry_root(settings: Settings) -> Path:
    return settings.local_registry or settings.adapters_root


def _print_snapshots(options: SnapshotOptions, folder: Path) -> int:
    snapshots = list_snapshots(folder)

    def draw(screen: Console) -> None:
        table = Table(title=f"Snapshots in {folder}", title_justify="left")
        for heading in ("snapshot", "made", "files", "MB", "left out"):
            table.add_column(heading)
        for snapshot in snapshots:
            table.add_row(
                snapshot.name,
                snapshot.made_at,
                str(len(snapshot.entries)),
                f"{snapshot.bytes / 1e6:,.1f}",
                str(len(snapshot.left_out)),
            )
        screen.print(table)

    print_result(options.json, [snapshot.as_dict() for snapshot in snapshots], draw)
    return 0 if snapshots else 1


def _verify_snapshot(options: BackupOptions, folder: Path) -> int:
    with show_progress(options.json) as listen:
        verified = verify_backup(folder, options.snapshot, listen)
    print_result(
        options.json,
        {**verified.as_dict(), "verified": True},
        lambda screen: screen.print(f"Snapshot {verified.name} is complete and valid: {_size(verified)}"),
    )
    return 0


def _size(snapshot: BackupSnapshot) -> str:
    return f"{len(snapshot.entries):,} files, {snapshot.bytes / 1e6:,.1f} MB"


def _draw_left_out(screen: Console, snapshot: BackupSnapshot) -> None:
    for path, reason in snapshot.left_out[:MAX_LEFT_OUT_SHOWN]:
        screen.print(f"  left out: {escape(path)}: {escape(reason)}")
    if len(snapshot.left_out) > MAX_LEFT_OUT_SHOWN:
        screen.print(f"  and {len(snapshot.left_out) - MAX_LEFT_OUT_SHOWN} more files are left out")
