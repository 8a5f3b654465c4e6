"""Writing at the desk: nothing that was typed is lost, versions stay, conflicts are reported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mondrian_core.data.linking.link import link_critiques
from mondrian_core.errors import BadInput, BadPhotograph, NothingToDo
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.writing.critique_entry import CritiqueEntry, parse_entry
from mondrian_core.writing.unfinished_critiques import ChangedElsewhere, WritingState
from mondrian_core.writing.writing_desk import WritingDesk
from tests.writing.conftest import full_entry

Add = Callable[..., str]
MakeDesk = Callable[[], WritingDesk]


def test_a_saved_critique_is_linked_and_counted(
    add_photograph: Add, make_desk: MakeDesk, store: Store, workspace: Path
) -> None:
    sha256 = add_photograph("one.jpg")
    desk = make_desk()
    saved = desk.save(sha256, full_entry(7.5), 0, "page")
    assert saved.profile.origin == "human" and saved.profile.details["written_in"] == "page"
    assert desk.count == 1
    (linked,) = link_critiques(store, workspace, "vera").used
    assert linked.sha256 == sha256 and linked.scores["lighting"] == 7.5
    assert desk.next_photograph() is None


def test_typed_text_survives_and_comes_first(add_photograph: Add, make_desk: MakeDesk) -> None:
    first, second = add_photograph("one.jpg", seed=1), add_photograph("two.jpg", seed=2)
    typed = parse_entry({"dimensions": {"lighting": {"score": 3.5, "comment": "Fl\u0061\u0308che"}}, "notes": "later"})
    stored = make_desk().store_entry(second, typed, 0)
    assert stored.revision == 1
    again = make_desk()
    assert again.current(second).entry["lighting"].comment == "Fl\u00e4che"
    found = again.next_photograph()
    assert found is not None and (found.sha256, found.why) == (second, "You began this one.")
    assert again.current(first).revision == 0


def test_two_tabs_are_told_and_nothing_is_overwritten(add_photograph: Add, make_desk: MakeDesk) -> None:
    sha256 = add_photograph("one.jpg")
    make_desk().store_entry(sha256, full_entry(4), 0)
    with pytest.raises(ChangedElsewhere) as told:
        make_desk().store_entry(sha256, full_entry(9), 0)
    assert told.value.current.entry.scores["lighting"] == 4
    with pytest.raises(ChangedElsewhere):
        make_desk().save(sha256, full_entry(9), 0, "page")
    assert make_desk().count == 0
    assert make_desk().store_entry(sha256, full_entry(9), 1).revision == 2
    # the same content again, from the stored revision, isn't a change
    assert make_desk().store_entry(sha256, full_entry(9), 2).revision == 2


def test_undo_brings_back_the_version_before_and_deletes_nothing(
    add_photograph: Add, make_desk: MakeDesk, store: Store, workspace: Path
) -> None:
    sha256 = add_photograph("one.jpg")
    first = make_desk().save(sha256, full_entry(3), 0, "page")
    second = make_desk().save(sha256, full_entry(8), first.unfinished.revision, "page")
    undone = make_desk().undo(sha256)
    assert undone.entry.scores["lighting"] == 8  # what was undone is there to edit
    assert make_desk().critiqued[sha256].scores["lighting"] == 3
    make_desk().undo(sha256)
    assert make_desk().count == 0
    left_out = link_critiques(store, workspace, "vera").left_out
    assert [each.reason.value for each in left_out] == ["no_scores"]
    with pytest.raises(BadInput, match="no saved critique"):
        make_desk().undo(sha256)
    assert len(store.profile_versions(second.profile.id)) == 4
    again = make_desk().save(sha256, full_entry(6), make_desk().current(sha256).revision, "page")
    assert make_desk().critiqued[sha256].scores["lighting"] == 6 and again.profile.id == first.profile.id


def test_undo_goes_back_further_each_time(add_photograph: Add, make_desk: MakeDesk) -> None:
    sha256 = add_photograph("one.jpg")
    for score in (2.0, 4.0, 6.0):
        make_desk().save(sha256, full_entry(score), make_desk().current(sha256).revision, "page")
    seen = []
    for _ in range(2):
        make_desk().undo(sha256)
        seen.append(make_desk().critiqued[sha256].scores["lighting"])
    assert seen == [4.0, 2.0]


def test_skipped_and_excluded_photographs_are_remembered(add_photograph: Add, make_desk: MakeDesk) -> None:
    one, two, three = (add_photograph(f"{name}.jpg", seed=name) for name in (1, 2, 3))
    make_desk().set_state(one, WritingState.SKIPPED)
    make_desk().set_state(two, WritingState.EXCLUDED)
    found = make_desk().next_photograph()
    assert found is not None and found.sha256 == three
    assert make_desk().next_photograph(but=three).sha256 == one
    make_desk().save(three, full_entry(), 0, "page")
    make_desk().save(one, full_entry(), make_desk().current(one).revision, "page")
    with pytest.raises(NothingToDo, match="No photograph of 'vera' waits"):
        make_desk().require_next()
    make_desk().set_state(two, WritingState.OPEN)
    assert make_desk().require_next().sha256 == two


def test_a_critique_from_elsewhere_counts_and_can_be_changed(
    add_photograph: Add, make_desk: MakeDesk, store: Store
) -> None:
    sha256 = add_photograph("one.jpg")
    comments = dict.fromkeys(DIMENSIONS, "Imported from a table.")
    store.add_profiles(
        [
            DimensionalProfile(
                id="old",
                advisor="vera",
                image_path="/Users/vera/work/source/one.jpg",
                scores=dict.fromkeys(DIMENSIONS, 7.3),
                comments=comments,
                overall_grade="7.3",
            )
        ]
    )
    desk = make_desk()
    assert desk.count == 1 and desk.next_photograph() is None
    assert desk.current(sha256).entry["lighting"].score == 7.5
    desk.save(sha256, full_entry(2), 0, "page")
    assert make_desk().count == 1 and make_desk().critiqued[sha256].scores["lighting"] == 2
    make_desk().undo(sha256)
    assert make_desk().critiqued[sha256].id == "old"


def test_the_draft_that_was_shown_is_recorded_with_what_was_scored_before(
    add_photograph: Add, make_desk: MakeDesk
) -> None:
    sha256 = add_photograph("one.jpg")
    typed = make_desk().store_entry(sha256, parse_entry({"dimensions": {"composition": {"score": 9.0}}}), 0)
    shown = make_desk().record_draft(sha256, "job-1", dict.fromkeys(DIMENSIONS, 5))
    assert shown.revision == typed.revision + 1
    assert make_desk().record_draft(sha256, "job-2", {}).draft["job"] == "job-1"
    entry = full_entry(5.5, composition=9.0)
    make_desk().save(sha256, entry, shown.revision, "page")
    found = make_desk().anchoring()
    assert found.seen.mean == pytest.approx(0.5) and found.unseen.mean == pytest.approx(4.0)
    assert "0.50 points" in found.sentence


def test_similar_photographs_of_the_portfolio_come_with_their_critiques(
    add_photograph: Add, make_desk: MakeDesk
) -> None:
    dark = add_photograph("dark.jpg", (20, 20, 25), 1, portfolio=True)
    light = add_photograph("light.jpg", (235, 235, 230), 2, portfolio=True)
    add_photograph("uncritiqued.jpg", (22, 22, 25), 3, portfolio=True)
    wanted = add_photograph("mine.jpg", (25, 24, 28), 4)
    assert make_desk().similar(wanted).found == ()
    for sha256 in (light, dark):
        make_desk().save(sha256, full_entry(), 0, "page")
    found = make_desk().similar(wanted)
    assert [each.sha256 for each in found.found] == [dark, light]
    assert found.kind == "light, color and detail"
    assert make_desk().similar(dark).found[0].sha256 == light


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dimensions": {"lighting": {"score": 7.3}}}, "multiple of 0.5"),
        ({"dimensions": {"lighting": {"score": 11}}}, "less than or equal to 10"),
        ({"dimensions": {"lighting": {"score": True}}}, "valid number"),
        ({"dimensions": {"lighting": {"score": float("nan")}}}, "finite number"),
        ({"dimensions": {"lighting": {"comment": "x" * 601}}}, "at most 600"),
        ({"dimensions": {"lighting": {"comment": 5}}}, "valid string"),
        ({"dimensions": {"glow": {"score": 7}}}, "glow"),
        ([], "valid dictionary"),
        ({"dimensional_analysis": [], "overall_grade": "7"}, "dimensions"),
    ],
)
def test_bad_entries_are_refused_with_what_is_wrong(values: object, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        parse_entry(values)


def test_incomplete_critiques_and_placeholders_are_not_saved(add_photograph: Add, make_desk: MakeDesk) -> None:
    sha256 = add_photograph("one.jpg")
    values = full_entry().model_dump()
    values["dimensions"]["lighting"] = {}
    with pytest.raises(BadInput, match="a score for Lighting and a comment on Lighting"):
        make_desk().save(sha256, parse_entry(values), 0, "page")
    empty = {"dimensions": {name: {"score": 5, "comment": "ok"} for name in DIMENSIONS}}
    with pytest.raises(BadInput, match="placeholders"):
        make_desk().save(sha256, parse_entry(empty), 0, "page")
    with pytest.raises(BadPhotograph):
        make_desk().store_entry("0" * 64, CritiqueEntry(), 0)
    assert make_desk().count == 0


def test_what_a_grammar_cannot_spell_is_replaced() -> None:
    assert parse_entry({"notes": "a\x00b\x7fc\nd\ud800"}).notes == "a b c\nd\ufffd"


def test_desks_of_two_requests_do_not_block_each_other(
    add_photograph: Add, workspace: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request reads critiques while another one, inside a transaction, wants to read them too."""
    sha256 = add_photograph("one.jpg")
    reading, writing = threading.Event(), threading.Event()

    def read_slowly(advisor: str | None = None) -> list[DimensionalProfile]:
        if threading.current_thread() is reader:
            reading.set()
            assert writing.wait(60)
        return Store.profiles(store, advisor)

    def write() -> None:
        with store.transaction():
            writing.set()
            WritingDesk(store, workspace, "vera").current(sha256)

    monkeypatch.setattr(store, "profiles", read_slowly)
    reader = threading.Thread(target=lambda: WritingDesk(store, workspace, "vera").critiqued, daemon=True)
    writer = threading.Thread(target=write, daemon=True)
    reader.start()
    assert reading.wait(60)
    writer.start()
    for thread in (writer, reader):
        thread.join(6)
    assert not writer.is_alive() and not reader.is_alive()
