"""Task that deletes what can be made again and is no longer needed. It needs no accelerator."""

from __future__ import annotations

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.markdown import markdown_table
from mondrian_core.pruning import PrunePlan, PrunePolicy, apply_prune, plan_prune
from mondrian_core.settings import Settings
from tasks.artifact_pages import join_markdown
from tasks.reporting import artifact_key, log_listener, publish_markdown_artifact


@task(name="prune", cache_policy=NO_CACHE)
def prune_task(settings: Settings, policy: PrunePolicy, *, dry_run: bool) -> PrunePlan:
    """Delete what the policy allows, and publish a table of what was deleted and kept."""
    began = time.time()
    plan = plan_prune(settings, policy, began)
    if not dry_run and plan.deleted:
        apply_prune(plan, log_listener(), planned_at=began)
    publish_markdown_artifact(artifact_key("prune"), prune_markdown(plan, dry_run=dry_run), "The last prune")
    return plan


def prune_sentence(plan: PrunePlan, *, dry_run: bool) -> str:
    """What was freed, or would be."""
    verb = "would be freed" if dry_run else "freed"
    return f"{plan.freed_bytes / 1e6:,.1f} MB {verb}: {len(plan.deleted):,} items."


def prune_markdown(plan: PrunePlan, *, dry_run: bool) -> str:
    """The plan as Markdown."""
    head = ("kind", "deleted", "MB", "why", "kept", "MB", "why")
    rows = [
        (
            row["kind"],
            f"{row['deleted']:,}",
            f"{row['deleted_bytes'] / 1e6:,.1f}",
            "; ".join(row["why_deleted"]),
            f"{row['kept']:,}",
            f"{row['kept_bytes'] / 1e6:,.1f}",
            "; ".join(row["why_kept"]),
        )
        for row in plan.rows()
    ]
    return join_markdown(f"## {prune_sentence(plan, dry_run=dry_run)}", markdown_table(head, rows))
