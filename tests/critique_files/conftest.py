"""Small workspaces for the tests of critique files: photographs are a few bytes, because nothing here decodes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.critique_files.exporting import ExportCounts, exported_bytes, exported_records
from mondrian_core.critique_files.formats import CritiqueFile, critique_format
from mondrian_core.critique_files.importing import CritiqueImport, CritiqueImportOptions, import_critiques
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store

PHOTOGRAPHS = ("source/one.jpg", "source/two.jpg", "source/2023/DSC_1.jpg", "source/2024/DSC_1.jpg", "source/süß.jpg")


class Workspace:
    """A workspace with the advisors ansel and dorothea and `PHOTOGRAPHS`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for number, path in enumerate(PHOTOGRAPHS):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(b"photograph %d" % number)
        self.store = Store.create(folder / "mondrian.db")
        for advisor in ("ansel", "dorothea"):
            self.store.add_advisor(AdvisorPrompt(advisor, advisor.title(), "A bio."))

    def forget(self) -> None:
        """Remove every critique."""
        with self.store.transaction() as connection:
            connection.execute("DELETE FROM added_profiles")

    def file(self, content: str | bytes, name: str = "critiques.csv") -> CritiqueFile:
        """A file of that name and content, outside the workspace's source."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return CritiqueFile(path, name)

    def take(self, *files: CritiqueFile, **options: Any) -> CritiqueImport:
        """Import files; ansel is the advisor unless another is given."""
        return import_critiques(
            self.store, self.folder, files, CritiqueImportOptions(**{"advisor": "ansel", **options})
        )

    def export(self, name: str, advisor: str | None = None) -> bytes:
        """The bytes of an export."""
        records = exported_records(self.store, self.folder, advisor, ExportCounts())
        return b"".join(exported_bytes(critique_format(name), records))


@pytest.fixture
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Workspace]]:
    """Make a workspace; each call makes another."""
    made: list[Workspace] = []

    def make() -> Workspace:
        made.append(Workspace(tmp_path_factory.mktemp("workspace")))
        return made[-1]

    yield make
    for workspace in made:
        workspace.store.close()


@pytest.fixture
def workspace(new_workspace: Callable[[], Workspace]) -> Workspace:
    return new_workspace()


def critique(number: int = 0, **changes: Any) -> DimensionalProfile:
    """A complete critique of `source/one.jpg` by a person; `changes` replace fields."""
    values: dict[str, Any] = {
        "id": f"p{number}",
        "advisor": "ansel",
        "image_path": "source/one.jpg",
        "scores": {name: float((number + index) % 11) for index, name in enumerate(DIMENSIONS)},
        "comments": {name: f"About {name}, {number}." for name in DIMENSIONS},
        "recommendations": {"lighting": "Wait for the evening."},
        "overall_grade": "6.5",
        "created_at": f"2026-01-01T10:00:{number % 60:02d}.000000",
        "details": {},
    }
    return DimensionalProfile(**{**values, **changes})
