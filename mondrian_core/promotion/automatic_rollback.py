"""Undo a promotion without a person, when that is safe."""

from __future__ import annotations

from mondrian_core.errors import NothingToDo
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.rollout import active_rollout

ASK_A_PERSON = "`mondrian adapters rollback --advisor {advisor}` does it manually."


def undo_promotion(registry: Registry, advisor: str, promotion: str, *, actor: str, reason: str) -> AdapterVersion:
    """Return to the champion that a promotion replaced. Nothing happens twice, and nothing can loop:

    * Only the promotion that made the present champion is undone, named by its line in the history. After a rollback
      or another promotion the name fits nothing, so a late or repeated request does nothing.
    * A champion that came by a rollback is never left automatically. If it fails too, the adapter is hardly the cause.
    * During a rollout its own guardrails decide, which compare both versions on the same days.
    * It never returns to the base alone: the base already answers wherever the adapter fails.

    Args:
        registry: of the adapters.
        advisor: whose champion.
        promotion: SHA-256 of the promotion's line in the history.
        actor: who undoes it, for the history.
        reason: why, for the history.

    Raises:
        NothingToDo: one of these rules speaks against it.
        ChampionChanged: somebody else was faster.
    """
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer]
    last, manually = moves[-1] if moves else None, ASK_A_PERSON.format(advisor=advisor)
    if last is None or last.sha256 != promotion or last.event != "promote":
        raise NothingToDo("The champion has changed since then.", "Nothing was rolled back.")
    if active_rollout(registry, advisor) is not None:
        raise NothingToDo(
            f"The rollout of {last.after} decides about it.", "`mondrian rollout show` reports its state."
        )
    target = registry.rollback_target(advisor)
    if target is None or registry.verify(advisor, target):
        raise NothingToDo(f"There is no intact earlier champion than {last.after} to return to.", manually)
    restored = registry.rollback(advisor, actor=actor, reason=reason, expected=last.after)
    if restored is None:  # the target was damaged since the check
        raise NothingToDo("No earlier champion was intact: the base model alone answers now.", "Evaluate a candidate.")
    return restored
