"""The reason for a comparison says what the scores carry, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.retrieval.comparison_reasons import comparison_reason
from mondrian_core.retrieval.nearest_neighbors import Portfolio, ReferencePhotograph
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.critique.strategies import AnalysisContext, RagStrategy
from mondrian_core.serving.engine.interface import Reply

SURE = dict.fromkeys(DIMENSIONS, 0.3)


def reference(value: float = 6, **others: float) -> ReferencePhotograph:
    return ReferencePhotograph(
        path="source/moonrise.jpg",
        scores={**dict.fromkeys(DIMENSIONS, value), **others},
        comments={name: f"On {name}." for name in DIMENSIONS},
    )


def test_reason_names_close_and_better_dimensions_with_both_scores() -> None:
    here = {**dict.fromkeys(DIMENSIONS, 3.0), "depth_perspective": 6.2, "composition": 4.5}
    reason = comparison_reason(here, SURE, reference(4, depth_perspective=6, composition=9))
    assert reason.dimension == "composition"
    assert reason.comment == "On composition."
    assert reason.sentence.startswith(
        "Similar in Depth & Perspective (6.2 here, 6 there); stronger in Composition (4.5"
    )


@pytest.mark.parametrize(
    ("deviations", "named"),
    [(SURE, True), (dict.fromkeys(DIMENSIONS, 2.0), False), ({}, False)],
    ids=["sure", "unsure", "unknown"],
)
def test_difference_within_the_noise_is_not_called_better(deviations: Mapping[str, float], named: bool) -> None:
    reason = comparison_reason(dict.fromkeys(DIMENSIONS, 6.0), deviations, reference(6, lighting=8))
    assert (reason.dimension == "lighting") is named
    assert ("stronger in Lighting" in reason.sentence) is named


def test_weaker_photograph_is_called_weaker() -> None:
    reason = comparison_reason(dict.fromkeys(DIMENSIONS, 8.0), SURE, reference(3))
    assert reason.dimension is None and not reason.comment
    assert reason.sentence.startswith("Weaker in ")


def test_a_claim_is_rarely_wrong_where_the_photographs_are_equal() -> None:
    """Scores drawn around equal truths, with the noise that the model states: at most about 5 % are called better."""
    rng = np.random.default_rng(7)
    claims = trials = 0
    for _ in range(400):
        truth = rng.uniform(2, 8, len(DIMENSIONS))
        here = dict(zip(DIMENSIONS, truth + rng.normal(0, 0.8, len(DIMENSIONS)), strict=True))
        there = dict(zip(DIMENSIONS, np.floor(truth + 0.5), strict=True))
        reason = comparison_reason(here, dict.fromkeys(DIMENSIONS, 0.8), reference(0, **there))
        claims, trials = claims + len(reason.better), trials + len(DIMENSIONS)
    assert 0.005 < claims / trials < 0.075


def test_rag_gives_each_neighbor_its_reason(fake_engine: Any) -> None:
    class Certain:
        """The fake engine, sure of its scores."""

        def ask(self, question: Any, on_token: Any = None) -> Reply:
            reply: Reply = fake_engine.ask(question, on_token)
            return Reply(text=reply.text, finish_reason="stop", tokens=3, score_deviations=SURE)

    context = AnalysisContext(
        advisor_prompt=AdvisorPrompt("ansel", "Ansel"),
        image=Image.new("RGB", (32, 32)),
        portfolio=Portfolio((reference(5, lighting=9),)),
    )
    answer = RagStrategy().analyze(context, Certain())
    (facts,) = answer.compared_with
    assert facts["dimension"] == "lighting" and facts["better"] == ["lighting"]
    assert "stronger in Lighting (5 here, 9 there)" in facts["reason"]
    assert facts["reason"] in (answer.critique.advisor_notes or "")
