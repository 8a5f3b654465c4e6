"""Rule-based paraphrases of a critique: same scores, same facts, same polarity.

Only rules that a reader can verify: two clauses joined by a semicolon are swapped, and words of the field are replaced
by synonyms. `paraphrase_problems` checks the result; a comment that fails stays as the advisor wrote it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mondrian_core.near_duplicates import MIN_SHARED_WORDS, shared_word_fraction, word_counts
from mondrian_core.rubric import DIMENSIONS, Critique

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?", re.IGNORECASE)


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBERS = _words_of(
    "zero one two three four five six seven eight nine ten half third quarter first second double single"
)
_DIRECTIONS = _words_of(
    "left right leftmost rightmost top bottom up down above below front behind foreground background "
    "midground upper lower near far clockwise counterclockwise centre center middle"
)
_NEGATIONS = _words_of(
    "no not never nothing none neither nor without cannot can't don't doesn't didn't isn't aren't lacks "
    "lacking but however although though despite only hardly barely too"
)
_GOOD = _words_of(
    "strong sharp crisp clear good great excellent balanced harmonious dynamic powerful rich deep well "
    "fine bright level complete pure calm"
)
_BAD = _words_of(
    "weak soft blurred flat poor bad dull static cluttered distracting harsh muddy underexposed "
    "overexposed lifeless bland heavy crowded lost loses dark empty"
)

# A word and one with the same meaning and judgment; not in reverse ("a path leads in" draws nothing). By dimension,
# because the meaning of a word depends on the subject ("depth" of a picture, of a color).
_GENERAL_SYNONYMS = {
    "photograph": "picture",
    "draws": "leads",
    "creates": "gives",
    "viewer": "beholder",
    "throughout": "everywhere",
    "because": "since",
    "shows": "reveals",
    "whole": "entire",
}
# "Photograph it at dusk": in advice these words are also verbs of another meaning.
_ADVICE_SYNONYMS = {word: other for word, other in _GENERAL_SYNONYMS.items() if word not in ("photograph", "shows")}
_SYNONYMS: Mapping[str, Mapping[str, str]] = {
    "composition": {"placement": "position", "arrangement": "layout", "shapes": "forms"},
    "lighting": {"tones": "values", "afternoon": "late-day"},
    "focus_sharpness": {"sharpness": "acuity", "detail": "fine structure", "texture": "surface"},
    "color_harmony": {"hues": "colours", "palette": "range of colours", "greys": "grey tones"},
    "subject_isolation": {"subject": "motif", "competes": "vies", "compete": "vie"},
    "depth_perspective": {"planes": "layers", "recession": "receding space"},
    "visual_balance": {"horizon": "skyline", "mass": "weight"},
    "emotional_impact": {"feeling": "emotion", "mood": "atmosphere"},
}


def synonyms(dimension: str) -> dict[str, str]:
    """Words that may be replaced in a comment on a dimension: word -> one with the same meaning and judgment."""
    return {**_GENERAL_SYNONYMS, **_SYNONYMS.get(dimension, {})}


# A clause that starts with one of these refers to the previous clause and can't come first.
_REFERS_BACK = re.compile(
    r"^(it|its|it's|they|their|them|this|that|these|those|he|she|which|but|however|yet|so|and|or|because|though|although|"
    r"then|there|also|still|thus|otherwise|instead|both|each|neither)\b",
    re.IGNORECASE,
)


def paraphrase_comments(comments: Mapping[str, str], seed: int) -> dict[str, str] | None:
    """The comments in other words; None when no rule applies. The same seed gives the same words."""
    rng = np.random.default_rng(seed)
    varied = {name: _varied(synonyms(name), comments[name], rng) for name in DIMENSIONS}
    return varied if varied != dict(comments) else None


def paraphrase_critique(critique: Critique, seed: int) -> Critique | None:
    """The critique in other words; None when no rule applies. The same seed gives the same words.

    Advice that is given twice, as a recommendation and as a priority, stays the same sentence.
    """
    written = {name: critique.assessments[name].comment for name in DIMENSIONS}
    comments = paraphrase_comments(written, seed) or written
    rng = np.random.default_rng((seed, 1))
    advice: dict[str, str] = {}
    for text in (*critique.recommendations.values(), *critique.strengths, *critique.priority_improvements):
        if text not in advice:
            advice[text] = _varied(_ADVICE_SYNONYMS, text, rng)
    assessments = {
        name: replace(each, comment=comments[name], recommendation=advice.get(each.recommendation or ""))
        for name, each in critique.assessments.items()
    }
    varied = replace(
        critique,
        assessments=assessments,
        strengths=tuple(advice[text] for text in critique.strengths),
        priority_improvements=tuple(advice[text] for text in critique.priority_improvements),
    )
    return varied if varied != critique else None


def _varied(pairs: Mapping[str, str], comment: str, rng: np.random.Generator) -> str:
    candidate = comment
    if rng.random() < 0.6:
        candidate = swapped_clauses(candidate)
    candidate = _with_synonyms(candidate, pairs, rng)
    return comment if paraphrase_problems(comment, candidate) else candidate


def swapped_clauses(comment: str) -> str:
    """ "A; b." -> "B; a."; unchanged unless there are exactly two clauses and neither refers to the other."""
    match = re.fullmatch(r"\s*([^;.!?]+); ([^;.!?]+)([.!?]?)\s*", comment)
    if not match:
        return comment
    first, second, end = match.groups()
    if _REFERS_BACK.match(first) or _REFERS_BACK.match(second):
        return comment
    return f"{second[0].upper()}{second[1:]}; {_lowered(first)}{end}"


def _lowered(clause: str) -> str:
    """With a small first letter, unless the first word is a name, an abbreviation or "I"."""
    word = clause.split(" ", 1)[0]
    ordinary = (
        word.istitle() and len(word) > 1 and (word.lower() in _STARTERS or word.lower().endswith(("ing", "ly", "s")))
    )
    return clause[0].lower() + clause[1:] if ordinary else clause


_STARTERS = _words_of(
    "a an the some every each all no nothing one two three four five six strong sharp soft light texture "
    "edges side fine tone cloud calm deep good great little much many most neither with without from in "
    "on at there texture"
)


def _with_synonyms(comment: str, pairs: Mapping[str, str], rng: np.random.Generator) -> str:
    def exchange(match: re.Match[str]) -> str:
        word = match.group()
        other = pairs.get(word.lower())
        if other is None or rng.random() < 0.4:
            return word
        return other.capitalize() if word[0].isupper() else other

    return _WORD.sub(exchange, comment)


def paraphrase_problems(original: str, varied: str) -> tuple[str, ...]:
    """Why `varied` is not a paraphrase of `original`; empty when it is one.

    Numbers, places, negations and judgments must be unchanged, and at least `MIN_SHARED_WORDS` of the words shared.
    """
    before, after = word_counts(original), word_counts(varied)
    found = []
    for name, listed in (
        ("number", _NUMBERS),
        ("place", _DIRECTIONS),
        ("negation", _NEGATIONS),
        ("praise", _GOOD),
        ("blame", _BAD),
    ):
        if _among(before, listed) != _among(after, listed):
            found.append(f"a {name} changed")
    if _digits(before) != _digits(after):
        found.append("a number changed")
    if shared_word_fraction(original, varied) < MIN_SHARED_WORDS:
        found.append("less than half of the words are the advisor's own")
    return tuple(dict.fromkeys(found))


def _among(words: Counter[str], listed: frozenset[str]) -> Counter[str]:
    return Counter({word: count for word, count in words.items() if word in listed})


def _digits(words: Counter[str]) -> Counter[str]:
    return Counter({word: count for word, count in words.items() if word[0].isdigit()})
