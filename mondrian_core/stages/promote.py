"""The promote stage: promote a registered version, keep it as a candidate, or reject it; and a person's request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mondrian_core import rollout
from mondrian_core.errors import ChampionChanged, GateFailed
from mondrian_core.events import EventListener, StageStarted, ignore_events
from mondrian_core.promotion import conditions_in_force, registered_champion
from mondrian_core.registry import AdapterVersion, ChampionReference
from mondrian_core.settings import Settings
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.promotion_decision import (
    Keep,
    Promote,
    Reject,
    decide_registered_promotion,
    keep_for_reevaluation,
)
from mondrian_core.stages.summaries import (
    PromoteSummary,
    RegisterSummary,
    read_stage_summary,
    write_stage_summary,
)


def promote_stage(context: StageContext, listen: EventListener = ignore_events) -> PromoteSummary:
    """Apply the gates' verdict: promote, keep as a candidate, or reject.

    The decision is made from the version's newest evaluation that holds under the present conditions, and replaces only
    the champion that this evaluation compared it with. A run promotes at most once.
    """
    listen(StageStarted("promote"))
    registered = read_stage_summary(context, "register", RegisterSummary)
    summary = _promote_summary(context, registered.version)
    if summary.decision == "promoted" and rollout.active_rollout(context.registry, context.advisor) is not None:
        rollout.activate_rollout_schedule(Settings(workspace=context.root))
    return write_stage_summary(context, "promote", summary, listen)


def _promote_summary(context: StageContext, version: str) -> PromoteSummary:
    registry, advisor = context.registry, context.advisor
    if (done := registry.promotion_by(advisor, version, context.run)) is not None:
        return PromoteSummary("promoted", version, done.reason)
    champion, candidate = registry.reference(advisor), registry.get(advisor, version)
    present = registered_champion(registry, advisor, champion)
    if present is not None and present.content == candidate.content:
        return PromoteSummary("unchanged", present.version, _unchanged_sentence(present))
    settings = Settings(workspace=context.root, adapters=Path(context.adapters), base_model=context.base_model)
    conditions = conditions_in_force(settings, advisor, candidate.answer_form)
    decision = decide_registered_promotion(candidate, champion, present, conditions)
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
        except GateFailed as refused:  # an evaluation that failed in between
            decision = Reject(f"Rejected: {refused.problem}")
    if isinstance(decision, Keep):
        return PromoteSummary("candidate", version, decision.sentence, decision.command)
    return PromoteSummary("rejected", version, decision.sentence)


def _unchanged_sentence(champion: AdapterVersion) -> str:
    """For a training that gave the champion's own weights again."""
    sentence = f"Unchanged: this training gave exactly the weights of the champion {champion.version}."
    if not champion.unanswered_failures:
        return sentence
    gates = ", ".join(sorted({gate for each in champion.unanswered_failures for gate in each.failed_gates}))
    return (
        f"{sentence} An evaluation of it failed ({gates}): `mondrian adapters rollback --advisor {champion.advisor}` "
        "returns to the version before."
    )


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
