"""Photographs under source/ without a row: found, recorded once, and everybody's where no folder names an owner."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from mondrian_core.cli import main
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.importing.importer import PhotographImport
from mondrian_core.importing.recording import record_photographs, recording_settings, unrecorded_photographs
from mondrian_core.settings import ALL_ADVISORS
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photographs
from mondrian_core.writing.writing_desk import WritingDesk
from tests.importing.conftest import MAX_PIXELS, write_photograph

PORTFOLIO = "advisor/photographer"


def paths(store: Store, advisor: str) -> list[str]:
    return [each.image_path.removeprefix("source/") for each in Photographs(store).find(advisor)]


@pytest.fixture
def earlier(workspace: Path) -> Path:
    """A workspace from before: two portfolios, a folder of imports, visitors, a copy and unusable files; no row."""
    source = workspace / "source"
    write_photograph(source / PORTFOLIO / "ansel" / "a.jpg", 1)
    write_photograph(source / PORTFOLIO / "dorothea" / "d.jpg", 2)
    write_photograph(source / PORTFOLIO / "nobody" / "n.jpg", 3)
    write_photograph(source / "photographs" / "dorothea" / "b.jpg", 4)
    write_photograph(source / "visitors" / "v <b>.jpg", 5)
    shutil.copy(source / PORTFOLIO / "ansel" / "a.jpg", source / "visitors" / "copy.jpg")
    shutil.copy(source / "visitors" / "v <b>.jpg", source / "visitors" / "w.jpg")
    (source / "visitors" / "empty.jpg").touch()
    (source / "visitors" / "loop").symlink_to(source)
    return workspace


def record(store: Store, root: Path) -> int:
    return record_photographs(store, recording_settings(root, MAX_PIXELS))


def test_photographs_from_before_are_recorded_once(earlier: Path, store: Store) -> None:
    before = sorted((earlier / "source").rglob("*"))
    assert record(store, earlier) == 5, "one of them is a copy in another folder"
    assert paths(store, "ansel") == [f"{PORTFOLIO}/ansel/a.jpg", "visitors/v <b>.jpg"]
    assert paths(store, "dorothea") == [
        f"{PORTFOLIO}/dorothea/d.jpg",
        "photographs/dorothea/b.jpg",
        "visitors/v <b>.jpg",
    ]
    assert {each.advisor for each in Photographs(store).find("ansel")} == {"ansel"}
    assert [Photographs(store).count(each) for each in ("ansel", "dorothea")] == [2, 3]
    assert not unrecorded_photographs(store, earlier) and record(store, earlier) == 0
    assert sorted((earlier / "source").rglob("*")) == before


def test_unusable_file_is_read_again_when_it_changes(earlier: Path, store: Store) -> None:
    record(store, earlier)
    write_photograph(earlier / "source" / "visitors" / "empty.jpg", 9)
    assert unrecorded_photographs(store, earlier) == {(ALL_ADVISORS, False): ["source/visitors/empty.jpg"]}
    assert record(store, earlier) == 1
    shutil.rmtree(earlier / "thumbnails")
    assert record(store, earlier) == 0, "copies are recognized again without what was remembered"


def test_everybodys_photograph_in_a_portfolio_is_that_advisors_alone(
    earlier: Path, store: Store, tmp_path: Path
) -> None:
    record(store, earlier)
    settings = recording_settings(earlier, MAX_PIXELS)
    for advisor, portfolio in (("dorothea", False), ("ansel", True)):
        one = PhotographImport(
            store, type(settings)(root=earlier, advisor=advisor, max_pixels=MAX_PIXELS, portfolio=portfolio)
        )
        outside = tmp_path / "v.jpg"
        shutil.copy(earlier / "source" / "visitors" / "v <b>.jpg", outside)
        one.run([outside])
    assert f"{PORTFOLIO}/ansel/v.jpg" in paths(store, "ansel") and "visitors/v <b>.jpg" not in paths(store, "dorothea")


def test_interrupted_recording_continues(earlier: Path, store: Store) -> None:
    def interrupt(event: StageEvent) -> None:
        if isinstance(event, StageProgressed) and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_photographs(store, recording_settings(earlier, MAX_PIXELS), interrupt)
    assert len(Photographs(store).find()) == 2
    record(store, earlier)
    assert len(Photographs(store).find()) == 5


def test_one_process_records_at_a_time(earlier: Path, store: Store) -> None:
    (earlier / "thumbnails").mkdir()
    with FileLock(earlier / "thumbnails" / ".recording.lock"):
        assert record(store, earlier) == 0 and not Photographs(store).find()
    assert record(store, earlier) == 5


def test_sample_offers_a_photograph_to_write_about(tmp_path: Path) -> None:
    create_workspace(tmp_path / "workspace", sample=True, photographs=2)
    with Store(tmp_path / "workspace" / "mondrian.db", read_only=True) as store:
        desk = WritingDesk(store, tmp_path / "workspace", "ansel")
        assert desk.next_photograph() is not None
        assert len(desk.photographs) == Photographs(store).count("ansel") == 44
        assert Photographs(store).count("watkins") == 40


def test_commands_list_photographs_from_before(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advisors", "list", "--json", "--workspace", str(earlier)]) == 0
    assert '"photographs": 2' in capsys.readouterr().out
    assert main(["write", "--advisor", "ansel", "--next", "--workspace", str(earlier)]) == 0
    assert "source/" in capsys.readouterr().out
