"""promoted.json: the version that serves. Replacing the file by a rename is what makes a promotion take effect.

The file holds the history entry of its own move, so that the move, its actor and its reason reach the disk together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter
from mondrian_core.files import write_json
from mondrian_core.registry.history import HistoryEntry

POINTER = "promoted.json"


@dataclass(frozen=True)
class ChampionPointer:
    """The champion.

    Attributes:
        version: None: the base alone.
        manifest_sha256: of that version's manifest, so that an edited one is not served; "" for the base.
        entry: the history line of the move that set it.
    """

    advisor: str
    version: str | None
    manifest_sha256: str
    entry: HistoryEntry

    def as_dict(self) -> dict[str, Any]:
        """The file's values."""
        return {
            "advisor": self.advisor,
            "version": self.version,
            "previous": self.entry.before,
            "promoted_at": self.entry.at,
            "manifest_sha256": self.manifest_sha256,
            "entry": self.entry.as_dict(),
        }


def read_champion_pointer(home: Path, advisor: str) -> ChampionPointer | None:
    """The pointer; None when nothing was ever promoted.

    Raises:
        BadAdapter: the file is damaged or was edited; the next promotion or rollback repairs it.
    """
    path = home / POINTER
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(text)
        entry = HistoryEntry.from_dict(value["entry"])
        pointer = ChampionPointer(advisor, value["version"], value["manifest_sha256"], entry)
        sound = value["advisor"] == advisor and pointer.version == entry.after and entry.moves_pointer
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged_pointer(path, advisor, f"it can't be read ({error})") from None
    if not sound:
        raise _damaged_pointer(path, advisor, "it was edited manually")
    return pointer


def write_champion_pointer(home: Path, pointer: ChampionPointer) -> None:
    """Replace the pointer atomically. The caller holds the lock.

    Raises:
        DiskFull: the old pointer stays.
    """
    write_json(home / POINTER, pointer.as_dict())


def _damaged_pointer(path: Path, advisor: str, why: str) -> BadAdapter:
    return BadAdapter(
        f"{path} names the version that serves, but {why}.",
        f"Run `mondrian adapters promote` or `mondrian adapters rollback --advisor {advisor}`; both rewrite it.",
    )
