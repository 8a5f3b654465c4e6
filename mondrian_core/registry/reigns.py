"""Who was champion when, from the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mondrian_core.registry.history import HistoryEntry


@dataclass(frozen=True, kw_only=True)
class ChampionReign:
    """A time during which one version was champion.

    Attributes:
        version: None: the base alone.
        since, until: ISO 8601; `until` is None for the present champion.
        event: what began it: promote, rollback or quarantine.
        actor, reason: of that event.
    """

    version: str | None
    since: str
    until: str | None
    event: str
    actor: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def champion_reigns(entries: Sequence[HistoryEntry]) -> tuple[ChampionReign, ...]:
    """The champions in their order; () when nothing was ever promoted."""
    moves = [entry for entry in entries if entry.moves_pointer]
    ends = [entry.at for entry in moves[1:]] + [None]
    return tuple(
        ChampionReign(
            version=entry.after,
            since=entry.at,
            until=until,
            event=entry.event,
            actor=entry.actor,
            reason=entry.reason,
        )
        for entry, until in zip(moves, ends, strict=False)
    )
