"""The drafts table: one decision per draft, one transaction per decision, reopening."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondrian_core.errors import BadInput, DatabaseBusy
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.store import Store
from mondrian_core.store.drafts import ACCEPTED, CORRECTED, DISCARDED, WAITING, AlreadyDecided, Draft, DraftStore

RAW = dict.fromkeys(DIMENSIONS, 6.25)
PROPOSAL = make_critique(dict.fromkeys(DIMENSIONS, 7.0), dict.fromkeys(DIMENSIONS, "A ridge, “far” away."))
BETTER = make_critique(dict.fromkeys(DIMENSIONS, 3.5), dict.fromkeys(DIMENSIONS, "No ridge at all."))


def draft(number: int, advisor: str = "ansel") -> Draft:
    return Draft(
        id=f"d{number}",
        advisor=advisor,
        sha256=f"sha{number}",
        image_path=f"source/{number}.jpg",
        base="base",
        prompt_digest="prompt",
        raw=RAW,
        proposal=PROPOSAL,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "mondrian.db") as made:
        made.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        yield made


@pytest.fixture
def drafts(store: Store) -> DraftStore:
    held = DraftStore(store)
    assert held.add([draft(0), draft(1), draft(2), draft(9, "watkins")]) == 4
    return held


def test_draft_round_trip(drafts: DraftStore) -> None:
    found = drafts.get("d0")
    assert (found.proposal, found.raw, found.state, found.decided) == (PROPOSAL, RAW, WAITING, None)
    assert [each.id for each in drafts.waiting("ansel")] == ["d0", "d1", "d2"]
    assert [each.id for each in drafts.waiting()] == ["d0", "d1", "d2", "d9"]


def test_photograph_has_one_draft_per_advisor(drafts: DraftStore) -> None:
    drafts.discard("d0", "a")
    assert drafts.add([draft(0), draft(3)]) == 1
    assert drafts.get("d0").state == DISCARDED


def test_decision_records_the_reviewer(drafts: DraftStore) -> None:
    assert drafts.accept("d0", "person:a").decided == PROPOSAL
    assert drafts.correct("d1", BETTER, "person:b").decided == BETTER
    assert drafts.discard("d2", "person:c").decided is None
    assert [(each.state, each.decided_by) for each in drafts.find("ansel")] == [
        (ACCEPTED, "person:a"),
        (CORRECTED, "person:b"),
        (DISCARDED, "person:c"),
    ]
    assert drafts.counts("ansel") == {WAITING: 0, ACCEPTED: 1, CORRECTED: 1, DISCARDED: 1}
    assert all(each.decided_at for each in drafts.find("ansel"))
    assert drafts.get("d1").proposal == PROPOSAL


def test_decision_is_final_until_reopened(drafts: DraftStore) -> None:
    drafts.accept("d0", "person:a")
    for decide in (drafts.accept, drafts.discard):
        with pytest.raises(AlreadyDecided, match="accepted by person:a"):
            decide("d0", "person:b")
    with pytest.raises(AlreadyDecided):
        drafts.correct("d0", BETTER, "person:b")
    assert drafts.reopen("d0").state == WAITING
    assert drafts.get("d0").decided is None
    assert drafts.discard("d0", "person:b").state == DISCARDED


def test_concurrent_decisions_have_one_winner(store: Store, drafts: DraftStore) -> None:
    won: list[str] = []
    stores = [Store(store.path) for _ in range(6)]

    def decide(mine: Store, name: str) -> None:
        try:
            won.append(DraftStore(mine).discard("d0", name).decided_by or "")
        except AlreadyDecided:
            pass

    threads = [threading.Thread(target=decide, args=(mine, f"p{n}")) for n, mine in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in stores:
        mine.close()
    assert len(won) == 1
    assert drafts.get("d0").decided_by == won[0]


def test_invalid_critique_is_rejected(drafts: DraftStore) -> None:
    silent = make_critique(
        dict.fromkeys(DIMENSIONS, 3.0), {**dict.fromkeys(DIMENSIONS, "Yes, a ridge."), "lighting": " "}
    )
    with pytest.raises(BadInput, match="no comment on lighting"):
        drafts.correct("d0", silent, "a")
    loud = make_critique({**dict.fromkeys(DIMENSIONS, 3.0), "lighting": 11.0}, dict.fromkeys(DIMENSIONS, "A ridge."))
    with pytest.raises(BadInput, match="outside 0-10 for lighting"):
        drafts.correct("d0", loud, "a")
    assert drafts.get("d0").state == WAITING
    for act in (drafts.get, drafts.reopen):
        with pytest.raises(BadInput, match="no draft nine"):
            act("nine")


def test_drafts_can_be_read_from_read_only_store(store: Store, drafts: DraftStore) -> None:
    with Store(store.path, read_only=True) as reader:
        held = DraftStore(reader)
        assert len(held.waiting("ansel")) == 3
        with pytest.raises(DatabaseBusy, match="reading only"):
            held.accept("d0", "a")
