"""`mondrian backup` and `mondrian restore`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core.backup import BackupSnapshot, create_backup, list_snapshots, verify_backup
from mondrian_core.backup import restore_backup as bring_back
from mondrian_core.cli.options import settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.settings import Settings

MAX_LEFT_OUT_SHOWN = 5


def backup_command(options: Namespace) -> int:
    """Add a snapshot to a backup folder; exit status 1 when files had to be left out."""
    settings = settings_from_options(options)
    folder = settings.require_backup_folder(options.folder)
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
            screen.print(f"  the registry is not in it: it lies at {escape(str(settings.adapters))}")
        _draw_left_out(screen, made.snapshot)
        screen.print(f"Back with: mondrian restore {escape(str(folder))}")

    print_result(options.json, value, draw)
    return 1 if made.snapshot.left_out else 0


def restore_command(options: Namespace) -> int:
    """Bring a snapshot back to the workspace and the registry."""
    settings = settings_from_options(options)
    folder = settings.require_backup_folder(options.folder)
    if options.list:
        return _print_snapshots(options, folder)
    with show_progress(options.json) as listen:
        done = bring_back(
            folder,
            settings.root,
            _registry_root(settings),
            snapshot=options.snapshot,
            force=options.force,
            listen=listen,
        )

    def draw(screen: Console) -> None:
        screen.print(f"Snapshot {done.snapshot.name} of {done.snapshot.made_at} is back: {_size(done.snapshot)}")
        screen.print(f"  workspace {escape(str(settings.root))}, registry {escape(str(_registry_root(settings)))}")
        for path in done.moved_aside:
            screen.print(f"  what was there is kept in {escape(str(path))}")
        _draw_left_out(screen, done.snapshot)
        screen.print("Next: mondrian doctor, then make up")

    print_result(options.json, {**done.as_dict(), "workspace": str(settings.root)}, draw)
    return 0


def _registry_root(settings: Settings) -> Path:
    return settings.local_registry or settings.adapters_root


def _print_snapshots(options: Namespace, folder: Path) -> int:
    found = list_snapshots(folder)

    def draw(screen: Console) -> None:
        table = Table(title=f"Snapshots in {folder}", title_justify="left")
        for heading in ("snapshot", "made", "files", "MB", "left out"):
            table.add_column(heading)
        for each in found:
            table.add_row(
                each.name, each.made_at, str(len(each.entries)), f"{each.bytes / 1e6:,.1f}", str(len(each.left_out))
            )
        screen.print(table)

    print_result(options.json, [each.as_dict() for each in found], draw)
    return 0 if found else 1


def _verify_snapshot(options: Namespace, folder: Path) -> int:
    with show_progress(options.json) as listen:
        sound = verify_backup(folder, options.snapshot, listen)
    print_result(
        options.json,
        {**sound.as_dict(), "verified": True},
        lambda screen: screen.print(f"Snapshot {sound.name} is complete and sound: {_size(sound)}"),
    )
    return 0


def _size(snapshot: BackupSnapshot) -> str:
    return f"{len(snapshot.entries):,} files, {snapshot.bytes / 1e6:,.1f} MB"


def _draw_left_out(screen: Console, snapshot: BackupSnapshot) -> None:
    for path, reason in snapshot.left_out[:MAX_LEFT_OUT_SHOWN]:
        screen.print(f"  left out: {escape(path)}: {escape(reason)}")
    if len(snapshot.left_out) > MAX_LEFT_OUT_SHOWN:
        screen.print(f"  and {len(snapshot.left_out) - MAX_LEFT_OUT_SHOWN} more files are left out")
