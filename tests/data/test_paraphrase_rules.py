"""Rule-based paraphrases of critiques."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.data.augmentation.paraphrase_rules import (
    paraphrase_comments,
    paraphrase_problems,
    swapped_clauses,
)
from mondrian_core.near_duplicates import shared_word_fraction
from mondrian_core.rubric import DIMENSIONS

COMMENTS = {
    "composition": "The tree stands on the left third; the arrangement guides the eye.",
    "lighting": "Side light shapes the land; the tones are complete.",
    "focus_sharpness": "Texture is crisp throughout; every blade is drawn.",
    "color_harmony": "The hues are one family; the palette rests.",
    "subject_isolation": "Two rivals surround the cabin; the subject is lost.",
    "depth_perspective": "Three planes, no path leads in; the distance is closed.",
    "visual_balance": "The horizon falls to the right; the print is uneasy.",
    "emotional_impact": "A storm sky glows; the mood is grave.",
}


@given(st.integers(0, 10_000))
def test_paraphrase_keeps_meaning_and_follows_seed(seed: int) -> None:
    varied = paraphrase_comments(COMMENTS, seed)
    assert varied == paraphrase_comments(COMMENTS, seed)
    if varied is None:
        return
    assert tuple(varied) == DIMENSIONS
    for name in DIMENSIONS:
        assert paraphrase_problems(COMMENTS[name], varied[name]) == ()
        assert shared_word_fraction(COMMENTS[name], varied[name]) >= 0.5


def test_paraphrase_rules_produce_variety() -> None:
    made = {tuple((paraphrase_comments(COMMENTS, seed) or COMMENTS).values()) for seed in range(50)}
    assert len(made) > 30


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("The tree leans; the sky is calm.", "The sky is calm; the tree leans."),
        ("I would wait; the left edge crowds the cabin.", "The left edge crowds the cabin; I would wait."),
        ("Texture is crisp; every blade is drawn.", "Every blade is drawn; texture is crisp."),
        ("F/64 would weep; edges are soft.", "Edges are soft; F/64 would weep."),
        ("The sky is calm; it holds the land.", "The sky is calm; it holds the land."),
        ("The sky is calm; but the land is not.", "The sky is calm; but the land is not."),
        ("One clause only.", "One clause only."),
        ("One; two; three.", "One; two; three."),
        ("A calm sky. A tree; a rock.", "A calm sky. A tree; a rock."),
    ],
)
def test_paraphrase_swaps_clauses(comment: str, expected: str) -> None:
    assert swapped_clauses(comment) == expected


@pytest.mark.parametrize(
    ("original", "varied"),
    [
        ("The tree is on the left.", "The tree is on the right."),
        ("Three planes recede.", "Four planes recede."),
        ("It is sharp.", "It is not sharp."),
        ("A strong diagonal.", "A weak diagonal."),
        ("A stop and 1.5 more.", "A stop and 2 more."),
        ("The edges are soft.", "The edges are sharp."),
        ("A calm lake.", "Something entirely different is written here."),
    ],
)
def test_meaning_changes_are_detected(original: str, varied: str) -> None:
    assert paraphrase_problems(original, varied)


def test_comments_without_synonyms_have_no_paraphrase() -> None:
    assert paraphrase_comments(dict.fromkeys(DIMENSIONS, "Hm."), 1) is None
