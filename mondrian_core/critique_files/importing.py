"""`import_critiques`: read files of critiques, decide on each row, and save all of them or none.

Reading takes no lock: rows to save wait in a temporary file. They are saved in one transaction, after a check that
nobody has written critiques since; a process that ends before leaves the database as it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mondrian_core.critique_files.analyses import analysis_origins
from mondrian_core.critique_files.formats import ANALYSIS, CRITIQUE_FORMATS, CritiqueFile, file_rows
from mondrian_core.critique_files.photographs import PhotographLookup, known_hashes
from mondrian_core.critique_files.planning import (
    BAD_OUTCOMES,
    WRITTEN_OUTCOMES,
    ImportPlanner,
    PlannedRow,
    PlanRules,
    RowOutcome,
)
from mondrian_core.errors import BadInput, DatabaseBusy, NothingToDo, UnknownAdvisor
from mondrian_core.events import EventListener, StageFinished, StageNotice, StageProgressed, StageStarted, ignore_events
from mondrian_core.store import DimensionalProfile, Store

STAGE = "import"
PROGRESS_ROWS = 500
MAX_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class CritiqueImportOptions:
    """How to import.

    Attributes:
        advisor: of rows that name none; rows of others are refused. None: what the rows say.
        dry_run: decide on every row and write nothing.
        replace: a row may replace a newer critique by a person.
        skip_bad: save the good rows when others are refused; otherwise none is saved.
        format: of all files; None: recognized.
        expected: the `signature` of a dry run; the import is refused when it would do anything else.
    """

    advisor: str | None = None
    dry_run: bool = False
    replace: bool = False
    skip_bad: bool = False
    format: str | None = None
    expected: str | None = None


@dataclass(frozen=True, kw_only=True)
class CritiqueImport:
    """What an import did, or would do.

    Attributes:
        rows: every row with its outcome, in order.
        counts: rows by outcome.
        notices: what a person should know about the files.
        saved: True when the critiques are in the database.
        signature: equal for imports that do the same with every row.
    """

    rows: Sequence[PlannedRow]
    counts: dict[str, int]
    notices: Sequence[str]
    saved: bool
    signature: str

    @property
    def bad(self) -> int:
        """Rows that are refused or in conflict."""
        return sum(self.counts[outcome] for outcome in BAD_OUTCOMES)

    @property
    def to_write(self) -> int:
        """Rows that are new or changed."""
        return sum(self.counts[outcome] for outcome in WRITTEN_OUTCOMES)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "saved": self.saved,
            "counts": self.counts,
            "notices": list(self.notices),
            "signature": self.signature,
            "rows": [row.as_dict() for row in self.rows],
        }


class PlanChanged(BadInput):
    """The import would do something else than the dry run showed."""


def import_critiques(
    store: Store,
    workspace: Path,
    files: Sequence[CritiqueFile],
    options: CritiqueImportOptions,
    listen: EventListener = ignore_events,
) -> CritiqueImport:
    """Import critiques from files, in one transaction over all of them.

    When a row is bad and `skip_bad` is false nothing is saved, and the result says so.

    Args:
        store: the database; for a dry run it may be opened for reading.
        workspace: its folder.
        files: to read, in this order.
        options: how to import.
        listen: receives progress.

    Raises:
        BadInput: a file can't be read at all, or there is no such advisor or format.
        PlanChanged: `options.expected` is the signature of something else.
    """
    advisors = {prompt.advisor for prompt in store.advisors()}
    if options.advisor is not None and options.advisor not in advisors:
        raise UnknownAdvisor(options.advisor, sorted(advisors))
    if not files:
        raise NothingToDo("No file was given.", "Give CSV, JSON or JSON Lines files, or older analyses.")
    lookup = PhotographLookup(workspace, known_hashes(store), listen)
    listen(StageStarted(STAGE, detail=f"reading {len(files)} {'file' if len(files) == 1 else 'files'}"))
    for _ in range(MAX_ATTEMPTS):
        mark = store.profiles_mark()
        rules = PlanRules(advisor=options.advisor, advisors=advisors, replace=options.replace)
        planner = ImportPlanner(rules, lookup, store.each_profile())
        with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
            found = _planned(store, files, options, planner, spool, listen)
            if options.expected is not None and options.expected != found.signature:
                raise PlanChanged(
                    "Since the preview, the file or the critiques of the workspace have changed.",
                    "Look at the new preview and confirm it.",
                )
            if options.dry_run or (found.bad and not options.skip_bad) or not found.to_write:
                listen(StageFinished(STAGE, found.counts))
                return found
            if _save(store, spool, mark, found.to_write, listen):
                listen(StageFinished(STAGE, found.counts))
                return CritiqueImport(
                    rows=found.rows,
                    counts=found.counts,
                    notices=found.notices,
                    saved=True,
                    signature=found.signature,
                )
        listen(StageNotice(STAGE, "Critiques were written in the meantime; reading the files again."))
    raise DatabaseBusy("Other programs keep writing critiques.", "Stop them, and import again.")


def _planned(
    store: Store,
    files: Sequence[CritiqueFile],
    options: CritiqueImportOptions,
    planner: ImportPlanner,
    spool: IO[str],
    listen: EventListener,
) -> CritiqueImport:
    """Decide on every row; critiques to save are written to `spool`."""
    rows: list[PlannedRow] = []
    notices: list[str] = []
    signature = hashlib.sha256()
    analyses = any(_may_be_analysis(file, options) for file in files)
    origins = analysis_origins(store) if analyses else {}
    for file in files:
        for row in file_rows(file, options.format, origins, notices):
            planned, profile = planner.decide(file.name, row)
            rows.append(planned)
            digest = row.record.digest if row.record else ""
            signature.update(json.dumps([planned.place, planned.outcome, planned.photograph, digest]).encode())
            if profile is not None:
                spool.write(f"{json.dumps(_spooled(profile))}\n")
            if len(rows) % PROGRESS_ROWS == 0:
                listen(StageProgressed(STAGE, len(rows), detail=file.name))
    counts = {outcome.value: planner.counts[outcome] for outcome in RowOutcome}
    return CritiqueImport(rows=rows, counts=counts, notices=notices, saved=False, signature=signature.hexdigest())


def _may_be_analysis(file: CritiqueFile, options: CritiqueImportOptions) -> bool:
    return options.format == ANALYSIS or Path(file.name).suffix.lower() in CRITIQUE_FORMATS[ANALYSIS].suffixes


def _save(store: Store, spool: IO[str], mark: tuple[Any, ...], count: int, listen: EventListener) -> bool:
    """Save the critiques of the spool; False, and nothing is saved, when others were written since `mark`."""
    spool.flush()
    spool.seek(0)
    with store.transaction():
        if store.profiles_mark() != mark:
            return False
        store.save_profiles(_reported(_from_spool(spool), count, listen))
    return True


def _reported(
    profiles: Iterable[DimensionalProfile], count: int, listen: EventListener
) -> Iterator[DimensionalProfile]:
    for number, profile in enumerate(profiles, 1):
        yield profile
        if number % PROGRESS_ROWS == 0 or number == count:
            listen(StageProgressed("save", number, count))


def _spooled(profile: DimensionalProfile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "advisor": profile.advisor,
        "image_path": profile.image_path,
        "scores": dict(profile.scores),
        "comments": dict(profile.comments),
        "recommendations": dict(profile.recommendations),
        "overall_grade": profile.overall_grade,
        "origin": profile.origin,
        "created_at": profile.created_at,
        "details": dict(profile.details),
    }


def _from_spool(spool: IO[str]) -> Iterator[DimensionalProfile]:
    for line in spool:
        yield DimensionalProfile(**json.loads(line))
