"""Importing folders: copies and references, what is reported, kills at any moment, several processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mondrian_core.errors import BadInput, DiskFull, UnknownAdvisor
from mondrian_core.events import StageProgressed
from mondrian_core.importing import importer, preparation
from mondrian_core.importing.import_report import ImportOutcome
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photograph, Photographs
from mondrian_core.thumbnails import cached_thumbnail
from tests.importing.conftest import write_photograph
from tests.importing.test_place_removal import photograph as photograph_with_place

Settings = Callable[..., ImportSettings]
IMPORTED, KNOWN, DUPLICATE, REJECTED, LINK = ImportOutcome
ROOT = Path(__file__).resolve().parents[2]


def rows(store: Store, **filters: Any) -> dict[str, Photograph]:
    return {each.image_path: each for each in Photographs(store).find(**filters)}


def files_of(workspace: Path) -> dict[str, bytes]:
    """Every file under source/ by its path."""
    source = workspace / "source"
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}


def test_folder_is_copied_and_everything_else_is_told(store: Store, settings: Settings, folder: Path) -> None:
    report = PhotographImport(store, settings()).run([folder])
    assert dict(report.counts) == {IMPORTED: 3, DUPLICATE: 1, REJECTED: 3}
    base = "source/photographs/ansel/Pictures"
    assert list(rows(store)) == [f"{base}/2024/IMG_0001.jpg", f"{base}/2025/IMG_0001.jpg", f"{base}/2025/Überblick.png"]
    assert {(file.file, file.reason) for file in report.of(REJECTED)} == {
        ("Pictures/2025/empty.jpg", "empty"),
        ("Pictures/2025/cut.jpg", "truncated"),
        ("Pictures/2025/page.jpg", "not_a_photograph"),
    }
    (copy,) = report.of(DUPLICATE)
    assert (copy.file, copy.detail) == ("Pictures/2025/copy.jpg", f"the same as {base}/2024/IMG_0001.jpg")
    assert report.other_files == {".txt": 1}
    root = settings().root
    for path, row in rows(store).items():
        original = folder.parent / path.removeprefix("source/photographs/ansel/")
        assert (root / path).read_bytes() == original.read_bytes()
        assert cached_thumbnail(root, row.sha256, 320) and cached_thumbnail(root, row.sha256, 640)
        assert (row.width, row.height, row.portfolio) == (96, 64, False)
    assert not list(root.glob("source/**/.importing")), "nothing temporary is left"


def test_importing_again_changes_nothing(store: Store, settings: Settings, folder: Path, workspace: Path) -> None:
    PhotographImport(store, settings()).run([folder])
    before = files_of(workspace), rows(store)
    report = PhotographImport(store, settings()).run([folder])
    assert report.counts[IMPORTED] == 0 and report.counts[KNOWN] == 4 and report.counts[REJECTED] == 3
    assert (files_of(workspace), rows(store)) == before


def test_dry_run_says_the_same_and_writes_nothing(store: Store, settings: Settings, folder: Path) -> None:
    root = settings().root
    before = sorted(root.rglob("*"))
    tried = PhotographImport(store, settings(dry_run=True)).run([folder])
    assert sorted(root.rglob("*")) == before and not rows(store)
    done = PhotographImport(store, settings()).run([folder])
    assert tried.counts == done.counts and tried.other_files == done.other_files


def test_references_are_links_to_unchanged_originals(store: Store, settings: Settings, tmp_path: Path) -> None:
    original = tmp_path / "card" / "here.jpg"
    original.parent.mkdir()
    original.write_bytes(data := photograph_with_place("JPEG"))
    report = PhotographImport(store, settings(reference=True)).run([original.parent])
    ((path, row),) = rows(store).items()
    link = settings().root / path
    assert link.is_symlink() and link.readlink() == original and original.read_bytes() == data
    assert row.camera == {"camera": "X100V", "sensitivity": "ISO 100"} and not report.place_removed
    assert PhotographImport(store, settings(reference=True)).run([original.parent]).counts == {KNOWN: 1}
    original.unlink()
    assert list(rows(store)) == [path] and cached_thumbnail(settings().root, row.sha256, 320)


def test_copies_have_no_place(store: Store, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "here.jpg").write_bytes(data := photograph_with_place("JPEG"))
    report = PhotographImport(store, settings()).run([tmp_path / "card"])
    assert report.place_removed == {"EXIF": 1, "XMP": 1}
    (path,) = rows(store)
    assert b"GPSL" in data and b"GPSL" not in (settings().root / path).read_bytes()
    assert (tmp_path / "card" / "here.jpg").read_bytes() == data
    again = PhotographImport(store, settings()).run([tmp_path / "card"])
    assert again.counts == {KNOWN: 1}, "the cleaned bytes are recognized"


def test_portfolio_goes_where_the_index_looks(store: Store, settings: Settings, folder: Path, workspace: Path) -> None:
    PhotographImport(store, settings()).run([folder])
    PhotographImport(store, settings(portfolio=True)).run([folder])
    assert len(rows(store, portfolio=True)) == 3 and not rows(store, portfolio=False)
    assert all(path.startswith("source/advisor/photographer/ansel/Pictures/") for path in rows(store))
    (workspace / "source" / "advisor" / "painter" / "dorothea").mkdir(parents=True)
    PhotographImport(store, settings(advisor="dorothea", portfolio=True)).run([folder])
    assert all(path.startswith("source/advisor/painter/dorothea/") for path in rows(store, advisor="dorothea"))


def test_names_that_collide_are_kept_apart_on_every_disk(store: Store, settings: Settings, tmp_path: Path) -> None:
    card = tmp_path / "card"
    names = (
        "a.jpg",
        "A.JPG",
        "u\u0308.png",
        "\u00fc.png",
        "CON.jpg",
        'what?"<b>.jpg',
        "no suffix",
        "wrong.png",
        "temp.jpg",
    )
    for number, name in enumerate(names):
        write_photograph(card / name, number, format="PNG" if name.startswith(("u", "\u00fc")) else "JPEG")
    write_photograph(card / ("x" * 240 + ".jpg"), 20)
    os.rename(write_photograph(card / "raw.jpg", 21), os.fsencode(card) + b"/odd-\xff.jpg")
    report = PhotographImport(store, settings()).run([card])
    assert dict(report.counts) == {IMPORTED: len(names) + 2}
    stored = [path.removeprefix("source/photographs/ansel/card/") for path in rows(store)]
    assert len({name.casefold() for name in stored}) == len(names) + 2
    assert {"A.JPG", "CON_.jpg", "what___b_.jpg", "no suffix.jpg", "wrong.jpg", "temporary.jpg", "\u00fc.png"} <= set(
        stored
    )
    assert all(len(name.encode()) < 160 and name.isprintable() for name in stored)
    assert PhotographImport(store, settings()).run([card]).counts == {KNOWN: len(names) + 2}


def test_near_duplicates_are_told(store: Store, settings: Settings, tmp_path: Path) -> None:
    write_photograph(tmp_path / "one" / "big.jpg", 1, (1200, 800))
    PhotographImport(store, settings()).run([tmp_path / "one"])
    write_photograph(tmp_path / "two" / "small.png", 1, (600, 400))
    write_photograph(tmp_path / "two" / "other.jpg", 9, (600, 400))
    (pair,) = PhotographImport(store, settings()).run([tmp_path / "two"]).near_duplicates
    assert {pair.first.rpartition("/")[2], pair.second.rpartition("/")[2]} == {"big.jpg", "small.png"}
    assert pair.how == "copy"


def test_bombs_and_strips_are_rejected(store: Store, settings: Settings, tmp_path: Path) -> None:
    card = tmp_path / "card"
    card.mkdir()
    Image.new("1", (12_000, 10_000)).save(card / "bomb.png")
    Image.new("L", (4000, 2)).save(card / "strip.png")
    report = PhotographImport(store, settings()).run([card])
    assert [file.reason for file in report.of(REJECTED)] == ["too_large", "too_narrow"]
    assert "MONDRIAN_MAX_MEGAPIXELS=120" in report.of(REJECTED)[0].detail


def test_unknown_advisor_and_missing_folder(store: Store, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UnknownAdvisor):
        PhotographImport(store, settings(advisor="nobody"))
    with store.transaction() as connection:
        connection.execute("INSERT INTO advisors (id, name, bio) VALUES ('../../x', 'X', '')")
    with pytest.raises(BadInput, match="advisor"):
        PhotographImport(store, settings(advisor="../../x"))
    with pytest.raises(BadInput, match="no file or folder"):
        PhotographImport(store, settings()).run([tmp_path / "nowhere"])


def test_photograph_whose_file_was_deleted_is_imported_again(store: Store, settings: Settings, folder: Path) -> None:
    PhotographImport(store, settings()).run([folder])
    path = settings().root / next(iter(rows(store)))
    data = path.read_bytes()
    path.unlink()
    assert PhotographImport(store, settings()).run([folder]).counts[IMPORTED] == 1
    assert path.read_bytes() == data and len(rows(store)) == 3


def many(top: Path, count: int) -> Path:
    for number in range(count):
        write_photograph(top / f"{number % 3}" / f"{number:03}.jpg", number)
    return top


def test_processes_give_the_same_result_as_one(store: Store, settings: Settings, tmp_path: Path) -> None:
    card, seen = many(tmp_path / "card", 16), []
    PhotographImport(store, settings(workers=2)).run([card], seen.append)
    assert len(rows(store)) == 16
    steps = [(event.stage, event.done) for event in seen if isinstance(event, StageProgressed)]
    assert steps == [*(("import", number) for number in range(1, 17)), ("compare", 0), ("compare", 16)]


KILLED = """
import sys
from pathlib import Path
from mondrian_core.importing import importer
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.store import Store
importer.ROWS_PER_COMMIT = 3
root, card = Path(sys.argv[1]), Path(sys.argv[2])
with Store(root / "mondrian.db") as store:
    settings = ImportSettings(root=root, advisor="ansel", max_pixels=10**8, workers=1)
    PhotographImport(store, settings).run([card], lambda event: print(event, flush=True))
"""


def test_import_killed_anywhere_continues_to_the_same_end(store: Store, settings: Settings, tmp_path: Path) -> None:
    """SIGKILL after 1, 8 and 20 files, and in between: the last import ends as one that was never killed."""
    card, root = many(tmp_path / "card", 30), settings().root
    for lines in (3, 10, 22):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(root), str(card)], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)  # while it reads, stores or commits one of the next files
        process.communicate()
        with closing(sqlite3.connect(root / "mondrian.db")) as connection:
            stored = [path for (path,) in connection.execute("SELECT image_path FROM photographs")]
        assert all((root / path).is_file() for path in stored), "a row is only there when its file is"
    killed_rows = len(stored)
    assert 0 < killed_rows < 30
    PhotographImport(store, settings()).run([card])
    after = files_of(root), {path: row.sha256 for path, row in rows(store).items()}
    whole = tmp_path / "whole"
    (whole / "source").mkdir(parents=True)
    with Store.create(whole / "mondrian.db") as other:
        other.add_advisor(store.advisor("ansel"))
        PhotographImport(other, settings(root=whole)).run([card])
        assert after == (files_of(whole), {path: row.sha256 for path, row in rows(other).items()})


def test_process_that_dies_costs_one_file(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that crashes takes its process with it; the other files of that moment are read again."""
    card = many(tmp_path / "card", 14)
    monkeypatch.setattr(importer, "prepare_in_process", crash_on_005)
    report = PhotographImport(store, settings(workers=2)).run([card])
    assert dict(report.counts) == {IMPORTED: 13, REJECTED: 1}
    assert report.of(REJECTED)[0].file.endswith("005.jpg") and "crashed" in report.of(REJECTED)[0].detail


def crash_on_005(task: Any) -> Any:
    if task.source.name == "005.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return preparation.prepare_in_process(task)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk_is_one_error_and_keeps_what_was_imported(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    card = many(tmp_path / "card", 14)
    monkeypatch.setattr(importer, "prepare_photograph", full_at_005)
    monkeypatch.setattr(importer, "prepare_in_process", full_at_005_in_process)
    with pytest.raises(DiskFull, match=r"^The disk is full while writing \S+\. Free some space and run"):
        PhotographImport(store, settings(workers=workers)).run([card])
    kept = list(rows(store))
    assert kept and all((settings().root / path).is_file() for path in kept)
    monkeypatch.undo()
    report = PhotographImport(store, settings(workers=1)).run([card])
    assert report.counts == {KNOWN: len(kept), IMPORTED: 14 - len(kept)}


def full_at_005(task: Any, known: frozenset[str] = frozenset()) -> Any:
    if task.source.name == "005.jpg":
        raise DiskFull(task.root)
    return preparation.prepare_photograph(task, known)


def full_at_005_in_process(task: Any) -> Any:
    preparation.prepare_photograph = full_at_005_once
    return preparation.prepare_in_process(task)


def full_at_005_once(task: Any, known: frozenset[str] = frozenset()) -> Any:
    if task.source.name == "005.jpg":
        raise DiskFull(task.root)
    return preparation._prepared(task, known)
