"""Contamination: the same photograph, a near-duplicate, a quotation in the prompt; and memorized sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mondrian_core.evaluation.measure.contamination import (
    TrainingProvenance,
    contaminated_photographs,
    verbatim_overlap_share,
    word_ngrams,
)
from mondrian_core.mini import rendered_photographs
from mondrian_core.near_duplicates import photograph_fingerprint
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS, AnswerForm, canonical_answer, make_critique

VOICE = AdvisorPrompt("ansel", "Ansel Adams")


def critique(comment: str) -> str:
    return canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, comment)))


def advice(recommendation: str) -> str:
    """An answer whose recommendations on every dimension are these words."""
    plain = make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "Calm."))
    advised = {name: replace(each, recommendation=recommendation) for name, each in plain.assessments.items()}
    return canonical_answer(replace(plain, assessments=advised), AnswerForm.ADVICE)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return list(rendered_photographs(6, seed=11))


def how(
    image: Image.Image,
    trained: TrainingProvenance,
    text: str | None = None,
    voice: AdvisorPrompt = VOICE,
    **more: Any,
) -> Any:
    found = contaminated_photographs([("p", image, text)], trained, voice, **more)
    return found[0]["how"] if found else None


def test_trained_photograph_is_contaminated(pictures: list[Image.Image]) -> None:
    assert how(pictures[0], TrainingProvenance(photo_ids=frozenset({"p"}))) == "trained"


@pytest.mark.parametrize("twin", ["copy", "mirror", "smaller", "brighter", "cropped", "framed", "turned"])
def test_near_duplicate_of_trained_photograph_is_contaminated(pictures: list[Image.Image], twin: str) -> None:
    image = pictures[0]
    made = {
        "copy": image.copy(),
        "mirror": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "smaller": image.resize((image.width // 2, image.height // 2)),
        "brighter": image.point(lambda value: min(255, round(value * 1.06))),
        "cropped": image.crop((0, 0, round(image.width * 0.9), round(image.height * 0.9))),
        "framed": ImageOps.expand(image, 25, "white"),
        "turned": image.rotate(5),
    }[twin]
    assert (
        how(
            made,
            TrainingProvenance(photo_ids=frozenset({"other"}), fingerprints=(photograph_fingerprint("other", image),)),
        )
        == "looks_alike"
    )


def test_unrelated_photographs_do_not_look_alike(pictures: list[Image.Image]) -> None:
    rng = np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8))
    assert (
        how(
            texture,
            TrainingProvenance(
                photo_ids=frozenset({"other"}),
                fingerprints=tuple(photograph_fingerprint("other", each) for each in pictures),
            ),
        )
        is None
    )


def test_critique_in_prompt_is_contamination(pictures: list[Image.Image]) -> None:
    said = "The black sky presses on the white cross and the whole valley listens."
    quoting = AdvisorPrompt("ansel", "Ansel Adams", prompt=f"You are Ansel. For example: {said.upper()} Be short.")
    assert how(pictures[0], TrainingProvenance(), critique(said), quoting) == "in_prompt"
    assert (
        how(
            pictures[0],
            TrainingProvenance(),
            critique("Another thing entirely was said about this one, at some length."),
        )
        is None
    )


def test_recommendation_in_prompt_is_contamination(pictures: list[Image.Image]) -> None:
    said = "Wait until the cloud has left the ridge and the river shines."
    quoting = AdvisorPrompt("ansel", "Ansel Adams", prompt=f"You are Ansel. For example: {said}")
    assert how(pictures[0], TrainingProvenance(), advice(said), quoting) == "in_prompt"


def test_photograph_in_retrieval_index_is_contaminated(pictures: list[Image.Image]) -> None:
    assert how(pictures[0], TrainingProvenance(), index=["p"]) == "in_index"
    assert how(pictures[0], TrainingProvenance(), index=["q"]) is None


def test_memorization_needs_eight_consecutive_words() -> None:
    learned = "Light falls from the left and the foreground carries the whole weight."
    assert verbatim_overlap_share([critique(learned)], [critique(learned)]) == 1.0
    assert (
        verbatim_overlap_share([critique("Light falls from the left, and nothing else does.")], [critique(learned)])
        == 0.0
    )
    assert verbatim_overlap_share([critique(learned), critique("Short.")], [critique(learned)]) == 0.5
    assert (
        verbatim_overlap_share([], [critique(learned)]) is None
        and verbatim_overlap_share([critique(learned)], []) is None
    )


def test_copied_advice_is_found_as_copied_comments_are() -> None:
    said = "Wait until the cloud has left the ridge and the river shines."
    assert verbatim_overlap_share([advice(said)], [advice(said)]) == 1.0
    assert verbatim_overlap_share([critique(said)], [advice(said)]) == 1.0
    assert verbatim_overlap_share([advice("Come back in winter.")], [advice(said)]) == 0.0


def test_phrases_do_not_reach_across_comments() -> None:
    """Two comments of four words each don't form a phrase of eight."""
    assert verbatim_overlap_share([critique("One two three four.")], [critique("One two three four.")]) == 0.0
    assert word_ngrams("a b c d e f g h i") == {"a b c d e f g h", "b c d e f g h i"}
