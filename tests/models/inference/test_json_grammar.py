"""The grammar of the service writes whatever is taught, and nothing that the strict reader refuses."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.inference.generation_loop import TextStreamer
from mondrian_core.models.inference.json_grammar import JsonGrammar
from mondrian_core.models.prompt_encoding import encode_answer, tokenize_plain_text
from mondrian_core.models.score_distribution import decode_token_texts, locate_scores, score_positions
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_COMMENT_CHARACTERS,
    critique_json_schema,
    make_critique,
    training_target,
)

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


def answer_of(comment: str) -> str:
    """A taught answer with the comment in every dimension."""
    return training_target(make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, comment)))


def walked(base: BaseVLM, ids: Sequence[int]) -> str:
    """Where the grammar refuses the tokens of an answer, or forces others; empty when it does neither and may end."""
    grammar = JsonGrammar(base, critique_json_schema(), len(base.tokenizer))
    for place, token in enumerate(ids):
        forced = grammar.forced()
        if forced and list(ids[place : place + len(forced)]) != forced:
            return f"forces {base.tokenizer.decode(forced)!r} after {base.tokenizer.decode(list(ids[:place]))!r}"
        if not grammar.allows(token):
            return f"refuses {base.tokenizer.decode([token])!r} after {base.tokenizer.decode(list(ids[:place]))!r}"
        grammar.consume(token)
    return "" if any(grammar.allows(end) for end in base.end_tokens) else "may not end"


@pytest.mark.parametrize("name", COMMENTS)
def test_training_targets_match_grammar(reader: BaseVLM, name: str) -> None:
    answer = answer_of(COMMENTS[name])
    ids = tokenize_plain_text(reader, answer)
    assert walked(reader, ids) == ""
    assert reader.tokenizer.decode(ids) == answer
    found = parse_critique_strict(answer).assessments["lighting"].comment
    assert found == unicodedata.normalize("NFC", COMMENTS[name])


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip))
def test_grammar_can_write_any_comment(reader: BaseVLM, comment: str) -> None:
    assert walked(reader, tokenize_plain_text(reader, answer_of(comment))) == ""


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


def written(base: BaseVLM, seed: int) -> str:
    """An answer by a model that chooses at random among what the grammar allows, rather something odd."""
    draw = random.Random(seed)
    grammar = JsonGrammar(base, critique_json_schema(), len(base.tokenizer))
    ids: list[int] = []
    while len(ids) < 6000:
        mask = np.array(grammar.mask_logits(_zeros(len(base.tokenizer)))) == 0
        allowed = np.flatnonzero(mask).tolist()
        if any(end in allowed for end in base.end_tokens):
            return str(base.tokenizer.decode(ids))
        closing = [token for token in allowed if '"' in decode_token_texts(base, [token])[0]]
        odd = [token for token in allowed if not decode_token_texts(base, [token])[0].strip()]
        token = draw.choice(draw.choice([each for each in (allowed, closing, closing, odd) if each]))
        grammar.consume(token)
        ids.append(token)
    raise AssertionError("no end")


def _zeros(count: int) -> Any:
    import mlx.core as mx

    return mx.zeros(count)


@pytest.mark.parametrize("seed", range(6))
def test_grammar_output_parses_strictly(reader: BaseVLM, seed: int) -> None:
    """Bytes, escapes and white space at random; only the grade, which no grammar can compute, is corrected."""
    answer = json.loads(written(reader, seed))
    scores = {name: answer["dimensional_analysis"][name]["score"] for name in DIMENSIONS}
    answer["overall_grade"] = make_critique(scores, dict.fromkeys(DIMENSIONS, "x")).overall_grade
    assert parse_critique_strict(json.dumps(answer, ensure_ascii=False)).scores == scores
