"""history.jsonl: the append-only log of an advisor's versions; each line holds the SHA-256 of the line before.

A line records a change that has already happened. When a change is a rename (a version appears, the pointer moves), the
rename comes first and carries the content of the line; a process killed in between leaves a history that lacks one
line, never one with a false line, and the next writer adds it (`advisor_store`). A torn last line, without its newline,
doesn't count and is cut off by the next writer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mondrian_core.json_lines import append_line_durably, complete_lines
from mondrian_core.registry.evaluations import RecordedEvaluation
from mondrian_core.registry.version import VersionState, is_gate_report

HISTORY = "history.jsonl"
GENESIS_HASH = "0" * 64

# register: a new version.  adopt: a version found on disk without a line.  promote, rollback: the pointer moved.
# quarantine: damaged, never served (moves the pointer when it was the champion).  release: passed verification again.
# reject: rejected manually.  evaluate: measured again.  remove: deleted by retention.  rollout: a share changed.
# look: an evaluation begins to judge an adapter.  look_result: what it measured (looks.py).
LOOK_EVENT, LOOK_RESULT_EVENT, ROLLOUT_EVENT = "look", "look_result", "rollout"
EVENTS = frozenset(
    {"register", "adopt", "promote", "rollback", "quarantine", "release", "reject", "evaluate", "remove"}
    | {ROLLOUT_EVENT, LOOK_EVENT, LOOK_RESULT_EVENT}
)


def sha256_hex(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """One line.

    Attributes:
        serial: 1, 2, 3, ...; the order of events. `at` is the clock's time, which may go backwards.
        before, after: the champion before and after, for events that move the pointer; None is the base alone.
        previous: SHA-256 of the line before, without its newline.
    """

    serial: int
    at: str
    event: str
    version: str | None
    actor: str
    reason: str
    previous: str
    before: str | None = None
    after: str | None = None
    moves_pointer: bool = False
    forced: bool = False
    verdicts: Mapping[str, str] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the order of the line."""
        return asdict(self)

    @property
    def line(self) -> str:
        """The line without its newline; the same bytes on every machine."""
        return json.dumps(self.as_dict(), ensure_ascii=False, sort_keys=False, separators=(", ", ": "))

    @property
    def sha256(self) -> str:
        """SHA-256 of the line."""
        return sha256_hex(self.line.encode())

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HistoryEntry:
        """An entry from a line's values.

        Raises:
            ValueError: the values are not an entry.
        """
        try:
            entry = cls(**value)
        except TypeError as error:
            raise ValueError(str(error)) from None
        if type(entry.serial) is not int or entry.event not in EVENTS:
            raise ValueError(f"no such event: {entry.event!r}")
        texts = (entry.at, entry.actor, entry.reason, entry.previous)
        names = (entry.version, entry.before, entry.after)
        if not all(isinstance(text, str) for text in (*texts, *(name or "" for name in names))):
            raise ValueError("a text is not a text")
        if not isinstance(entry.verdicts, dict) or not isinstance(entry.detail, dict):
            raise ValueError("verdicts or detail is not an object")
        if entry.event == "evaluate" and not is_gate_report(entry.detail.get("report") or {}):
            raise ValueError("its report is damaged")
        return entry


@dataclass(frozen=True)
class HistoryChain:
    """The content of a history file.

    Attributes:
        size: bytes up to the end of the last complete line; a torn line may follow.
        problems: lines that can't be read, or whose hash of the line before is wrong.
    """

    entries: tuple[HistoryEntry, ...]
    size: int
    problems: tuple[str, ...]

    @property
    def tip(self) -> str:
        """SHA-256 of the last entry."""
        return self.entries[-1].sha256 if self.entries else GENESIS_HASH

    @property
    def next_serial(self) -> int:
        """The serial of the next entry."""
        return self.entries[-1].serial + 1 if self.entries else 1

    def next_entry(self, event: str, clock: datetime, **values: Any) -> HistoryEntry:
        """Build the next entry; nothing is written."""
        at = clock.astimezone(UTC).isoformat(timespec="milliseconds")
        detail = dict(values.pop("detail", {}) or {})
        if self.entries and at < self.entries[-1].at:
            detail["clock"] = "behind the line before"
        return HistoryEntry(serial=self.next_serial, at=at, event=event, previous=self.tip, detail=detail, **values)

    def with_entry(self, entry: HistoryEntry) -> HistoryChain:
        """The chain after `entry`."""
        return HistoryChain((*self.entries, entry), self.size + len(entry.line.encode()) + 1, self.problems)


def read_history(home: Path) -> HistoryChain:
    """The history of an advisor's folder; empty when there is no file."""
    lines = complete_lines(home / HISTORY)
    entries: list[HistoryEntry] = []
    problems: list[str] = []
    previous = GENESIS_HASH
    for number, line in enumerate(lines, start=1):
        try:
            entry = HistoryEntry.from_dict(json.loads(line))
        except (ValueError, TypeError) as error:
            problems.append(f"{HISTORY} line {number} can't be read: {error}")
            previous = sha256_hex(line)
            continue
        if entry.previous != previous:
            problems.append(
                f"{HISTORY} line {number} doesn't follow from the line before: a line was changed or removed"
            )
        if entries and entry.serial <= entries[-1].serial:
            problems.append(f"{HISTORY} line {number} repeats serial {entry.serial}")
        entries.append(entry)
        previous = sha256_hex(line)
    return HistoryChain(tuple(entries), sum(len(line) + 1 for line in lines), tuple(problems))


def append_history_entry(home: Path, chain: HistoryChain, entry: HistoryEntry) -> HistoryChain:
    """Write `entry` behind `chain` and flush it to disk; cut off a torn line first. The caller holds the lock.

    Raises:
        DiskFull: when no space is left; the file is as it was.
    """
    append_line_durably(home / HISTORY, entry.line, chain.size)
    return chain.with_entry(entry)


@dataclass(frozen=True, kw_only=True)
class HistoryState:
    """What the history says about an advisor's versions.

    Attributes:
        states: by version, without the pointer: who is champion is the pointer's word.
        manifests: SHA-256 of the manifest by version, as it was when the version came.
        evaluations: the recorded evaluations by version, oldest first.
        contents: `version.adapter_content_digest` by version, also of removed ones; older releases didn't record it.
        rejected_manually: versions that a person rejected; no evaluation makes them candidates again.
        champions: champions in force, oldest first; the last is the present one. None is the base alone.
        removed: versions that retention deleted; their numbers are not used again.
    """

    states: Mapping[str, VersionState]
    manifests: Mapping[str, str]
    evaluations: Mapping[str, tuple[RecordedEvaluation, ...]]
    contents: Mapping[str, str]
    rejected_manually: frozenset[str]
    champions: tuple[str | None, ...]
    removed: frozenset[str]

    def copies(self, version: str) -> tuple[str, ...]:
        """The other versions with the same weights and configuration, sorted; removed ones too."""
        content = self.contents.get(version)
        same = (name for name, found in self.contents.items() if found == content and name != version)
        return tuple(sorted(same)) if content else ()


def replay_history(entries: Sequence[HistoryEntry]) -> HistoryState:
    """The state after all entries; a pure function."""
    states: dict[str, VersionState] = {}
    manifests: dict[str, str] = {}
    evaluations: dict[str, tuple[RecordedEvaluation, ...]] = {}
    contents: dict[str, str] = {}
    rejected_manually: set[str] = set()
    champions: list[str | None] = [None]
    removed: set[str] = set()
    for entry in entries:
        name = entry.version
        if entry.moves_pointer:
            _apply_pointer_move(champions, states, entry)
        if name is None:
            continue
        if entry.event == "reject":
            rejected_manually.add(name)
        if (state := _state_after(entry)) is not None:
            states[name] = "rejected" if state == "candidate" and name in rejected_manually else state
        if entry.event in ("register", "adopt", "release"):
            removed.discard(name)
            manifests |= _noted(entry, "manifest_sha256")
            contents |= _noted(entry, "content")
        elif entry.event == "evaluate":
            made = RecordedEvaluation(entry.detail.get("report", {}), entry.at, entry.actor, entry.serial)
            evaluations[name] = (*evaluations.get(name, ()), made)
        elif entry.event == "remove":
            removed.add(name)
            states.pop(name, None)
    return HistoryState(
        states=states,
        manifests=manifests,
        evaluations=evaluations,
        contents=contents,
        rejected_manually=frozenset(rejected_manually),
        champions=tuple(champions),
        removed=frozenset(removed),
    )


def _noted(entry: HistoryEntry, key: str) -> dict[str, str]:
    """A hash that the entry records of its version; {} when it doesn't."""
    return {str(entry.version): entry.detail[key]} if key in entry.detail else {}


def _state_after(entry: HistoryEntry) -> VersionState | None:
    """The state that an entry gives its version; None when it leaves the state as it is."""
    state: VersionState | None = entry.detail.get("state")
    match entry.event:
        case "register" | "adopt" | "release":
            return state or "candidate"
        case "evaluate":
            return state
        case "quarantine":
            return "quarantined"
        case "reject":
            return "rejected"
        case _:
            return None


def _apply_pointer_move(champions: list[str | None], states: dict[str, VersionState], entry: HistoryEntry) -> None:
    if entry.before is not None:
        states[entry.before] = "retired"
    if entry.event == "promote":
        champions.append(entry.after)
    else:
        while len(champions) > 1 and champions[-1] != entry.after:
            champions.pop()
        if champions[-1] != entry.after:
            champions.append(entry.after)
    if entry.after is not None:
        states[entry.after] = "retired"  # its state once another version is champion; the pointer names the present one
