"""What a test must not have shown before: photographs that were trained on, look like one, or stand in the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.images import NEAR_DUPLICATE_BITS, perceptual_hash, perceptual_hash_distance
from mondrian_core.prompts import AdvisorPrompt

ContaminationKind = Literal["trained", "looks_alike", "in_prompt", "in_index"]
CONTAMINATION_LABELS: Mapping[str, str] = {
    "trained": "trained on",
    "looks_alike": "looks like one that was trained on",
    "in_prompt": "its critique stands in the prompt",
    "in_index": "it is among the photographs that retrieval offers",
}
NGRAM_WORDS = 8  # words in a row that two texts don't share by chance
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")

PerceptualHash = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TrainingProvenance:
    """What an adapter was trained on.

    Attributes:
        lineages: of its photographs.
        looks: their perceptual hashes (`images.perceptual_hash`), to find near-duplicates.
        scores: the advisor's scores, one row per photograph.
        critiques: the advisor's answers, to find sentences that were learned by heart.
        everything: that is every photograph of its dataset; nothing was held out.
    """

    photo_ids: frozenset[str] = frozenset()
    perceptual_hashes: tuple[PerceptualHash, ...] = ()
    scores: tuple[Mapping[str, float], ...] = ()
    critiques: tuple[str, ...] = ()
    whole_dataset: bool = False


def photographs_trained_on(
    photographs: Iterable[tuple[str, Image.Image]], trained: TrainingProvenance | None
) -> frozenset[str]:
    """Names of the photographs (lineage, picture) that were trained on or look like one that was."""
    if trained is None:
        return frozenset()
    return frozenset(name for name, image in photographs if _training_match(name, image, trained))


def _training_match(name: str, image: Image.Image, trained: TrainingProvenance) -> ContaminationKind | None:
    if name in trained.photo_ids:
        return "trained"
    look = perceptual_hash(image) if trained.perceptual_hashes else None
    alike = look is not None and any(
        perceptual_hash_distance(look, other) <= NEAR_DUPLICATE_BITS for other in trained.perceptual_hashes
    )
    return "looks_alike" if alike else None


def contaminated_photographs(
    tested: Sequence[tuple[str, Image.Image, str | None]],
    trained: TrainingProvenance,
    voice: AdvisorPrompt,
    index: Iterable[str] = (),
) -> list[dict[str, str]]:
    """Every photograph (lineage, picture, critique) of a test that was known before, and how; one entry each.

    `index` are lineages that retrieval may show the model.
    """
    offered, prompt = frozenset(index), word_ngrams(voice.system_message)
    found: list[dict[str, str]] = []
    for name, image, critique in tested:
        how = _contamination_kind(name, image, critique, trained, prompt, offered)
        if how is not None:
            found.append({"photograph": name, "how": how})
    return found


def _contamination_kind(
    name: str,
    image: Image.Image,
    critique: str | None,
    trained: TrainingProvenance,
    prompt: frozenset[str],
    offered: frozenset[str],
) -> ContaminationKind | None:
    seen = _training_match(name, image, trained)
    if seen is not None:
        return seen
    if critique and prompt & word_ngrams(comments_text(critique)):
        return "in_prompt"
    return "in_index" if name in offered else None


def word_ngrams(text: str) -> frozenset[str]:
    """Every row of eight words of a text, lower case, without punctuation."""
    words = [word.lower() for word in _WORD.findall(text)]
    return frozenset(" ".join(words[k : k + NGRAM_WORDS]) for k in range(len(words) - NGRAM_WORDS + 1))


def comments_text(answer: str) -> str:
    """The comments of an answer, one to a line; the text as it is when nobody can read it."""
    try:
        assessments = parse_critique_lenient(answer).critique.assessments
    except CritiqueParseError:
        return answer
    return "\n".join(assessment.comment for assessment in assessments.values())


def verbatim_overlap_share(answers: Sequence[str], critiques: Sequence[str]) -> float | None:
    """Share (0-1) of answers with eight words in a row out of one comment of `critiques`; None without either."""
    if not answers or not critiques:
        return None
    known = frozenset().union(*(_comment_ngrams(critique) for critique in critiques))
    return sum(bool(known & _comment_ngrams(answer)) for answer in answers) / len(answers)


def _comment_ngrams(answer: str) -> frozenset[str]:
    return frozenset().union(*(word_ngrams(line) for line in comments_text(answer).splitlines()))
