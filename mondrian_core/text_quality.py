"""Detecting degenerate text: comments with loops, without words, or with control characters.

The gates count such answers, and the service never returns one. The checks are independent of language: they must not
reject good text in any script, so they don't try to tell invented words from real ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from mondrian_core.rubric import Critique

_TIMES = 3  # a person doesn't write a word or a phrase three times in a row
_LONGEST_PHRASE = 8  # words
_GRAM = 4
_FEWEST_WORDS = 8  # a short comment such as "Well done." may be given for every dimension
_MOST_REPEATED = 0.5  # share of a comment's four-word sequences; good ones have 0 to 0.1
_LONGEST_WORD = 60  # letters; for scripts that separate words
_LEAST_LETTERS = 0.4  # of the visible characters
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_CHARACTER_LOOP = re.compile(r"([^\W_]{1,8}?)\1{4,}")
_SHORTEST_LOOP = 10  # characters
_PLACEHOLDER = re.compile(
    r"\W*(ok|okay|fine|good|bad|nice|great|yes|no|none|n/?a|null|todo|tbd|test|x+|comment|placeholder|\.*)\W*",
    re.IGNORECASE,
)
_NO_TEXT = {"Cc", "Cs", "Co"}  # control characters, half surrogates, private use


def critique_text_problem(critique: Critique) -> str | None:
    """Why a critique can't be shown, such as "lighting: it has no word"; None when it is fine."""
    for name, assessment in critique.assessments.items():
        for text in filter(None, (assessment.comment, assessment.recommendation)):
            problem = text_problem(text)
            if problem is not None:
                return f"{name}: {problem}"
    comments = {assessment.comment for assessment in critique.assessments.values()}
    if len(comments) == 1 and len(comments.pop().split()) >= _FEWEST_WORDS:
        return "every comment is the same"
    return None


@lru_cache(maxsize=4096)  # an evaluation asks about each comment several times
def text_problem(text: str) -> str | None:
    """Why a comment is degenerate; None when it is fine."""
    return next((problem for problem, is_wrong in _CHECKS.items() if is_wrong(text)), None)


def is_placeholder_comment(text: str) -> bool:
    """True for a comment such as "ok" or "n/a": where most are, a critique would teach empty comments."""
    return _PLACEHOLDER.fullmatch(text) is not None


def has_repeated_phrase(text: str) -> bool:
    """True when a word, or a phrase of up to eight words, occurs three times in a row ("I would would would")."""
    words = _words(text.lower())
    for length in range(1, _LONGEST_PHRASE + 1):
        same = 0  # run of words that equal the word one phrase earlier
        for place in range(length, len(words)):
            same = same + 1 if words[place] == words[place - length] else 0
            if same >= length * (_TIMES - 1):
                return True
    return False


def repeated_ngram_fraction(text: str) -> float:
    """Share (0-1) of four-word sequences that occur earlier in the same text; 0 for short texts."""
    words = text.lower().split()
    grams = [tuple(words[k : k + _GRAM]) for k in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _words(text: str) -> list[str]:
    r"""Runs of letters, digits and marks; `\w` would cut Indic and Thai words at their vowel signs."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return "".join(each if _in_word(each) else " " for each in text).split()


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _has_word(text: str) -> bool:
    """True for two consecutive letters of an alphabet, or one letter of a script without case (Chinese, Arabic)."""
    before = False
    for each in text:
        letter = unicodedata.category(each)
        if letter == "Lo" or (letter[0] == "L" and before):
            return True
        before = letter[0] == "L"
    return False


def _cased(word: str) -> bool:
    return any(each.lower() != each.upper() for each in word)


def _has_foreign_characters(text: str) -> bool:
    return any((unicodedata.category(each) in _NO_TEXT and each not in "\t\n\r") or each == "\ufffd" for each in text)


def _repeats_itself(text: str) -> bool:
    long_enough = len(text.split()) >= _FEWEST_WORDS + _GRAM
    return long_enough and repeated_ngram_fraction(text) > _MOST_REPEATED


def _repeats_characters(text: str) -> bool:
    return any(len(loop.group()) >= _SHORTEST_LOOP for loop in _CHARACTER_LOOP.finditer(text))


def _is_mostly_signs(text: str) -> bool:
    visible = [each for each in text if not each.isspace()]
    return sum(map(_in_word, visible)) < _LEAST_LETTERS * len(visible)


def _has_endless_word(text: str) -> bool:
    return any(len(word) > _LONGEST_WORD and _cased(word) for word in _words(text))


# What is wrong with a comment -> the check that finds it; the first that applies is reported.
_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "it has characters that belong to no text": _has_foreign_characters,
    "it has no word": lambda text: not _has_word(text),
    "it says a word or phrase three times in a row": has_repeated_phrase,
    "it repeats itself": _repeats_itself,
    "it repeats the same characters": _repeats_characters,
    "it is mostly signs": _is_mostly_signs,
    "it has a word without an end": _has_endless_word,
}
