"""What a dataset teaches of a critique: the form of its answers, and the advice that fits into one.

Advice is optional in an answer, so advice that doesn't fit leaves its row instead of the row leaving the dataset; the
manifest names every part that was left out (`ShortenedRecord`). Nothing is ever cut within a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mondrian_core.critique_parsing import parse_critique_lenient
from mondrian_core.data.linking.link_manifest import AdvicePart, LinkedRecord
from mondrian_core.rubric import (
    MAX_COMMENT_CHARACTERS,
    AnswerForm,
    Critique,
    has_visible_character,
    without_advice,
)
from mondrian_core.text_quality import is_placeholder_comment
from mondrian_core.training_target import fitting_advice, normalized_text, training_target

MIN_ADVISED_SHARE = 0.5  # share of the critiques with a recommendation from which "auto" teaches advice
MAX_RECORDS_NAMED = 3


@dataclass(frozen=True)
class ShortenedRecord:
    """A record whose row leaves out some of its advice, and what."""

    record: str
    detail: str


def choose_answer_form(wanted: str, records: Sequence[LinkedRecord]) -> AnswerForm:
    """The form of a dataset's answers: the recipe's, or for "auto" advice where at least half of the critiques advise.

    Args:
        wanted: "auto" or the name of a form.
        records: the advisor's linked critiques.
    """
    if wanted != "auto":
        return AnswerForm(wanted)
    advised = sum(bool(record.recommendations) for record in records)
    enough = advised > 0 and advised >= MIN_ADVISED_SHARE * len(records)
    return AnswerForm.ADVICE if enough else AnswerForm.COMMENTS


def taught_critique(critique: Critique, form: AnswerForm) -> tuple[Critique, tuple[str, ...]]:
    """(What an answer of this form can hold of a critique, what it can't, in words)."""
    if form is AnswerForm.COMMENTS:
        return without_advice(critique), ()
    return fitting_advice(replace(critique, advisor_notes=None), _says_something)


def shorter_critiques(critique: Critique) -> Iterator[tuple[Critique, AdvicePart]]:
    """The critique with less and less advice, and the part that each step leaves out; the least useful goes first."""
    for part, leave_out in _LEAVE_OUT.items():
        shorter = leave_out(critique)
        if shorter != critique:
            critique = shorter
            yield critique, part


def overlong_texts(critique: Critique) -> bool:
    """True when a text is longer than an answer's texts may be."""
    return any(len(normalized_text(text)) > MAX_COMMENT_CHARACTERS for text in critique.texts)


def answer_in_form(answer: str, form: AnswerForm) -> str:
    """A canonical answer that may hold advice, in a form: unchanged, or without its advice."""
    if form is AnswerForm.ADVICE:
        return answer
    return training_target(without_advice(parse_critique_lenient(answer).critique), form)


def shortened_summary(shortened: Sequence[ShortenedRecord]) -> str:
    """A sentence about the records whose rows leave out advice, naming the first ones."""
    named = "; ".join(f"{each.record}: {each.detail}" for each in shortened[:MAX_RECORDS_NAMED])
    more = f"; and {len(shortened) - MAX_RECORDS_NAMED} more" if len(shortened) > MAX_RECORDS_NAMED else ""
    critiques = "1 critique is" if len(shortened) == 1 else f"{len(shortened)} critiques are"
    return f"{critiques} taught without some of the advice ({named}{more})."


def _says_something(text: str) -> bool:
    return has_visible_character(text) and not is_placeholder_comment(text.strip())


def _without_regions(critique: Critique) -> Critique:
    plain = {name: replace(each, regions=()) for name, each in critique.assessments.items()}
    return replace(critique, assessments=plain)


_LEAVE_OUT: dict[AdvicePart, Callable[[Critique], Critique]] = {
    AdvicePart.STRENGTHS: lambda critique: replace(critique, strengths=()),
    AdvicePart.REGIONS: _without_regions,
    AdvicePart.PRIORITY_IMPROVEMENTS: lambda critique: replace(critique, priority_improvements=()),
    AdvicePart.RECOMMENDATIONS: without_advice,
}
