"""`mondrian rollout ...`: what the flow `rollout/advance` does, without Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core import rollout as rollouts
from mondrian_core.cli.options import AdvisorOptions, OptionalAdvisorOptions, command_line_actor, settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result
from mondrian_core.registry import Registry
from mondrian_core.rollout import RollBack, Rollout, RolloutCheck
from mondrian_core.settings import Settings
from mondrian_core.store import Store


def show_rollout_command(*, options: OptionalAdvisorOptions = OptionalAdvisorOptions()) -> int:  # noqa: B008  (frozen)
    """Print the rollouts and what would be decided now; changes nothing. Exit status 1 when no rollout is active."""
    checks = list(_evaluate_rollouts(options, only_look=True))
    _print_rollouts(options, checks)
    return 0 if checks else 1


def advance_rollout_command(*, options: OptionalAdvisorOptions = OptionalAdvisorOptions()) -> int:  # noqa: B008  (frozen)
    """Decide and apply the decision, for one advisor or all.

    Exit status 1 when no rollout is active or one was rolled back.
    """
    checks = list(_evaluate_rollouts(options, only_look=False))
    _print_rollouts(options, checks)
    return 0 if checks and not any(isinstance(each.decision, RollBack) for each in checks) else 1


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RolloutShareOptions(AdvisorOptions):
    """Options of `mondrian rollout set`."""

    reason: Annotated[str, Parameter(help="recorded in the history")] = ""


def set_rollout_share_command(
    share: Annotated[float, Parameter(help="a share of the plan, 0-1; 1.0: all photographs")],
    /,
    *,
    options: RolloutShareOptions,
) -> int:
    """Go to a later share of the plan manually; exit status 1 when no rollout is active."""
    registry = Registry(settings_from_options(options).adapters_root)
    now = rollouts.set_rollout_share(
        registry, options.advisor, share, actor=command_line_actor(), reason=options.reason
    )
    value = {"advisor": now.advisor, "version": now.version, "share": now.share, "status": now.status}
    print_result(
        options.json, value, lambda console: console.print(f"{now.advisor} {now.version} is {now.position} now.")
    )
    return 0


def _evaluate_rollouts(options: OptionalAdvisorOptions, *, only_look: bool) -> Iterator[RolloutCheck]:
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    advisors = [options.advisor] if options.advisor else registry.advisors()
    for advisor in advisors:
        if (running := rollouts.active_rollout(registry, advisor)) is not None:
            with closing(_store(settings)) as store:
                yield rollouts.check_rollout(
                    registry,
                    advisor,
                    store.jobs(advisor, since=running.started),
                    actor=command_line_actor(),
                    carry_out="nothing" if only_look else "any",
                )


def _store(settings: Settings) -> Store:
    settings.require_workspace()
    return Store(settings.database, read_only=True)


def _print_rollouts(options: OptionalAdvisorOptions, checks: list[RolloutCheck]) -> None:
    def draw(console: Console) -> None:
        if not checks:
            whose = f" of '{options.advisor}'" if options.advisor else ""
            console.print(f"No rollout{whose} is active; champions answer every request.")
        for each in checks:
            _draw_rollout(console, each)

    print_result(options.json, [each.as_dict() for each in checks], draw)


def _draw_rollout(console: Console, seen: RolloutCheck) -> None:
    now = seen.after
    console.print(f"[bold]{now.advisor} {now.version}[/]  {now.position}, before: {now.control or 'the base alone'}")
    console.print(f"  {escape(seen.decision.sentence)}")
    console.print(f"  steps: {_rollout_steps_line(now)}")
    arms = Table()
    for heading in ("share", "new: answers", "failed", "before: answers", "failed"):
        arms.add_column(heading)
    for each in seen.observed.strata:
        counts: tuple[Any, ...] = (
            each.candidate.requests,
            each.candidate.failures,
            each.control.requests,
            each.control.failures,
        )
        arms.add_row(f"{each.share:.0%}", *map(str, counts))
    if seen.observed.strata:
        console.print(arms)
    if seen.decision.evidence:
        values = ", ".join(f"{name} {display_number(value)}" for name, value in seen.decision.evidence.items())
        console.print(f"  evidence (e-values): {values}")


def _rollout_steps_line(rollout: Rollout) -> str:
    """The shares of the plan, with the current one in brackets."""
    shares = ["shadow" if step.share == 0 else f"{step.share:.0%}" for step in rollout.plan.steps]
    current = rollout.step if rollout.status == "running" else None
    return " -> ".join(f"({share})" if place == current else share for place, share in enumerate(shares))
