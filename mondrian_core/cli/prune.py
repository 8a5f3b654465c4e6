"""`mondrian prune`: delete what can be made again and is no longer needed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mondrian_core.cli.options import CommandOptions, WholeNumber, settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.errors import BadInput
from mondrian_core.pruning import PrunePlan, PrunePolicy, apply_prune, plan_prune

_DEFAULTS = PrunePolicy()
_FIELDS = PrunePolicy.model_fields


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PruneWorkspaceOptions(CommandOptions):
    """Options of `mondrian prune`."""

    dry_run: Annotated[bool, Parameter(help="print what would be deleted and kept, with reasons, and exit")] = False
    weights_days: Annotated[WholeNumber, Parameter(show_default=True, help=_FIELDS["weights_days"].description)] = (
        _DEFAULTS.weights_days
    )
    keep_runs: Annotated[WholeNumber, Parameter(show_default=True, help=_FIELDS["keep_runs"].description)] = (
        _DEFAULTS.keep_runs
    )
    dataset_days: Annotated[WholeNumber, Parameter(show_default=True, help=_FIELDS["dataset_days"].description)] = (
        _DEFAULTS.dataset_days
    )
    cache_days: Annotated[WholeNumber, Parameter(show_default=True, help=_FIELDS["cache_days"].description)] = (
        _DEFAULTS.cache_days
    )
    cache_gb: Annotated[float, Parameter(show_default=True, help=_FIELDS["cache_gb"].description)] = _DEFAULTS.cache_gb
    run_days: Annotated[WholeNumber | None, Parameter(help=_FIELDS["run_days"].description)] = _DEFAULTS.run_days


def prune_command(*, options: PruneWorkspaceOptions = PruneWorkspaceOptions()) -> int:
    """Delete what can be made again and is no longer needed; exit status 1 when there is nothing to delete."""
    settings, policy, began = settings_from_options(options), _policy(options), time.time()
    plan = plan_prune(settings, policy, began)
    if not options.dry_run and plan.deleted:
        with show_progress(options.json) as listen:
            apply_prune(plan, listen, planned_at=began)
    print_result(
        options.json,
        {"dry_run": options.dry_run, "freed_bytes": plan.freed_bytes, "kinds": plan.rows()},
        lambda console: _draw(console, plan, dry_run=options.dry_run),
    )
    return 0 if plan.deleted else 1


def _policy(options: PruneWorkspaceOptions) -> PrunePolicy:
    try:
        return PrunePolicy(**{name: getattr(options, name) for name in _FIELDS})
    except ValueError as error:
        problems = "; ".join(f"--{e['loc'][0]}: {e['msg']}".replace("_", "-") for e in error.errors())  # type: ignore[attr-defined]
        raise BadInput(f"{problems}.", "`mondrian prune --help` explains the bounds.") from None


def _draw(console: Console, plan: PrunePlan, *, dry_run: bool) -> None:
    table = Table(
        "kind", Column("deleted", justify="right"), Column("kept", justify="right"), "why", box=None, pad_edge=False
    )
    for row in plan.rows():
        reasons = [f"{text} ({count})" for text, count in {**row["why_deleted"], **row["why_kept"]}.items()]
        table.add_row(
            row["kind"],
            _amount(row["deleted"], row["deleted_bytes"]),
            _amount(row["kept"], row["kept_bytes"]),
            escape("; ".join(reasons)),
        )
    console.print(table)
    freed = f"{plan.freed_bytes / 1e6:,.1f} MB"
    if not plan.deleted:
        console.print("Nothing to delete.")
    else:
        console.print(f"{freed} would be freed; run without --dry-run to delete." if dry_run else f"{freed} freed.")


def _amount(count: int, size: int) -> str:
    return f"{count:,}: {size / 1e6:,.1f} MB" if count else ""
