"""`mondrian adapters promote` and `mondrian adapters rollback`: change the champion manually."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from mondrian_core.cli.options import AdvisorOptions, command_line_actor, settings_from_options
from mondrian_core.cli.terminal_output import print_result
from mondrian_core.errors import BadInput
from mondrian_core.files import read_json
from mondrian_core.promotion import ManualPromotion, promote_manually
from mondrian_core.registry import OBJECTIONS, AdapterVersion, Registry
from mondrian_core.rollout import RolloutPlan, rollout_plan_for_traffic
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store import Store


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RollbackOptions(AdvisorOptions):
    """Options of `mondrian adapters rollback`."""

    reason: Annotated[str, Parameter(help="recorded in the history")] = ""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PromoteOptions(RollbackOptions):
    """Options of `mondrian adapters promote`."""

    reason: Annotated[str, Parameter(help="recorded in the history; needed unless every gate is PASS")] = ""
    version: Annotated[str, Parameter(help="the version to promote, such as v0003")]
    force: Annotated[bool, Parameter(help="promote even if a gate failed; needs --reason")] = False
    rollout: Annotated[
        bool, Parameter(help="promote in stages: the version answers for a growing share of the photographs")
    ] = False
    plan: Annotated[
        Path | None, Parameter(help="JSON file with keys of a rollout plan, see docs/explanation/rollout.md")
    ] = None


def promote_command(*, options: PromoteOptions) -> int:
    """Make a version the champion, at once or as a staged rollout.

    Exit status 1 when the gates refuse it, when it is the champion already, or when the champion has changed.
    """
    settings = settings_from_options(options)
    validate_advisor_id(options.advisor)
    request = ManualPromotion(
        settings=settings,
        advisor=options.advisor,
        version=options.version,
        expected=Registry(settings.adapters_root).reference(options.advisor),
        force=options.force,
        reason=options.reason,
    )
    staged = options.rollout or options.plan is not None
    outcome = promote_manually(
        request,
        actor=command_line_actor(),
        inspect=lambda version: _base_compatibility_problems(version, settings),
        plan=_load_rollout_plan(settings, options.advisor, options.plan) if staged else None,
    )
    return _print_champion_change(options, outcome.before, outcome.version, outcome.rollout, outcome.objections)


def _base_compatibility_problems(version: AdapterVersion, settings: Settings) -> tuple[str, ...]:
    """Why a version doesn't fit the base it was trained on; () also when that base isn't available."""
    from mondrian_core.models.lora.adapter_inspection import inspect_adapter

    named = (version.manifest.get("base") or {}).get("name")
    return inspect_adapter(version.path, version.base_fingerprint, [named, settings.base]).problems


def _load_rollout_plan(settings: Settings, advisor: str, file: Path | None) -> RolloutPlan:
    """The plan for the observed traffic, overridden by the file; a plan that names its steps needs no database."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = dict(read_json(file))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(f"The plan {file} can't be read: {error}.", "Give JSON with the keys of a plan.") from None
    if "steps" in given:
        return RolloutPlan.from_dict(given)
    settings.require_workspace()
    with closing(Store(settings.database, read_only=True)) as store:
        return rollout_plan_for_traffic(store, advisor, given)


def rollback_command(*, options: RollbackOptions) -> int:
    """Return to the previous champion; needs neither Prefect nor the service.

    Exit status 1 when nothing is promoted.
    """
    validate_advisor_id(options.advisor)
    registry = Registry(settings_from_options(options).adapters_root)
    before = registry.current(options.advisor)
    restored = registry.rollback(
        options.advisor, actor=command_line_actor(), reason=options.reason or "rolled back manually"
    )
    return _print_champion_change(options, before, restored.version if restored else None)


def _print_champion_change(
    options: RollbackOptions, before: str | None, after: str | None, place: str = "", objections: Sequence[str] = ()
) -> int:
    value = {
        "advisor": options.advisor,
        "from": before,
        "to": after,
        "rollout": place or None,
        **({OBJECTIONS: list(objections)} if objections else {}),
    }
    text = f"{options.advisor}: champion is now {after or 'the base alone'} (before: {before or 'the base alone'})"
    more = f", {place}. `mondrian rollout show` reports its progress" if place else ""
    against = f". Promoted although {'; '.join(objections)}." if objections else ""
    print_result(options.json, value, lambda console: console.print(escape(text + more + against)))
    return 0
