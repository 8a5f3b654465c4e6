"""The grammar of the service writes whatever is taught, and nothing that the strict reader refuses."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.inference.generation_loop import TextStreamer
from mondrian_core.models.inference.json_grammar import JsonGrammar, answer_grammar
from mondrian_core.models.prompt_encoding import encode_answer, tokenize_plain_text
from mondrian_core.models.score_distribution import decode_token_texts, locate_scores, score_positions
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_ANSWER_TOKENS,
    MAX_COMMENT_CHARACTERS,
    MAX_STRENGTHS,
    AnswerForm,
    Assessment,
    Critique,
    Region,
    canonical_answer,
    critique_json_schema,
    grade_from_scores,
    has_visible_character,
    make_critique,
)
from mondrian_core.training_target import normalized_text, training_target

pytestmark = pytest.mark.mini

COMMENTS = {
    "quotes": "It’s “soft” light – truly… no more — no less, «ça» „so“ ‚und‘.",
    "ascii": 'He said "calm", C:\\raw\\new, a/b, {braces}, [5], "score": 3.',
    "score": '"lighting": {"score": 3, "comment": "x"}, \\"lighting\\": {\\"score\\": 4',
    "umlauts": "Schönes Licht über dem Café, größer als Ærø, Łódź, İstanbul.",
    "emoji": "A great sunrise 🌅 with a family 👨‍👩‍👧 and a flag 🇩🇪 👍🏽",
    "cjk": "光线柔和而有层次。影が美しい。빛이 부드럽다.",
    "right-to-left": "ضوء ناعم \u200f، אור רך \u202bx\u202c.",
    "combining": "e\u0301 q\u0303\u0331 क्षि Z\u0351\u036b\u0343\u036a a\u20dd.",
    "line ends": "one\ntwo\r\nthree\tfour\u2028five\u2029six\x0bseven\x85",
    "controls": "".join(map(chr, range(1, 0x20))) + "\x7f\x80\x9f x",
    "null": "\x00 x",
    "odd": "\ufeff\ufffd\ufffe\uffff\ue000\U000f0000\U0010ffff\xad\u200b.",
    "special tokens": "Soft <|im_end|> light <|image_pad|> <|vision_start|>.",
    "one": "🌅",
    "leading space": "  two before",
    "no full stop": "über",
}


@pytest.fixture(scope="module")
def reader() -> BaseVLM:
    """mini without its weights."""
    return load_base("mini", weights=False)


@pytest.fixture(scope="module", params=["mini", "qwen3_vl"])
def any_reader(request: pytest.FixtureRequest, skeleton: Callable[..., Path]) -> BaseVLM:
    """mini, and a base with the vocabulary of Qwen3-VL; both without weights."""
    name = "mini" if request.param == "mini" else str(skeleton(family=request.param, bits=4))
    return load_base(name, weights=False)


def answer_of(comment: str, scores: Sequence[float] = (7,) * len(DIMENSIONS)) -> str:
    """A taught answer with the comment in every dimension."""
    return training_target(
        make_critique(dict(zip(DIMENSIONS, scores, strict=True)), dict.fromkeys(DIMENSIONS, comment))
    )


def critique_grammar(base: BaseVLM, form: AnswerForm = AnswerForm.COMMENTS) -> JsonGrammar:
    """The grammar that the service answers with."""
    return answer_grammar(base, critique_json_schema(form), len(base.tokenizer))


def walked(base: BaseVLM, ids: Sequence[int], form: AnswerForm = AnswerForm.COMMENTS) -> str:
    """Where the grammar refuses the tokens of an answer, or forces others; empty when it does neither and may end."""
    grammar, place = critique_grammar(base, form), 0
    while place < len(ids):
        coming = grammar.forced() or [ids[place]]
        if list(ids[place : place + len(coming)]) != coming:
            return f"forces {base.tokenizer.decode(coming)!r} after {base.tokenizer.decode(list(ids[:place]))!r}"
        if not grammar.allows(coming[0]):
            return f"refuses {base.tokenizer.decode(coming[:1])!r} after {base.tokenizer.decode(list(ids[:place]))!r}"
        grammar.consume(*coming)
        place += len(coming)
    return "" if any(grammar.allows(end) for end in base.end_tokens) else "may not end"


@pytest.mark.parametrize("name", COMMENTS)
def test_training_targets_match_grammar(any_reader: BaseVLM, name: str) -> None:
    answer = answer_of(COMMENTS[name])
    ids = tokenize_plain_text(any_reader, answer)
    assert walked(any_reader, ids) == ""
    assert any_reader.tokenizer.decode(ids) == answer
    found = parse_critique_strict(answer).assessments["lighting"].comment
    assert found == unicodedata.normalize("NFC", COMMENTS[name])


@settings(max_examples=30)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(has_visible_character),
    st.lists(st.floats(0, 10), min_size=len(DIMENSIONS), max_size=len(DIMENSIONS)),
)
def test_grammar_can_write_any_answer(any_reader: BaseVLM, comment: str, scores: list[float]) -> None:
    answer = answer_of(comment, scores)
    assert walked(any_reader, tokenize_plain_text(any_reader, answer)) == ""
    assert canonical_answer(parse_critique_strict(answer)) == answer


@pytest.mark.parametrize("character", ["x", "ü", "光", '"'])
def test_comment_length_limit_in_grammar(reader: BaseVLM, character: str) -> None:
    longest = character * (MAX_COMMENT_CHARACTERS - 2) + " a"
    assert walked(reader, tokenize_plain_text(reader, answer_of(longest))) == ""
    assert walked(reader, tokenize_plain_text(reader, answer_of(longest + "b"))).startswith(("forces", "refuses"))


@pytest.mark.parametrize("name", COMMENTS)
def test_score_positions_match_located_scores(reader: BaseVLM, name: str) -> None:
    text = answer_of(COMMENTS[name])
    answer = encode_answer(reader, critique_messages(AdvisorPrompt("ansel", "Ansel Adams")), text)
    assert list(answer.ids[:-1]) == tokenize_plain_text(reader, text) and len(answer.offsets) == len(answer.ids) - 1
    assert score_positions(reader, text, answer) == locate_scores(reader, answer.ids)


@pytest.mark.parametrize("name", COMMENTS)
def test_scores_are_located_at_their_tokens(reader: BaseVLM, name: str) -> None:
    """Tokens that hold parts of characters move nothing, and a comment that looks like a score is none."""
    ids = tokenize_plain_text(reader, answer_of(COMMENTS[name]))
    places = locate_scores(reader, ids)
    assert set(places) == set(DIMENSIONS)
    before = 0
    for dimension in DIMENSIONS:
        place = places[dimension]
        assert decode_token_texts(reader, [ids[place.token_index]])[0].startswith(f"{place.prefix}7")
        text = reader.tokenizer.decode(ids[: place.token_index]) + place.prefix
        assert text.endswith(f'"{dimension}": {{"score": ')
        assert place.token_index > before
        before = place.token_index


@pytest.mark.parametrize("name", COMMENTS)
def test_streamed_pieces_are_whole_characters(reader: BaseVLM, name: str) -> None:
    """Streamed token by token: no half of a character, and together the answer."""
    answer = answer_of(COMMENTS[name])
    heard: list[str] = []
    speech = TextStreamer(reader, heard.append)
    for token in tokenize_plain_text(reader, answer):
        speech.add_token(token)
    assert "".join(heard) == answer
    assert sum("\ufffd" in piece for piece in heard) == (8 if "\ufffd" in answer else 0)


def written(base: BaseVLM, seed: int, form: AnswerForm = AnswerForm.COMMENTS) -> str:
    """An answer by a model that chooses at random among what the grammar allows, rather something odd."""
    draw = np.random.default_rng(seed)
    grammar = critique_grammar(base, form)
    vocabulary = len(base.tokenizer)
    closing, invisible, digits = (
        np.array([test(piece) for piece in decode_token_texts(base, range(vocabulary))])
        for test in (lambda piece: '"' in piece, lambda piece: not has_visible_character(piece), str.isdigit)
    )
    ids: list[int] = []
    while len(ids) < 20_000:
        allowed = np.isfinite(np.array(grammar.mask_logits(mx.zeros(vocabulary))))
        if allowed[sorted(base.end_tokens)].any():
            return str(base.tokenizer.decode(ids))
        kinds = [kind for kind in (allowed, closing, closing, invisible, digits) if (kind & allowed).any()]
        kind = kinds[draw.integers(len(kinds))]
        token = int(draw.choice(np.flatnonzero(kind & allowed)))
        grammar.consume(token)
        ids.append(token)
    raise AssertionError("no end")


@pytest.mark.parametrize("seed", range(4))
def test_grammar_output_parses_strictly(any_reader: BaseVLM, seed: int) -> None:
    """Bytes, escapes, white space and numbers at random: the reader accepts the text as it is."""
    text = written(any_reader, seed)
    critique = parse_critique_strict(text)
    assert critique.overall_grade == grade_from_scores(critique.scores)
    assert canonical_answer(critique) == text or "\\u00" in text, "the canonical spelling, but for control characters"


def test_grade_is_forced_by_the_scores(any_reader: BaseVLM) -> None:
    scores = dict(zip(DIMENSIONS, (10, 9, 10, 1, 0, 8, 7, 10), strict=True))
    critique = make_critique(scores, dict.fromkeys(DIMENSIONS, "Calm."))
    assert walked(any_reader, tokenize_plain_text(any_reader, canonical_answer(critique))) == ""
    for grade in ("6.8", "7.0", "9.9", "10.0", "0.0"):
        contradicting = canonical_answer(Critique(critique.assessments, grade))
        assert "6.9" in walked(any_reader, tokenize_plain_text(any_reader, contradicting)), grade


INVISIBLE = "\t\x00\x1c\x7f\xa0\xad\u200b\u200d\u2028\u2800\u3000\u3164\ufe0f\ufeff"


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_comments_are_refused_by_grammar_and_reader(reader: BaseVLM, character: str) -> None:
    for comment in (character, f" {character * 3} "):
        answer = answer_of(comment)
        assert walked(reader, tokenize_plain_text(reader, answer)) != ""
        for read in (parse_critique_strict, parse_critique_lenient):
            with pytest.raises(CritiqueParseError, match="no_comment"):
                read(answer)
    assert walked(reader, tokenize_plain_text(reader, answer_of(f"{character}x"))) == ""


def advice_of(text: str, regions: Sequence[Region] = ()) -> Critique:
    """A critique whose every part is the text; every other dimension has no recommendation."""
    assessments = {
        name: Assessment(number, text, text, tuple(regions)) if number % 2 else Assessment(number, text)
        for number, name in enumerate(DIMENSIONS, 1)
    }
    return Critique(assessments, "4.5", strengths=(text,) * MAX_STRENGTHS, priority_improvements=(text,) * 2)


@pytest.mark.parametrize("name", COMMENTS)
def test_advice_targets_match_grammar(any_reader: BaseVLM, name: str) -> None:
    """Each comment in each form of an answer; with the large vocabulary, which is slow, the forms take turns."""
    boxes = ((0.0, 0.0, 1.0, 1.0), (0.1, 0.25, 0.999, 0.5), (0.001, 0.01, 0.012, 0.02))
    forms = (
        ((), {}),
        (boxes, {}),
        (boxes[:1], {"strengths": ()}),
        ((), {"priority_improvements": ()}),
    )
    turn = list(COMMENTS).index(name) % len(forms)
    for regions, changes in forms if any_reader.name == "mini" else forms[turn : turn + 1]:
        critique = replace(advice_of(COMMENTS[name], regions), **changes)
        answer = training_target(critique, AnswerForm.ADVICE)
        ids = tokenize_plain_text(any_reader, answer)
        assert walked(any_reader, ids, AnswerForm.ADVICE) == ""
        assert any_reader.tokenizer.decode(ids) == answer
        assert parse_critique_strict(answer).regions.get("composition", ()) == regions


def test_advice_grammar_writes_the_first_form_and_empty_lists(any_reader: BaseVLM) -> None:
    plain = answer_of("Calm.")
    empty = plain.replace('"overall', '"strengths": [], "priority_improvements": [], "overall')
    for answer in (plain, empty):
        assert walked(any_reader, tokenize_plain_text(any_reader, answer), AnswerForm.ADVICE) == ""
        assert parse_critique_strict(answer).strengths == ()
    assert walked(any_reader, tokenize_plain_text(any_reader, empty)) != "", "the first form has no lists"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"score": 1, "comment": "x", "recommendation": "x"', '"score": 1, "recommendation": "x", "comment": "x"'),
        ('"recommendation": "x", ', ""),
        ("[[100, ", "[[1001, "),
        ("[[100, ", "[[0.1, "),
        (", 900]]", "]]"),
        ('"recommendation": "x"', '"recommendation": "\u200b"'),
        ('"strengths": ["x"', '"strengths": [" "'),
        ('"priority_improvements": ["x", "x"]', '"priority_improvements": ["x", "x", "x", "x"]'),
        ("4.5", "4.6"),
    ],
)
def test_what_the_second_form_forbids_is_never_written(any_reader: BaseVLM, before: str, after: str) -> None:
    answer = training_target(advice_of("x", ((0.1, 0.2, 0.5, 0.9),)), AnswerForm.ADVICE)
    assert before in answer
    ids = tokenize_plain_text(any_reader, answer.replace(before, after, 1))
    assert walked(any_reader, ids, AnswerForm.ADVICE) != ""


@pytest.mark.parametrize("seed", range(3))
def test_advice_grammar_output_parses_strictly(any_reader: BaseVLM, seed: int) -> None:
    critique = parse_critique_strict(written(any_reader, seed, AnswerForm.ADVICE))
    assert critique.overall_grade == grade_from_scores(critique.scores)


def test_long_advice_fits_into_an_answer(any_reader: BaseVLM) -> None:
    """English advice of 40 words for every comment and recommendation, with boxes and lists, is never truncated."""
    words = "The bright fence along the lower edge leads the eye away from the tree, so that it loses weight. " * 2
    critique = advice_of(words.strip(), ((0.1, 0.25, 0.999, 0.5),))
    full = {name: replace(critique.assessments["composition"], score=5) for name in DIMENSIONS}
    answer = training_target(
        Critique(full, "5.0", strengths=("Calm light on the water.",) * 4, priority_improvements=(words.strip(),) * 3),
        AnswerForm.ADVICE,
    )
    count = len(tokenize_plain_text(any_reader, answer))
    assert count < MAX_ANSWER_TOKENS, count


@settings(max_examples=40)
@example("\x1c\u0301")
@example("calm\n\u0301")
@given(st.text(st.sampled_from(f"{INVISIBLE} x.\u0301\U000e0001"), max_size=4))
def test_grammar_and_reader_agree_on_comments(any_reader: BaseVLM, comment: str) -> None:
    answer = answer_of(normalized_text(comment))
    assert unicodedata.normalize("NFC", answer) == answer
    try:
        readable = bool(parse_critique_strict(answer))
    except CritiqueParseError:
        readable = False
    assert (walked(any_reader, tokenize_plain_text(any_reader, answer)) == "") == readable


@pytest.mark.parametrize("number", ["8.5", "8.0", "-0", "010", "11", '"8"', "1e1", "0.0", "null", "true"])
def test_scores_of_another_spelling_are_never_written(any_reader: BaseVLM, number: str) -> None:
    answer = answer_of("Calm.").replace('"score": 7', f'"score": {number}')
    assert walked(any_reader, tokenize_plain_text(any_reader, answer)) != ""


def test_a_callers_schema_keeps_its_own_grade(reader: BaseVLM) -> None:
    """Only the rubric's schema has a computed grade."""
    schema = critique_json_schema()
    schema["properties"]["overall_grade"] = {"enum": ["good"]}
    grammar = answer_grammar(reader, schema, len(reader.tokenizer))
    answer = answer_of("Calm.").replace('"7.0"', '"good"')
    for token in tokenize_plain_text(reader, answer):
        assert grammar.allows(token)
        grammar.consume(token)
