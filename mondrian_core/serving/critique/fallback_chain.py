"""The fallback chain lora -> rag -> baseline: tries each strategy in order and records why it gave up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from mondrian_core.errors import BadAdapter, BadInput, Broken, ModelProcessDied
from mondrian_core.serving.critique.strategies import (
    MAX_TRIES,
    AnalysisContext,
    AnswerT,
    BaselineStrategy,
    OnStrategyProgress,
    Strategy,
    StrategyProgress,
    ignore_strategy_progress,
)
from mondrian_core.serving.engine.interface import Canceled, Engine
from mondrian_core.settings import AnalysisMode

SERVICE_STOPPED_REASON = "it was in progress when the service stopped before"


@dataclass(frozen=True)
class FallbackHop:
    """Why a strategy was tried again or given up.

    Attributes:
        reason: for people.
        left: the chain continued with the next strategy; False: this one was tried again.
        crashed: the model process died.
    """

    strategy: AnalysisMode
    reason: str
    left: bool = True
    crashed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"strategy": self.strategy, "reason": self.reason, "left": self.left}


@dataclass(frozen=True)
class StrategyOutcome(Generic[AnswerT]):
    """The answer, and the hops that led to it."""

    answer: AnswerT
    hops: tuple[FallbackHop, ...] = ()

    @property
    def fell_back(self) -> bool:
        """True when another strategy than the requested one answered."""
        return any(hop.left for hop in self.hops)


class ChainExhausted(Broken):
    """No strategy could answer.

    Attributes:
        hops: the reasons, in order.
        shared: the base failed too, so it is not the adapter's fault.
        shared_death: the model process died with the base too.
    """

    def __init__(self, hops: Sequence[FallbackHop]) -> None:
        self.hops = tuple(hops)
        self.shared = any(hop.strategy == BaselineStrategy.name for hop in hops)
        self.shared_death = any(hop.strategy == BaselineStrategy.name and hop.crashed for hop in hops)
        reasons = "; ".join(f"{hop.strategy}: {hop.reason}" for hop in self.hops) or "tried too often"
        super().__init__(f"No critique could be made ({reasons}).", "See the log of the model process, then try again.")


def fallback_chain(
    strategies: Mapping[AnalysisMode, Strategy[AnswerT]], requested: AnalysisMode
) -> tuple[Strategy[AnswerT], ...]:
    """The requested strategy and its fallbacks, in order."""
    chain: list[Strategy[AnswerT]] = []
    name: AnalysisMode | None = requested
    while name is not None and name in strategies:
        chain.append(strategies[name])
        name = strategies[name].fallback
    return tuple(chain)


def run_fallback_chain(
    strategies: Mapping[AnalysisMode, Strategy[AnswerT]],
    requested: AnalysisMode,
    context: AnalysisContext,
    engine: Engine,
    *,
    on_progress: OnStrategyProgress = ignore_strategy_progress,
    skip: int = 0,
) -> StrategyOutcome[AnswerT]:
    """Try the requested strategy and its fallbacks until one answers.

    Args:
        strategies: by name.
        requested: the first strategy.
        context: what the strategies may use.
        engine: the model.
        on_progress: called at each start of a strategy, and by the strategies.
        skip: strategies left out at the front, for a request that ended the service before.

    Raises:
        ChainExhausted: no strategy could answer.
        Canceled: the job was canceled.
        BadInput: the photograph can't be used, the base can't be loaded, or the answer may not be longer; no other
            strategy would help.
    """
    links = fallback_chain(strategies, requested)
    hops = [FallbackHop(link.name, SERVICE_STOPPED_REASON) for link in links[:skip]]
    for link in links[skip:]:
        missing = link.unavailable_reason(context)
        if missing is not None:
            hops.append(FallbackHop(link.name, missing))
            continue
        for attempt in range(1, MAX_TRIES + 1):
            on_progress(StrategyProgress(link.name))
            try:
                return StrategyOutcome(link.analyze(context, engine, on_progress), tuple(hops))
            except ModelProcessDied as error:
                hops.append(FallbackHop(link.name, error.problem, left=attempt == MAX_TRIES, crashed=True))
            except (Canceled, BadInput) as error:
                if not isinstance(error, BadAdapter):
                    raise
                hops.append(FallbackHop(link.name, error.problem))
                break
            except Exception as error:  # noqa: BLE001  the next strategy may succeed where this one failed
                hops.append(FallbackHop(link.name, getattr(error, "problem", f"{type(error).__name__}: {error}")))
                break
    raise ChainExhausted(hops)
