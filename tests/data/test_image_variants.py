"""Image variants: planned from a seed, with the scores that still hold and text that fits the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mondrian_core.data.augmentation.critique_variants import mirrored_text, variant_critique, variant_regions
from mondrian_core.data.augmentation.image_variants import (
    MIN_CROP_SHARE,
    ORIGINAL,
    Crop,
    Exposure,
    ImageOperation,
    ImageVariant,
    Mirror,
    Rotate,
    apply_variant,
    forbidden_operations,
    is_operation_allowed,
    plan_variants,
)
from mondrian_core.images import MAX_ASPECT, inscribed_share
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, Assessment, Critique, Region, make_critique
from tests.data.stand_in import picture

PLAIN = dict.fromkeys(DIMENSIONS, "A quiet lake under clouds.")


def comments(text: str) -> dict[str, str]:
    return {**PLAIN, "composition": text}


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 50), st.integers(0, 8))
def test_variant_plan_depends_on_photograph_and_seed_only(photo_id: str, seed: int, variants: int) -> None:
    recipe = DataRecipe(seed=seed, variants=variants)
    made = plan_variants(photo_id, PLAIN, recipe)
    assert made == plan_variants(photo_id, PLAIN, recipe)
    assert made[0] == ORIGINAL
    assert len(made) == len(set(made))
    assert len(made) <= 1 + variants
    assert all(set(variant.kept_dimensions) <= set(DIMENSIONS) and variant.kept_dimensions for variant in made)


def test_variant_plans_differ_between_photographs_and_seeds() -> None:
    recipe = DataRecipe(variants=4)
    plans = {plan_variants(str(number), PLAIN, recipe) for number in range(20)}
    assert len(plans) > 15
    assert plan_variants("1", PLAIN, recipe) != plan_variants("1", PLAIN, DataRecipe(variants=4, seed=1))


def test_disabled_operations_are_not_planned() -> None:
    recipe = DataRecipe(flips=False, exposure_stops=0, variants=8)
    operations = {
        type(each) for number in range(30) for v in plan_variants(str(number), PLAIN, recipe) for each in v.operations
    }
    assert operations == {Crop}
    assert plan_variants("1", PLAIN, DataRecipe(variants=0)) == (ORIGINAL,)


def test_augmentation_keeps_only_unaffected_scores() -> None:
    assert ORIGINAL.kept_dimensions == ImageVariant((Mirror(),)).kept_dimensions == DIMENSIONS
    assert set(DIMENSIONS) - set(Exposure(0.2).kept_dimensions) == {"lighting", "color_harmony", "emotional_impact"}
    lost = {"composition", "subject_isolation", "visual_balance", "emotional_impact"}
    assert set(DIMENSIONS) - set(Crop(0.98, 0.5, 0.5).kept_dimensions) == lost
    both = ImageVariant((Exposure(0.2), Crop(0.98, 0.5, 0.5)))
    assert both.kept_dimensions == ("focus_sharpness", "depth_perspective")


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Mirror(), "The sign above the door is sharp."),
        (Mirror(), "Half Dome rises."),
        (Mirror(), "The clock shows ten."),
        (Exposure(0.2), "The highlights burn out."),
        (Exposure(0.2), "Underexposed foreground."),
        (Exposure(0.2), "Deep shadows carry Zone III."),
        (Exposure(-0.2), "It is a stop too dark."),
        (Crop(0.98, 0, 0), "A branch touches the left edge."),
        (Crop(0.98, 0, 0), "Too little headroom."),
        (Crop(0.98, 0, 0), "The frame is full."),
    ],
)
def test_operations_are_skipped_when_a_comment_mentions_what_they_change(operation: object, text: str) -> None:
    assert not is_operation_allowed(operation, comments(text))
    planned = [
        variant
        for number in range(40)
        for variant in plan_variants(str(number), comments(text), DataRecipe(variants=8))
    ]
    assert not any(isinstance(each, type(operation)) for variant in planned for each in variant.operations)


def test_neutral_comment_allows_all_augmentations() -> None:
    for operation in (Mirror(), Exposure(0.2), Crop(0.98, 0, 0)):
        assert is_operation_allowed(operation, PLAIN)


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The tree on the left third, the path at right.", "The tree on the right third, the path at left."),
        ("Left, then RIGHT.", "Right, then LEFT."),
        ("The left-hand cliff; the leftmost pine.", "The right-hand cliff; the rightmost pine."),
        ("The eye moves clockwise.", "The eye moves counterclockwise."),
        ("The horizon leans left.", "The horizon leans right."),
        ("The light is just right.", "The light is just right."),
        ("Taken at the right moment.", "Taken at the right moment."),
        ("Nothing is left to chance.", "Nothing is left to chance."),
        ("Detail is left out of the shadows on the left.", "Detail is left out of the shadows on the right."),
        ("A bright copyright, an uplifted alright.", "A bright copyright, an uplifted alright."),
        ("The mass is right of centre.", "The mass is left of centre."),
        ("The tree is left of the road.", "The tree is right of the road."),
    ],
)
def test_mirrored_text_swaps_left_and_right(text: str, expected: str) -> None:
    assert mirrored_text(text) == expected


@given(st.lists(st.sampled_from(["left", "Right", "LEFT", "tree", "leftmost", "right", "righthand", "a", "sea"])))
def test_mirroring_text_twice_restores_it(words: list[str]) -> None:
    text = " ".join(words)
    assert mirrored_text(mirrored_text(text)) == text


def test_only_mirrored_variants_change_the_text() -> None:
    spoken = make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "On the left."))
    mirrored = variant_critique(ImageVariant((Mirror(), Exposure(0.2))), spoken, (300, 200))
    assert variant_critique(ImageVariant((Exposure(0.2),)), spoken, (300, 200)) == spoken
    assert {each.comment for each in mirrored.assessments.values()} == {"On the right."}
    assert variant_critique(ImageVariant((Mirror(), Mirror())), spoken, (300, 200)) == spoken


# --- advice -----------------------------------------------------------------------------------------------------------


def advising(recommendation: str = "Wait.", regions: tuple[Region, ...] = (), strengths: str = "Calm.") -> Critique:
    plain = make_critique(dict.fromkeys(DIMENSIONS, 7), PLAIN)
    advised = Assessment(7, PLAIN["lighting"], recommendation, regions)
    return replace(
        plain,
        assessments={**plain.assessments, "lighting": advised},
        strengths=(strengths, "The lake lies still."),
        priority_improvements=("Look to the left.",),
    )


def test_mirrored_advice_swaps_sides_and_flips_boxes() -> None:
    changed = variant_critique(
        ImageVariant((Mirror(),)), advising("Step right.", ((0.1, 0.2, 0.4, 0.9),), "A path on the left."), (300, 200)
    )
    assert changed.assessments["lighting"].recommendation == "Step left."
    assert list(changed.assessments["lighting"].regions[0]) == pytest.approx([0.6, 0.2, 0.9, 0.9])
    assert changed.strengths[0] == "A path on the right." and changed.priority_improvements == ("Look to the right.",)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Exposure(0.2), "Burn in the sky."),
        (Exposure(0.2), "Expose for the rock."),
        (Exposure(0.2), "Brighten the face."),
        (Exposure(0.2), "Hold back the highlights."),
        (Crop(0.98, 0.5, 0.5), "Step back two paces."),
        (Crop(0.98, 0.5, 0.5), "Crop the empty sky."),
        (Mirror(), "Wait until the sign is gone."),
        (Mirror(), "Geh nach links und warte."),
        (Rotate(1.0), "Keep the horizon level."),
    ],
)
def test_advice_that_a_variant_makes_untrue_leaves_its_row(operation: ImageOperation, text: str) -> None:
    """The variant is still made: advice is optional, unlike a comment."""
    box = ((0.4, 0.4, 0.6, 0.6),)
    variant = ImageVariant((operation,))
    changed = variant_critique(variant, advising(text, box, strengths=text), (300, 200))
    assert changed.assessments["lighting"] == Assessment(7, PLAIN["lighting"])
    assert changed.strengths == (), "a list with an item missing would teach an untrue end"
    assert changed.priority_improvements
    kept = variant_critique(variant, advising("Wait for rain.", box), (300, 200)).assessments["lighting"]
    assert kept.recommendation == "Wait for rain." and len(kept.regions) == 1


@pytest.mark.parametrize("operation", [Crop(0.9, 1.0, 1.0), Rotate(4.0)])
def test_a_recommendation_leaves_a_row_whose_picture_has_lost_its_box(operation: ImageOperation) -> None:
    """Without its box it would teach that it points at nothing; without the recommendation nothing is taught."""
    corner, center = (0.0, 0.0, 0.05, 0.05), (0.4, 0.4, 0.6, 0.6)
    critique = advising("Wait for rain.", (corner, center))
    whole = replace(critique.assessments["lighting"], regions=(center,))
    critique = replace(critique, assessments={**critique.assessments, "balance": whole})
    changed = variant_critique(ImageVariant((operation,)), critique, (300, 200))
    assert changed.assessments["lighting"] == Assessment(7, PLAIN["lighting"])
    assert changed.assessments["balance"].recommendation and len(changed.assessments["balance"].regions) == 1


@pytest.mark.parametrize("operation", [Mirror(), Exposure(0.1), Crop(0.93, 0.2, 0.9), Rotate(3.0), Rotate(-4.0)])
def test_boxes_move_with_the_pixels(operation: ImageOperation) -> None:
    """A white patch is where its box says, in the picture that the operation makes."""
    pixels = np.full((240, 360, 3), 60, dtype=np.uint8)
    pixels[72:144, 90:180] = 220
    box = (90 / 360, 72 / 240, 180 / 360, 144 / 240)
    variant = ImageVariant((operation,))
    made = apply_variant(variant, Image.fromarray(pixels))
    assert made is not None
    (moved,) = variant_regions(variant, (box,), (360, 240))
    rows, columns = np.nonzero(np.asarray(made.convert("L")) > 140)
    seen = (
        columns.min() / made.width,
        rows.min() / made.height,
        (columns.max() + 1) / made.width,
        (rows.max() + 1) / made.height,
    )
    assert moved == pytest.approx(seen, abs=0.015)


def test_boxes_are_left_out_together_when_one_is_cut_away() -> None:
    edge, center = (0.0, 0.0, 0.02, 0.02), (0.4, 0.4, 0.6, 0.6)
    crop = ImageVariant((Crop(0.95, 1.0, 1.0),))
    assert len(variant_regions(crop, (center,), (300, 200))) == 1
    assert variant_regions(crop, (center, edge), (300, 200)) == ()


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_mirror_flips_image_horizontally() -> None:
    made = apply_variant(ImageVariant((Mirror(),)), picture(1))
    assert made is not None
    assert np.array_equal(np.asarray(made), np.asarray(picture(1))[:, ::-1])


def test_exposure_is_in_linear_light() -> None:
    """+0.2 stop takes sRGB 118 to 126; a gain on the encoded value would give 136."""
    grey = Image.new("RGB", (4, 4), (118, 118, 118))
    lighter, darker = (apply_variant(ImageVariant((Exposure(stops),)), grey) for stops in (0.2, -0.2))
    assert lighter is not None
    assert darker is not None
    assert lighter.getpixel((0, 0)) == (126, 126, 126)
    assert darker.getpixel((0, 0)) == (111, 111, 111)


def test_exposure_keeps_grey_neutral() -> None:
    grey = picture(2).convert("L").convert("RGB")
    made = apply_variant(ImageVariant((Exposure(0.2),)), grey)
    assert made is not None
    pixels = np.asarray(made)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 1] == pixels[..., 2]).all()


def test_clipping_exposure_variant_is_not_made() -> None:
    bright = Image.new("RGB", (10, 10), (245, 245, 245))
    assert apply_variant(ImageVariant((Exposure(0.5),)), bright) is None
    burnt = Image.new("RGB", (10, 10), (255, 255, 255))
    assert apply_variant(ImageVariant((Exposure(0.5),)), burnt) is not None  # nothing new is lost


@settings(deadline=None)
@given(st.floats(MIN_CROP_SHARE, 0.999), st.floats(0, 1), st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_crop_is_inside_the_picture_and_large(share: float, x: float, y: float, width: int, height: int) -> None:
    made = apply_variant(ImageVariant((Crop(share, x, y),)), Image.new("RGB", (width, height), "red"))
    if made is None:  # too narrow a strip would be left
        assert max(width, height) > 0.9 * MAX_ASPECT * min(width, height)
        return
    assert made.width >= min(width, round(width * MIN_CROP_SHARE))
    assert made.height >= min(height, round(height * MIN_CROP_SHARE))
    assert np.asarray(made)[..., 0].min() == 255  # black would be padding


def test_variant_names_and_serialization() -> None:
    assert ORIGINAL.name == "original"
    assert ImageVariant((Mirror(), Exposure(-0.2))).name == "mirror+exposure-0.20"
    assert ImageVariant((Exposure(0.2), Crop(0.98, 0.1, 0.2))).as_dict() == [
        {"operation": "exposure", "stops": 0.2},
        {"operation": "crop", "share": 0.98, "x": 0.1, "y": 0.2},
    ]


# --- only when the recipe asks ----------------------------------------------------------------------------------------

ROTATING = DataRecipe(rotation_degrees=5, least_crop=0.9, variants=8)


def test_strong_crops_and_rotations_are_optional_and_keep_fewer_scores() -> None:
    def made(recipe: DataRecipe) -> list[object]:
        return [
            each for number in range(60) for v in plan_variants(str(number), PLAIN, recipe) for each in v.operations
        ]

    usual, asked = made(DataRecipe(variants=8)), made(ROTATING)
    assert not [each for each in usual if isinstance(each, Rotate)]
    assert all(each.share >= MIN_CROP_SHARE for each in usual if isinstance(each, Crop))
    turns = [each.degrees for each in asked if isinstance(each, Rotate)]
    assert len(turns) == 60 and max(map(abs, turns)) <= 5 and min(turns) < 0 < max(turns)
    shares = [each.share for each in asked if isinstance(each, Crop)]
    assert min(shares) < MIN_CROP_SHARE and min(shares) >= 0.9
    assert not [each for each in made(DataRecipe(variants=8, least_crop=1.0)) if isinstance(each, Crop)]


def test_rotation_option_does_not_change_default_plan() -> None:
    """Datasets without rotation keep their digest."""
    names = [variant.name for variant in plan_variants("ab" * 32, PLAIN, DataRecipe(variants=8))]
    assert names == [
        "original",
        "mirror",
        "exposure+0.20",
        "mirror+exposure-0.20",
        "crop0.993",
        "mirror+crop0.988",
        "exposure-0.20",
        "mirror+exposure+0.20",
    ]


@pytest.mark.parametrize(
    ("operation", "kept"),
    [
        (Crop(0.95, 0.5, 0.5), ("lighting", "color_harmony")),
        (Rotate(0.8), ("lighting", "color_harmony", "subject_isolation")),
        (Rotate(-4.0), ("lighting", "color_harmony")),
    ],
)
def test_strong_augmentation_keeps_fewer_scores(operation: Crop | Rotate, kept: tuple[str, ...]) -> None:
    assert set(operation.kept_dimensions) == set(kept)
    assert set(ImageVariant((Mirror(), operation)).kept_dimensions) == set(kept)


@pytest.mark.parametrize(("degrees", "share"), [(1, 0.950), (2, 0.904), (3, 0.862), (5, 0.787)])
def test_rotation_keeps_inscribed_rectangle(degrees: float, share: float) -> None:
    assert inscribed_share((3000, 2000), degrees) ** 2 == pytest.approx(share, abs=0.001)


@settings(deadline=None)
@given(st.integers(40, 300), st.integers(40, 300), st.floats(-5, 5))
def test_rotation_has_no_empty_corners(width: int, height: int, degrees: float) -> None:
    white = Image.new("RGB", (width, height), "white")
    turned = apply_variant(ImageVariant((Rotate(degrees),)), white)
    assert turned is not None
    assert int(np.asarray(turned).min()) == 255
    assert abs(turned.width / turned.height - width / height) < 0.1 * width / height


@pytest.mark.parametrize(
    "text", ["The horizon is level.", "Strong verticals.", "The diagonal leads in.", "A tight frame."]
)
def test_no_rotation_when_a_comment_mentions_upright_things(text: str) -> None:
    assert not is_operation_allowed(Rotate(2.0), comments(text))
    assert "rotate" in forbidden_operations(comments(text), ROTATING)
    assert "rotate" not in forbidden_operations(comments(text), DataRecipe())
