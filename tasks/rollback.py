"""Task that returns to the previous champion. It needs no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.registry import Registry
from tasks.promote import report_champion_change
from tasks.run_context import current_actor

ROLLED_BACK = "mondrian.adapter.rolled-back"


@task(name="roll back", timeout_seconds=600, cache_policy=NO_CACHE)
def rollback_task(adapters: Path, advisor: str, *, reason: str) -> str:
    """Return to the previous champion; gives the sentence that reports it."""
    registry = Registry(adapters)
    before = registry.current(advisor)
    restored = registry.rollback(advisor, actor=current_actor(), reason=reason)
    return report_champion_change(ROLLED_BACK, advisor, before, restored.version if restored else None, reason)
