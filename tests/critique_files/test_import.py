"""Import: what happens with each row, all or nothing, and never over a newer critique by a person."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mondrian_core.critique_files import importing
from mondrian_core.critique_files.columns import recognized_column
from mondrian_core.critique_files.importing import PlanChanged
from mondrian_core.errors import BadInput, UnknownAdvisor
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store
from tests.critique_files.conftest import Workspace, critique


def row(photograph: str = "one.jpg", score: Any = 7, **changes: Any) -> dict[str, Any]:
    """A flat row with all scores and comments."""
    values: dict[str, Any] = {"photograph": photograph}
    values |= {f"{name}_score": score for name in DIMENSIONS}
    values |= {f"{name}_comment": f"On {name}." for name in DIMENSIONS}
    return {**values, **changes}


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(each)}\n" for each in rows)


def table(*rows: dict[str, Any], delimiter: str = ",") -> str:
    titles = list(rows[0])
    cells = [titles, *([str(each.get(title, "")) for title in titles] for each in rows)]
    return "".join(delimiter.join(line) + "\r\n" for line in cells)


def outcomes(workspace: Workspace, *rows: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    result = workspace.take(workspace.file(lines(*rows), "rows.jsonl"), **options)
    return [(each.outcome.value, each.reason) for each in result.rows]


# --- tables of any dialect --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_every_dialect_are_read(workspace: Workspace, delimiter: str, encoding: str) -> None:
    text = table(row("süß.jpg", lighting_comment="Schöne Lichtführung über dem Fluss"), delimiter=delimiter)
    result = workspace.take(workspace.file(text.encode(encoding)))
    assert result.counts["new"] == 1 and result.saved
    assert workspace.store.profiles("ansel")[0].comments["lighting"] == "Schöne Lichtführung über dem Fluss"


def test_excel_says_its_separator_and_writes_decimal_commas(workspace: Workspace) -> None:
    text = "sep=;\r\n" + table(row(score="7,5", overall_grade="7,5", created_at="28.11.2026 18:30"), delimiter=";")
    workspace.take(workspace.file(text))
    saved = workspace.store.profiles("ansel")[0]
    assert set(saved.scores.values()) == {7.5} and saved.overall_grade == "7.5"
    assert saved.created_at == "2026-11-28T18:30:00.000000"


def test_titles_are_recognized_however_they_are_written(workspace: Workspace) -> None:
    titles = {"photograph": "File Name", "overall_grade": "Overall score"}
    for number, name in enumerate(DIMENSIONS):
        title = DIMENSION_TITLES[name].replace("Color", "Colour")
        titles[f"{name}_score"] = (title.upper(), f"{title} (score)")[number % 2]
        titles[f"{name}_comment"] = f"{title}: notes"
    values = {titles.get(name, name): value for name, value in row(overall_grade="8").items()}
    backwards = dict(reversed(values.items()))
    result = workspace.take(workspace.file(table({**backwards, "Camera": "Leica"})))
    assert result.saved and "Camera" in result.notices[0]
    assert recognized_column("Camera") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("hello\nworld\n", "names no dimension"),
        (table({"composition_score": 1}), "names the photograph"),
        (table(row()).replace("On lighting.", '"On lighting.'), "not valid CSV in row 2"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "encoding can't be determined"),
        ("[{}, {", "not valid JSON in entry 2"),
        ('[{"a": 1}] x', "text follows"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_paragraph(
    workspace: Workspace, content: Any, words: str
) -> None:
    with pytest.raises(BadInput) as refused:
        workspace.take(workspace.file(content, "odd.csv"))
    assert words in refused.value.problem and refused.value.next_step
    assert workspace.store.profiles() == []


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lighting_score": 11}, "lighting: 11 is not a score"),
        ({"lighting_score": "nine"}, "'nine' is not a score"),
        ({"lighting_score": True}, "True is not a score"),
        ({"lighting_score": ""}, "no score for lighting"),
        ({"lighting_comment": " \n"}, "no comment on lighting"),
        ({"lighting_comment": "a\0b"}, "not text"),
        ({"lighting_comment": "x" * 20_001}, "20,001 characters"),
        ({"created_at": "next week"}, "is not a date"),
        ({"origin": "aliens"}, "neither human nor model"),
        ({"photograph": ""}, "names no photograph"),
        ({"photograph": "../../etc/passwd.jpg"}, "leads out of the workspace"),
        ({"photograph": "DSC_1.jpg"}, "source/2023/DSC_1.jpg, source/2024/DSC_1.jpg; give the path"),
        ({"photograph": "on.jpg"}, "the nearest: source/one.jpg"),
        ({"photograph": "<img src=x onerror=alert(1)>.jpg"}, "source/ has no photograph '<img"),
        ({"advisor": "nobody"}, "the import is for 'ansel'"),
        ({"sha256": "0" * 64}, "not the photograph of that hash"),
        ({"details": [1]}, "expected a JSON object"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(workspace: Workspace, changes: dict[str, Any], words: str) -> None:
    ((outcome, reason),) = outcomes(workspace, row(**changes))
    assert outcome == "refused" and words in reason


def test_all_problems_of_a_row_are_told_at_once(workspace: Workspace) -> None:
    ((_, reason),) = outcomes(workspace, row(lighting_score=11, composition_comment=""))
    assert "lighting" in reason and "composition" in reason


def test_photographs_are_named_by_path_name_stem_or_hash(workspace: Workspace) -> None:
    from mondrian_core.files import file_sha256

    sha256 = file_sha256(workspace.folder / "source/2024/DSC_1.jpg")
    named = {
        "source/one.jpg": "source/one.jpg",
        "C:\\Bilder\\2023\\dsc_1.JPG": "source/2023/DSC_1.jpg",
        "two": "source/two.jpg",
        "su\u0308ß.jpg": "source/süß.jpg",
    }
    file = workspace.file(lines(*map(row, named), row("", sha256=sha256), row("moved.jpg", sha256=sha256)), "a.jsonl")
    found = [each.photograph for each in workspace.take(file).rows]
    assert found == [*named.values(), "source/2024/DSC_1.jpg", "source/2024/DSC_1.jpg"]


def test_nothing_is_saved_when_one_row_is_bad_unless_asked(workspace: Workspace) -> None:
    rows = (row("one.jpg"), row("missing.jpg"), row("two.jpg"))
    assert [each[0] for each in outcomes(workspace, *rows)] == ["new", "refused", "new"]
    assert workspace.store.profiles() == []
    outcomes(workspace, *rows, skip_bad=True)
    assert [each.image_path for each in workspace.store.profiles()] == ["source/one.jpg", "source/two.jpg"]


def test_a_dry_run_tells_the_same_and_writes_nothing(workspace: Workspace) -> None:
    rows = (row("one.jpg"), row("two.jpg"))
    before = (workspace.folder / "mondrian.db").read_bytes()
    told = outcomes(workspace, *rows, dry_run=True)
    assert (workspace.folder / "mondrian.db").read_bytes() == before and workspace.store.profiles() == []
    assert outcomes(workspace, *rows) == told
    assert {each[0] for each in outcomes(workspace, *rows)} == {"same"}


def test_two_rows_without_ids_about_one_photograph(workspace: Workspace) -> None:
    told = outcomes(workspace, row(), row(), row(score=3), dry_run=True)
    assert [each[0] for each in told] == ["new", "same", "refused"]
    assert "line 1 is another critique" in told[2][1]


# --- what is newer ----------------------------------------------------------------------------------------------------

STORED = "2026-05-05T12:00:00.000000"


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {}, "conflict"),  # a file without a date may be older
        ({"created_at": "2026-05-04"}, {}, "conflict"),
        ({"created_at": "2026-05-06"}, {}, "changed"),
        ({"created_at": "2026-05-05 12:00", "id": "p0"}, {}, "changed"),  # an edited export
        ({}, {"replace": True}, "changed"),
        ({"created_at": "2026-05-04"}, {"replace": True}, "changed"),
        ({"origin": "model"}, {}, "new"),
    ],
)
def test_a_newer_critique_by_a_person_is_kept(
    workspace: Workspace, changes: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    workspace.store.save_profile(critique(0, created_at=STORED))
    ((outcome, reason),) = outcomes(workspace, row(**changes), **options)
    assert outcome == expected, reason
    newest = max(workspace.store.profiles("ansel"), key=lambda each: (each.origin == "human", each.created_at))
    assert (newest.comments["lighting"] == "On lighting.") == (expected == "changed")
    if expected == "changed":
        assert newest.id == "p0" and (newest.created_at or "") > STORED
        assert outcomes(workspace, row(**changes), **options)[0][0] == "same"


def test_an_edited_copy_of_an_export_without_dates_replaces_what_it_was_made_of(workspace: Workspace) -> None:
    workspace.store.save_profile(critique(0, created_at=""))
    exported = workspace.export("csv").decode("utf-8-sig")
    edited = workspace.file(exported.replace("About lighting, 0.", "Better words."))
    assert workspace.take(edited).counts["changed"] == 1
    older = workspace.file(exported)
    assert workspace.take(older).counts["conflict"] == 1  # the first copy is now the older one


def test_a_critique_by_a_model_becomes_a_persons_when_the_file_says_so(workspace: Workspace) -> None:
    workspace.store.save_profile(critique(0, origin="model", created_at=STORED))
    given = row(id="p0", origin="human", created_at="2026-05-07")
    assert outcomes(workspace, given, row(origin="model", score=1, created_at="2026-05-08")) == [
        ("changed", "replaces the critique of 2026-05-05 12:00"),
        ("new", ""),
    ]
    kept = workspace.store.profile("p0")
    assert kept is not None and (kept.origin, kept.created_at) == ("human", "2026-05-07T00:00:00.000000")


def test_an_id_of_another_critique_is_refused(workspace: Workspace) -> None:
    workspace.store.save_profiles([critique(0), critique(1, advisor="dorothea")])
    told = outcomes(workspace, row("two.jpg", id="p0"), row("one.jpg", id="p1"))
    assert "critique of source/one.jpg" in told[0][1] and "critique by 'dorothea'" in told[1][1]


def test_persons_own_rows_are_superseded_and_never_rewritten(workspace: Workspace) -> None:
    workspace.store.add_profiles([critique(0, created_at=STORED)])
    outcomes(workspace, row(), replace=True)
    with sqlite3.connect(workspace.folder / "mondrian.db") as connection:
        (kept,) = connection.execute("SELECT lighting_comment FROM dimensional_profiles").fetchone()
    connection.close()
    assert kept == "About lighting, 0."
    assert workspace.store.profiles()[0].comments["lighting"] == "On lighting."


def test_critiques_whose_photograph_is_gone_come_back_where_they_were(workspace: Workspace) -> None:
    workspace.store.add_profiles([critique(0, image_path="/Users/studio/gone.jpg"), critique(1)])
    exported = workspace.export("csv").decode("utf-8-sig")
    assert workspace.take(workspace.file(exported)).counts["same"] == 2
    edited = workspace.file(exported.replace("About lighting, 0.", "Better words."))
    assert workspace.take(edited).counts["changed"] == 1
    changed = workspace.store.profile("p0")
    assert changed is not None and changed.image_path == "/Users/studio/gone.jpg"
    assert workspace.take(workspace.file(exported.replace("gone.jpg", "other.jpg"))).counts["refused"] == 1


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_an_interrupted_save_leaves_the_database_as_it_was(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importing._from_spool

    def interrupted(spool: Any) -> Iterator[DimensionalProfile]:
        yield next(real(spool))
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "_from_spool", interrupted)
    file = workspace.file(lines(row("one.jpg"), row("two.jpg")), "a.jsonl")
    with pytest.raises(KeyboardInterrupt):
        workspace.take(file)
    with Store(workspace.folder / "mondrian.db", read_only=True) as other:
        assert other.profiles() == []
    monkeypatch.undo()
    assert workspace.take(file).saved


def test_a_critique_that_is_written_meanwhile_is_seen(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importing._save
    file = workspace.file(lines(row()), "a.jsonl")

    def meanwhile(store: Store, *arguments: Any) -> bool:
        monkeypatch.setattr(importing, "_save", real)
        with Store(workspace.folder / "mondrian.db") as other:
            other.save_profile(critique(5))
        return real(store, *arguments)

    monkeypatch.setattr(importing, "_save", meanwhile)
    result = workspace.take(file)
    assert result.counts["conflict"] == 1 and not result.saved
    assert [each.id for each in workspace.store.profiles()] == ["p5"]


def test_an_import_that_differs_from_its_preview_is_refused(workspace: Workspace) -> None:
    file = workspace.file(lines(row()), "a.jsonl")
    preview = workspace.take(file, dry_run=True)
    workspace.file(lines(row(score=2)), "a.jsonl")
    with pytest.raises(PlanChanged):
        workspace.take(file, expected=preview.signature)
    workspace.file(lines(row()), "a.jsonl")
    assert workspace.take(file, expected=preview.signature).saved


def test_an_unknown_advisor_is_named(workspace: Workspace) -> None:
    with pytest.raises(UnknownAdvisor):
        workspace.take(workspace.file(lines(row()), "a.jsonl"), advisor="henri")
    told = outcomes(workspace, row(), row(advisor="henri"), row(advisor="dorothea"), advisor=None, dry_run=True)
    assert [each[0] for each in told] == ["refused", "refused", "new"]


def test_stored_critiques_are_streamed_as_they_are_listed(new_workspace: Callable[[], Workspace]) -> None:
    store = new_workspace().store
    store.add_profiles([critique(0), critique(1, advisor="dorothea"), critique(2)])
    store.save_profiles([critique(2, overall_grade="9"), critique(3), critique(0, overall_grade="1"), critique(3)])
    for advisor in (None, "ansel", "dorothea"):
        assert list(store.each_profile(advisor)) == store.profiles(advisor)
