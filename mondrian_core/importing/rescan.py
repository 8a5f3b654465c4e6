"""Find photographs that people added, moved or deleted under source/."""

from __future__ import annotations

from dataclasses import replace

from mondrian_core.errors import UnknownAdvisor
from mondrian_core.events import EventListener, ignore_events
from mondrian_core.importing.folder_walk import FoundFile
from mondrian_core.importing.import_report import ImportedFile, ImportOutcome, ImportReport
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.importing.recording import photograph_paths_by_owner
from mondrian_core.photograph_paths import SourceTree
from mondrian_core.settings import ALL_ADVISORS
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
        advisor: whose photographs outside such folders are; None: every advisor's.
        listen: receives the progress.

    Raises:
        UnknownAdvisor: there is no such advisor.
    """
    if advisor is not None:
        store.advisor(advisor)
    known = {each.advisor for each in store.advisors()} | {ALL_ADVISORS}
    report = ImportReport(dry_run=settings.dry_run, referenced=True)
    groups: dict[tuple[str, bool], list[FoundFile]] = {}
    for (folder_owner, portfolio), paths in photograph_paths_by_owner(SourceTree(settings.root).files).items():
        owner = (advisor or ALL_ADVISORS) if folder_owner == ALL_ADVISORS else folder_owner
        if owner in known:
            groups.setdefault((owner, portfolio), []).extend(FoundFile(settings.root / path, path) for path in paths)
            continue
        detail = str(UnknownAdvisor(owner, sorted(known - {ALL_ADVISORS})).problem).removesuffix(".")
        for path in paths:
            report.add(ImportedFile(file=path, outcome=ImportOutcome.REJECTED, reason="no_advisor", detail=detail))
    for (owner, portfolio), files in sorted(groups.items(), reverse=True):  # portfolios before the rest
        one = replace(settings, advisor=owner, portfolio=portfolio)
        report.merge(PhotographImport(store, one).run_files(files, listen))
    report.missing += _missing(store, settings)
    return report


def _missing(store: Store, settings: ImportSettings) -> list[str]:
    rows = Photographs(store).find()
    return sorted({row.image_path for row in rows if not (settings.root / row.image_path).is_file()})
