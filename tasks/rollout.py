"""Tasks that look at staged rollouts: counts from the jobs table in, a decision carried out, a page and an event."""

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
from mondrian_core.rollout import Advance, Look, Plan, RollBack, Rollout, observe, requests_of, suitable_plan
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tasks import pages
from tasks.run import actor
from tasks.telling import artifact_key, leave_page

ADVANCED = "mondrian.rollout.advanced"
HELD = "mondrian.rollout.held"
ROLLED_BACK = "mondrian.rollout.rolled-back"


@dataclass(frozen=True)
class Told:
    """A decision for the run's state: "Completed", "Held" or "RolledBack", and the sentence."""

    name: str
    sentence: str


def in_force(settings: Settings, advisor: str | None) -> list[str]:
    """Advisors with a rollout in force; what a dead process changed without a line is written down on the way."""
    registry = Registry(settings.adapters_root)
    found = []
    for each in [advisor] if advisor else registry.advisors():
        if registry.url is not None:
            registry.current(each)  # brings this machine's copy up to date, which is all that its service looks at
        rollout.settle(registry, each, actor())
        if rollout.active(registry, each) is not None:
            found.append(each)
    return found


@task(name="advance", timeout_seconds=600, cache_policy=NO_CACHE)
def advance(settings: Settings, advisor: str) -> Told:
    """Decide one rollout from the jobs table and carry the decision out.

    Somebody else's promotion, rollback or look in the same moment wins; the next look sees what came of it.

    Raises:
        NoWorkspace, NoDatabase: when there is no jobs table.
    """
    registry = Registry(settings.adapters_root)
    settings.require_workspace()
    try:
        with closing(Store(settings.database, read_only=True)) as store:
            running = rollout.active(registry, advisor)
            jobs = store.jobs(advisor, since=running.started if running else None)
            seen = rollout.look(registry, advisor, jobs, actor=actor())
    except (NothingToDo, ChampionChanged) as error:
        return Told("Held", f"{advisor}: {error.problem}")
    return _tell(seen)


def untold(settings: Settings, advisor: str | None) -> list[Look]:
    """Rollouts that the service itself took back, and whose page is still missing."""
    registry = Registry(settings.adapters_root)
    found = [rollout.taken_back(registry, each) for each in ([advisor] if advisor else registry.advisors())]
    return [_look_back(settings, each) for each in found if each is not None and not _has_page(each)]


@task(name="tell", timeout_seconds=600, cache_policy=NO_CACHE)
def tell(seen: Look) -> Told:
    """The page and the event of a decision that has been carried out already."""
    return _tell(seen)


def _look_back(settings: Settings, ended: Rollout) -> Look:
    """What the jobs table says of a rollout that has ended."""
    settings.require_workspace()
    with closing(Store(settings.database, read_only=True)) as store:
        counted = observe(requests_of(store.jobs(ended.advisor, since=ended.started), ended), ended)
    return Look(ended, counted, RollBack("service", ended.why, ended.evidence), ended)


def _has_page(ended: Rollout) -> bool:
    page = cast("ArtifactResponse | None", Artifact.get(artifact_key("rollout", ended.advisor)))
    if page is None or page.created is None or page.created < ended.started:
        return False
    return str(page.data).startswith(pages.rollout_title(ended, ended.why))


def _tell(seen: Look) -> Told:
    leave_page(artifact_key("rollout", seen.now.advisor), pages.rollout_look(seen), seen.decision.sentence)
    _announce(seen)
    named = {Advance: "Completed", RollBack: "RolledBack"}.get(type(seen.decision), "Held")
    return Told(named, f"{seen.now.advisor} {seen.now.version}: {seen.decision.sentence}")


def _announce(seen: Look) -> None:
    event = {Advance: ADVANCED, RollBack: ROLLED_BACK}.get(type(seen.decision), HELD)
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"mondrian.adapter.{seen.now.advisor}",
            "mondrian.version": seen.now.version,
        },
        payload=seen.as_dict(),
    )


def plan_of(settings: Settings, advisor: str, given: Mapping[str, Any]) -> Plan:
    """What suits the advisor's traffic, with the keys of `given` over it.

    Raises:
        BadInput: for unknown keys and shares that don't grow.
        NoWorkspace, NoDatabase: when the traffic has to be looked up and there is no jobs table.
    """
    if "steps" in given:
        return Plan.from_dict(given)
    settings.require_workspace()
    with closing(Store(settings.database, read_only=True)) as store:
        return suitable_plan(store, advisor, given)
