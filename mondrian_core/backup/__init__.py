"""Back up and restore a workspace and its registry.

A backup folder holds the content of every file once, under its SHA-256, and a list of files for each snapshot:

    objects/ab/abcdef...          content, written once and never changed
    snapshots/<time>.json         paths, hashes, sizes, modes; written last, so every snapshot is complete

file_selection.py  the files of a backup                    snapshots.py    the folder: objects, lists, checks
creation.py        make a snapshot, delete old snapshots    restoration.py  restore a snapshot
"""

from mondrian_core.backup.creation import BackupResult, NoRoomForBackup, create_backup
from mondrian_core.backup.restoration import RestoreResult, restore_backup
from mondrian_core.backup.snapshots import BackupSnapshot, DamagedBackup, list_snapshots, verify_backup

__all__ = [
    "BackupResult",
    "BackupSnapshot",
    "DamagedBackup",
    "NoRoomForBackup",
    "RestoreResult",
    "create_backup",
    "list_snapshots",
    "restore_backup",
    "verify_backup",
]
