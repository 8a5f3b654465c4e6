"""The rubric's readers and its one spelling."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.answer_entries import dimension_from_label
from mondrian_core.critique_parsing import (
    PARSE_ERROR_REASONS,
    CritiqueParseError,
    normalize_answer_json,
    parse_critique_lenient,
    parse_critique_strict,
)
from mondrian_core.rubric import (
    DIMENSION_TITLES,
    DIMENSIONS,
    Assessment,
    Critique,
    canonical_answer,
    critique_json_schema,
    grade_from_scores,
    grade_of_unfinished_answer,
    has_visible_character,
    int_if_whole,
    make_critique,
    mean_score,
    round_score,
)

comments = st.text(min_size=1, max_size=60).filter(has_visible_character)
whole = st.integers(0, 10)
halves = st.integers(0, 20).map(lambda value: value / 2)


@st.composite
def critiques(draw: st.DrawFn, scores: st.SearchStrategy[float] = whole) -> Critique:
    given_scores = {name: draw(scores) for name in DIMENSIONS}
    return make_critique(given_scores, {name: draw(comments) for name in DIMENSIONS})


def example() -> dict[str, Any]:
    return make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "Level.")).as_dict()


def reason_of(text: str, read: Any = parse_critique_strict) -> str:
    with pytest.raises(CritiqueParseError) as caught:
        read(text)
    return caught.value.reason


@given(critiques())
def test_canonical_answer_round_trip(critique: Critique) -> None:
    text = canonical_answer(critique)
    assert json.loads(text) == critique.as_dict()
    assert canonical_answer(parse_critique_strict(text)) == text
    assert parse_critique_lenient(text).repairs == ()
    assert canonical_answer(parse_critique_lenient(text).critique) == text


@given(critiques(halves))
def test_fractional_scores_round_trip(critique: Critique) -> None:
    assert parse_critique_strict(canonical_answer(critique)).scores == critique.scores


@given(critiques(), st.integers(1, 400))
def test_truncated_answer_is_unparsable(critique: Critique, cut: int) -> None:
    text = canonical_answer(critique)
    kept = text[: max(0, len(text) - cut)]
    expected = "cut" if kept else "empty"
    assert reason_of(kept) == expected
    assert reason_of(kept, parse_critique_lenient) == expected
    assert not kept or reason_of("Here it is: " + kept, parse_critique_lenient) == "cut"


@given(st.text(max_size=200))
def test_parsers_accept_or_reject_any_text(text: str) -> None:
    for read in (parse_critique_strict, parse_critique_lenient):
        try:
            read(text)
        except CritiqueParseError as error:
            assert error.reason in PARSE_ERROR_REASONS  # noqa: PT017


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["score", "comment", "dimensions", "name", "overall_grade", "overall_score", *DIMENSIONS]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*DIMENSIONS, "x"]), json_values), json_values)
def test_parsers_accept_or_reject_any_json(dimensions: dict[str, Any], grade: Any) -> None:
    for answer in (
        {"dimensional_analysis": dimensions, "overall_grade": grade},
        {"dimensions": grade, "overall_score": grade},
        {"dimensional_analysis": grade, "overall_grade": "5.0"},
    ):
        for read in (parse_critique_strict, parse_critique_lenient):
            try:
                read(json.dumps(answer))
            except CritiqueParseError as error:
                assert error.reason in PARSE_ERROR_REASONS  # noqa: PT017


def test_parsers_give_rejection_reason() -> None:
    answer = example()
    assert reason_of("") == "empty"
    assert reason_of("   \n") == "empty"
    assert reason_of(canonical_text(answer)[:200]) == "cut"
    assert reason_of("A fine photograph.") == "not_json"
    assert reason_of("[1, 2]") == "not_json"
    assert reason_of(canonical_text({**answer, "mood": "calm"})) == "wrong_keys"
    assert reason_of(canonical_text({**answer, "overall_grade": "2.0"})) == "grade_inconsistent"
    assert reason_of(canonical_text({**answer, "overall_grade": 7.0})) == "bad_grade"
    assert reason_of(canonical_text(answer) + " Enjoy!") == "not_json"
    assert reason_of(changed(answer, score=11)) == "score_out_of_range"
    assert reason_of(changed(answer, score=-1)) == "score_out_of_range"
    assert reason_of(changed(answer, score="7")) == "bad_score"
    assert reason_of(changed(answer, score=True)) == "bad_score"
    assert reason_of(changed(answer, score=None)) == "bad_score"
    assert reason_of(changed(answer, comment=" ")) == "no_comment"
    assert reason_of(f"```json\n{canonical_text(answer)}\n```") == "not_json"


def test_nan_score_is_rejected() -> None:
    text = canonical_text(example()).replace('"score": 7', '"score": NaN', 1)
    assert reason_of(text) == "not_json"
    assert reason_of(text, parse_critique_lenient) == "not_json"
    assert reason_of(canonical_text(example()).replace('"score": 7', '"score": 1e999', 1)) == "bad_score"


def test_a_key_given_twice_is_refused() -> None:
    """`json.loads` keeps the last of two equal keys in silence; the first may have been the one that was meant."""
    text = canonical_text(example())
    twice = text.replace('{"score": 7,', '{"score": 2, "score": 7,', 1)
    assert reason_of(twice) == "wrong_keys"


def canonical_text(answer: dict[str, Any]) -> str:
    return json.dumps(answer)


def changed(answer: dict[str, Any], **entry: Any) -> str:
    dimensions = {**answer["dimensional_analysis"]}
    dimensions["lighting"] = {**dimensions["lighting"], **entry}
    return canonical_text({**answer, "dimensional_analysis": dimensions})


def test_the_order_of_the_dimensions_counts_for_the_strict_reader_only() -> None:
    answer = example()
    answer["dimensional_analysis"] = dict(reversed(answer["dimensional_analysis"].items()))
    assert reason_of(canonical_text(answer)) == "missing_dimensions"
    assert parse_critique_lenient(canonical_text(answer)).critique.scores == dict.fromkeys(DIMENSIONS, 7)


def older_form() -> dict[str, Any]:
    return {
        "image_description": "A valley.",
        "dimensions": [
            {"name": DIMENSION_TITLES[name], "score": "7.5", "comment": "Level.", "recommendation": "Wait."}
            for name in DIMENSIONS
        ],
        "overall_score": None,
        "key_strengths": [],
        "priority_improvements": [],
        "technical_notes": "Grain.",
    }


def test_the_older_form_is_read_in_a_fence_and_says_its_repairs() -> None:
    reading = parse_critique_lenient(f"Here it is:\n```json\n{json.dumps(older_form(), indent=2)}\n```\nDone.")
    assert reading.critique.scores == dict.fromkeys(DIMENSIONS, 7.5)
    assert reading.critique.overall_grade == "7.5"
    assert reading.critique.advisor_notes == "Grain."
    assert reading.critique.assessments["lighting"].recommendation == "Wait."
    assert set(reading.repairs) == {"fence", "older_form", "grade_computed"}


def test_the_lenient_reader_never_invents_a_dimension() -> None:
    answer = older_form()
    answer["dimensions"] = answer["dimensions"][:5]
    with pytest.raises(CritiqueParseError) as caught:
        parse_critique_lenient(json.dumps(answer))
    assert caught.value.reason == "missing_dimensions"
    assert "visual_balance" in caught.value.detail


def test_a_trailing_comma_is_fixed_but_not_inside_a_comment() -> None:
    text = canonical_text(example()).replace('"Level."', '"A fence (left,], bare,}"', 1)
    assert parse_critique_lenient(text).repairs == ()
    mended = parse_critique_lenient(text[:-1] + ",}")
    assert mended.repairs == ("trailing_comma",)
    assert mended.critique.assessments["composition"].comment == "A fence (left,], bare,}"


def test_a_cut_answer_without_closing_brace_inside_prose_is_refused() -> None:
    text = "Sure! " + canonical_text(example())[:150]
    assert reason_of(text, parse_critique_lenient) == "cut"


def test_deep_nesting_is_refused() -> None:
    assert reason_of("[" * 100_000) in ("not_json", "cut")
    assert reason_of('{"a":' * 100_000, parse_critique_lenient) in ("not_json", "cut")


@pytest.mark.parametrize("digits", [21, 309, 401, 5000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_huge_numbers_are_out_of_range(digits: int, sign: str) -> None:
    """Python refuses to convert 4,300 digits, and to make a float of 309."""
    text = canonical_text(example()).replace('"score": 7', f'"score": {sign}' + "9" * digits, 1)
    assert reason_of(text) == "score_out_of_range"
    assert reason_of(text, parse_critique_lenient) == "score_out_of_range"
    grade = canonical_text(example()).replace('"7.0"', sign + "1" * digits)
    assert reason_of(grade) == reason_of(grade, parse_critique_lenient) == "bad_grade"


def test_huge_number_in_extra_key_is_harmless() -> None:
    text = canonical_text({**example(), "advisor_notes": "x"}).replace('"x"', "1" + "0" * 5000)
    assert parse_critique_lenient(text).critique.scores == dict.fromkeys(DIMENSIONS, 7)


@pytest.mark.parametrize("where", ["Level.", "lighting", "7.0"])
@pytest.mark.parametrize("spelling", ["\\ud83d", "\\udc00 \\ud800", "\ud83d"])
def test_a_lone_surrogate_is_unparsable_and_every_detail_can_be_written(where: str, spelling: str) -> None:
    text = canonical_text(example()).replace(where, f"{where}{spelling}", 1)
    for read in (parse_critique_strict, parse_critique_lenient):
        with pytest.raises(CritiqueParseError) as caught:
            read(text)
        str(caught.value).encode()
    twice = f'{{"a{spelling}": 1, "a{spelling}": 2}}'
    with pytest.raises(CritiqueParseError) as caught:
        parse_critique_lenient(twice)
    str(caught.value).encode()


def test_a_surrogate_pair_is_a_character() -> None:
    text = canonical_text(example()).replace("Level.", "\\ud83c\\udf05", 1)
    assert parse_critique_strict(text).assessments["composition"].comment == "\U0001f305"


def test_canonical_json_is_encodable() -> None:
    """Also what no reader takes: a comment that a program filled with half a character."""
    comments = dict.fromkeys(DIMENSIONS, "half \ud83d of it")
    canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 7), comments)).encode()


@given(critiques())
def test_escaped_answers_of_before_are_read_and_respelled(critique: Critique) -> None:
    escaped = json.dumps(critique.as_dict())
    assert parse_critique_strict(escaped) == parse_critique_strict(canonical_answer(critique))
    assert normalize_answer_json(escaped) == canonical_answer(critique)
    assert normalize_answer_json(canonical_answer(critique)) == canonical_answer(critique)
    assert normalize_answer_json("no JSON \\u00e4") == "no JSON \\u00e4"


def scored(score: int) -> str:
    return canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, score), dict.fromkeys(DIMENSIONS, "Level.")))


def test_last_of_several_critiques_is_used() -> None:
    for text in (
        f"{scored(3)}\nOn second thought:\n{scored(7)}",
        f"{scored(3)}{scored(7)}",
        f"```json\n{scored(3)}\n```\nBetter: {scored(7)}",
        f"{scored(3)}\n```JSON\n{scored(7)}\n```",
        f"Form: {{...}}. {scored(3)} Rather {scored(7)} {{so}}.",
    ):
        reading = parse_critique_lenient(text)
        assert reading.critique.scores["lighting"] == 7
        assert "last_of_several" in reading.repairs
        assert reason_of(text) == "not_json"
    assert reason_of(f"{scored(3)}\nNo: {scored(7)[:300]}", parse_critique_lenient) == "cut"


def test_braces_in_prose_are_ignored() -> None:
    for text in (
        f"Use {{braces}}: {scored(7)}",
        f"A {{ stray one\n```json\n{scored(7)}\n```",
        f"{scored(7)} :{{ x",
        f'5" {{lens}} {scored(7)}',
    ):
        assert parse_critique_lenient(text).critique.scores["lighting"] == 7


@pytest.mark.parametrize("comment", ["Use ```code``` here.", "```", "```json\n{", "a {brace} ``` } {", '```"}```'])
@pytest.mark.parametrize("frame", ["```json\n{}\n```", "```\n{}\n```", "{}", "Here:\n```json\n{}\n```\nDone."])
def test_a_fence_inside_a_comment_is_read(comment: str, frame: str) -> None:
    answer = changed_comment(comment)
    assert parse_critique_lenient(frame.replace("{}", answer)).critique.assessments["lighting"].comment == comment


def changed_comment(comment: str) -> str:
    dimensions = {**example()["dimensional_analysis"], "lighting": {"score": 7, "comment": comment}}
    return canonical_text({**example(), "dimensional_analysis": dimensions})


@pytest.mark.parametrize("grade", ["7.0/10", " 7.0", "7.0 ", "\u0667.\u0660", "7,0", "+7.0", "7e0", "", "seven"])
def test_a_grade_that_is_not_a_plain_number_is_not_strict(grade: str) -> None:
    assert reason_of(canonical_text({**example(), "overall_grade": grade})) == "bad_grade"


def test_a_grade_of_ten_points_is_a_repair() -> None:
    reading = parse_critique_lenient(canonical_text({**example(), "overall_grade": "7.0/10"}))
    assert reading.repairs == ("grade_spelling",)
    assert parse_critique_strict(canonical_answer(reading.critique)).overall_grade == "7.0"


def test_parsing_many_braces_is_linear() -> None:
    """A search that begins again at every brace would take most of an hour."""
    for text in ("{}" * 100_000, "{" * 200_000, "```\n{" * 40_000, '{"' * 100_000, '{ "\n```json\n{' * 14_000):
        with pytest.raises(CritiqueParseError):
            parse_critique_lenient(text)


@pytest.mark.parametrize(("score", "expected"), [(7.5, 8), (7.49, 7), (0.5, 1), (-3, 0), (12, 10), (8.0, 8)])
def test_halves_are_rounded_up(score: float, expected: int) -> None:
    assert round_score(score) == expected


@given(st.fixed_dictionaries(dict.fromkeys(DIMENSIONS, whole)))
def test_the_grade_is_the_mean_with_halves_up(scores: dict[str, int]) -> None:
    exact = sum(scores.values()) * 10
    assert grade_from_scores(scores) == f"{(exact + 4) // 8 / 10:.1f}"
    assert abs(float(grade_from_scores(scores)) - mean_score(scores)) <= 0.05 + 1e-9


def test_whole_scores_have_no_decimal_point() -> None:
    assert json.dumps([int_if_whole(8.0), int_if_whole(7.5)]) == "[8, 7.5]"


@pytest.mark.parametrize("label", ["Focus & Sharpness", "focus_sharpness", "FOCUS AND SHARPNESS", "Focus/Sharpness"])
def test_dimension_labels_are_recognized(label: str) -> None:
    assert dimension_from_label(label) == "focus_sharpness"


def test_british_labels_and_unknown_ones() -> None:
    assert dimension_from_label("Colour Harmony") == "color_harmony"
    assert dimension_from_label("Mood") is None
    assert all(dimension_from_label(title) == name for name, title in DIMENSION_TITLES.items())


def test_the_schema_lists_the_same_keys_in_the_same_order() -> None:
    schema = critique_json_schema()["properties"]
    assert list(schema) == list(example())
    assert tuple(schema["dimensional_analysis"]["properties"]) == DIMENSIONS


def test_white_space_and_control_characters_are_invisible() -> None:
    nothing = [chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp", "Zs")]
    assert not has_visible_character("".join(nothing)) and not has_visible_character("")
    assert all(has_visible_character(f" {character}\u200b") for character in ".ä光🌅\u0301")


def test_grade_follows_as_soon_as_every_score_is_complete() -> None:
    text = canonical_answer(
        make_critique({**dict.fromkeys(DIMENSIONS, 5), DIMENSIONS[-1]: 10}, dict.fromkeys(DIMENSIONS, "Level."))
    )
    last = text.index("10", text.index(DIMENSIONS[-1]))
    assert [grade_of_unfinished_answer(text[:end]) for end in (0, last, last + 1, last + 2)] == [None] * 4
    assert grade_of_unfinished_answer(text[: last + 3]) == grade_of_unfinished_answer(text) == "5.6"


def test_recommendation_round_trip() -> None:
    assessments = {name: Assessment(7, "Level.", "Wait.") for name in DIMENSIONS}
    text = canonical_answer(Critique(assessments, "7.0", "Grain."))
    again = parse_critique_strict(text)
    assert canonical_answer(again) == text
    assert again.advisor_notes == "Grain."


def test_parse_error_reasons_are_a_closed_set() -> None:
    with pytest.raises(AssertionError):
        CritiqueParseError("whatever")
    assert math.isclose(mean_score(dict.fromkeys(DIMENSIONS, 3)), 3)
