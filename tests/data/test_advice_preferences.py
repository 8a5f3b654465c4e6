"""From a person's judgements of recommendations and crops to pairs of answers, none of them held out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.dataset.preference_pairs import split_preference_pairs
from mondrian_core.data.dataset.version import DatasetVersion, load_dataset_version
from mondrian_core.data.linking.link import LinkManifest, link_critiques
from mondrian_core.data.linking.link_manifest import AdvicePreference
from mondrian_core.events import StageEvent, StageNotice, ignore_events
from mondrian_core.files import write_json
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, Assessment, Critique, make_critique
from mondrian_core.stages.training_data import load_training_provenance
from mondrian_core.store import COMPLETED, Job, Store
from mondrian_core.store.advice_judgements import AdviceJudgement, save_judgement
from tests.data.stand_in import VOICE, jpeg, profile, workspace_of

BOX, OTHER_BOX = (0.0, 0.0, 0.8, 1.0), (0.25, 0.25, 1.0, 1.0)
ADVISING = DataRecipe(variants=0, answer_form="advice")


def answer(recommendations: dict[str, str], score: float = 5.0) -> Critique:
    plain = make_critique(dict.fromkeys(DIMENSIONS, score), dict.fromkeys(DIMENSIONS, "A river in the middle."))
    changed = {name: Assessment(score, "A river in the middle.", text) for name, text in recommendations.items()}
    return replace(plain, assessments={**plain.assessments, **changed})


def add_job(store: Store, job_id: str, photograph: str, critique: Critique, **judged: Any) -> None:
    """A finished job; `judged` says by dimension whether its recommendation is useful, and has the judged `crop`."""
    store.import_jobs(
        [
            Job(
                id=job_id,
                filename=photograph,
                advisor="ansel",
                status=COMPLETED,
                completed_at="2026-03-01T10:00:00",
                answer=critique.as_dict(),
            )
        ]
    )
    job = store.job(job_id)
    assert job is not None
    for subject, useful in judged.items():
        if isinstance(useful, AdviceJudgement):
            judgement = useful
        else:
            each = critique.assessments[subject]
            judgement = AdviceJudgement(
                subject=subject, useful=useful, text=each.recommendation or "", regions=each.regions, judged_at=""
            )
        save_judgement(store, job, judgement)


def crop(useful: bool, box: tuple[float, float, float, float] | None = BOX) -> AdviceJudgement:
    regions = (box,) if box else ()
    return AdviceJudgement(
        subject="crop", useful=useful, text="This crop leaves out it.", regions=regions, judged_at=""
    )


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with workspace_of(tmp_path, 8) as store:
        (tmp_path / "source" / "own.jpg").write_bytes(jpeg(900))
        yield store


def linked(store: Store) -> tuple[AdvicePreference, ...]:
    manifest = link_critiques(store, store.path.parent, "ansel")
    assert LinkManifest.from_dict(manifest.as_dict()) == manifest
    return manifest.preferences


def advised(text: str, dimension: str) -> str | None:
    return parse_critique_strict(text).assessments[dimension].recommendation


def test_useful_recommendation_is_preferred_in_the_answer_that_gave_it(store: Store) -> None:
    add_job(store, "a", "own.jpg", answer({"lighting": "Wait for rain."}, 4), lighting=True)
    add_job(store, "b", "own.jpg", answer({"lighting": "Use a flash."}, 9), lighting=False)
    (preference,) = linked(store)
    assert (preference.kind, preference.dimension, preference.record) == ("recommendation", "lighting", "job:a")
    assert preference.sha256 == hashlib.sha256(jpeg(900)).hexdigest()
    assert advised(preference.chosen, "lighting") == "Wait for rain."
    assert preference.rejected == preference.chosen.replace("Wait for rain.", "Use a flash.")
    assert set(parse_critique_strict(preference.rejected).scores.values()) == {4}


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        (True, None, 1),  # against what another answer says there
        (False, None, 0),  # nobody approved of the other one
        (True, True, 0),
        (False, False, 0),
        (None, None, 0),
    ],
)
def test_only_what_a_person_approved_is_preferred(
    store: Store, first: bool | None, second: bool | None, pairs: int
) -> None:
    for job, text, useful in (("a", "Wait for rain.", first), ("b", "Use a flash.", second)):
        add_job(store, job, "own.jpg", answer({"lighting": text}), **({} if useful is None else {"lighting": useful}))
    found = linked(store)
    assert [advised(each.chosen, "lighting") for each in found] == ["Wait for rain."] * pairs


@pytest.mark.parametrize("other", [{"composition": "Use a flash."}, {"lighting": "Wait for rain."}, {}])
def test_without_a_counterpart_there_is_no_pair(store: Store, other: dict[str, str]) -> None:
    add_job(store, "a", "own.jpg", answer({"lighting": "Wait for rain."}), lighting=True)
    add_job(store, "b", "own.jpg", answer(other))
    add_job(store, "c", "photo_1.jpg", answer({"lighting": "Use a flash."}), lighting=False)
    assert [each for each in linked(store) if each.record != "profile:p1"] == []


def test_same_advice_on_both_sides_teaches_nothing(store: Store) -> None:
    add_job(store, "a", "own.jpg", answer({"lighting": "Wait for rain."}, 4), lighting=True)
    add_job(store, "b", "own.jpg", answer({"lighting": "Wait for rain."}, 9), lighting=False)
    assert linked(store) == ()


def test_refused_recommendation_loses_against_the_one_that_a_person_wrote(store: Store) -> None:
    store.save_profile(profile(1, recommendations={"lighting": "Return at dusk."}))
    add_job(
        store, "a", "photo_1.jpg", answer({"lighting": "Use a flash.", "composition": "Step left."}), lighting=False
    )
    (preference,) = linked(store)
    assert preference.record == "profile:p1" and advised(preference.chosen, "lighting") == "Return at dusk."
    assert advised(preference.rejected, "lighting") == "Use a flash."


def test_each_useful_and_each_refused_recommendation_is_in_a_pair(store: Store) -> None:
    for number in range(5):
        add_job(store, f"j{number}", "own.jpg", answer({"lighting": f"Try {number}."}), lighting=number < 2)
    pairs = [(advised(each.chosen, "lighting"), advised(each.rejected, "lighting")) for each in linked(store)]
    assert len(pairs) == len(set(pairs)) == 4
    assert {text for pair in pairs for text in pair} == {f"Try {number}." for number in range(5)}


@pytest.mark.parametrize("own", [None, "Step left."])
def test_accepted_crop_is_recommended_with_its_box_in_thousandths(store: Store, own: str | None) -> None:
    add_job(store, "a", "own.jpg", answer({"composition": own} if own else {}), crop=crop(True))
    (preference,) = linked(store)
    assert (preference.kind, preference.dimension) == ("accepted crop", "composition")
    assert '"recommendation": "This crop leaves out it.", "regions": [[0, 0, 800, 1000]]}' in preference.chosen
    assert advised(preference.rejected, "composition") == own


def test_refused_crop_and_turned_crop_make_no_pair_of_their_own(store: Store) -> None:
    add_job(store, "a", "own.jpg", answer({}), crop=crop(False))
    add_job(store, "b", "photo_1.jpg", answer({}), crop=crop(True, None))
    assert linked(store) == ()
    add_job(store, "c", "own.jpg", answer({}), crop=crop(True, OTHER_BOX))
    (preference,) = linked(store)
    assert "[[250, 250, 1000, 1000]]" in preference.chosen and "[[0, 0, 800, 1000]]" in preference.rejected


def test_crop_does_not_lose_against_a_useful_recommendation(store: Store) -> None:
    add_job(store, "a", "own.jpg", answer({"composition": "Step left."}), crop=crop(True), composition=True)
    assert linked(store) == ()


# --- datasets ---------------------------------------------------------------------------------------------------------


def judged_everywhere(store: Store, photographs: int) -> None:
    """Judgements on every photograph of the workspace, and on one that the dataset doesn't have."""
    for name in [*(f"photo_{number}.jpg" for number in range(photographs)), "own.jpg"]:
        add_job(store, f"good-{name}", name, answer({"lighting": "Wait for rain."}), lighting=True)
        add_job(store, f"bad-{name}", name, answer({"lighting": "Use a flash."}), lighting=False)


def built(store: Store, recipe: DataRecipe = ADVISING) -> DatasetVersion:
    return build_dataset(link_critiques(store, store.path.parent, "ansel"), VOICE, recipe, store.path.parent)


def members(version: DatasetVersion, split: str) -> set[str]:
    return {each["lineage"] for each in version.manifest["members"] if each["split"] == split}


def test_no_pair_of_a_held_out_photograph_is_learned_from(tmp_path: Path) -> None:
    recipe = ADVISING.model_copy(update={"test_from": 12, "test_fraction": 0.3, "validation_fraction": 0.3})
    with workspace_of(tmp_path, 12) as store:
        (tmp_path / "source" / "own.jpg").write_bytes(jpeg(900))
        judged_everywhere(store, 12)
        version = built(store, recipe)
    own = hashlib.sha256(jpeg(900)).hexdigest()
    train, validation = (
        [pair for pair in split_preference_pairs(version, split, others=0) if pair.dimension]
        for split in ("train", "validation")
    )
    assert {pair.row.photo_id for pair in train} == members(version, "train") | {own}
    assert {pair.row.photo_id for pair in validation} == members(version, "validation")
    assert all(members(version, split) for split in ("train", "validation", "test"))
    assert version.manifest["advice_pairs"] == {"recommendation": 13}
    fold = members(version, "train") - {sorted(members(version, "train"))[0]}
    assert {pair.row.photo_id for pair in version.advice_pairs(fold, others=True)} == fold | {own}


def test_near_duplicate_of_a_held_out_photograph_gives_no_pair(tmp_path: Path) -> None:
    from PIL import Image

    from mondrian_core.images import jpeg_bytes
    from tests.data.stand_in import picture

    with workspace_of(tmp_path, 8) as store:
        plain = built(store)
        held = next(each for each in plain.manifest["members"] if each["split"] == "validation")
        number = int(Path(held["photograph"]).stem.rpartition("_")[2])
        mirrored = jpeg_bytes(picture(number).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        (tmp_path / "source" / "own.jpg").write_bytes(mirrored)
        add_job(store, "a", "own.jpg", answer({"lighting": "Wait for rain."}), lighting=True)
        add_job(store, "b", "own.jpg", answer({"lighting": "Use a flash."}), lighting=False)
        version = built(store)
    assert plain.digest != version.digest and version.manifest["advice_pairs"] == {"recommendation": 1}
    assert split_preference_pairs(version, "train", others=0) == []
    assert len(version.advice_pairs(version.photograph_hashes, others=True)) == 1


def test_answers_without_advice_take_no_pairs_and_keep_their_digest(store: Store) -> None:
    plain = DataRecipe(variants=0)
    before = built(store, plain)
    judged_everywhere(store, 8)
    told: list[StageEvent] = []
    manifest = link_critiques(store, store.path.parent, "ansel")
    after = build_dataset(manifest, VOICE, plain, store.path.parent, told.append)
    assert before.digest == after.digest and not (after.path / "advice_pairs").exists()
    assert "9 preference pairs" in manifest.table()
    assert any(isinstance(each, StageNotice) and each.message.startswith("9 pairs of judged") for each in told)


def test_pair_has_picture_prompt_and_both_answers(store: Store) -> None:
    add_job(store, "a", "own.jpg", answer({"lighting": "Wait for rain."}), lighting=True)
    add_job(store, "b", "own.jpg", answer({"lighting": "Use a flash."}), lighting=False)
    version = built(store)
    assert version == built(store) and "1 of the kind recommendation" in (version.path / "README.md").read_text()
    (pair,) = split_preference_pairs(version, "train", others=0)
    (preference,) = linked(store)
    assert pair.row.image.size == (96, 64) and pair.row.answer == preference.chosen
    assert pair.row.messages[-1]["content"][0]["text"] == preference.chosen and pair.rejected == preference.rejected
    assert pair.row.messages[:-1] == version.rows("train")[0].messages[:-1]


@pytest.mark.parametrize("epochs", [0, 1])
def test_judged_photograph_counts_as_trained_on_where_the_recipe_tunes(store: Store, epochs: int) -> None:
    add_job(store, "a", "own.jpg", answer({"lighting": "Wait for rain."}), lighting=True)
    add_job(store, "b", "own.jpg", answer({"lighting": "Use a flash."}), lighting=False)
    version = built(store)
    adapter = store.path.parent / "v0001"
    recipe = {"values": {"train": {"preference_epochs": epochs}}}
    write_json(adapter / "manifest.json", {"dataset": {"digest": version.digest}, "recipe": recipe})
    trained = load_training_provenance(adapter, version.path.parent, ignore_events, load_dataset_version)
    assert trained is not None
    own = hashlib.sha256(jpeg(900)).hexdigest()
    assert trained.photo_ids == members(version, "train") | ({own} if epochs else set())
    assert {each.photo_id for each in trained.fingerprints} == trained.photo_ids
