"""Answers in a caller's form: the advisor answers about the photograph, and decoding enforces the caller's schema.

They have no rubric, so neither scores nor retrieval apply to them: the chain is lora -> baseline.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from mondrian_core.errors import AnswerUnparsable
from mondrian_core.exif import messages_with_exif
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import own_form_messages
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.critique.strategies import (
    AnalysisContext,
    AnswerCutOff,
    OnStrategyProgress,
    Strategy,
    StrategyProgress,
    ignore_strategy_progress,
)
from mondrian_core.serving.engine.interface import Engine, Reply
from mondrian_core.settings import AnalysisMode


@dataclass(frozen=True)
class OwnFormAnswer:
    """An answer in the caller's form: the reply, and the adapter that gave it (None: the base)."""

    strategy: AnalysisMode
    adapter: ServedAdapter | None
    reply: Reply


class OwnFormBaseline(Strategy[OwnFormAnswer]):
    """The base answers."""

    name: ClassVar[AnalysisMode] = "baseline"
    fallback: ClassVar[AnalysisMode | None] = None

    def analyze(
        self, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress = ignore_strategy_progress
    ) -> OwnFormAnswer:
        """Answer with the base."""
        return OwnFormAnswer(self.name, None, _ask(self.name, None, context, engine, on_progress))


class OwnFormLora(Strategy[OwnFormAnswer]):
    """The advisor's adapter answers."""

    name: ClassVar[AnalysisMode] = "lora"
    fallback: ClassVar[AnalysisMode | None] = "baseline"

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """It needs an adapter."""
        return context.why_no_adapter if context.adapter is None else None

    def analyze(
        self, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress = ignore_strategy_progress
    ) -> OwnFormAnswer:
        """Answer with the adapter."""
        reply = _ask(self.name, context.adapter, context, engine, on_progress)
        return OwnFormAnswer(self.name, context.adapter, reply)


def _ask(
    strategy: AnalysisMode,
    adapter: ServedAdapter | None,
    context: AnalysisContext,
    engine: Engine,
    on_progress: OnStrategyProgress,
) -> Reply:
    options = context.options
    messages = own_form_messages(context.advisor_prompt, options.schema or {}, options.instruction)
    question = Question(
        messages=messages_with_exif(messages, context.camera),
        image=context.image,
        adapter=adapter.folder if adapter else None,
        schema=options.schema,
        precedents=not context.timed,
    )

    def on_token(tokens: int) -> None:
        on_progress(StrategyProgress(strategy, "answer", tokens))

    reply = engine.ask(options.apply(question), on_token)
    if reply.finish_reason == "length":  # whoever set the limit: half an answer doesn't follow the schema
        raise AnswerCutOff(reply)
    try:
        readable = isinstance(json.loads(reply.text), dict)
    except ValueError:
        readable = False
    if not readable:
        raise AnswerUnparsable("The answer is not a JSON object.", "Try again, or simplify the schema.")
    return reply


def own_form_strategies() -> dict[AnalysisMode, Strategy[OwnFormAnswer]]:
    """The strategies for answers in a caller's form, by name."""
    return {"lora": OwnFormLora(), "baseline": OwnFormBaseline()}
