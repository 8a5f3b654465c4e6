"""The strategies that make a critique: lora (one pass, adapter), rag (two passes) and baseline (one pass, base).

A strategy says whether it is available for a request, and answers it. `fallback_chain` decides which one is next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.errors import AnswerUnparsable, BadInput
from mondrian_core.exif import messages_with_exif
from mondrian_core.photograph_model import Question, rubric_question_schema
from mondrian_core.pixel_files import PixelFile
from mondrian_core.prompts import AdvisorPrompt, comparison_messages, critique_messages
from mondrian_core.retrieval.comparison_reasons import ComparisonReason, comparison_reason
from mondrian_core.retrieval.nearest_neighbors import (
    Portfolio,
    ReferencePhotograph,
    comparison_from_neighbors,
    nearest_references,
)
from mondrian_core.rubric import AnswerForm, Critique
from mondrian_core.served_scores import with_served_scores
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.critique.answer_options import AnswerOptions
from mondrian_core.serving.engine.interface import Engine, Reply
from mondrian_core.settings import AnalysisMode
from mondrian_core.text_quality import critique_text_problem

if TYPE_CHECKING:
    from PIL import Image

MAX_TRIES = 2
RETRY_TEMPERATURE = 0.4  # greedy decoding would repeat the answer that could not be parsed


@dataclass(frozen=True, kw_only=True)
class AnalysisContext:
    """Everything a strategy may use for one request.

    Attributes:
        image: the photograph, at most `LONG_SIDE` pixels.
        why_no_adapter: the reason when `adapter` is None.
        is_same_photograph: true for a reference that is the photograph itself.
        embeddings: by the reference's file, for hybrid retrieval; empty: retrieval by scores alone.
        camera: how the photograph was taken, as a sentence.
        timed: the time of the answer is compared with another version's, so no earlier answer may shorten it.
        options: what a program asked of the answer.
        embed: ask for the photograph's embedding too, to measure its distance to the portfolio.
    """

    advisor_prompt: AdvisorPrompt
    image: Image.Image | PixelFile
    adapter: ServedAdapter | None = None
    why_no_adapter: str = "no adapter is promoted for this advisor"
    portfolio: Portfolio = field(default_factory=Portfolio)
    is_same_photograph: Callable[[ReferencePhotograph], bool] = lambda reference: False
    embeddings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    camera: str | None = None
    timed: bool = False
    options: AnswerOptions = field(default_factory=AnswerOptions)
    embed: bool = False


@dataclass(frozen=True, kw_only=True)
class StrategyAnswer:
    """A critique and how it was made.

    Attributes:
        critique: with the scores to serve (`served_scores`).
        written: the critique as the model wrote it.
        adapter: the one that answered; None: the base.
        reply: the reply that was parsed.
        replies: all replies, in the order of the questions.
        repairs: what lenient parsing had to repair.
        compared_with: the photographs of the portfolio that rag compared with.
    """

    critique: Critique
    written: Critique
    strategy: AnalysisMode
    adapter: ServedAdapter | None
    reply: Reply
    replies: tuple[Reply, ...]
    repairs: tuple[str, ...] = ()
    compared_with: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class StrategyProgress:
    """Progress of a request: the strategy, the phase ("" at its start), and the tokens generated so far in it."""

    strategy: AnalysisMode
    phase: str = ""
    tokens: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)


OnStrategyProgress = Callable[[StrategyProgress], None]


def ignore_strategy_progress(progress: StrategyProgress) -> None:
    """For callers that need no progress."""


AnswerT = TypeVar("AnswerT")


class Strategy(ABC, Generic[AnswerT]):
    """One way to make a critique, or another answer."""

    name: ClassVar[AnalysisMode]
    fallback: ClassVar[AnalysisMode | None]

    def is_available(self, context: AnalysisContext) -> bool:
        """True when it can answer this request."""
        return self.unavailable_reason(context) is None

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """What is missing for this request; None when nothing is."""
        return None

    @abstractmethod
    def analyze(
        self, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress = ignore_strategy_progress
    ) -> AnswerT:
        """Make the critique.

        Raises:
            ModelProcessDied: the chain tries this strategy again, then its `fallback`.
            Canceled, BadInput about the request: the chain ends; no other strategy could do better.
            BadAdapter, anything else: the chain continues with `fallback`.
        """


class BaselineStrategy(Strategy[StrategyAnswer]):
    """One pass with the base. As the end of the chain it also accepts a complete answer that is not quite canonical."""

    name: ClassVar[AnalysisMode] = "baseline"
    fallback: ClassVar[AnalysisMode | None] = None

    def analyze(
        self, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Make the critique with the base."""
        return answer_in_one_pass(GenerationPass(strategy=self.name, lenient=True), context, engine, on_progress)


class LoraStrategy(Strategy[StrategyAnswer]):
    """One pass with the advisor's adapter."""

    name: ClassVar[AnalysisMode] = "lora"
    fallback: ClassVar[AnalysisMode | None] = "rag"

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """It needs an adapter."""
        return context.why_no_adapter if context.adapter is None else None

    def analyze(
        self, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Make the critique with the adapter."""
        one_pass = GenerationPass(strategy=self.name, adapter=context.adapter, embed=context.embed)
        return answer_in_one_pass(one_pass, context, engine, on_progress)


class RagStrategy(Strategy[StrategyAnswer]):
    """Two passes with the base: the scores, then a comparison with the advisor's most similar photographs."""

    name: ClassVar[AnalysisMode] = "rag"
    fallback: ClassVar[AnalysisMode | None] = "baseline"

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """It needs photographs to compare with."""
        return None if context.portfolio.references else "the advisor's portfolio has no critiqued photographs"

    def analyze(
        self, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Make the critique in two passes; it names the photographs that it was compared with."""
        one_pass = GenerationPass(strategy=self.name, lenient=True, embed=bool(context.embeddings))
        first = answer_in_one_pass(one_pass, context, engine, on_progress)
        scores = {**first.critique.scores, **first.reply.expected_scores}
        neighbors = nearest_references(
            scores,
            context.portfolio,
            same=context.is_same_photograph,
            embedding=first.reply.embedding or None,
            embeddings=context.embeddings,
        )
        names = [reference.name for reference, _ in neighbors]
        on_progress(StrategyProgress(self.name, "retrieved", detail={"photographs": names}))
        comparison = comparison_from_neighbors(first.critique.scores, context.portfolio, neighbors)
        messages = messages_with_exif(comparison_messages(context.advisor_prompt, comparison), context.camera)
        question = Question(messages=messages, image=context.image, precedents=not context.timed)
        one_pass = GenerationPass(strategy=self.name, phase="comparison", options=context.options)
        second = ask_for_critique(one_pass, engine, question, on_progress)
        critique = second.critique
        deviations = first.reply.score_deviations
        compared = [(each, similarity, comparison_reason(scores, deviations, each)) for each, similarity in neighbors]
        if names:
            notes = [f"Compared with {reference.name}: {reason.sentence}" for reference, _, reason in compared]
            critique = replace(critique, advisor_notes="\n".join(notes))
        return replace(
            second,
            critique=critique,
            replies=(*first.replies, *second.replies),
            compared_with=tuple(_neighbor_facts(*each) for each in compared),
        )


def _neighbor_facts(reference: ReferencePhotograph, similarity: float, reason: ComparisonReason) -> dict[str, Any]:
    return {
        "photograph": reference.name,
        "path": reference.path,
        "grade": reference.grade,
        "similarity": round(similarity, 4),
        **reason.as_dict(),
    }


@dataclass(frozen=True, kw_only=True)
class GenerationPass:
    """One pass of a strategy.

    Attributes:
        phase: its name in progress events.
        adapter: the one that answers; None: the base.
        lenient: accept a complete answer that is not quite canonical, after strict parsing failed twice.
        embed: ask for the photograph's embedding too.
        options: what a program asked of the answer.
    """

    strategy: AnalysisMode
    phase: str = "critique"
    adapter: ServedAdapter | None = None
    lenient: bool = False
    embed: bool = False
    options: AnswerOptions = field(default_factory=AnswerOptions)


def answer_in_one_pass(
    one_pass: GenerationPass, context: AnalysisContext, engine: Engine, on_progress: OnStrategyProgress
) -> StrategyAnswer:
    """Ask for a critique of the context's photograph, in the adapter's form; see `ask_for_critique`."""
    question = replace(critique_question(context, one_pass.adapter), embed=one_pass.embed)
    return ask_for_critique(replace(one_pass, options=context.options), engine, question, on_progress)


def critique_question(context: AnalysisContext, adapter: ServedAdapter | None) -> Question:
    """The question for a critique of the context's photograph, in the form of an adapter (None: asked of the base)."""
    form = adapter.answer_form if adapter else AnswerForm.COMMENTS
    prompt = replace(context.advisor_prompt, form=form)
    return Question(
        messages=messages_with_exif(critique_messages(prompt), context.camera),
        schema=rubric_question_schema(form),
        image=context.image,
        adapter=adapter.folder if adapter else None,
        precedents=not context.timed,
    )


def ask_for_critique(
    one_pass: GenerationPass, engine: Engine, question: Question, on_progress: OnStrategyProgress
) -> StrategyAnswer:
    """Parse the answer strictly; sample a second answer when that fails; then parse leniently if that is allowed.

    An answer that parses but is degenerate text counts as unparsable. The answer's critique has the served scores.

    Raises:
        AnswerUnparsable: no answer could be parsed, or none that may be shown to a person.
        AnswerCutOff: the answer reached the length that the caller allowed.
    """

    def on_token(tokens: int) -> None:
        on_progress(StrategyProgress(one_pass.strategy, one_pass.phase, tokens))

    def answer(critique: Critique, reply: Reply, repairs: tuple[str, ...] = ()) -> StrategyAnswer:
        return StrategyAnswer(
            critique=with_served_scores(critique, reply.expected_scores),
            written=critique,
            strategy=one_pass.strategy,
            adapter=one_pass.adapter,
            reply=reply,
            replies=tuple(replies),
            repairs=repairs,
        )

    replies: list[Reply] = []
    problem = ""
    for attempt in range(MAX_TRIES):
        asked = question if attempt == 0 else replace(question, temperature=RETRY_TEMPERATURE, seed=attempt)
        replies.append(engine.ask(one_pass.options.apply(asked), on_token))
        require_whole_answer(replies[-1], one_pass.options)
        if replies[-1].finish_reason == "loop":
            problem = "repeats the same words without end"
            continue
        try:
            critique = parse_critique_strict(replies[-1].text)
        except CritiqueParseError as error:
            problem = f"can't be read ({error})"
            continue
        if (degenerate := critique_text_problem(critique)) is None:
            return answer(critique, replies[-1])
        problem = f"is not meaningful text ({degenerate})"
    for reply in replies if one_pass.lenient else ():
        parsed = _lenient_critique(reply.text)
        if parsed is not None:
            return answer(parsed[0], reply, parsed[1])
    raise AnswerUnparsable(f"The answer {problem}, twice.", "Try another mode, or another base model.")


class AnswerCutOff(BadInput):
    """The answer reached the length that the caller allowed.

    Attributes:
        reply: the answer up to there.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(f"The answer was cut off after {reply.tokens} tokens.", "Allow more tokens.")


def require_whole_answer(reply: Reply, options: AnswerOptions) -> None:
    """Refuse an answer that was cut where the caller said.

    Raises:
        AnswerCutOff: it was.
    """
    if options.max_tokens is not None and reply.finish_reason == "length":
        raise AnswerCutOff(reply)


def _lenient_critique(text: str) -> tuple[Critique, tuple[str, ...]] | None:
    """(critique, repairs) of a complete answer that is not quite canonical; None when it can't be used."""
    try:
        parsed = parse_critique_lenient(text)
    except CritiqueParseError:
        return None
    try:
        parse_critique_strict(text)
        deviations: tuple[str, ...] = ()
    except CritiqueParseError as error:
        deviations = (error.reason,)
    return None if critique_text_problem(parsed.critique) else (parsed.critique, (*parsed.repairs, *deviations))


def all_strategies() -> dict[AnalysisMode, Strategy[StrategyAnswer]]:
    """Every strategy by name."""
    return {"lora": LoraStrategy(), "rag": RagStrategy(), "baseline": BaselineStrategy()}
