"""Tasks for staged rollouts: count jobs, decide, apply the decision, publish a page and an event."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from prefect import task
from prefect.artifacts import Artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import Artifact as ArtifactResponse
from prefect.events import emit_event

from mondrian_core import rollout
from mondrian_core.errors import ChampionChanged, NothingToDo
from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    Advance,
    RollBack,
    Rollout,
    RolloutCheck,
    RolloutPlan,
    observe_rollout,
    rollout_plan_for_traffic,
)
from mondrian_core.settings import Settings
from mondrian_core.store import Job, Store
from tasks import artifact_pages
from tasks.reporting import artifact_key, publish_markdown_artifact
from tasks.run_context import current_actor

ADVANCED = "mondrian.rollout.advanced"
HELD = "mondrian.rollout.held"
ROLLED_BACK = "mondrian.rollout.rolled-back"


@dataclass(frozen=True)
class RolloutOutcome:
    """The outcome for the run's state: "Completed", "Held" or "RolledBack", and a sentence."""

    name: str
    sentence: str


def advisors_with_rollout(settings: Settings, advisor: str | None) -> list[str]:
    """Advisors with an active rollout."""
    registry = Registry(settings.adapters_root)
    advisors = [advisor] if advisor else registry.advisors()
    return [each for each in advisors if rollout.active_rollout(registry, each) is not None]


@task(name="advance", timeout_seconds=600, cache_policy=NO_CACHE)
def advance_rollout_task(settings: Settings, advisor: str) -> RolloutOutcome:
    """Decide one rollout from the jobs table and apply the decision.

    A concurrent promotion, rollback or decision wins; the next run sees its result.

    Raises:
        NoWorkspace, NoDatabase: there is no jobs table, and the registry is a folder.
    """
    registry = Registry(settings.adapters_root)
    try:
        running = rollout.active_rollout(registry, advisor)
        jobs = _own_jobs(settings, registry, advisor, running)
        seen = rollout.check_rollout(registry, advisor, jobs, actor=current_actor())
    except (NothingToDo, ChampionChanged) as error:
        return RolloutOutcome("Held", f"{advisor}: {error.problem}")
    return _report_check(seen)


def unreported_rollbacks(settings: Settings, advisor: str | None) -> list[RolloutCheck]:
    """Rollouts that the service itself rolled back and that have no page yet."""
    registry = Registry(settings.adapters_root)
    found = [
        rollout.rollout_ended_by_service(registry, each) for each in ([advisor] if advisor else registry.advisors())
    ]
    return [_check_ended_rollout(settings, each) for each in found if each is not None and not _has_page(each)]


@task(name="tell", timeout_seconds=600, cache_policy=NO_CACHE)
def report_rollback_task(seen: RolloutCheck) -> RolloutOutcome:
    """Publish the page and the event of a decision that was already applied."""
    return _report_check(seen)


def _own_jobs(settings: Settings, registry: Registry, advisor: str, since: Rollout | None) -> list[Job]:
    """This machine's jobs since a rollout started; none where it serves nothing and the store has those of others."""
    if registry.url is not None and not settings.database.is_file():
        return []
    settings.require_workspace()
    with closing(Store(settings.database, read_only=True)) as store:
        return list(store.jobs(advisor, since=since.started if since else None))


def _check_ended_rollout(settings: Settings, ended: Rollout) -> RolloutCheck:
    """The counts of a rollout that has ended."""
    registry = Registry(settings.adapters_root)
    counted = observe_rollout(registry, ended, _own_jobs(settings, registry, ended.advisor, ended), publish=False)
    return RolloutCheck(ended, counted, RollBack("service", ended.why, ended.evidence), ended)


def _has_page(ended: Rollout) -> bool:
    page = cast("ArtifactResponse | None", Artifact.get(artifact_key("rollout", ended.advisor)))
    if page is None or page.created is None or page.created < ended.started:
        return False
    return str(page.data).startswith(artifact_pages.rollout_title_markdown(ended, ended.why))


def _report_check(seen: RolloutCheck) -> RolloutOutcome:
    publish_markdown_artifact(
        artifact_key("rollout", seen.after.advisor), artifact_pages.rollout_markdown(seen), seen.decision.sentence
    )
    _emit_rollout_event(seen)
    named = {Advance: "Completed", RollBack: "RolledBack"}.get(type(seen.decision), "Held")
    return RolloutOutcome(named, f"{seen.after.advisor} {seen.after.version}: {seen.decision.sentence}")


def _emit_rollout_event(seen: RolloutCheck) -> None:
    event = {Advance: ADVANCED, RollBack: ROLLED_BACK}.get(type(seen.decision), HELD)
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"mondrian.adapter.{seen.after.advisor}",
            "mondrian.version": seen.after.version,
        },
        payload=seen.as_dict(),
    )


def requested_rollout_plan(settings: Settings, advisor: str, given: Mapping[str, Any]) -> RolloutPlan:
    """A rollout plan for the advisor's traffic, with the keys of `given` over it.

    Raises:
        BadInput: unknown keys, or shares that don't increase.
        NoWorkspace, NoDatabase: the traffic is needed and there is no jobs table.
    """
    if "steps" in given:
        return RolloutPlan.from_dict(given)
    settings.require_workspace()
    with closing(Store(settings.database, read_only=True)) as store:
        return rollout_plan_for_traffic(store, advisor, given)
