"""Find photographs that people added, moved or deleted under source/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from mondrian_core.errors import UnknownAdvisor
from mondrian_core.events import EventListener, ignore_events
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.importing.folder_walk import FoundFile
from mondrian_core.importing.import_report import ImportedFile, ImportOutcome, ImportReport
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.importing.placement import PHOTOGRAPHS_FOLDER, PORTFOLIOS_FOLDER
from mondrian_core.photograph_paths import SourceTree, has_temporary_name
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photographs


def rescan_photographs(
    store: Store, settings: ImportSettings, advisor: str | None, listen: EventListener = ignore_events
) -> ImportReport:
    """Bring the table of photographs up to date with source/. Nothing is copied or deleted.

    The folder says whose a photograph is: a portfolio, or the folder of an advisor's imports. A photograph that was
    moved keeps its row, and critiques that named the old path name the new one from then on.

    Args:
        store: opened for writing.
        settings: of the workspace; the advisor in it is ignored.
        advisor: whose photographs outside such folders are; None leaves those out, with a reason.
        listen: receives the progress.

    Raises:
        UnknownAdvisor: there is no such advisor.
    """
    if advisor is not None:
        store.advisor(advisor)
    known = {each.advisor for each in store.advisors()}
    groups: dict[tuple[str, bool], list[FoundFile]] = {}
    report = ImportReport(dry_run=settings.dry_run, referenced=True)
    for path in SourceTree(settings.root).files:
        if PurePosixPath(path).suffix.lower() not in PHOTOGRAPH_SUFFIXES or has_temporary_name(path):
            continue
        owner, portfolio = _owner(path)
        owner = owner or advisor
        if owner is None:
            detail = "no advisor: its folder belongs to none, and --advisor was not given"
            report.add(ImportedFile(file=path, outcome=ImportOutcome.REJECTED, reason="no_advisor", detail=detail))
        elif owner not in known:
            detail = str(UnknownAdvisor(owner, sorted(known)).problem).removesuffix(".")
            report.add(ImportedFile(file=path, outcome=ImportOutcome.REJECTED, reason="no_advisor", detail=detail))
        else:
            groups.setdefault((owner, portfolio), []).append(FoundFile(settings.root / path, path))
    for (owner, portfolio), files in sorted(groups.items()):
        one = replace(settings, advisor=owner, portfolio=portfolio)
        report.merge(PhotographImport(store, one).run_files(files, listen))
    report.missing += _missing(store, settings)
    return report


def _missing(store: Store, settings: ImportSettings) -> list[str]:
    rows = Photographs(store).find()
    return sorted({row.image_path for row in rows if not (settings.root / row.image_path).is_file()})


def _owner(path: str) -> tuple[str | None, bool]:
    """The advisor whose folder a file is in (None: no advisor's), and whether that is a portfolio."""
    parts = PurePosixPath(path).parts
    folders: Mapping[str, tuple[int, bool]] = {PORTFOLIOS_FOLDER: (3, True), PHOTOGRAPHS_FOLDER: (2, False)}
    for folder, (position, portfolio) in folders.items():
        if path.startswith(f"{folder}/") and len(parts) > position + 1:
            return parts[position], portfolio
    return None, False
