"""Rollouts on disk: `adapters/<advisor>/rollout.json`, beside the pointer and under the same lock.

The pointer decides. A rollout is in force only while the champion is there because of it (the promotion's history entry
carries its salt), so that a rollback, or any other promotion, ends it in the same rename.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from mondrian_core.errors import BadInput, ChampionChanged, NothingToDo
from mondrian_core.files import read_json, write_json
from mondrian_core.registry import Registry
from mondrian_core.rollout.decide import after, decide_rollout
from mondrian_core.rollout.observe import observe, requests_of
from mondrian_core.rollout.plan import Advance, Decision, Hold, Plan, RollBack, Rollout
from mondrian_core.store import Job

FILE = "rollout.json"


def recorded(registry: Registry, advisor: str) -> Rollout | None:
    """The newest rollout, in force or not."""
    try:
        return Rollout.from_dict(read_json(registry.root / advisor / FILE))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{registry.root / advisor / FILE} can't be read: {error}.",
            "Remove it: the champion then gets all requests.",
        ) from None


def active(registry: Registry, advisor: str) -> Rollout | None:
    """The rollout in force; None when the champion answers everything."""
    rollout = recorded(registry, advisor)
    if rollout is None or rollout.status != "running":
        return None
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer]
    in_force = bool(moves) and moves[-1].after == rollout.version and moves[-1].detail.get("rollout") == rollout.salt
    return rollout if in_force else None


def start(registry: Registry, advisor: str, version: str, plan: Plan, *, actor: str, reason: str,
          now: datetime | None = None, forced: bool = False) -> Rollout:  # fmt: skip
    """Promote `version`, but let it begin with the first share of `plan`.

    The file is written first: a process killed in between leaves a rollout that no pointer stems from, hence none.

    Raises:
        NothingToDo: another rollout is in force, or this version was rolled back a short while ago.
        What `Registry.promote` raises.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    if (running := active(registry, advisor)) is not None:
        raise NothingToDo(
            f"The rollout of {running.version} of '{advisor}' is at {running.share:.0%}.", "Wait for it, or roll back."
        )
    if (until := cooling_until(registry, advisor, version, plan)) is not None and moment < until:
        raise NothingToDo(
            f"{version} of '{advisor}' was rolled back.", f"It may begin again at {until:%Y-%m-%d %H:%M} UTC."
        )
    control, began = registry.current(advisor), moment.isoformat()
    rollout = Rollout(advisor, version, control, secrets.token_hex(8), plan, began, began)
    with registry.locked(advisor):
        write_json(registry.root / advisor / FILE, rollout.as_dict())
    registry.promote(advisor, version, expected=control, actor=actor, reason=reason, forced=forced,
                     detail={"rollout": rollout.salt, "share": rollout.share})  # fmt: skip
    return rollout


def cooling_until(registry: Registry, advisor: str, version: str, plan: Plan) -> datetime | None:
    """Until when a version that was rolled back may not begin again; None when it never was."""
    went = [entry for entry in registry.history(advisor) if entry.event == "rollback" and entry.version == version]
    return datetime.fromisoformat(went[-1].at) + timedelta(hours=plan.cool_down_hours) if went else None


def carry_out(registry: Registry, rollout: Rollout, decision: Decision, *, actor: str,
              now: datetime | None = None) -> Rollout:  # fmt: skip
    """Do what was decided, once: the pointer first when it goes back, the file otherwise; then the history.

    Raises:
        ChampionChanged: somebody promoted or rolled back since.
        NothingToDo: another scheduler was first.
    """
    if isinstance(decision, Hold):
        return rollout
    moment = now or datetime.now(UTC)
    changed = after(rollout, decision, moment)
    path = registry.root / rollout.advisor / FILE
    if isinstance(decision, RollBack):
        registry.rollback(rollout.advisor, actor=actor, reason=decision.sentence, expected=rollout.version)
    with registry.locked(rollout.advisor):
        found = recorded(registry, rollout.advisor)
        if found is None or found.salt != rollout.salt or found.revision != rollout.revision:
            raise NothingToDo(f"The rollout of {rollout.version} has changed by now.", "Look again.")
        if isinstance(decision, Advance) and active(registry, rollout.advisor) is None:
            raise ChampionChanged(rollout.advisor, rollout.version, registry.current(rollout.advisor))
        write_json(path, changed.as_dict())
    if isinstance(decision, Advance):
        detail = {"rollout": rollout.salt, "share": changed.share, "evidence": dict(decision.evidence)}
        registry.record_rollout(rollout.advisor, rollout.version, actor=actor, reason=decision.sentence, detail=detail)
    return changed


def look(registry: Registry, advisor: str, jobs: Iterable[Job], *, actor: str,
         now: datetime | None = None) -> tuple[Rollout, Decision]:  # fmt: skip
    """What `rollout/advance` does: count the advisor's jobs (oldest first), decide, and carry it out.

    Raises:
        NothingToDo: no rollout is in force, or another scheduler was first.
        ChampionChanged: somebody promoted or rolled back meanwhile.
    """
    rollout, moment = active(registry, advisor), now or datetime.now(UTC)
    if rollout is None:
        raise NothingToDo(f"No rollout of '{advisor}' is in force.", "Its champion answers everything.")
    decision = decide_rollout(rollout, observe(requests_of(jobs, rollout), rollout), moment)
    return carry_out(registry, rollout, decision, actor=actor, now=moment), decision
