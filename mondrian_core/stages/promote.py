"""The promote stage: promote a registered version, keep it as a candidate, or reject it."""

from __future__ import annotations

from typing import Any

from mondrian_core import rollout
from mondrian_core.errors import ChampionChanged
from mondrian_core.events import EventListener, StageStarted, ignore_events
from mondrian_core.registry import ChampionReference
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.promotion_decision import Keep, Promote, decide_promotion, keep_for_reevaluation
from mondrian_core.stages.summaries import (
    PromoteSummary,
    RegisterSummary,
    read_stage_summary,
    write_stage_summary,
)


def promote_stage(context: StageContext, listen: EventListener = ignore_events) -> PromoteSummary:
    """Apply the gates' verdict: promote, keep as a candidate, or reject.

    The decision is made from the version's own report, and replaces only the champion that this report compared it
    with. A run promotes at most once.
    """
    listen(StageStarted("promote"))
    registered = read_stage_summary(context, "register", RegisterSummary)
    return write_stage_summary(context, "promote", _promote_summary(context, registered.version), listen)


def _promote_summary(context: StageContext, version: str) -> PromoteSummary:
    registry, advisor = context.registry, context.advisor
    if (done := registry.promotion_by(advisor, version, context.run)) is not None:
        return PromoteSummary("promoted", version, done.reason)
    champion = registry.reference(advisor)
    decision = decide_promotion(registry.get(advisor, version).report or {}, champion, advisor=advisor, version=version)
    running = rollout.active_rollout(registry, advisor)
    if isinstance(decision, Promote) and running is not None:
        sentence = f"Kept as a candidate: all gates passed, but the rollout of {running.version} is {running.position}."
        command = f"mondrian adapters promote --advisor {advisor} --version {version}"
        return PromoteSummary("candidate", version, sentence, command)
    if isinstance(decision, Promote):
        try:
            return PromoteSummary(
                "promoted", version, _promote_now_or_staged(context, version, champion, decision.sentence)
            )
        except ChampionChanged:  # between the decision and the registry's lock
            decision = keep_for_reevaluation(champion, registry.reference(advisor), advisor, version)
    if isinstance(decision, Keep):
        return PromoteSummary("candidate", version, decision.sentence, decision.command)
    return PromoteSummary("rejected", version, decision.sentence)


def _promote_now_or_staged(context: StageContext, version: str, champion: ChampionReference, sentence: str) -> str:
    """Make it the champion, fully or for a first share of the traffic; gives the sentence that reports it."""
    facts: dict[str, Any] = {"expected": champion, "actor": context.actor, "run": context.run}
    if not context.recipe.promote.rollout:
        context.registry.promote(context.advisor, version, reason=sentence, **facts)
        return sentence
    with context.store() as store:
        plan = rollout.rollout_plan_for_traffic(store, context.advisor)
    start = rollout.RolloutStart(version=version, plan=plan, reason=sentence, **facts)
    begun = rollout.start_rollout(context.registry, context.advisor, start)
    return f"{sentence} Its rollout begins {begun.position}."
