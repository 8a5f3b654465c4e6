"""Dataset versions: deterministic digests, no partial writes, rows that a model can be trained on."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.dataset import builder as module
from mondrian_core.data.dataset import examples, writer
from mondrian_core.data.dataset.builder import BuildLimits, build_dataset
from mondrian_core.data.dataset.token_budget import RowLength, TokenBudget
from mondrian_core.data.dataset.version import DatasetVersion, changed_dataset_files, load_dataset_version
from mondrian_core.data.linking.link import LinkManifest, link_critiques
from mondrian_core.data.splits.split import SPLITS
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput, DiskFull, NothingToDo
from mondrian_core.events import StageEvent, ignore_events
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique, grade_from_scores, make_critique, round_score
from mondrian_core.training_target import training_target
from tests.data.stand_in import VOICE, jpeg, profile, workspace_of

RECIPE = DataRecipe()


def linked(folder: Path, photographs: int = 12) -> LinkManifest:
    with workspace_of(folder, photographs) as store:
        return link_critiques(store, folder, "ansel")


def built(folder: Path, photographs: int = 12, recipe: DataRecipe = RECIPE) -> DatasetVersion:
    return build_dataset(linked(folder, photographs), VOICE, recipe, folder)


def test_rows_contain_advisor_critique(tmp_path: Path) -> None:
    version = built(tmp_path)
    rows = version.rows("train")
    assert len(rows) == version.rows_per_split["train"] > version.photographs["train"]
    for row in rows:
        critique = parse_critique_strict(row.answer)
        assert critique.scores == {name: round_score(row.scores[name]) for name in DIMENSIONS}
        assert critique.overall_grade == grade_from_scores(critique.scores)
        assert row.messages[:2] == critique_messages(VOICE)
        assert row.messages[2] == {"role": "assistant", "content": [{"type": "text", "text": row.answer}]}
        assert row.image.mode == "RGB"
        assert row.loss_dimensions == tuple(name for name in DIMENSIONS if name in row.loss_dimensions)


def test_fractional_scores_are_kept_next_to_taught_whole_scores(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 0) as store:
        for number in range(3):
            (tmp_path / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
        store.add_profiles(profile(number, scores=dict.fromkeys(DIMENSIONS, 7.5)) for number in range(3))
        version = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, RECIPE, tmp_path)
    row = version.rows("train")[0]
    assert row.scores == dict.fromkeys(DIMENSIONS, 7.5)
    assert parse_critique_strict(row.answer).scores == dict.fromkeys(DIMENSIONS, 8)
    assert parse_critique_strict(row.answer).overall_grade == "8.0"


def test_photographs_have_equal_total_weight(tmp_path: Path) -> None:
    version = built(tmp_path)
    for split in SPLITS:
        weights: dict[str, float] = {}
        for row in version.rows(split):
            weights[row.photo_id] = weights.get(row.photo_id, 0) + row.weight
        assert len(weights) == version.photographs[split]
        assert all(abs(total - 1) < 1e-9 for total in weights.values())


def test_only_training_has_variants_without_contamination(tmp_path: Path) -> None:
    version = built(tmp_path, 60)
    assert version.photographs["test"] > 0
    homes = {split: {row.photo_id for row in version.rows(split)} for split in SPLITS}
    assert not homes["train"] & homes["validation"]
    assert not homes["train"] & homes["test"]
    assert not homes["validation"] & homes["test"]
    for split in ("validation", "test"):
        assert version.rows_per_split[split] == version.photographs[split]
        assert all(row.loss_dimensions == DIMENSIONS and row.weight == 1 for row in version.rows(split))
    assert version.photograph_hashes == homes["train"] | homes["validation"] | homes["test"]
    assert (version.evaluation_split, version.selection_split) == ("test", "validation")


def test_small_dataset_validation_is_held_out_and_selects_no_checkpoint(tmp_path: Path) -> None:
    version = built(tmp_path)
    assert (version.evaluation_split, version.selection_split) == ("validation", None)
    assert version.rows("test") == []
    assert len(version.rows("validation")) >= 2


def test_paraphrases_keep_picture_scores_and_weight(tmp_path: Path) -> None:
    spoken = "The tree stands on the left; the sky is calm."
    with workspace_of(tmp_path, 0) as store:
        for number in range(6):
            (tmp_path / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
        store.add_profiles(profile(number, comments=dict.fromkeys(DIMENSIONS, spoken)) for number in range(6))
        recipe = DataRecipe(variants=0, variations=2)
        version = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, recipe, tmp_path)
    rows = version.rows("train")
    assert len(rows) == 3 * version.photographs["train"]
    assert version.rows_per_split["validation"] == version.photographs["validation"]
    by_photograph: dict[str, list[DatasetRow]] = {}
    for row in rows:
        by_photograph.setdefault(row.photo_id, []).append(row)
    for same in by_photograph.values():
        assert len({row.answer for row in same}) == 3
        assert len({row.image.tobytes() for row in same}) == 1
        assert all(
            parse_critique_strict(row.answer).scores == parse_critique_strict(same[0].answer).scores for row in same
        )
        assert abs(sum(row.weight for row in same) - 1) < 1e-9


def test_mirrored_rows_are_mirrored_in_picture_and_text(tmp_path: Path) -> None:
    version = built(tmp_path)
    pairs: dict[str, dict[bool, DatasetRow]] = {}
    for row in version.rows("train"):
        if row.loss_dimensions == DIMENSIONS:
            pairs.setdefault(row.photo_id, {})["right" in row.answer] = row
    both = [pair for pair in pairs.values() if len(pair) == 2]
    assert both
    for pair in both:
        original, mirrored = (np.asarray(pair[key].image, dtype=float) for key in (False, True))
        assert np.abs(original - mirrored[:, ::-1]).mean() < 4
        assert np.abs(original - mirrored).mean() > 4


def test_build_opens_each_photograph_once_and_renders_each_answer_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding is counted in Pillow's `load`; the contact sheet, which decodes a few stored pictures, is left out."""
    manifest = linked(tmp_path)
    decoded: list[tuple[int, int]] = []
    rendered: list[str] = []
    load = ImageFile.ImageFile.load

    def counted_load(image: ImageFile.ImageFile) -> object:
        if image.tile:  # not decoded yet
            decoded.append(image.size)
        return load(image)

    def counted_target(critique: Critique, form: AnswerForm) -> str:
        rendered.append(training_target(critique, form))
        return rendered[-1]

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted_load)
    monkeypatch.setattr(examples, "training_target", counted_target)
    monkeypatch.setattr(writer, "_write_contact_sheet", lambda *_: None)
    budget = TokenBudget(lambda messages, image, answer: RowLength(1, 1, len(answer) // 8), 2000)
    version = build_dataset(manifest, VOICE, RECIPE, tmp_path, limits=BuildLimits(token_budget=budget))
    assert len(decoded) == len(manifest.used) == 12
    monkeypatch.undo()
    rows = [row for split in SPLITS for row in version.rows(split)]
    rows += [row for own in (version.held_out_variants() or {}).values() for row in own]
    assert len(rendered) == len({(row.photo_id, row.answer) for row in rows}) > 12


def test_answer_is_stored_once(tmp_path: Path) -> None:
    version = built(tmp_path)
    (file,) = (version.path / "validation").glob("*.arrow")
    for row in version.rows("validation"):
        comment = parse_critique_strict(row.answer).assessments["composition"].comment
        assert file.read_bytes().count(comment.encode()) == len(DIMENSIONS)


# --- digests ----------------------------------------------------------------------------------------------------------


def test_same_inputs_give_same_digest_in_any_folder(tmp_path: Path) -> None:
    first = built(tmp_path / "one")
    (tmp_path / "two").mkdir()
    again = built(tmp_path / "two" / "elsewhere")
    assert first.digest == again.digest
    assert first.manifest["members"] == again.manifest["members"]
    assert len(first.digest) == 64


def test_building_twice_returns_the_existing_version(tmp_path: Path) -> None:
    manifest = linked(tmp_path)
    first = build_dataset(manifest, VOICE, RECIPE, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    assert build_dataset(manifest, VOICE, RECIPE, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == stamps
    assert [each.name for each in first.path.parent.iterdir()] == [first.digest]


def test_changed_rows_change_the_digest(tmp_path: Path) -> None:
    manifest = linked(tmp_path)
    other_prompt = AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.", "You are another.")
    recipes = [RECIPE, DataRecipe(seed=1), DataRecipe(variants=1), DataRecipe(flips=False)]
    digests = [build_dataset(manifest, VOICE, recipe, tmp_path).digest for recipe in recipes]
    digests.append(build_dataset(manifest, other_prompt, RECIPE, tmp_path).digest)
    fewer = LinkManifest(manifest.advisor, manifest.used[:-1], manifest.left_out)
    digests.append(build_dataset(fewer, VOICE, RECIPE, tmp_path).digest)
    assert len(set(digests)) == len(digests)


def test_record_order_does_not_change_digest(tmp_path: Path) -> None:
    manifest = linked(tmp_path)
    backwards = LinkManifest(manifest.advisor, manifest.used[::-1], manifest.left_out)
    assert (
        build_dataset(manifest, VOICE, RECIPE, tmp_path).digest
        == build_dataset(backwards, VOICE, RECIPE, tmp_path).digest
    )


def test_dataset_digest_is_stable_across_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The content of a row decides the digest. When this value changes, `FORMAT` must change too."""
    from mondrian_core.data.augmentation.image_variants import ORIGINAL
    from mondrian_core.data.dataset.builder import dataset_digest
    from mondrian_core.data.dataset.examples import DatasetExample

    critique = make_critique(dict.fromkeys(DIMENSIONS, 7.0), dict.fromkeys(DIMENSIONS, "Level."))
    example = DatasetExample(
        photo_id="ab" * 32,
        record="profile:p",
        variant=ORIGINAL,
        jpeg=b"",
        critique=critique,
        answer=examples.answer_text(critique, AnswerForm.COMMENTS),
        split="train",
    )
    monkeypatch.setattr(module, "prompt_digest", lambda voice: "prompt")
    known = "451df473e6fcd6753a649462038d6b4dcf28834a1093dfa01403c763fa3ae1be"
    assert dataset_digest([example], VOICE, {"a": "a", "b": "b"}) == known
    assert dataset_digest([example], VOICE, {"a": "a", "b": "a"}) != known, "folds follow the groups"


# --- what can go wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_interruption_or_full_disk_leaves_no_partial_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    manifest = linked(tmp_path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(writer, "_write_contact_sheet", fail)
    with pytest.raises(DiskFull if isinstance(error, OSError) else KeyboardInterrupt):
        build_dataset(manifest, VOICE, RECIPE, tmp_path)
    assert list((tmp_path / "datasets" / "ansel").iterdir()) == []
    monkeypatch.undo()
    assert changed_dataset_files(build_dataset(manifest, VOICE, RECIPE, tmp_path)) == ()


def test_unfinished_dataset_folder_is_replaced(tmp_path: Path) -> None:
    manifest = linked(tmp_path)
    version = build_dataset(manifest, VOICE, RECIPE, tmp_path)
    (version.path / "manifest.json").unlink()
    with pytest.raises(BadInput, match="not a finished dataset"):
        load_dataset_version(version.path)
    again = build_dataset(manifest, VOICE, RECIPE, tmp_path)
    assert changed_dataset_files(again) == ()
    assert [each.name for each in version.path.parent.iterdir()] == [version.digest]


def test_modified_dataset_files_are_detected(tmp_path: Path) -> None:
    version = built(tmp_path)
    card = version.path / "README.md"
    card.write_text(card.read_text() + "More.")
    (version.path / "contact_sheet.png").unlink()
    assert set(changed_dataset_files(version)) == {"README.md was changed", "contact_sheet.png is missing"}


def test_damaged_split_is_reported(tmp_path: Path) -> None:
    version = built(tmp_path)
    shutil.rmtree(version.path / "train")
    with pytest.raises(BadInput, match="damaged"):
        version.rows("train")


def test_photograph_that_fails_to_decode_is_left_out(tmp_path: Path) -> None:
    events: list[StageEvent] = []
    with workspace_of(tmp_path, 4) as store:
        (tmp_path / "source" / "bad.png").write_bytes(_png_with_damaged_pixels())
        store.add_profiles([profile(9, "source/bad.png")])
        manifest = link_critiques(store, tmp_path, "ansel")
    assert "profile:p9" in {each.record for each in manifest.used}
    version = build_dataset(manifest, VOICE, RECIPE, tmp_path, events.append)
    assert [each["record"] for each in version.manifest["damaged"]] == ["profile:p9"]
    assert sum(version.photographs.values()) == 4
    assert any("profile:p9" in getattr(event, "message", "") for event in events)


def _png_with_damaged_pixels() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"IDAT") + 200
    data[at : at + 40] = bytes(40)
    return bytes(data)


def test_photograph_changed_after_linking_is_rejected(tmp_path: Path) -> None:
    manifest = linked(tmp_path)
    (tmp_path / "source" / "photo_3.jpg").write_bytes(jpeg(300))
    with pytest.raises(BadInput, match="changed after"):
        build_dataset(manifest, VOICE, RECIPE, tmp_path)


def test_empty_link_manifest_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo):
        build_dataset(LinkManifest("ansel", (), ()), VOICE, RECIPE, tmp_path)


def test_missing_dataset_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mondrian dataset"):
        load_dataset_version(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(BadInput):
        load_dataset_version(tmp_path)


# --- what people see --------------------------------------------------------------------------------------------------


def test_dataset_card_and_contact_sheet_are_written(tmp_path: Path) -> None:
    version = built(tmp_path)
    card = (version.path / "README.md").read_text()
    assert version.digest in card
    assert f"| train | {version.photographs['train']} | {version.rows_per_split['train']} |" in card
    assert "12 critiques were written by a person" in card
    with Image.open(version.path / "contact_sheet.png") as sheet:
        assert sheet.width > 600
        assert sheet.height > 800


def test_dataset_loads_with_huggingface_datasets(tmp_path: Path) -> None:
    import datasets

    version = built(tmp_path)
    stored = datasets.load_from_disk(str(version.path / "train"))
    assert {"messages", "image", "scores", "loss_dimensions", "lineage", "weight"} <= set(stored.column_names)
    assert "answer" not in stored.column_names
    assert stored[0]["image"].size == (96, 64)


def test_large_photographs_are_downscaled_without_metadata(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 3) as store:
        exif = Image.Exif()
        exif[0x010F] = "Camera"
        from tests.data.stand_in import picture

        picture(5, (2400, 1600)).save(tmp_path / "source" / "large.jpg", exif=exif)
        store.add_profiles([profile(5, "source/large.jpg")])
        version = build_dataset(link_critiques(store, tmp_path, "ansel"), VOICE, DataRecipe(variants=0), tmp_path)
    images = [row.image for split in SPLITS for row in version.rows(split)]
    assert max(max(image.size) for image in images) == 1024
    assert all("exif" not in image.info for image in images)


@pytest.mark.parametrize("workspace", ["legacy_workspace_copy", "real_workspace_copy"])
def test_dataset_from_legacy_workspace(workspace: str, request: pytest.FixtureRequest) -> None:
    from mondrian_core.store import Store

    samples: Path = request.getfixturevalue(workspace)

    events: list[StageEvent] = []
    with Store(samples / "mondrian.db", read_only=True) as store:
        version = build_dataset(
            link_critiques(store, samples, "ansel"), store.advisor("ansel"), RECIPE, samples, events.append
        )
    assert sum(version.photographs.values()) == 10
    assert version.photographs["validation"] >= 2
    assert len(events) == 10
    assert json.loads((version.path / "manifest.json").read_text())["linked"]["duplicate_of"] == 1
    assert ignore_events(events[0]) is None
