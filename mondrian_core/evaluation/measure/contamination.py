"""Contamination of a test set: photographs that training, the prompt or retrieval has shown the model before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.near_duplicates import PhotographFingerprint, near_duplicates_of, photograph_fingerprint
from mondrian_core.prompts import AdvisorPrompt

ContaminationKind = Literal["trained", "looks_alike", "in_prompt", "in_index"]
CONTAMINATION_LABELS: Mapping[str, str] = {
    "trained": "trained on",
    "looks_alike": "looks like one that was trained on",
    "in_prompt": "its critique is quoted in the prompt",
    "in_index": "it is among the photographs that retrieval offers",
}
NGRAM_WORDS = 8  # a run of words this long is not shared by chance
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


@dataclass(frozen=True, kw_only=True)
class TrainingProvenance:
    """What an adapter was trained on.

    Attributes:
        photo_ids: of its photographs.
        fingerprints: of the same photographs, to find near-duplicates.
        scores: the advisor's scores (0-10), one row per photograph.
        critiques: the advisor's answers, to find memorized sentences.
        whole_dataset: True when it was trained on every photograph of its dataset, so nothing was held out.
    """

    photo_ids: frozenset[str] = frozenset()
    fingerprints: tuple[PhotographFingerprint, ...] = ()
    scores: tuple[Mapping[str, float], ...] = ()
    critiques: tuple[str, ...] = ()
    whole_dataset: bool = False


def photographs_trained_on(
    photographs: Iterable[tuple[str, Image.Image]], trained: TrainingProvenance | None
) -> frozenset[str]:
    """Photo ids of the photographs (photo id, picture) that were trained on or look like one that was."""
    if trained is None:
        return frozenset()
    return frozenset(_training_matches(photographs, trained))


def _training_matches(
    photographs: Iterable[tuple[str, Image.Image]], trained: TrainingProvenance
) -> dict[str, ContaminationKind]:
    """Photo id -> how training knows the photograph; photographs that it doesn't know have no entry."""
    images = dict(photographs)
    matches: dict[str, ContaminationKind] = dict.fromkeys(images.keys() & trained.photo_ids, "trained")
    if trained.fingerprints:
        similar = near_duplicates_of(
            trained.fingerprints,
            [photograph_fingerprint(name, images[name]) for name in images if name not in matches],
        )
        matches |= dict.fromkeys(similar, "looks_alike")
    return matches


def contaminated_photographs(
    tested: Sequence[tuple[str, Image.Image, str | None]],
    trained: TrainingProvenance,
    advisor_prompt: AdvisorPrompt,
    index: Iterable[str] = (),
) -> list[dict[str, str]]:
    """The test photographs that the model has seen before, and how; one entry per photograph.

    Args:
        tested: photo id, picture and the advisor's critique (None: unknown).
        trained: what the adapter was trained on.
        advisor_prompt: the advisor's prompt, which must not quote a critique of the test.
        index: photo ids that retrieval may show the model.
    """
    retrievable, prompt = frozenset(index), word_ngrams(advisor_prompt.system_message)
    known = _training_matches([(name, image) for name, image, _ in tested], trained)
    findings: list[dict[str, str]] = []
    for name, _, critique in tested:
        kind = known.get(name)
        if kind is None and critique and prompt & _text_ngrams(critique):
            kind = "in_prompt"
        elif kind is None and name in retrievable:
            kind = "in_index"
        if kind is not None:
            findings.append({"photograph": name, "how": kind})
    return findings


def word_ngrams(text: str) -> frozenset[str]:
    """Every run of `NGRAM_WORDS` words of a text, in lower case, without punctuation."""
    words = [word.lower() for word in _WORD.findall(text)]
    return frozenset(" ".join(words[k : k + NGRAM_WORDS]) for k in range(len(words) - NGRAM_WORDS + 1))


def comments_text(answer: str) -> str:
    """The comments of an answer, one per line; the text unchanged when it can't be parsed."""
    try:
        assessments = parse_critique_lenient(answer).critique.assessments
    except CritiqueParseError:
        return answer
    return "\n".join(assessment.comment for assessment in assessments.values())


def verbatim_overlap_share(answers: Sequence[str], critiques: Sequence[str]) -> float | None:
    """Share (0-1) of answers that repeat `NGRAM_WORDS` words in a row of one text of `critiques`.

    Texts are comments, recommendations and whatever else advice says.

    None without answers or without critiques.
    """
    if not answers or not critiques:
        return None
    known = frozenset().union(*(_text_ngrams(critique) for critique in critiques))
    return sum(bool(known & _text_ngrams(answer)) for answer in answers) / len(answers)


def _text_ngrams(answer: str) -> frozenset[str]:
    """The n-grams of each text of an answer; of the whole answer when it can't be parsed."""
    try:
        texts = parse_critique_lenient(answer).critique.texts
    except CritiqueParseError:
        texts = tuple(answer.splitlines())
    return frozenset().union(*map(word_ngrams, texts))
