"""Tasks that return to the previous champion. They need no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.errors import ChampionChanged, NothingToDo
from mondrian_core.promotion import undo_promotion
from mondrian_core.registry import Registry
from tasks.promote import report_champion_change
from tasks.run_context import current_actor


@task(name="roll back", timeout_seconds=600, cache_policy=NO_CACHE)
def rollback_task(adapters: Path, advisor: str, *, reason: str) -> str:
    """Return to the previous champion; gives the sentence that reports it."""
    registry = Registry(adapters)
    before = registry.current(advisor)
    restored = registry.rollback(advisor, actor=current_actor(), reason=reason)
    return report_champion_change(advisor, before, restored.version if restored else None, reason)


@task(name="roll back automatically", timeout_seconds=600, cache_policy=NO_CACHE)
def automatic_rollback_task(adapters: Path, advisor: str, *, promotion: str, reason: str) -> tuple[bool, str]:
    """Undo a promotion, if that is safe without a person; whether it was done, and the sentence that says why."""
    registry = Registry(adapters)
    before = registry.current(advisor)
    try:
        restored = undo_promotion(registry, advisor, promotion, actor=current_actor(), reason=reason)
    except (NothingToDo, ChampionChanged) as refused:
        return False, str(refused)
    return True, report_champion_change(advisor, before, restored.version, reason)
