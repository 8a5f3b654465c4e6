"""What an import did with each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ImportOutcome(StrEnum):
    """What happened to a file; the list is closed."""

    IMPORTED = "imported"
    KNOWN = "known"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    LINK = "link"


OUTCOME_TITLES: Mapping[ImportOutcome, str] = {
    ImportOutcome.IMPORTED: "imported",
    ImportOutcome.KNOWN: "imported before",
    ImportOutcome.DUPLICATE: "copies of another file of this import",
    ImportOutcome.REJECTED: "not usable",
    ImportOutcome.LINK: "links not followed",
}


@dataclass(frozen=True, kw_only=True)
class ImportedFile:
    """One file of an import.

    Attributes:
        file: as the user named it, or below the folder that the user named, with "/".
        outcome: what happened.
        reason: of a rejected file, from `images.PhotographRejection`; else "".
        detail: for people, without a full stop.
        path: of the photograph below the workspace; None when it has none.
        sha256: of the photograph's bytes in the workspace; None when it was not imported.
        place_removed: where GPS data was removed: "EXIF", "XMP", "film".
    """

    file: str
    outcome: ImportOutcome
    reason: str = ""
    detail: str = ""
    path: str | None = None
    sha256: str | None = None
    place_removed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without those that are empty."""
        values = {
            "file": self.file,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "detail": self.detail,
            "path": self.path,
            "sha256": self.sha256,
            "place_removed": list(self.place_removed),
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class ResemblingPhotographs:
    """Two photographs of an advisor that look alike, below the workspace, and how."""

    first: str
    second: str
    how: str


@dataclass
class ImportReport:
    """What happened to the files of an import; grows while it runs.

    Attributes:
        counts: of files, by outcome.
        kept: every file that was not imported, in the order of the import.
        place_removed: how many photographs lost GPS data, by where it was.
        other_files: files that are not photographs, by suffix; not listed one by one.
        near_duplicates: photographs that look alike, at least one of them new.
        moved: new path below the workspace by old one, of photographs that somebody moved.
        missing: paths below the workspace of known photographs whose file is gone.
        dry_run: nothing was written.
        referenced: originals were linked, not copied.
    """

    dry_run: bool = False
    referenced: bool = False
    counts: Counter[ImportOutcome] = field(default_factory=Counter)
    kept: list[ImportedFile] = field(default_factory=list)
    place_removed: Counter[str] = field(default_factory=Counter)
    other_files: Counter[str] = field(default_factory=Counter)
    near_duplicates: list[ResemblingPhotographs] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, file: ImportedFile) -> None:
        """Count a file, and keep it unless it was imported."""
        self.counts[file.outcome] += 1
        self.place_removed.update(file.place_removed)
        if file.outcome is not ImportOutcome.IMPORTED:
            self.kept.append(file)

    def merge(self, other: ImportReport) -> None:
        """Add the report of another import."""
        self.counts.update(other.counts)
        self.place_removed.update(other.place_removed)
        self.other_files.update(other.other_files)
        self.kept += other.kept
        self.near_duplicates += other.near_duplicates
        self.moved |= other.moved
        self.missing += other.missing

    def of(self, outcome: ImportOutcome) -> list[ImportedFile]:
        """The files with an outcome, except the imported ones."""
        return [file for file in self.kept if file.outcome is outcome]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dry_run": self.dry_run,
            "referenced": self.referenced,
            **{str(outcome): self.counts[outcome] for outcome in ImportOutcome},
            "place_removed": dict(self.place_removed),
            "other_files": dict(self.other_files.most_common()),
            "files": [file.as_dict() for file in self.kept],
            "moved": self.moved,
            "missing": self.missing,
            "near_duplicates": [vars(pair) for pair in self.near_duplicates],
        }
