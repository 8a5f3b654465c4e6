"""What was known before: the same photograph, a twin, a quotation in the prompt; and sentences learned by heart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mondrian_core.evaluation.leaks import Trained, by_heart, leaks, phrases
from mondrian_core.images import perceptual_hash
from mondrian_core.mini import rendered_photographs
from mondrian_core.prompts import Voice
from mondrian_core.rubric import DIMENSIONS, canonical, make_critique

VOICE = Voice("ansel", "Ansel Adams")


def critique(comment: str) -> str:
    return canonical(make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, comment)))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return list(rendered_photographs(6, seed=11))


def how(image: Image.Image, trained: Trained, text: str | None = None, voice: Voice = VOICE, **more: object) -> object:
    found = leaks([("p", image, text)], trained, voice, **more)
    return found[0]["how"] if found else None


def test_the_same_photograph(pictures: list[Image.Image]) -> None:
    assert how(pictures[0], Trained(lineages=frozenset({"p"}))) == "trained"


@pytest.mark.parametrize("twin", ["copy", "mirror", "smaller", "brighter"])
def test_a_twin_of_a_trained_photograph(pictures: list[Image.Image], twin: str) -> None:
    image = pictures[0]
    made = {
        "copy": image.copy(),
        "mirror": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "smaller": image.resize((image.width // 2, image.height // 2)),
        "brighter": image.point(lambda value: min(255, round(value * 1.06))),
    }[twin]
    assert how(made, Trained(lineages=frozenset({"other"}), looks=(perceptual_hash(image),))) == "looks_alike"


def test_unrelated_photographs_do_not_look_alike(pictures: list[Image.Image]) -> None:
    rng = np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8))
    assert how(texture, Trained(lineages=frozenset({"other"}), looks=tuple(map(perceptual_hash, pictures)))) is None


def test_a_critique_in_the_prompt(pictures: list[Image.Image]) -> None:
    said = "The black sky presses on the white cross and the whole valley listens."
    quoting = Voice("ansel", "Ansel Adams", prompt=f"You are Ansel. For example: {said.upper()} Be short.")
    assert how(pictures[0], Trained(), critique(said), quoting) == "in_prompt"
    assert (
        how(pictures[0], Trained(), critique("Another thing entirely was said about this one, at some length.")) is None
    )


def test_a_photograph_that_retrieval_offers(pictures: list[Image.Image]) -> None:
    assert how(pictures[0], Trained(), index=["p"]) == "in_index"
    assert how(pictures[0], Trained(), index=["q"]) is None


def test_by_heart_needs_eight_words_in_a_row() -> None:
    learned = "Light falls from the left and the foreground carries the whole weight."
    assert by_heart([critique(learned)], [critique(learned)]) == 1.0
    assert by_heart([critique("Light falls from the left, and nothing else does.")], [critique(learned)]) == 0.0
    assert by_heart([critique(learned), critique("Short.")], [critique(learned)]) == 0.5
    assert by_heart([], [critique(learned)]) is None and by_heart([critique(learned)], []) is None


def test_phrases_do_not_reach_across_comments() -> None:
    """Two dimensions of four words each are no sentence of eight."""
    assert by_heart([critique("One two three four.")], [critique("One two three four.")]) == 0.0
    assert phrases("a b c d e f g h i") == {"a b c d e f g h", "b c d e f g h i"}
