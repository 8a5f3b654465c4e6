"""`export_critiques`: all critiques of one advisor or of all, in a format that an import reads back without loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mondrian_core.critique_files.formats import CritiqueFormat
from mondrian_core.critique_files.photographs import PhotographLookup, known_hashes
from mondrian_core.critique_files.records import INDEX, CritiqueRecord, RowProblem, record_from_profile
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageProgressed, ignore_events
from mondrian_core.files import replace_atomic
from mondrian_core.portable_paths import redacted_path
from mondrian_core.store import Store

_STAGE = "export"
_PROGRESS_CRITIQUES = 500


@dataclass
class ExportCounts:
    """What an export wrote, filled while it runs.

    Attributes:
        critiques: written.
        incomplete: left out, because a score or a comment is missing.
        index_made: left out, because the base model made them for retrieval only.
        without_photograph: written, but their photograph is not in the workspace.
    """

    critiques: int = 0
    incomplete: int = 0
    index_made: int = 0
    without_photograph: int = 0


def exported_records(
    store: Store, workspace: Path, advisor: str | None, counts: ExportCounts, listen: EventListener = ignore_events
) -> Iterator[CritiqueRecord]:
    """The complete critiques of an advisor (None: of all) in the order in which they were written.

    Photographs are named by their path below the workspace and by the hash of their bytes.

    Args:
        store: the database.
        workspace: its folder.
        advisor: id.
        counts: filled while the records are read.
        listen: receives progress.
    """
    lookup = PhotographLookup(workspace, known_hashes(store))
    for profile in store.each_profile(advisor):
        if profile.origin == INDEX:
            counts.index_made += 1
            continue
        record = record_from_profile(profile)
        if record is None:
            counts.incomplete += 1
            continue
        counts.critiques += 1
        if counts.critiques % _PROGRESS_CRITIQUES == 0:
            listen(StageProgressed(_STAGE, counts.critiques))
        try:
            path = lookup.by_path(record.photograph)
        except RowProblem:
            counts.without_photograph += 1
            yield replace(record, photograph=redacted_path(record.photograph, lookup.roots))
        else:
            yield replace(record, photograph=path, sha256=lookup.hash(path))


def exported_bytes(kind: CritiqueFormat, records: Iterator[CritiqueRecord]) -> Iterator[bytes]:
    """The file's content in pieces; `kind` is a `written_format`."""
    assert kind.write is not None, kind.name
    mark = kind.encoding.removesuffix("-sig") != kind.encoding
    for text in kind.write(records):
        yield text.encode("utf-8-sig" if mark else "utf-8")
        mark = False


def export_critiques(kind: CritiqueFormat, records: Iterator[CritiqueRecord], path: Path) -> None:
    """Write a file, whole or not at all; an existing file is replaced.

    Raises:
        BadInput: the place can't be written.
        DiskFull: when no space is left.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder.", "Give the name of a file, such as critiques.csv.")

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            stream.writelines(exported_bytes(kind, records))

    try:
        replace_atomic(path, write)
    except PermissionError as error:
        raise BadInput(f"{path} can't be written ({error.strerror}).", "Choose another place with --out.") from error
