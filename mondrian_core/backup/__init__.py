"""Backups of a workspace and its registry, and the way back.

A backup folder holds the content of every file once, under its SHA-256, and a list of files for each snapshot:

    objects/ab/abcdef...          content, written once and never changed
    snapshots/<time>.json         paths, hashes, sizes, modes; written last: a snapshot that is there is complete

contents.py   which files belong to a backup     snapshots.py  the folder: objects, lists, checks
making.py     make a snapshot, thin out old ones restoring.py  bring one back
"""

from mondrian_core.backup.making import Backup, NoRoomForBackup, back_up
from mondrian_core.backup.restoring import Restored, restore
from mondrian_core.backup.snapshots import DamagedBackup, Snapshot, list_snapshots, verify

__all__ = [
    "Backup",
    "DamagedBackup",
    "NoRoomForBackup",
    "Restored",
    "Snapshot",
    "back_up",
    "list_snapshots",
    "restore",
    "verify",
]
