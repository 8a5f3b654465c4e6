"""Drafting: in the advisor's range and words, from training photographs only, one transaction per draft."""

from __future__ import annotations

import io
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.drafting import MIN_TRAINING_CRITIQUES, draft_critiques
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.score_calibration import AdvisorVocabulary, calibrated_draft_scores, fit_score_calibration
from mondrian_core.errors import NothingToDo
from mondrian_core.events import StageEvent, StageNotice
from mondrian_core.recipes import DataRecipe, Recipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Store
from mondrian_core.store.drafts import DraftStore
from tests.data.stand_in import VOICE, Stub, jpeg, picture, profile, workspace_of

SPOKEN = "A picture reveals the whole valley; the picture is mine."


def workspace(folder: Path, critiqued: int = 20, free: int = 6) -> Store:
    """An advisor who scores low, and photographs that nobody has critiqued."""
    store = workspace_of(folder, 0)
    for number in range(critiqued):
        (folder / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
    scores = [
        {name: float((number + place) % 4) for place, name in enumerate(DIMENSIONS)} for number in range(critiqued)
    ]
    store.add_profiles(
        profile(number, scores=scores[number], comments=dict.fromkeys(DIMENSIONS, f"{number} stones. {SPOKEN}"))
        for number in range(critiqued)
    )
    for number in range(free):
        (folder / "source" / f"free_{number}.jpg").write_bytes(jpeg(700 + number))
    return store


def recipe(count: int = 20) -> Recipe:
    return recipe_from_values({"synthesize": {"photographs": count}})


def test_drafts_are_in_the_advisors_range_and_vocabulary(tmp_path: Path) -> None:
    store = workspace(tmp_path)
    done = draft_critiques(store, tmp_path, VOICE, recipe(), Stub())
    drafts = DraftStore(store).waiting("ansel")
    assert done.drafted == len(drafts) == 6
    assert {each.image_path for each in drafts} == {f"source/free_{number}.jpg" for number in range(6)}
    trained = done.calibrated_on
    assert 5 <= trained < 20
    raw = fmean(score for each in drafts for score in each.raw.values())
    put = fmean(score for each in drafts for score in each.proposal.scores.values())
    assert raw > 2.5 and put < raw - 0.5  # the advisor's mean is 1.5
    assert all(float(score).is_integer() for each in drafts for score in each.proposal.scores.values())
    assert drafts[0].proposal.assessments["lighting"].comment == "The picture reveals a stone."


def test_unreviewed_draft_is_in_no_dataset(tmp_path: Path) -> None:
    store = workspace(tmp_path)
    without = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, DataRecipe(), tmp_path)
    draft_critiques(store, tmp_path, VOICE, recipe(), Stub())
    assert (
        build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, DataRecipe(), tmp_path).digest == without.digest
    )
    drafts = DraftStore(store)
    drafts.accept(drafts.waiting()[0].id, "person:test")
    version = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, DataRecipe(), tmp_path)
    assert version.photographs["train"] == without.photographs["train"] + 1


def test_drafts_do_not_depend_on_held_out_critiques(tmp_path: Path) -> None:
    """Changed scores and words of held-out critiques must not change any draft."""
    texts = []
    for name, changed in (("one", False), ("two", True)):
        folder = tmp_path / name
        store = workspace(folder)
        version = build_dataset(link_critiques(store, folder, "ansel"), VOICE, DataRecipe(), folder)
        held_out = [each["record"][8:] for each in version.manifest["members"] if each["split"] != "train"]
        assert held_out
        if changed:
            with store.transaction() as connection:
                for record in held_out:
                    columns = ", ".join(f"{each}_score = 10, {each}_comment = 'Superb {record}'" for each in DIMENSIONS)
                    connection.execute(f"UPDATE dimensional_profiles SET {columns} WHERE id = ?", (record,))
        stub = Stub(compares="The photograph shows a river.")
        draft_critiques(store, folder, VOICE, recipe(), stub)
        assert not {each.name for each in stub.comparison.neighbours} & {
            f"photo_{record[1:]}.jpg" for record in held_out
        }
        texts.append([(each.image_path, each.proposal) for each in DraftStore(store).waiting()])
    assert texts[0] == texts[1]


def test_near_duplicates_of_held_out_photographs_are_not_drafted(tmp_path: Path) -> None:
    store = workspace(tmp_path)
    version = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, DataRecipe(), tmp_path)
    record = next(each["record"] for each in version.manifest["members"] if each["split"] != "train")
    mirrored = io.BytesIO()
    picture(int(record[9:])).transpose(0).save(mirrored, "JPEG", quality=92)
    (tmp_path / "source" / "twin.jpg").write_bytes(mirrored.getvalue())
    done = draft_critiques(store, tmp_path, VOICE, recipe(), Stub())
    assert [(each.path, each.reason) for each in done.left_out] == [
        ("source/twin.jpg", "it looks like a photograph that is held out")
    ]
    assert done.drafted == 6


def test_drafting_resumes_and_skips_discarded_photographs(tmp_path: Path) -> None:
    store = workspace(tmp_path)
    first = draft_critiques(store, tmp_path, VOICE, recipe(4), Stub())
    assert (first.drafted, first.remaining) == (4, 2)
    DraftStore(store).discard(DraftStore(store).waiting()[0].id, "person:test")
    second = draft_critiques(store, tmp_path, VOICE, recipe(4), Stub())
    assert (second.drafted, second.known, second.remaining) == (2, 4, 0)
    with pytest.raises(NothingToDo, match="No photograph is left"):
        draft_critiques(store, tmp_path, VOICE, recipe(4), Stub())


def test_interrupted_drafting_keeps_finished_drafts(tmp_path: Path) -> None:
    store = workspace(tmp_path)

    def stop(event: StageEvent) -> None:
        if getattr(event, "stage", "") == "synthesize" and getattr(event, "done", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draft_critiques(store, tmp_path, VOICE, recipe(), Stub(), stop)
    assert len(DraftStore(store).waiting()) == 3
    assert draft_critiques(store, tmp_path, VOICE, recipe(), Stub()).drafted == 3


def test_second_critique_is_used_and_abandoned_when_unreadable(tmp_path: Path) -> None:
    store = workspace(tmp_path, free=3)
    draft_critiques(store, tmp_path, VOICE, recipe(), Stub(compares="The photograph shows a river."))
    assert {each.proposal.assessments["composition"].comment for each in DraftStore(store).waiting()} == {
        "The picture reveals a river."
    }
    for number in range(4):
        (tmp_path / "source" / f"more_{number}.jpg").write_bytes(jpeg(750 + number))
    silent, events = Stub(), []
    draft_critiques(store, tmp_path, VOICE, recipe(), silent, events.append)
    assert silent.compared == 2
    assert sum(isinstance(event, StageNotice) for event in events) == 1


def test_damaged_and_unreadable_photographs_are_reported(tmp_path: Path) -> None:
    store = workspace(tmp_path)
    (tmp_path / "source" / "cut.jpg").write_bytes(jpeg(5)[:700])
    (tmp_path / "source" / "odd.jpg").write_bytes(jpeg(6, (50, 40)))
    done = draft_critiques(store, tmp_path, VOICE, recipe(), Stub(unreadable=((50, 40),)))
    reasons = {Path(each.path).name: each.reason for each in done.left_out}
    assert reasons == {"cut.jpg": "the photograph is damaged or truncated", "odd.jpg": "it mumbles"}


def test_drafting_needs_enough_critiques_and_a_readable_base(tmp_path: Path) -> None:
    few = workspace(tmp_path / "few", critiqued=MIN_TRAINING_CRITIQUES - 1)
    with pytest.raises(NothingToDo, match=f"{MIN_TRAINING_CRITIQUES} are needed"):
        draft_critiques(few, tmp_path / "few", VOICE, recipe(), Stub())
    store = workspace(tmp_path / "mute")
    with pytest.raises(NothingToDo, match="critiques of training photographs"):
        draft_critiques(store, tmp_path / "mute", VOICE, recipe(), Stub(unreadable=((96, 64),)))


# --- the shift --------------------------------------------------------------------------------------------------------

tables = st.lists(st.fixed_dictionaries({name: st.floats(0, 10) for name in DIMENSIONS}), min_size=2, max_size=8)


@given(tables, tables, tables)
def test_calibrated_scores_are_whole_in_range_and_ordered(
    base: list[dict[str, float]], advisor: list[dict[str, float]], asked: list[dict[str, float]]
) -> None:
    count = min(len(base), len(advisor))
    found = fit_score_calibration(base[:count], advisor[:count])
    results = [calibrated_draft_scores(scores, found) for scores in asked]
    for name in DIMENSIONS:
        assert all(0 <= result[name] <= 10 and isinstance(result[name], int) for result in results)
        ordered = sorted(range(len(asked)), key=lambda place, name=name: asked[place][name])  # type: ignore[misc]
        put = [results[place][name] for place in ordered]
        assert put == sorted(put)


def test_calibration_matches_mean_and_spread_of_advisor() -> None:
    base = [dict.fromkeys(DIMENSIONS, value) for value in (7.0, 8.0, 9.0)]
    advisor = [dict.fromkeys(DIMENSIONS, value) for value in (2.0, 4.0, 6.0)]
    found = fit_score_calibration(base, advisor)
    assert [calibrated_draft_scores(scores, found)["lighting"] for scores in base] == [2, 4, 6]
    assert calibrated_draft_scores(dict.fromkeys(DIMENSIONS, 6.0), found)["lighting"] == 0
    with pytest.raises(ValueError, match="3 critiques by the base"):
        fit_score_calibration(base, advisor[:2])


def test_calibration_of_low_variance_base_is_bounded() -> None:
    base = [dict.fromkeys(DIMENSIONS, value) for value in (7.0, 7.01)]
    advisor = [dict.fromkeys(DIMENSIONS, value) for value in (0.0, 10.0)]
    assert fit_score_calibration(base, advisor)["lighting"].slope == 2.0


def test_preferred_synonyms_are_used_and_facts_are_kept() -> None:
    spoken = dict.fromkeys(DIMENSIONS, "The picture reveals three layers of forms; a picture of depth.")
    words = AdvisorVocabulary([spoken])
    assert (
        words.with_advisor_synonyms("composition", "Photograph of three shapes and a river.")
        == "Picture of three forms and a river."
    )
    assert (
        words.with_advisor_synonyms("composition", "The photograph shows two shapes.")
        == "The picture reveals two shapes."
    )  # half
    assert words.with_advisor_synonyms("depth_perspective", "Two planes.") == "Two layers."
    assert (
        words.with_advisor_synonyms("lighting", "Two planes in shapes.") == "Two planes in shapes."
    )  # synonyms are by dimension
    assert words.covered_word_share(spoken) == 1.0
    assert words.covered_word_share(dict.fromkeys(DIMENSIONS, "Nothing alike whatsoever.")) == 0.0


@pytest.mark.mini
def test_drafts_with_mini_model(tmp_path: Path) -> None:
    """The real base drafts critiques that a dataset can use once they are accepted."""
    from mondrian_core.data.base_model_critic import BaseModelCritic
    from mondrian_core.data.sample_workspace import create_workspace
    from mondrian_core.models.base_model import load_base

    root = tmp_path / "sample"
    create_workspace(root, sample=True, photographs=8)
    with Store(root / "mondrian.db") as store:
        voice = store.advisor("ansel")
        small = recipe_from_values({"synthesize": {"photographs": 2, "calibration_photographs": 5}})
        done = draft_critiques(store, root, voice, small, BaseModelCritic(load_base("mini"), voice, 300))
        assert (done.drafted, done.calibrated_on) == (2, 5)
        drafts = DraftStore(store)
        for draft in drafts.waiting("ansel"):
            drafts.accept(draft.id, "person:test")
        version = build_dataset(link_critiques(store, root, "ansel"), voice, DataRecipe(), root)
        assert version.manifest["drafts"]["used"] == 2
