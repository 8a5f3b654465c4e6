"""Strategies and the fallback chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mondrian_core.errors import AnswerUnparsable, ModelProcessDied
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.critique.fallback_chain import ChainExhausted, run_fallback_chain
from mondrian_core.serving.critique.strategies import AnalysisContext, BaselineStrategy, LoraStrategy, all_strategies
from mondrian_core.serving.engine.interface import Reply

ADAPTER = ServedAdapter("ansel", "v0003", Path("v0003"))
OFF_GRADE = '"overall_grade": "9.9"'


def context(adapter: ServedAdapter | None = ADAPTER) -> AnalysisContext:
    return AnalysisContext(
        advisor_prompt=AdvisorPrompt("ansel", "Ansel Adams"), image=Image.new("RGB", (32, 32)), adapter=adapter
    )


class Dying:
    """An engine whose process dies a number of times before it answers."""

    def __init__(self, engine: Any, deaths: int) -> None:
        self.engine, self.deaths, self.adapters = engine, deaths, []

    def ask(self, question: Question, on_token: Any = None) -> Reply:
        self.adapters.append(question.adapter)
        if len(self.adapters) <= self.deaths:
            raise ModelProcessDied("It died.")
        return self.engine.ask(question, on_token)

    def check(self, folder: Path) -> tuple[str, ...]:
        return ()


def test_lora_uses_the_adapter_and_baseline_the_base(fake_engine: Any) -> None:
    tuned = LoraStrategy().analyze(context(), fake_engine)
    assert tuned.critique.scores["lighting"] == 3
    assert tuned.adapter == ADAPTER
    plain = BaselineStrategy().analyze(context(), fake_engine)
    assert plain.critique.scores["lighting"] == 5
    assert plain.adapter is None


def test_expected_scores_are_served_and_written_ones_kept(fake_engine: Any, control: Callable[..., None]) -> None:
    control(expected={"lighting": 9.4, "composition": 2.6})
    for strategy in (LoraStrategy(), BaselineStrategy()):
        answer = strategy.analyze(context(), fake_engine)
        written = answer.written.scores["lighting"]
        assert (answer.critique.scores["lighting"], answer.critique.scores["composition"]) == (9, 3)
        assert answer.critique.scores["focus_sharpness"] == written != 9, "the others stay as written"
        assert answer.critique.overall_grade != answer.written.overall_grade == f"{written:.1f}"


def test_lora_is_available_only_with_an_adapter() -> None:
    assert LoraStrategy().is_available(context())
    assert not LoraStrategy().is_available(context(None))
    assert "no adapter is promoted" in (LoraStrategy().unavailable_reason(context(None)) or "")
    assert BaselineStrategy().is_available(context(None))


def test_unparsable_answer_is_sampled_once_more(fake_engine: Any, control: Callable[..., None]) -> None:
    control(texts=["no critique"])
    answer = LoraStrategy().analyze(context(), fake_engine)
    assert len(answer.replies) == 2
    assert answer.reply is answer.replies[1]
    control(texts=["no critique", "none either"])
    with pytest.raises(AnswerUnparsable):
        LoraStrategy().analyze(context(), fake_engine)


@pytest.mark.parametrize("loops", [1, 2])
def test_an_answer_that_loops_is_sampled_once_more(fake_engine: Any, loops: int, monkeypatch: Any) -> None:
    ask, seen = fake_engine.ask, []

    def looping_at_first(*asked: Any) -> Any:
        seen.append(asked)
        reply = ask(*asked)
        return replace(reply, finish_reason="loop", text=reply.text[:60]) if len(seen) <= loops else reply

    monkeypatch.setattr(fake_engine, "ask", looping_at_first)
    if loops == 1:
        assert len(LoraStrategy().analyze(context(), fake_engine).replies) == 2
    else:
        with pytest.raises(AnswerUnparsable, match="repeats the same words without end, twice"):
            LoraStrategy().analyze(context(), fake_engine)


def test_baseline_accepts_an_inconsistent_grade_and_lora_does_not(
    fake_engine: Any, control: Callable[..., None]
) -> None:
    odd = BaselineStrategy().analyze(context(), fake_engine).reply.text.replace('"overall_grade": "5.0"', OFF_GRADE)
    control(texts=[odd, odd])
    answer = BaselineStrategy().analyze(context(), fake_engine)
    assert "grade_inconsistent" in answer.repairs
    control(texts=[odd, odd])
    with pytest.raises(AnswerUnparsable):
        LoraStrategy().analyze(context(), fake_engine)


def test_chain_falls_back_to_the_base_with_the_reason(fake_engine: Any) -> None:
    outcome = run_fallback_chain(all_strategies(), "lora", context(None), fake_engine)
    assert outcome.answer.strategy == "baseline"
    assert outcome.fell_back
    assert "no adapter is promoted" in outcome.hops[0].reason


def test_crash_is_retried_with_the_same_strategy(fake_engine: Any) -> None:
    engine = Dying(fake_engine, 1)
    outcome = run_fallback_chain(all_strategies(), "lora", context(), engine)
    assert outcome.answer.strategy == "lora"
    assert not outcome.fell_back
    assert [hop.left for hop in outcome.hops] == [False]
    assert engine.adapters == [ADAPTER.folder, ADAPTER.folder]


def test_second_crash_falls_back(fake_engine: Any) -> None:
    outcome = run_fallback_chain(all_strategies(), "lora", context(), Dying(fake_engine, 2))
    assert outcome.answer.strategy != "lora"
    assert outcome.fell_back


def test_exhausted_chain_lists_all_reasons(fake_engine: Any) -> None:
    with pytest.raises(ChainExhausted, match="baseline: It died") as caught:
        run_fallback_chain(all_strategies(), "lora", context(), Dying(fake_engine, 99))
    assert next(hop.strategy for hop in caught.value.hops if hop.left) == "lora"
    assert caught.value.hops[-1].strategy == "baseline"


def test_strategies_that_ended_the_service_are_skipped(fake_engine: Any) -> None:
    outcome = run_fallback_chain(all_strategies(), "lora", context(), fake_engine, skip=1)
    assert outcome.answer.strategy != "lora"
    with pytest.raises(ChainExhausted):
        run_fallback_chain(all_strategies(), "lora", context(), fake_engine, skip=9)


def looping(score: int = 4) -> str:
    """A strictly valid answer in which one comment repeats itself."""
    comments = dict.fromkeys(DIMENSIONS, "The tones hold.") | {"lighting": "the light the light the light the light"}
    return canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, score), comments))


@pytest.mark.parametrize("spoiled", ["!!!", "so so so so", "\x19\x19 s", "hahahahahahahaha", "8/10"])
def test_degenerate_text_falls_back(fake_engine: Any, control: Callable[..., None], spoiled: str) -> None:
    comments = dict.fromkeys(DIMENSIONS, "The tones hold.") | {"visual_balance": spoiled}
    text = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 4), comments))
    control(texts=[text, text])
    outcome = run_fallback_chain(all_strategies(), "lora", context(), fake_engine)
    assert (outcome.answer.strategy, outcome.answer.adapter) == ("baseline", None)
    assert "visual_balance" in outcome.hops[0].reason


def test_second_sample_can_replace_degenerate_text(fake_engine: Any, control: Callable[..., None]) -> None:
    control(texts=[looping()])
    outcome = run_fallback_chain(all_strategies(), "lora", context(), fake_engine)
    assert (outcome.answer.strategy, len(outcome.answer.replies)) == ("lora", 2)


def test_degenerate_text_of_the_base_is_an_error(fake_engine: Any, control: Callable[..., None]) -> None:
    control(texts=[looping().replace('"overall_grade": "4.0"', OFF_GRADE), looping()])
    with pytest.raises(AnswerUnparsable, match="lighting"):
        BaselineStrategy().analyze(context(), fake_engine)


def test_serving_and_gates_share_the_text_check() -> None:
    from mondrian_core.evaluation.measure import health_metrics
    from mondrian_core.serving.critique import strategies

    assert health_metrics.critique_text_problem is strategies.critique_text_problem  # type: ignore[attr-defined]
    assert health_metrics.is_degenerate_answer(looping()) and not health_metrics.is_degenerate_answer(
        looping().replace("the light ", "")
    )
