"""Photographs that people added, moved, changed or deleted under source/. Critiques are never lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mondrian_core.importing.import_report import ImportOutcome
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.importing.rescan import rescan_photographs
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.photographs import Photographs
from tests.importing.conftest import write_photograph

Settings = Callable[..., ImportSettings]
IMPORTED, KNOWN, DUPLICATE, REJECTED, LINK = ImportOutcome


def paths(store: Store, advisor: str = "ansel") -> list[str]:
    return [each.image_path for each in Photographs(store).find(advisor)]


def critique(store: Store, path: str, name: str = "c1") -> DimensionalProfile:
    made = DimensionalProfile(
        id=name,
        advisor="ansel",
        image_path=path,
        scores=dict.fromkeys(DIMENSIONS, 6.0),
        comments=dict.fromkeys(DIMENSIONS, "Calm."),
        overall_grade="6.0",
    )
    store.add_profiles([made])
    return made


def test_photographs_added_by_hand_are_found_where_they_are(store: Store, settings: Settings, tmp_path: Path) -> None:
    source = settings().root / "source"
    write_photograph(source / "advisor" / "painter" / "ansel" / "a.jpg", 1)
    write_photograph(source / "photographs" / "dorothea" / "b.jpg", 2)
    write_photograph(source / "upload.jpg", 3)
    write_photograph(source / "advisor" / "painter" / "nobody" / "c.jpg", 4)
    write_photograph(tmp_path / "disk" / "d.jpg", 5)
    (source / "photographs" / "ansel").mkdir()
    (source / "photographs" / "ansel" / "disk").symlink_to(tmp_path / "disk")
    before = sorted(source.rglob("*"))
    report = rescan_photographs(store, settings(), None)
    everyones = "source/upload.jpg"
    assert paths(store) == ["source/advisor/painter/ansel/a.jpg", "source/photographs/ansel/disk/d.jpg", everyones]
    assert [each.portfolio for each in Photographs(store).find("ansel")] == [True, False, False]
    assert paths(store, "dorothea") == ["source/photographs/dorothea/b.jpg", everyones]
    assert {file.file for file in report.of(REJECTED)} == {"source/advisor/painter/nobody/c.jpg"}
    assert sorted(source.rglob("*")) == before, "nothing is copied"
    again = rescan_photographs(store, settings(), "ansel")
    assert again.counts == {KNOWN: 4, REJECTED: 1}


def test_critiques_follow_a_moved_photograph_and_survive_a_deleted_one(store: Store, settings: Settings) -> None:
    base = "source/photographs/ansel"
    root = settings().root
    for number, name in enumerate(("moved.jpg", "deleted.jpg")):
        write_photograph(root / base / name, number)
    rescan_photographs(store, settings(), None)
    moved, deleted = critique(store, f"{base}/moved.jpg"), critique(store, "photographs/ansel/deleted.jpg", "c2")
    (root / base / "2024").mkdir()
    (root / base / "moved.jpg").rename(root / base / "2024" / "Other name.jpg")
    (root / base / "deleted.jpg").unlink()
    report = rescan_photographs(store, settings(), None)
    assert report.moved == {f"{base}/moved.jpg": f"{base}/2024/Other name.jpg"}
    assert report.missing == [f"{base}/deleted.jpg"]
    kept = {each.id: each for each in store.profiles("ansel")}
    assert kept["c1"].image_path == f"{base}/2024/Other name.jpg" and kept["c1"].scores == moved.scores
    assert kept["c2"].image_path == deleted.image_path
    with store.transaction() as connection:
        own = connection.execute("SELECT image_path FROM dimensional_profiles WHERE id = 'c1'").fetchone()
    assert own == (f"{base}/moved.jpg",), "the person's own row is not rewritten"


def test_changed_photograph_replaces_its_row(store: Store, settings: Settings) -> None:
    path = "source/photographs/ansel/a.jpg"
    write_photograph(settings().root / path, 1)
    rescan_photographs(store, settings(), None)
    (first,) = Photographs(store).find()
    write_photograph(settings().root / path, 2, (60, 90))
    report = rescan_photographs(store, settings(), None)
    (second,) = Photographs(store).find()
    assert report.counts == {IMPORTED: 1} and not report.moved and not report.missing
    assert second.image_path == path and second.sha256 != first.sha256 and (second.width, second.height) == (60, 90)


def test_copy_of_a_known_photograph_is_told_and_adds_no_row(store: Store, settings: Settings) -> None:
    folder = settings().root / "source" / "photographs" / "ansel"
    write_photograph(folder / "a.jpg", 1)
    rescan_photographs(store, settings(), None)
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes())
    assert rescan_photographs(store, settings(), None).counts == {KNOWN: 2}
    assert paths(store) == ["source/photographs/ansel/a.jpg"]


def test_dry_run_of_a_rescan_writes_nothing(store: Store, settings: Settings) -> None:
    write_photograph(settings().root / "source" / "photographs" / "ansel" / "a.jpg", 1)
    assert rescan_photographs(store, settings(dry_run=True), None).counts == {IMPORTED: 1}
    assert not paths(store) and not (settings().root / "thumbnails").exists()


def test_folder_inside_the_workspace_is_registered_in_place(store: Store, settings: Settings) -> None:
    write_photograph(settings().root / "source" / "mine" / "a.jpg", 1)
    PhotographImport(store, settings()).run([settings().root / "source" / "mine"])
    assert paths(store) == ["source/mine/a.jpg"]
    assert not (settings().root / "source" / "photographs").exists()
