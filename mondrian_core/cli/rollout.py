"""`mondrian rollout ...`: what `rollout/advance` does, from the terminal and without Prefect."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core import rollout as rollout_room
from mondrian_core.cli.options import command_line_actor, settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result
from mondrian_core.registry import Registry
from mondrian_core.rollout import RollBack, Rollout, RolloutCheck
from mondrian_core.settings import Settings
from mondrian_core.store import Store


def show_rollout_command(options: Namespace) -> int:
    """Where the rollouts stand and what would be decided now; changes nothing. 1 when none is in force."""
    looks = list(_evaluate_rollouts(options, only_look=True))
    _print_rollouts(options, looks)
    return 0 if looks else 1


def advance_rollout_command(options: Namespace) -> int:
    """Decide and carry it out, for one advisor or for all; 1 when none is in force or one was rolled back."""
    looks = list(_evaluate_rollouts(options, only_look=False))
    _print_rollouts(options, looks)
    return 0 if looks and not any(isinstance(each.decision, RollBack) for each in looks) else 1


def set_rollout_share_command(options: Namespace) -> int:
    """Go to a later share of the plan by hand."""
    registry = Registry(settings_from_options(options).adapters_root)
    now = rollout_room.set_rollout_share(
        registry, options.advisor, options.share, actor=command_line_actor(), reason=options.reason
    )
    value = {"advisor": now.advisor, "version": now.version, "share": now.share, "status": now.status}
    print_result(
        options.json, value, lambda console: console.print(f"{now.advisor} {now.version} is {now.position} now.")
    )
    return 0


def _evaluate_rollouts(options: Namespace, *, only_look: bool) -> Iterator[RolloutCheck]:
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    advisors = [options.advisor] if options.advisor else registry.advisors()
    for advisor in advisors:
        if (running := rollout_room.active_rollout(registry, advisor)) is None and not only_look:
            rollout_room.repair_rollout_history(registry, advisor, command_line_actor())
        if running is not None:
            with closing(_store(settings)) as store:
                yield rollout_room.check_rollout(
                    registry,
                    advisor,
                    store.jobs(advisor, since=running.started),
                    actor=command_line_actor(),
                    carry_out="nothing" if only_look else "any",
                )


def _store(settings: Settings) -> Store:
    settings.require_workspace()
    return Store(settings.database, read_only=True)


def _print_rollouts(options: Namespace, looks: list[RolloutCheck]) -> None:
    def draw(console: Console) -> None:
        if not looks:
            whose = f" of '{options.advisor}'" if options.advisor else ""
            console.print(f"No rollout{whose} is in force; champions answer everything.")
        for each in looks:
            _draw_rollout(console, each)

    print_result(options.json, [each.as_dict() for each in looks], draw)


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
        told = ", ".join(f"{name} {display_number(value)}" for name, value in seen.decision.evidence.items())
        console.print(f"  evidence (e-values): {told}")


def _rollout_steps_line(rollout: Rollout) -> str:
    """The plan's shares with the present one in brackets."""
    shares = ["shadow" if step.share == 0 else f"{step.share:.0%}" for step in rollout.plan.steps]
    here = rollout.step if rollout.status == "running" else None
    return " -> ".join(f"({share})" if place == here else share for place, share in enumerate(shares))
