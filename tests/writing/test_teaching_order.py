"""The order of photographs: a spread first, then where the adapter errs."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from mondrian_core.writing.adapter_errors import AdapterErrors
from mondrian_core.writing.photograph_looks import PhotographVectors, look_vector
from mondrian_core.writing.teaching_order import WritingQueue, choose_next
from tests.writing.conftest import picture

HUES = {"snow": (240, 240, 245), "night": (15, 15, 30), "forest": (40, 110, 40), "sunset": (220, 110, 40)}


def looks(each: int = 3) -> PhotographVectors:
    """Vectors of `each` photographs of every kind, named kind-number."""
    vectors = {
        f"{kind}-{number}": look_vector(Image.open(io.BytesIO(picture(hue, 10 * number + len(kind)))))
        for kind, hue in HUES.items()
        for number in range(each)
    }
    return PhotographVectors(vectors=vectors, kind="looks", wanted=len(vectors))


def order(vectors: PhotographVectors, count: int, errors: AdapterErrors | None = None) -> list[str]:
    done: list[str] = []
    for _ in range(count):
        waiting = [name for name in vectors.vectors if name not in done]
        found = choose_next(WritingQueue(waiting=waiting, critiqued=done), vectors, errors)
        assert found is not None and found.why
        done.append(found.sha256)
    return done


def test_first_photographs_are_one_of_each_kind() -> None:
    assert {name.split("-")[0] for name in order(looks(), len(HUES))} == set(HUES)


def test_every_photograph_comes_once() -> None:
    vectors = looks()
    assert sorted(order(vectors, len(vectors.vectors))) == sorted(vectors.vectors)


def test_begun_ones_come_first_and_skipped_ones_last() -> None:
    vectors = looks()
    names = list(vectors.vectors)
    begun = choose_next(WritingQueue(waiting=names, begun=names[2:4]), vectors)
    assert begun is not None and (begun.sha256, begun.why) == (names[3], "You began this one.")
    only = choose_next(WritingQueue(waiting=names[:2], skipped=names[:1]), vectors)
    last = choose_next(WritingQueue(waiting=names[:1], skipped=names[:1]), vectors)
    assert only is not None and only.sha256 == names[1]
    assert last is not None and last.why == "You skipped this one earlier."
    assert choose_next(WritingQueue(waiting=[]), vectors) is None


def test_photographs_like_those_where_the_adapter_erred_come_next() -> None:
    vectors = looks(6)
    measured = {name: 3.0 if name.startswith("night") else 0.5 for name in vectors.vectors if int(name[-1]) < 3}
    waiting = [name for name in vectors.vectors if name not in measured]
    errors = AdapterErrors(version="v0002", distances=measured)
    found = choose_next(WritingQueue(waiting=waiting, critiqued=list(measured)), vectors, errors)
    assert found is not None and found.sha256.startswith("night")
    assert "v0002 missed your scores by 3.0 points" in found.why
    few = AdapterErrors(version="v0002", distances=dict(list(measured.items())[:5]))
    spread = choose_next(WritingQueue(waiting=waiting, critiqued=list(measured)), vectors, few)
    assert spread is not None and "v0002" not in spread.why


def test_a_photograph_without_a_vector_still_gets_its_turn() -> None:
    vectors = looks(1)
    found = choose_next(WritingQueue(waiting=["unreadable"], critiqued=list(vectors.vectors)), vectors)
    assert found is not None and found.sha256 == "unreadable"


def test_looks_have_length_one_whatever_the_picture() -> None:
    for hue in ((0, 0, 0), (255, 255, 255), (128, 128, 128)):
        assert np.isclose(np.linalg.norm(look_vector(Image.new("RGB", (30, 20), hue))), 1.0)
