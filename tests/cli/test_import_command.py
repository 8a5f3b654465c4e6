"""`mondrian import`: what a user reads and what a program reads, exit statuses, bad input in one paragraph."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mondrian_core.cli import main
from mondrian_core.cli.import_command import MAX_FILES_SHOWN
from mondrian_core.next_steps import runnable_commands
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.photographs import Photographs
from tests.importing.conftest import folder as folder
from tests.importing.conftest import workspace as workspace
from tests.importing.conftest import write_photograph


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `mondrian import`."""
    capsys.readouterr()
    status = main(["import", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_import_is_told_to_a_person(capsys: pytest.CaptureFixture[str], workspace: Path, folder: Path) -> None:
    status, out, err = run(capsys, folder, "--advisor", "ansel", "--workspace", workspace)
    words = " ".join(out.split())
    assert status == 1, "some files were not usable"
    assert "3 imported 1 copies of another file of this import 3 not usable" in words
    assert "Pictures/2025/empty.jpg: the file is empty" in words and "Other files were left alone: 1 .txt." in words
    assert "import: 7 files" in err
    assert ["write", "--advisor", "ansel"] in runnable_commands(words)


def test_import_is_told_to_a_program(capsys: pytest.CaptureFixture[str], workspace: Path, folder: Path) -> None:
    words = (folder, "--advisor", "ansel", "--workspace", workspace, "--json")
    status, out, err = run(capsys, *words, "--dry-run")
    tried = json.loads(out)
    assert (status, err, tried["dry_run"], tried["imported"], tried["report"]) == (1, "", True, 3, None)
    assert not list((workspace / "source").iterdir())
    done = json.loads(run(capsys, *words)[1])
    assert done["imported"] == 3 and done["rejected"] == 3 and done["advisor"] == "ansel"
    (empty,) = (file for file in done["files"] if file["file"] == "Pictures/2025/empty.jpg")
    assert (empty["outcome"], empty["reason"], empty["detail"]) == ("rejected", "empty", "the file is empty")
    status, out, _ = run(capsys, folder / "2024", "--advisor", "ansel", "--workspace", workspace, "--json")
    assert (status, json.loads(out)["known"]) == (0, 1)


def test_long_list_goes_to_a_file(capsys: pytest.CaptureFixture[str], workspace: Path, tmp_path: Path) -> None:
    write_photograph(tmp_path / "card" / "good.jpg")
    for number in range(MAX_FILES_SHOWN + 5):
        (tmp_path / "card" / f"{number}.jpg").touch()
    status, out, _ = run(capsys, tmp_path / "card", "--advisor", "ansel", "--workspace", workspace)
    assert status == 1 and "and 5 more" in out
    (report,) = (workspace / "imports").iterdir()
    assert report.name in out and len(json.loads(report.read_text())["files"]) == MAX_FILES_SHOWN + 5


def test_names_of_files_are_not_read_as_styles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `a[` with a file `b].jpg` is a closing tag of rich; the progress bar showed it as one, and failed."""
    from mondrian_core.cli import terminal_output
    from mondrian_core.events import StageProgressed

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(terminal_output, "Console", lambda **_: console)
    with terminal_output.show_progress(False) as listen:
        listen(StageProgressed("import", 1, 2, "a[/b].jpg"))
    assert "a[/b].jpg" in screen.getvalue()


def test_rescan(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    write_photograph(workspace / "source" / "photographs" / "ansel" / "a.jpg")
    status, out, _ = run(capsys, "--rescan", "--workspace", workspace, "--json")
    assert (status, json.loads(out)["imported"]) == (0, 1)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "Nothing to import was named"),
        (["nowhere", "--advisor", "ansel"], 2, "There is no file or folder nowhere"),
        (["card"], 2, "Add --advisor with one of: ansel, dorothea"),
        (["card", "--advisor", "nobody"], 2, "no advisor 'nobody'"),
        (["card", "critiques.csv", "--advisor", "ansel"], 2, "can't be imported at once (critiques.csv)"),
        (["empty", "--advisor", "ansel"], 1, "No photograph was found in empty"),
        (["films", "--advisor", "ansel"], 1, "(only 2 .mov, 1 no suffix)"),
    ],
)
def test_bad_input_is_one_paragraph(
    capsys: pytest.CaptureFixture[str],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    status: int,
    told: str,
) -> None:
    monkeypatch.chdir(workspace.parent)
    write_photograph(Path("card/a.jpg"))
    Path("critiques.csv").write_text("x")
    for name in ("empty", "films"):
        Path(name).mkdir()
    for name in ("a.mov", "b.MOV", "README"):
        (Path("films") / name).write_text("x")
    found, out, err = run(capsys, *words, "--workspace", workspace)
    assert found == status and told in " ".join(err.split())
    assert out == "" and "Traceback" not in err
    assert not list((workspace / "source").iterdir())


def test_files_of_critiques_are_imported_as_critiques(
    capsys: pytest.CaptureFixture[str], workspace: Path, tmp_path: Path
) -> None:
    """From `mondrian export` of one workspace into another, by the same command that imports photographs."""
    photograph = write_photograph(tmp_path / "card" / "a.jpg")
    common = ("--advisor", "ansel", "--workspace", workspace)
    assert run(capsys, photograph, *common)[0] == 0
    (row,) = _photographs(workspace)
    with Store(workspace / "mondrian.db") as store:
        comments = dict.fromkeys(DIMENSIONS, "The light models the slope.")
        scores = dict.fromkeys(DIMENSIONS, 7.0)
        store.save_profile(
            DimensionalProfile(
                id="c1", advisor="ansel", image_path=row, scores=scores, comments=comments, overall_grade="7.0"
            )
        )
    table = tmp_path / "critiques.csv"
    assert main(["export", *map(str, common), "--format", "csv", "--out", str(table)]) == 0
    with Store(workspace / "mondrian.db") as store, store.transaction() as connection:
        connection.execute("DELETE FROM added_profiles")
    status, out, _ = run(capsys, table, *common, "--dry-run", "--json")
    assert status == 0 and not json.loads(out)["saved"]
    assert run(capsys, table, *common)[0] == 0
    with Store(workspace / "mondrian.db") as store:
        assert [each.scores for each in store.profiles("ansel")] == [scores]


def _photographs(workspace: Path) -> list[str]:
    with Store(workspace / "mondrian.db") as store:
        return [each.image_path for each in Photographs(store).find()]
