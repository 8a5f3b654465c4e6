"""The portfolio: known neighbours, weights, hybrid similarity, the prompt of the second pass, and the strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from mondrian_core.photograph_model import Question
from mondrian_core.prompts import AdvisorPrompt, comparison_messages, critique_messages
from mondrian_core.retrieval.nearest_neighbors import (
    Portfolio,
    ReferencePhotograph,
    comparison_from_neighbors,
    cosine_similarity,
    nearest_references,
    portfolio_from_profiles,
)
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.critique.fallback_chain import run_fallback_chain
from mondrian_core.serving.critique.strategies import AnalysisContext, RagStrategy, all_strategies
from mondrian_core.serving.engine.interface import Reply
from mondrian_core.store import DimensionalProfile


def scores(value: float, **others: float) -> dict[str, float]:
    return {**dict.fromkeys(DIMENSIONS, value), **others}


def reference(name: str, value: float, **others: float) -> ReferencePhotograph:
    return ReferencePhotograph(
        path=f"source/{name}",
        scores=scores(value, **others),
        comments=dict.fromkeys(DIMENSIONS, f"comment on {name}"),
        grade="7.0",
    )


PORTFOLIO = Portfolio(
    (
        reference("dark.jpg", 6, lighting=2),
        reference("bright.jpg", 6, lighting=10),
        reference("middling.jpg", 6),
        reference("great.jpg", 9.5),
        reference("poor.jpg", 2),
    )
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (scores(6, lighting=3), "dark.jpg"),
        (scores(6, lighting=9), "bright.jpg"),
        (scores(6), "middling.jpg"),
        (scores(9), "great.jpg"),
        (scores(3), "poor.jpg"),
    ],
)
def test_most_similar_photograph_comes_first(asked: dict[str, float], expected: str) -> None:
    found = nearest_references(asked, PORTFOLIO)
    assert found[0][0].name == expected
    similarities = [similarity for _, similarity in found]
    assert similarities == sorted(similarities, reverse=True)
    assert all(0 <= similarity <= 1 for similarity in similarities)


def test_photograph_is_not_compared_with_itself() -> None:
    found = nearest_references(scores(6), PORTFOLIO, same=lambda each: each.name == "middling.jpg")
    assert "middling.jpg" not in [each.name for each, _ in found]
    assert len(found) == 3


def test_dimension_with_little_variation_has_little_weight() -> None:
    portfolio = Portfolio((reference("a.jpg", 5, lighting=5.1), reference("b.jpg", 8, lighting=5.0)))
    assert nearest_references(scores(5, lighting=5.0), portfolio)[0][0].name == "a.jpg"


def test_embeddings_decide_between_equal_scores() -> None:
    embeddings = {"source/dark.jpg": [1.0, 0.0], "source/bright.jpg": [0.0, 1.0]}
    pair = Portfolio(PORTFOLIO.references[:2])
    for embedding, expected in (([0.9, 0.1], "dark.jpg"), ([0.1, 0.9], "bright.jpg")):
        found = nearest_references(scores(6), pair, 1, embedding=embedding, embeddings=embeddings)
        assert found[0][0].name == expected
    assert cosine_similarity([0.0, 0.0], [1.0, 2.0]) == 0.0


def profile(path: str, order: int, value: Any = 5, origin: str = "human") -> DimensionalProfile:
    return DimensionalProfile(
        id=f"p{order}",
        advisor="ansel",
        image_path=path,
        scores=dict.fromkeys(DIMENSIONS, value),
        comments=dict.fromkeys(DIMENSIONS, "x"),
        overall_grade="5.0",
        origin=origin,
        created_at=None,
        order=order,
    )


def test_references_are_the_latest_usable_profiles_by_people() -> None:
    found = portfolio_from_profiles(
        [
            profile("/Users/x/source/a.jpg", 1, 4),
            profile("source\\a.jpg", 2, 6),
            profile("b.jpg", 3, None),
            profile("c.jpg", 4, 11),
            profile("d.jpg", 5, 5, origin="model"),
            profile("e.jpg", 6, float("nan")),
        ]
    )
    assert [(each.name, each.scores["lighting"]) for each in found.references] == [("a.jpg", 6.0)]


def test_same_name_in_two_folders_is_two_photographs_unless_copies() -> None:
    profiles = [
        profile("source/2023/DSC_0001.jpg", 1, 4),
        profile("source/2024/dsc_0001.JPG", 2, 6),
        profile("source/copy/DSC_0001.jpg", 3, 5),
        profile("source/2024/other.jpg", 4, 9),
    ]
    apart = portfolio_from_profiles(profiles)
    assert [each.scores["lighting"] for each in apart.references] == [4, 6, 5, 9]
    content = {"2023/DSC_0001.jpg": "one", "2024/dsc_0001.JPG": "two", "copy/DSC_0001.jpg": "one"}
    read = portfolio_from_profiles(profiles, digest=content.__getitem__)
    assert sorted(each.scores["lighting"] for each in read.references) == [5, 6, 9]
    embeddings = {"2023/DSC_0001.jpg": [1.0, 0.0], "2024/dsc_0001.JPG": [0.0, 1.0]}
    alike = portfolio_from_profiles(replace(each, scores=scores(6)) for each in profiles[:2])
    for embedding, expected in (([1.0, 0.0], "source/2023/DSC_0001.jpg"), ([0.0, 1.0], "source/2024/dsc_0001.JPG")):
        found = nearest_references(scores(6), alike, 1, embedding=embedding, embeddings=embeddings)
        assert found[0][0].path == expected


def test_second_prompt_shares_the_prefix_and_names_neighbours() -> None:
    advisor_prompt = AdvisorPrompt("ansel", "Ansel Adams")
    asked = scores(5)
    told = comparison_from_neighbors(asked, PORTFOLIO, nearest_references(asked, PORTFOLIO, 2))
    plain, second = critique_messages(advisor_prompt), comparison_messages(advisor_prompt, told)
    assert second[0] == plain[0]
    assert second[1]["content"][0] == plain[1]["content"][0]
    assert second[1]["content"][-1] == {"type": "image"}
    text = second[1]["content"][1]["text"]
    assert "middling.jpg" in text and "of 5" in text
    assert "composition 5.9 (2-9.5)" in text
    assert "<image>" not in text


class Listening:
    """The fake engine; records its prompts."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.texts = engine, []

    def ask(self, question: Question, on_token: Any = None) -> Reply:
        self.texts.append(str(question.messages))
        assert question.adapter is None
        return self.engine.ask(question, on_token)


def test_rag_makes_two_passes_and_names_the_compared_photographs(fake_engine: Any) -> None:
    context = AnalysisContext(
        advisor_prompt=AdvisorPrompt("ansel", "Ansel"), image=Image.new("RGB", (32, 32)), portfolio=PORTFOLIO
    )
    engine = Listening(fake_engine)
    answer = RagStrategy().analyze(context, engine)
    assert len(answer.replies) == 2
    assert "middling.jpg" not in engine.texts[0]
    assert "middling.jpg" in engine.texts[1]
    assert answer.compared_with[0]["photograph"] == "middling.jpg"
    assert "middling.jpg" in (answer.critique.advisor_notes or "")


def test_rag_needs_a_portfolio_and_is_the_fallback_of_lora(fake_engine: Any, control: Callable[..., None]) -> None:
    bare = AnalysisContext(advisor_prompt=AdvisorPrompt("ansel", "Ansel"), image=Image.new("RGB", (32, 32)))
    assert not RagStrategy().is_available(bare)
    assert run_fallback_chain(all_strategies(), "rag", bare, fake_engine).answer.strategy == "baseline"
    full = AnalysisContext(advisor_prompt=bare.advisor_prompt, image=bare.image, portfolio=PORTFOLIO)
    assert run_fallback_chain(all_strategies(), "lora", full, fake_engine).answer.strategy == "rag"
