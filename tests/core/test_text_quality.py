"""Degenerate comments are recognised in any script, and sound ones never are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.text_quality import critique_text_problem, has_repeated_phrase, repeated_ngram_fraction, text_problem

GIBBERISH = [
    "I would would would crop it.",
    "The light is good, the light is good, the light is good.",
    "of the of the of the of the",
    "the sky is a sky that is a sky is the sky that is a sky is a sky that is a sky is the sky that is",
    "!!!!!!!!!!",
    "8, 9; 10.",
    "🔥🔥🔥",
    "hahahahahahahaha",
    "光光光光光光光光光光光光",
    "Good!!!!!!!!!!!!!!!!!!!!!!!!",
    "The photographer\x19s eye",
    "broken \ud83d half",
    "what the model wrote \ufffd\ufffd",
    "\x00",
    "a" + "bcdefghijklmnopqrstuvwxyz" * 3,
    "- - - - -",
]
SOUND = [
    "The right third carries the cabin; the placement is strong.",
    "Very, very dark, but the blacks hold.",
    "‘Moonrise’ — it’s about 1/125 s at f/8, ISO 100.",
    "Die Linien führen ins Bild; schöne Tiefe über dem Fluß.",
    "构图平衡，光线柔和。",
    "構図は良い。光がやわらかい。",
    "الإضاءة ناعمة والتكوين متوازن.",
    "Светлые тона держат передний план.",
    "แสงนุ่มและองค์ประกอบสมดุล",
    "शानदार रोशनी और संतुलन।",
    "Great light 👍",
    "好",
    "No detail is lost, no shadow is blocked, no line is wasted.",
    "Soooo much depth... and yet calm.",
    "👨‍👩‍👧 framed well, the family stands on the left third.",
]


@pytest.mark.parametrize("text", GIBBERISH)
def test_degenerate_comments_are_found(text: str) -> None:
    assert text_problem(text) is not None


@pytest.mark.parametrize("text", SOUND)
def test_good_comments_are_not_degenerate(text: str) -> None:
    assert text_problem(text) is None


def test_one_degenerate_comment_names_its_dimension() -> None:
    comments = dict.fromkeys(DIMENSIONS, "The tonal range is full.") | {"lighting": "..."}
    assert critique_text_problem(make_critique(dict.fromkeys(DIMENSIONS, 5), comments)) == "lighting: it has no word"


def test_identical_comments_are_not_a_critique() -> None:
    comment = "The foreground rock leads the eye towards the distant ridge."
    critique = make_critique(dict.fromkeys(DIMENSIONS, 5), dict.fromkeys(DIMENSIONS, comment))
    assert critique_text_problem(critique) == "every comment is the same"


def test_repetition_requires_three_whole_words() -> None:
    assert has_repeated_phrase("would would would") and has_repeated_phrase("Would, would; WOULD")
    assert not has_repeated_phrase("would would") and not has_repeated_phrase("can candle candor")
    assert not has_repeated_phrase("aa aaa aaaa")


def test_repetition_is_the_share_of_repeated_sequences() -> None:
    assert repeated_ngram_fraction("one two three") == 0.0
    assert repeated_ngram_fraction("a b c d a b c d") == pytest.approx(1 / 5)


@given(st.text(max_size=300))
def test_text_quality_accepts_any_text(text: str) -> None:
    assert text_problem(text) is None or text_problem(text)
