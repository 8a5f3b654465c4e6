"""`mondrian adapters promote` and `mondrian adapters rollback`: who answers, changed by hand."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing
from pathlib import Path
from typing import Any

from mondrian_core import rollout
from mondrian_core.cli.options import person, settings_of
from mondrian_core.cli.screen import answer
from mondrian_core.decision import check_promotable
from mondrian_core.errors import BadInput
from mondrian_core.files import read_json
from mondrian_core.registry import Registry, Version
from mondrian_core.rollout import Plan, suitable_plan
from mondrian_core.settings import Settings, check_advisor
from mondrian_core.store import Store


def promote(options: Namespace) -> int:
    """Make a version the champion by hand, for everybody or for a share that grows."""
    settings = settings_of(options)
    registry = Registry(settings.adapters_root)
    check_advisor(options.advisor)
    version = registry.get(options.advisor, options.version)
    rollout.refuse_while_running(registry, options.advisor)
    champion = registry.reference(options.advisor)
    check_promotable(version, champion, force=options.force, reason=options.reason)
    before = champion.version
    facts: dict[str, Any] = {
        "expected": champion,
        "actor": person(),
        "reason": options.reason or "promoted by hand",
        "forced": options.force,
        "problems": against_base(version, settings),
    }
    if options.rollout or options.plan:
        plan = _plan(settings, options.advisor, options.plan)
        begun = rollout.start(registry, options.advisor, version.version, plan, **facts)
        return _tell_change(options, before, version.version, begun.place)
    registry.promote(options.advisor, version.version, verdicts=version.verdicts, **facts)
    return _tell_change(options, before, version.version)


def against_base(version: Version, settings: Settings) -> tuple[str, ...]:
    """What speaks against a version on the base it was trained on; () too when that base is not at hand."""
    from mondrian_core.models.inspection import inspect

    named = (version.manifest.get("base") or {}).get("name")
    return inspect(version.path, version.base_fingerprint, [named, settings.base]).problems


def _plan(settings: Settings, advisor: str, file: Path | None) -> Plan:
    """What suits the traffic, with the file's keys over it; a plan with steps of its own needs no database."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = dict(read_json(file))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(f"The plan {file} can't be read: {error}.", "Give JSON with the keys of a plan.") from None
    if "steps" in given:
        return Plan.from_dict(given)
    settings.require_workspace()
    with closing(Store(settings.database, read_only=True)) as store:
        return suitable_plan(store, advisor, given)


def rollback(options: Namespace) -> int:
    """Back to the previous champion, in one step; needs neither Prefect nor the service."""
    check_advisor(options.advisor)
    registry = Registry(settings_of(options).adapters_root)
    before = registry.current(options.advisor)
    restored = registry.rollback(options.advisor, actor=person(), reason=options.reason or "rolled back by hand")
    return _tell_change(options, before, restored.version if restored else None)


def _tell_change(options: Namespace, before: str | None, after: str | None, place: str = "") -> int:
    value = {"advisor": options.advisor, "from": before, "to": after, "rollout": place or None}
    told = f"{options.advisor}: champion is now {after or 'the base alone'} (before: {before or 'the base alone'})"
    more = f", {place}. `mondrian rollout show` says how it goes" if place else ""
    answer(options.json, value, lambda console: console.print(told + more))
    return 0
