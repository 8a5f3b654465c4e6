"""The service stores how far a photograph is from the portfolio, when it encodes the photograph for its critique."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mondrian_core.drift import DISTANCE_KEY, PortfolioDistances
from mondrian_core.serving.batch_analyze import BatchRequest, analyze_photographs
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from mondrian_core.store.embeddings import Embedding, EmbeddingStore

BASE = "f" * 64


def save_entry(store: Store, sha256: str, vector: tuple[float, ...]) -> None:
    EmbeddingStore(store).save(
        Embedding(advisor="ansel", sha256=sha256, image_path=sha256, base=BASE, perceptual_hashes=(0, 0), vector=vector)
    )


def test_distance_is_stored_once_there_is_an_index(
    settings: Settings,
    fake_engine: Any,
    control: Callable[..., None],
    promote: Callable[[str | None], None],
) -> None:
    promote("v0001")
    control(embedding=[0.6, 0.8])
    fake_engine.fingerprint = BASE
    asked, ask = [], fake_engine.ask
    fake_engine.ask = lambda question, *more: asked.append(question.embed) or ask(question, *more)
    request = BatchRequest(paths=[settings.root / "source" / "one.jpg"], advisor="ansel", mode="lora")
    (without,) = analyze_photographs(settings, request, engine=fake_engine)
    assert DISTANCE_KEY not in without.details
    assert asked == [False]
    with Store(settings.database) as store:
        save_entry(store, "a", (1.0, 0.0))
        save_entry(store, "b", (0.0, 1.0))
    (found,) = analyze_photographs(settings, request, engine=fake_engine)
    assert found.details[DISTANCE_KEY] == pytest.approx(0.2)
    assert asked == [False, True]


def test_photograph_is_not_compared_with_itself_and_the_index_is_read_again(settings: Settings) -> None:
    with Store(settings.database) as store:
        distances = PortfolioDistances(store)
        assert distances.distance("ansel", BASE, "x", (1.0, 0.0)) is None
        save_entry(store, "x", (1.0, 0.0))
        assert distances.distance("ansel", BASE, "x", (1.0, 0.0)) is None
        save_entry(store, "y", (0.0, 1.0))
        assert distances.distance("ansel", BASE, "x", (1.0, 0.0)) == 1.0
        assert distances.distance("ansel", BASE, "z", (1.0, 0.0)) == 0.0
        assert distances.distance("ansel", BASE, "z", (1.0, 0.0, 0.0)) is None, "of another base"
