"""The second form of an answer: recommendations with regions, strengths and priority improvements."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.prompts import (
    AdvisorPrompt,
    PortfolioComparison,
    comparison_messages,
    critique_messages,
    prompt_digest,
    training_messages,
)
from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_PRIORITIES,
    MAX_STRENGTHS,
    AnswerForm,
    Assessment,
    Critique,
    Region,
    answer_spans,
    canonical_answer,
    critique_json_schema,
    grade_from_scores,
    grade_of_unfinished_answer,
    has_visible_character,
)
from mondrian_core.served_scores import with_served_scores
from mondrian_core.training_target import training_target

ADVICE = AnswerForm.ADVICE
texts = st.text(min_size=1, max_size=40).filter(has_visible_character)
thousandths = st.integers(0, 1000).map(lambda value: value / 1000)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    left, right = sorted(draw(st.lists(thousandths, min_size=2, max_size=2, unique=True)))
    top, bottom = sorted(draw(st.lists(thousandths, min_size=2, max_size=2, unique=True)))
    return left, top, right, bottom


@st.composite
def advice(draw: st.DrawFn) -> Critique:
    assessments = {}
    for name in DIMENSIONS:
        recommendation = draw(st.none() | texts)
        boxes = draw(st.lists(regions(), max_size=3)) if recommendation else []
        assessments[name] = Assessment(draw(st.integers(0, 10)), draw(texts), recommendation, tuple(boxes))
    return Critique(
        assessments,
        grade_from_scores({name: each.score for name, each in assessments.items()}),
        strengths=tuple(draw(st.lists(texts, max_size=MAX_STRENGTHS))),
        priority_improvements=tuple(draw(st.lists(texts, max_size=MAX_PRIORITIES))),
    )


def advising(**changes: Any) -> dict[str, Any]:
    """An answer in the second form, with changes to the entry of lighting."""
    critique = Critique(
        {name: Assessment(7, "Level.", "Wait.", ((0.1, 0.2, 0.5, 0.9),)) for name in DIMENSIONS},
        "7.0",
        strengths=("Calm.",),
        priority_improvements=("Wait.",),
    )
    answer: dict[str, Any] = json.loads(canonical_answer(critique, ADVICE))
    answer["dimensional_analysis"]["lighting"].update(changes)
    return answer


def without(key: str) -> dict[str, Any]:
    """The answer with one key missing from the entry of lighting."""
    answer = advising()
    del answer["dimensional_analysis"]["lighting"][key]
    return answer


def reason_of(answer: dict[str, Any]) -> str:
    with pytest.raises(CritiqueParseError) as caught:
        parse_critique_strict(json.dumps(answer))
    return caught.value.reason


def test_canonical_text_of_advice_is_exactly_the_taught_one() -> None:
    critique = Critique(
        {name: Assessment(7, "Schön.", "Step left.", ((0.1, 0.2, 0.5, 0.9),)) for name in DIMENSIONS},
        "7.0",
        "Notes stay outside.",
        strengths=("Calm.", "Quiet."),
        priority_improvements=("Step left.",),
    )
    entry = '{"score": 7, "comment": "Schön.", "recommendation": "Step left.", "regions": [[100, 200, 500, 900]]}'
    assert training_target(critique, ADVICE) == (
        '{"dimensional_analysis": {'
        + ", ".join(f'"{name}": {entry}' for name in DIMENSIONS)
        + '}, "strengths": ["Calm.", "Quiet."], "priority_improvements": ["Step left."], "overall_grade": "7.0"}'
    )


@given(advice())
def test_both_readers_read_what_advice_teaches(critique: Critique) -> None:
    text = canonical_answer(critique, ADVICE)
    assert parse_critique_strict(text) == critique
    assert parse_critique_lenient(text).repairs == ()
    assert canonical_answer(parse_critique_lenient(text).critique, ADVICE) == text


@given(advice())
def test_stored_critiques_keep_regions_as_fractions(critique: Critique) -> None:
    noted = replace(critique, advisor_notes="Grain.")
    assert parse_critique_strict(json.dumps(noted.as_dict())) == noted
    assert all(0 <= value <= 1 for boxes in noted.regions.values() for box in boxes for value in box)


@given(advice())
def test_the_first_form_of_advice_is_scores_comments_and_grade(critique: Critique) -> None:
    plain = parse_critique_strict(training_target(critique))
    assert plain.scores == critique.scores
    assert not (plain.recommendations or plain.regions or plain.strengths or plain.priority_improvements)


@given(advice())
def test_no_text_of_advice_is_taken_for_a_score_or_the_grade(critique: Critique) -> None:
    """A strength may spell the very keys that are looked for."""
    tricky = 'lighting": {"score": 3, "comment'
    full = replace(
        critique,
        strengths=("overall_grade", tricky, '"overall_grade": "1.0"', "lighting"),
        priority_improvements=(tricky,),
    )
    text = canonical_answer(full, ADVICE)
    spans = answer_spans(text)
    assert {name: float(text[slice(*span)]) for name, span in spans.scores.items()} == critique.scores
    assert spans.grade is not None and text[slice(*spans.grade)] == critique.overall_grade
    assert grade_of_unfinished_answer(text) == critique.overall_grade


def test_a_training_target_leaves_out_what_the_grammar_could_not_write() -> None:
    entry = Assessment(6.5, "e\u0301.", "x" * 601, ((0.1, 0.1, 0.9, 0.9),))
    sliver = Assessment(6, "Calm.", "Wait.", ((0.1, 0.1, 0.1001, 0.9), (0, 0, 1, 1), (0.5, 0.4, 0.3, 0.9)))
    critique = Critique(
        {**dict.fromkeys(DIMENSIONS, entry), "lighting": sliver},
        "6.5",
        strengths=(" ", *"abcdefghij"),
        priority_improvements=("\u200b", "1", "2", "y" * 601, "3", "4"),
    )
    taught = parse_critique_strict(training_target(critique, ADVICE))
    assert taught.recommendations == {"lighting": "Wait."}
    assert taught.regions == {"lighting": ((0, 0, 1, 1),)}
    assert taught.strengths == tuple("abcdefgh")
    assert taught.priority_improvements == ("1", "2", "3")
    assert taught.assessments["composition"].comment == unicodedata.normalize("NFC", "e\u0301.")


def test_a_box_without_an_area_is_left_out_by_both_readers() -> None:
    """The grammar can't keep a model from writing one, so it may not make the answer invalid."""
    for box in ([500, 200, 100, 900], [100, 900, 500, 900], [0, 0, 0, 0]):
        text = json.dumps(advising(regions=[box, [100, 200, 500, 900]]))
        lenient = parse_critique_lenient(text)
        assert parse_critique_strict(text) == lenient.critique
        assert lenient.critique.regions["lighting"] == ((0.1, 0.2, 0.5, 0.9),)
        assert lenient.repairs == ("region_left_out",)


@pytest.mark.parametrize(
    "given_regions",
    [
        [],
        [[1, 2, 3]],
        [[0, 0, 1001, 5]],
        [[-1, 0, 5, 5]],
        [[0.5, 0, 600, 700]],
        [["1", 2, 3, 4]],
        [5],
        "x",
        [[True] * 4],
    ],
)
def test_regions_that_are_no_boxes_are_refused_or_left_out(given_regions: Any) -> None:
    answer = advising(regions=given_regions)
    assert reason_of(answer) == "bad_regions"
    reading = parse_critique_lenient(json.dumps(answer))
    assert "lighting" not in reading.critique.regions
    assert reading.repairs == (("region_left_out",) if given_regions else ())


def test_the_strict_reader_refuses_what_the_second_form_does_not_allow() -> None:
    assert reason_of(without("recommendation")) == "bad_regions"
    assert reason_of(advising(recommendation="\u200b")) == "bad_recommendation"
    assert reason_of(advising(recommendation=None)) == "bad_recommendation"
    assert reason_of(advising(regions=[[1, 2, 3, 4]] * 4)) == "bad_regions"
    assert reason_of({**advising(), "strengths": ["x"] * (MAX_STRENGTHS + 1)}) == "bad_list"
    assert reason_of({**advising(), "priority_improvements": ["x"] * (MAX_PRIORITIES + 1)}) == "bad_list"
    assert reason_of({**advising(), "strengths": [" "]}) == "bad_list"
    assert reason_of({**advising(), "strengths": "Calm."}) == "bad_list"
    late = advising()
    late["strengths"] = late.pop("strengths")
    assert reason_of(late) == "wrong_keys"
    assert parse_critique_strict(json.dumps({**advising(), "strengths": []})).strengths == ()


def test_the_lenient_reader_keeps_what_can_be_read() -> None:
    odd = {**advising(recommendation=3), "strengths": ["Calm.", "", 4], "priority_improvements": "Wait."}
    reading = parse_critique_lenient(json.dumps(odd))
    assert "lighting" not in reading.critique.recommendations
    assert reading.critique.strengths == ("Calm.",)
    assert reading.critique.priority_improvements == ("Wait.",)
    assert reading.repairs == ("strengths_left_out",)


def test_the_older_form_keeps_its_advice() -> None:
    older = {
        "dimensions": [
            {"name": name, "score": 7, "comment": "Level.", "recommendation": "Wait."} for name in DIMENSIONS
        ],
        "overall_score": 7,
        "key_strengths": ["Calm.", "Quiet."],
        "priority_improvements": ["Wait.", "Step left.", "Burn the sky.", "Crop."],
    }
    critique = parse_critique_lenient(json.dumps(older)).critique
    assert critique.strengths == ("Calm.", "Quiet.")
    assert len(critique.priority_improvements) == 4, "reading keeps all; only a taught answer has a limit"


def test_served_scores_keep_the_advice() -> None:
    critique = parse_critique_strict(json.dumps(advising()))
    served = with_served_scores(critique, dict.fromkeys(DIMENSIONS, 4.2))
    assert served == replace(
        critique,
        assessments={name: replace(each, score=4) for name, each in critique.assessments.items()},
        overall_grade="4.0",
    )


def test_every_message_follows_the_form_of_the_advisor_prompt() -> None:
    first = AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.")
    second = replace(first, form=ADVICE)
    comparison = PortfolioComparison(dict.fromkeys(DIMENSIONS, 7), (), {}, 0)
    for prompt, word in ((first, "Critique the photograph. Answer"), (second, "and advise its maker")):
        for messages in (
            critique_messages(prompt),
            comparison_messages(prompt, comparison),
            training_messages(prompt, "{}"),
        ):
            assert word in messages[1]["content"][0]["text"]
    assert critique_messages(first)[0] == critique_messages(second)[0]
    assert prompt_digest(first) != prompt_digest(second)


def test_the_instruction_and_the_schema_name_the_same_keys() -> None:
    schema = critique_json_schema(ADVICE)
    assert list(schema["properties"]) == list(advising())
    assert schema["required"] == ["dimensional_analysis", "overall_grade"]
    text = AdvisorPrompt("a", "A", form=ADVICE).instruction
    for key in ("comment", "recommendation", "regions", *schema["properties"]):
        assert key in text or key == "overall_grade"
    assert critique_json_schema(ADVICE, "7.0")["properties"]["overall_grade"] == {"type": "string", "const": "7.0"}
