"""What a test must not have shown before: photographs that were trained on, look like one, or stand in the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mondrian_core.images import SIMILAR_BITS, bits_apart, perceptual_hash
from mondrian_core.prompts import Voice
from mondrian_core.rubric import Unparsable, read_lenient

How = Literal["trained", "looks_alike", "in_prompt", "in_index"]
SAYS: Mapping[str, str] = {
    "trained": "trained on",
    "looks_alike": "looks like one that was trained on",
    "in_prompt": "its critique stands in the prompt",
    "in_index": "it is among the photographs that retrieval offers",
}
WORDS = 8  # words in a row that two texts don't share by chance
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")

Look = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What an adapter was trained on.

    Attributes:
        lineages: of its photographs.
        looks: their perceptual hashes (`images.perceptual_hash`), to find near-duplicates.
        scores: the advisor's scores, one row per photograph.
        critiques: the advisor's answers, to find sentences that were learned by heart.
        everything: that is every photograph of its dataset; nothing was held out.
    """

    lineages: frozenset[str] = frozenset()
    looks: tuple[Look, ...] = ()
    scores: tuple[Mapping[str, float], ...] = ()
    critiques: tuple[str, ...] = ()
    everything: bool = False


def seen_by(photographs: Iterable[tuple[str, Image.Image]], trained: Trained | None) -> frozenset[str]:
    """Names of the photographs (lineage, picture) that were trained on or look like one that was."""
    if trained is None:
        return frozenset()
    return frozenset(name for name, image in photographs if _seen(name, image, trained))


def _seen(name: str, image: Image.Image, trained: Trained) -> How | None:
    if name in trained.lineages:
        return "trained"
    look = perceptual_hash(image) if trained.looks else None
    alike = look is not None and any(bits_apart(look, other) <= SIMILAR_BITS for other in trained.looks)
    return "looks_alike" if alike else None


def leaks(
    tested: Sequence[tuple[str, Image.Image, str | None]], trained: Trained, voice: Voice, index: Iterable[str] = ()
) -> list[dict[str, str]]:
    """Every photograph (lineage, picture, critique) of a test that was known before, and how; one entry each.

    `index` are lineages that retrieval may show the model.
    """
    offered, prompt = frozenset(index), phrases(voice.system)
    found: list[dict[str, str]] = []
    for name, image, critique in tested:
        how = _how(name, image, critique, trained, prompt, offered)
        if how is not None:
            found.append({"photograph": name, "how": how})
    return found


def _how(
    name: str,
    image: Image.Image,
    critique: str | None,
    trained: Trained,
    prompt: frozenset[str],
    offered: frozenset[str],
) -> How | None:
    seen = _seen(name, image, trained)
    if seen is not None:
        return seen
    if critique and prompt & phrases(said(critique)):
        return "in_prompt"
    return "in_index" if name in offered else None


def phrases(text: str) -> frozenset[str]:
    """Every row of eight words of a text, lower case, without punctuation."""
    words = [word.lower() for word in _WORD.findall(text)]
    return frozenset(" ".join(words[k : k + WORDS]) for k in range(len(words) - WORDS + 1))


def said(answer: str) -> str:
    """The comments of an answer, one to a line; the text as it is when nobody can read it."""
    try:
        assessments = read_lenient(answer).critique.assessments
    except Unparsable:
        return answer
    return "\n".join(assessment.comment for assessment in assessments.values())


def by_heart(answers: Sequence[str], critiques: Sequence[str]) -> float | None:
    """Share (0-1) of answers with eight words in a row out of one comment of `critiques`; None without either."""
    if not answers or not critiques:
        return None
    known = frozenset().union(*(_phrases_of(critique) for critique in critiques))
    return sum(bool(known & _phrases_of(answer)) for answer in answers) / len(answers)


def _phrases_of(answer: str) -> frozenset[str]:
    return frozenset().union(*(phrases(line) for line in said(answer).splitlines()))
