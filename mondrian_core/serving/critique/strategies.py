"""How a critique is made: lora (one pass, adapter) -> rag (two passes) -> baseline (one pass, base).

The arrow is the fallback chain. A strategy says whether it is available for a request and answers it; `critique` walks
the chain, tries each link twice and keeps a record of why it went on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.errors import AnswerUnparsable, BadAdapter, BadInput, Broken, ModelProcessDied
from mondrian_core.prompts import AdvisorPrompt, comparison_messages, critique_messages
from mondrian_core.retrieval.nearest_neighbors import (
    Portfolio,
    ReferencePhotograph,
    comparison_from_neighbors,
    nearest_references,
)
from mondrian_core.rubric import Critique
from mondrian_core.serving.critique.exif import messages_with_exif
from mondrian_core.serving.engine.interface import Canceled, Engine, Question, Reply
from mondrian_core.settings import AnalysisMode
from mondrian_core.text_quality import critique_text_problem

if TYPE_CHECKING:
    from PIL import Image

MAX_TRIES = 2
RETRY_TEMPERATURE = 0.4  # greedy decoding would only repeat the answer that could not be read


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter as it serves: whose, which version, and the folder that the model process reads."""

    advisor: str | None
    version: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class AnalysisContext:
    """All that a strategy may use for one request.

    `why_no_adapter` explains an adapter that is None. `same` is true for a reference that is the photograph itself.
    `embeddings` by reference's file make the retrieval hybrid; empty: by scores alone. `camera` says how the photograph
    was taken. `timed`: the answer's time is compared with another version's, so no earlier answer may shorten it.
    """

    voice: AdvisorPrompt
    image: Image.Image
    adapter: ServedAdapter | None = None
    why_no_adapter: str = "no adapter is promoted for this advisor"
    portfolio: Portfolio = field(default_factory=Portfolio)
    is_same_photograph: Callable[[ReferencePhotograph], bool] = lambda reference: False
    embeddings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    camera: str | None = None
    timed: bool = False


@dataclass(frozen=True, kw_only=True)
class StrategyAnswer:
    """A critique and how it came about: the strategy, the adapter that answered, measured values, repairs needed.

    `reply` is the one that was read; `replies` are all, in the order they were asked for.
    """

    critique: Critique
    strategy: AnalysisMode
    adapter: ServedAdapter | None
    reply: Reply
    replies: tuple[Reply, ...]
    repairs: tuple[str, ...] = ()
    compared_with: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class FallbackHop:
    """Why a strategy was tried again or left: its name and the reason for people.

    `left` when the chain went on, `crashed` when the model process died.
    """

    strategy: AnalysisMode
    reason: str
    left: bool = True
    crashed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"strategy": self.strategy, "reason": self.reason, "left": self.left}


@dataclass(frozen=True)
class StrategyOutcome:
    """The answer and the way to it."""

    answer: StrategyAnswer
    hops: tuple[FallbackHop, ...] = ()

    @property
    def fell_back(self) -> bool:
        """True when another strategy than the requested one answered."""
        return any(hop.left for hop in self.hops)


class ChainExhausted(Broken):
    """No strategy could answer.

    Attributes:
        hops: why, in order.
        shared: the base failed too, so that it is no fault of the adapter.
        shared_death: the model process died with the base too.
    """

    def __init__(self, hops: Sequence[FallbackHop]) -> None:
        self.hops = tuple(hops)
        self.shared = any(hop.strategy == BaselineStrategy.name for hop in hops)
        self.shared_death = any(hop.strategy == BaselineStrategy.name and hop.crashed for hop in hops)
        reasons = "; ".join(f"{hop.strategy}: {hop.reason}" for hop in self.hops) or "tried too often"
        super().__init__(f"No critique could be made ({reasons}).", "Look at the model process's log, then try again.")


@dataclass(frozen=True)
class StrategyProgress:
    """Where a request stands: the strategy at work, which pass of how many, and tokens so far in it."""

    strategy: AnalysisMode
    phase: str = ""
    tokens: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)


OnStrategyProgress = Callable[[StrategyProgress], None]


def ignore_strategy_progress(progress: StrategyProgress) -> None:
    """For callers who don't want to know."""


class Strategy(ABC):
    """One way to make a critique."""

    name: ClassVar[AnalysisMode]
    fallback: ClassVar[AnalysisMode | None]

    def is_available(self, context: AnalysisContext) -> bool:
        """True when it could answer this request."""
        return self.unavailable_reason(context) is None

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """What is missing for this request; None when nothing is."""
        return None

    @abstractmethod
    def analyze(
        self, context: AnalysisContext, engine: Engine, tell: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Make the critique.

        Raises:
            ModelProcessDied: it is tried again, then the chain goes on with `fallback`.
            Canceled, BadInput about the photograph: the chain ends, nobody could do better.
            BadAdapter, anything else: the chain goes on.
        """


class BaselineStrategy(Strategy):
    """One pass with the base. The end of the chain: an answer that is complete but not quite canonical will do."""

    name: ClassVar[AnalysisMode] = "baseline"
    fallback: ClassVar[AnalysisMode | None] = None

    def analyze(
        self, context: AnalysisContext, engine: Engine, tell: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Make the critique with the base."""
        return single_pass_answer(self.name, context, engine, None, tell, lenient=True)


class LoraStrategy(Strategy):
    """One pass with the advisor's adapter."""

    name: ClassVar[AnalysisMode] = "lora"
    fallback: ClassVar[AnalysisMode | None] = "rag"

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """An adapter is needed."""
        return context.why_no_adapter if context.adapter is None else None

    def analyze(
        self, context: AnalysisContext, engine: Engine, tell: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Make the critique with the adapter."""
        return single_pass_answer(self.name, context, engine, context.adapter, tell)


class RagStrategy(Strategy):
    """Two passes with the base: first the dimensions, then a comparison with the advisor's most similar photographs."""

    name: ClassVar[AnalysisMode] = "rag"
    fallback: ClassVar[AnalysisMode | None] = "baseline"

    def unavailable_reason(self, context: AnalysisContext) -> str | None:
        """Something to compare with is needed."""
        return None if context.portfolio.references else "the advisor's portfolio has no critiqued photographs"

    def analyze(
        self, context: AnalysisContext, engine: Engine, tell: OnStrategyProgress = ignore_strategy_progress
    ) -> StrategyAnswer:
        """Look twice; the answer names the photographs that it was compared with."""
        first = single_pass_answer(self.name, context, engine, None, tell, lenient=True, embed=bool(context.embeddings))
        scores = {**first.critique.scores, **first.reply.expected_scores}
        neighbours = nearest_references(
            scores,
            context.portfolio,
            same=context.is_same_photograph,
            embedding=first.reply.embedding or None,
            embeddings=context.embeddings,
        )
        facts = tuple(
            {
                "photograph": reference.name,
                "path": reference.path,
                "grade": reference.grade,
                "similarity": round(similarity, 4),
            }
            for reference, similarity in neighbours
        )
        tell(StrategyProgress(self.name, "retrieved", detail={"photographs": [each["photograph"] for each in facts]}))
        told = comparison_from_neighbors(first.critique.scores, context.portfolio, neighbours)
        messages = messages_with_exif(comparison_messages(context.voice, told), context.camera)
        question = Question(messages=messages, image=context.image, precedents=not context.timed)
        second = ask_for_critique(
            self.name, None, engine, question, lambda tokens: tell(StrategyProgress(self.name, "comparison", tokens))
        )
        names = ", ".join(str(each["photograph"]) for each in facts)
        critique = replace(second.critique, advisor_notes=f"Compared with {names}.") if names else second.critique
        return replace(second, critique=critique, replies=(*first.replies, *second.replies), compared_with=facts)


def single_pass_answer(
    name: AnalysisMode,
    context: AnalysisContext,
    engine: Engine,
    adapter: ServedAdapter | None,
    tell: OnStrategyProgress,
    *,
    lenient: bool = False,
    embed: bool = False,
) -> StrategyAnswer:
    """Ask for a critique, once more when it can't be read.

    Raises:
        AnswerUnparsable: neither answer could be read (strictly; leniently at the end of the chain).
    """
    folder = adapter.folder if adapter else None
    messages = messages_with_exif(critique_messages(context.voice), context.camera)
    question = Question(
        messages=messages, image=context.image, adapter=folder, embed=embed, precedents=not context.timed
    )

    def on_token(tokens: int) -> None:
        tell(StrategyProgress(name, "critique", tokens))

    return ask_for_critique(name, adapter, engine, question, on_token, lenient=lenient)


def ask_for_critique(
    name: AnalysisMode,
    adapter: ServedAdapter | None,
    engine: Engine,
    question: Question,
    on_token: Callable[[int], None],
    *,
    lenient: bool = False,
) -> StrategyAnswer:
    """Strict reading, a second try with another draw, then lenient reading of the likelier answer if that is allowed.

    An answer that can be read but is degenerate text is treated like one that can't.

    Raises:
        AnswerUnparsable: nothing could be read, or nothing that a person may be shown.
    """
    replies: list[Reply] = []
    problem = ""
    for attempt in range(MAX_TRIES):
        draw = question if attempt == 0 else replace(question, temperature=RETRY_TEMPERATURE, seed=attempt)
        replies.append(engine.ask(draw, on_token))
        try:
            critique = parse_critique_strict(replies[-1].text)
        except CritiqueParseError as error:
            problem = f"can't be read ({error})"
            continue
        if (gibberish := critique_text_problem(critique)) is None:
            return StrategyAnswer(
                critique=critique, strategy=name, adapter=adapter, reply=replies[-1], replies=tuple(replies)
            )
        problem = f"is no text for a person ({gibberish})"
    for reply in replies if lenient else ():
        found = _lenient_critique(reply.text)
        if found is not None:
            critique, repairs = found
            return StrategyAnswer(
                critique=critique, strategy=name, adapter=adapter, reply=reply, replies=tuple(replies), repairs=repairs
            )
    raise AnswerUnparsable(f"The answer {problem}, twice.", "Try another mode, or another base model.")


def _lenient_critique(text: str) -> tuple[Critique, tuple[str, ...]] | None:
    """(critique, what had to be forgiven) of a complete answer that isn't quite canonical; None when it won't do."""
    try:
        reading = parse_critique_lenient(text)
    except CritiqueParseError:
        return None
    try:
        parse_critique_strict(text)
        broken: tuple[str, ...] = ()
    except CritiqueParseError as error:
        broken = (error.reason,)
    return None if critique_text_problem(reading.critique) else (reading.critique, (*reading.repairs, *broken))


def fallback_chain(strategies: Mapping[AnalysisMode, Strategy], requested: AnalysisMode) -> tuple[Strategy, ...]:
    """The requested strategy and its fallbacks, in order."""
    found: list[Strategy] = []
    at: AnalysisMode | None = requested
    while at is not None and at in strategies:
        found.append(strategies[at])
        at = strategies[at].fallback
    return tuple(found)


def run_fallback_chain(
    strategies: Mapping[AnalysisMode, Strategy],
    requested: AnalysisMode,
    context: AnalysisContext,
    engine: Engine,
    *,
    tell: OnStrategyProgress = ignore_strategy_progress,
    skip: int = 0,
) -> StrategyOutcome:
    """Walk the chain from the requested strategy until one answers.

    Args:
        skip: links left out at the front, for a request that took the process down with it before.

    Raises:
        ChainExhausted: none could.
        Canceled: somebody asked for that.
        BadInput: the photograph is at fault, or the base can't be loaded; no other strategy would help.
    """
    links = fallback_chain(strategies, requested)
    hops = [FallbackHop(link.name, "it was at work when the service went down before") for link in links[:skip]]
    for link in links[skip:]:
        missing = link.unavailable_reason(context)
        if missing is not None:
            hops.append(FallbackHop(link.name, missing))
            continue
        for attempt in range(1, MAX_TRIES + 1):
            tell(StrategyProgress(link.name))
            try:
                return StrategyOutcome(link.analyze(context, engine, tell), tuple(hops))
            except ModelProcessDied as error:
                hops.append(FallbackHop(link.name, error.problem, left=attempt == MAX_TRIES, crashed=True))
            except (Canceled, BadInput) as error:
                if not isinstance(error, BadAdapter):
                    raise
                hops.append(FallbackHop(link.name, error.problem))
                break
            except Exception as error:  # noqa: BLE001  whatever a strange answer sets off, the next strategy may do
                hops.append(FallbackHop(link.name, getattr(error, "problem", f"{type(error).__name__}: {error}")))
                break
    raise ChainExhausted(hops)


def all_strategies() -> dict[AnalysisMode, Strategy]:
    """Every strategy by name."""
    return {"lora": LoraStrategy(), "rag": RagStrategy(), "baseline": BaselineStrategy()}
