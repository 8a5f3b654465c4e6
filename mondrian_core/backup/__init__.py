"""Backups of a workspace and its registry, and the way back.

A backup folder holds the content of every file once, under its SHA-256, and a list of files for each snapshot:

    objects/ab/abcdef...          content, written once and never changed
    snapshots/<time>.json         paths, hashes, sizes, modes; written last: a snapshot that is there is complete

contents.py   which files belong to a backup     snapshots.py  the folder: objects, lists, checks
making.py     make a snapshot, thin out old ones restoring.py  bring one back
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
