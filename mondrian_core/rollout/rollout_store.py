"""Rollouts on disk: `adapters/<advisor>/rollout.json`, beside the pointer and under the same lock.

The pointer decides. A rollout is in force only while the champion is there because of it (the promotion's history entry
carries its salt), so that a rollback, or any other promotion, ends it in the same rename.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mondrian_core.errors import BadInput, ChampionChanged, NothingToDo
from mondrian_core.files import read_json, write_json
from mondrian_core.registry import ChampionReference, Registry
from mondrian_core.rollout.decision_rules import decide_rollout, rollout_after_decision
from mondrian_core.rollout.observation import count_observations, rollout_requests
from mondrian_core.rollout.plan import (
    Advance,
    Hold,
    RollBack,
    Rollout,
    RolloutDecision,
    RolloutObservations,
    RolloutPlan,
)
from mondrian_core.store import Job

ROLLOUT_FILE = "rollout.json"
CURRENT_CHAMPION = "whoever"  # no name of a version
SERVICE_ACTOR = "service"  # who went back because an answer of its own failed


def load_rollout(registry: Registry, advisor: str) -> Rollout | None:
    """The newest rollout, in force or not."""
    try:
        return Rollout.from_dict(read_json(registry.root / advisor / ROLLOUT_FILE))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{registry.root / advisor / ROLLOUT_FILE} can't be read: {error}.",
            "Remove it: the champion then gets all requests.",
        ) from None


def active_rollout(registry: Registry, advisor: str) -> Rollout | None:
    """The rollout in force; None when the champion answers everything."""
    rollout = load_rollout(registry, advisor)
    if rollout is None or rollout.status != "running":
        return None
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer]
    in_force = bool(moves) and moves[-1].after == rollout.version and moves[-1].detail.get("rollout") == rollout.salt
    return rollout if in_force else None


def start_rollout(
    registry: Registry,
    advisor: str,
    version: str,
    plan: RolloutPlan,
    *,
    actor: str,
    reason: str,
    expected: ChampionReference | str | None = CURRENT_CHAMPION,
    now: datetime | None = None,
    forced: bool = False,
    problems: Sequence[str] = (),
    run: str | None = None,
) -> Rollout:
    """Promote `version`, but let it begin with the first share of `plan`.

    The file is written under the lock of the promotion, just before the pointer moves: a process killed in between
    leaves a rollout that no pointer stems from, hence none; of two that start at once the winner's file stays.

    Args:
        expected: the champion that is replaced, None for the base alone; left out: whoever it is now.
        run: name of the run that does it, which does it once (`Registry.promote`).

    Raises:
        NothingToDo: another rollout is in force, or this version was rolled back a short while ago.
        What `Registry.promote` raises.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    require_no_active_rollout(registry, advisor)
    if (until := cool_down_end(registry, advisor, version, plan)) is not None and moment < until:
        raise NothingToDo(
            f"{version} of '{advisor}' was rolled back.", f"It may begin again at {until:%Y-%m-%d %H:%M} UTC."
        )
    champion = registry.reference(advisor) if expected == CURRENT_CHAMPION else expected
    control = champion.version if isinstance(champion, ChampionReference) else champion
    began = moment.isoformat()
    rollout = Rollout(
        advisor=advisor,
        version=version,
        control=control,
        salt=secrets.token_hex(8),
        plan=plan,
        started_at=began,
        step_started_at=began,
        why=reason,
    )
    registry.promote(
        advisor,
        version,
        expected=champion,
        actor=actor,
        reason=reason,
        forced=forced,
        problems=problems,
        detail={"rollout": rollout.salt, "share": rollout.share},
        extra_files={ROLLOUT_FILE: rollout.as_dict()},
        run=run,
    )
    return rollout


def require_no_active_rollout(registry: Registry, advisor: str) -> None:
    """For every promotion: a rollout in force has to end first.

    Promoting over it would leave a version that has only seen a share as the one that a rollback returns to.

    Raises:
        NothingToDo: one is in force.
    """
    running = active_rollout(registry, advisor)
    if running is not None:
        raise NothingToDo(
            f"The rollout of {running.version} of '{advisor}' is {running.position}.",
            f"Let it end (`mondrian rollout show --advisor {advisor}`), end it with `mondrian rollout set --advisor "
            f'{advisor} 1.0 --reason "..."`, or go back with `mondrian adapters rollback --advisor {advisor}`.',
        )


def cool_down_end(registry: Registry, advisor: str, version: str, plan: RolloutPlan) -> datetime | None:
    """Until when a version that was rolled back may not begin again; None when it never was."""
    went = [entry for entry in registry.history(advisor) if entry.event == "rollback" and entry.version == version]
    return datetime.fromisoformat(went[-1].at) + timedelta(hours=plan.cool_down_hours) if went else None


def apply_rollout_decision(
    registry: Registry, rollout: Rollout, decision: RolloutDecision, *, actor: str, now: datetime | None = None
) -> Rollout:
    """Do what was decided, once: the pointer first when it goes back, the file otherwise; then the history.

    Raises:
        ChampionChanged: somebody promoted or rolled back since.
        NothingToDo: another scheduler was first.
    """
    if isinstance(decision, Hold):
        return rollout
    changed = rollout_after_decision(rollout, decision, now or datetime.now(UTC))
    if isinstance(decision, RollBack):
        registry.rollback(rollout.advisor, actor=actor, reason=decision.sentence, expected=rollout.version)
    with registry.locked(rollout.advisor):
        found = load_rollout(registry, rollout.advisor)
        if found is None or found.salt != rollout.salt or found.revision != rollout.revision:
            raise NothingToDo(f"The rollout of {rollout.version} has changed by now.", "Look again.")
        if isinstance(decision, Advance) and active_rollout(registry, rollout.advisor) is None:
            raise ChampionChanged(rollout.advisor, rollout.version, registry.current(rollout.advisor))
        write_json(registry.root / rollout.advisor / ROLLOUT_FILE, changed.as_dict())
    if isinstance(decision, Advance):
        _record_in_history(registry, changed, actor)
    return changed


def rollout_ended_by_service(registry: Registry, advisor: str) -> Rollout | None:
    """The newest rollout when the service itself ended it (`SERVICE`) and nothing has been promoted since."""
    rollout = load_rollout(registry, advisor)
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer] if rollout else []
    if rollout is None or rollout.status != "rolled_back" or len(moves) < 2 or moves[-1].actor != SERVICE_ACTOR:
        return None
    return rollout if moves[-2].detail.get("rollout") == rollout.salt else None


def _record_in_history(registry: Registry, rollout: Rollout, actor: str) -> None:
    detail = {
        "rollout": rollout.salt,
        "share": rollout.share,
        "revision": rollout.revision,
        "evidence": dict(rollout.evidence),
    }
    registry.record_rollout(rollout.advisor, rollout.version, actor=actor, reason=rollout.why, detail=detail)


def repair_rollout_history(registry: Registry, advisor: str, actor: str) -> None:
    """Write the line of a share that a process changed before it died; the file says what it was."""
    rollout = load_rollout(registry, advisor)
    if rollout is None or rollout.revision == 0 or rollout.status == "rolled_back":
        return
    entries = registry.history(advisor)
    moves = [entry for entry in entries if entry.moves_pointer]
    if not moves or moves[-1].detail.get("rollout") != rollout.salt:
        return  # the champion stems from something else by now
    if all(entry.detail.get("revision") != rollout.revision for entry in entries if entry.serial > moves[-1].serial):
        _record_in_history(registry, rollout, actor)


def set_rollout_share(
    registry: Registry, advisor: str, share: float, *, actor: str, reason: str, now: datetime | None = None
) -> Rollout:
    """Go to a later share of the plan by hand; 1.0 ends the rollout with everything for the new version.

    Raises:
        NothingToDo: no rollout is in force.
        BadInput: the share is not ahead in the plan, or there is no reason.
    """
    rollout = _in_force(registry, advisor)
    ahead = [step.share for step in rollout.plan.steps[rollout.step + 1 :]]
    if share not in ahead:
        listed = ", ".join(f"{each:g}" for each in ahead)
        raise BadInput(f"{share:g} is no share that lies ahead of this rollout.", f"Choose one of {listed}.")
    if not reason.strip():
        raise BadInput("A share set by hand needs a reason.", 'Add --reason "..."; it goes into the history.')
    return apply_rollout_decision(registry, rollout, Advance(share, f"By hand: {reason.strip()}"), actor=actor, now=now)


def _in_force(registry: Registry, advisor: str) -> Rollout:
    rollout = active_rollout(registry, advisor)
    if rollout is None:
        raise NothingToDo(f"No rollout of '{advisor}' is in force.", "Its champion answers everything.")
    return rollout


@dataclass(frozen=True)
class RolloutCheck:
    """One look at a rollout: how it stood, what was seen, what was decided, and how it stands now."""

    before: Rollout
    observed: RolloutObservations
    decision: RolloutDecision
    after: Rollout

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and pages."""
        return {
            "advisor": self.after.advisor,
            "version": self.after.version,
            "control": self.after.control,
            "decision": DECISION_LABELS[type(self.decision)],
            "sentence": self.decision.sentence,
            "guardrail": getattr(self.decision, "guardrail", None),
            "evidence": dict(self.decision.evidence),
            "share": self.after.share if self.after.status != "rolled_back" else 0.0,
            "status": self.after.status,
            "observed": asdict(self.observed),
        }


DECISION_LABELS: dict[type[Any], str] = {Advance: "advance", Hold: "hold", RollBack: "roll back"}


def check_rollout(
    registry: Registry,
    advisor: str,
    jobs: Iterable[Job],
    *,
    actor: str,
    now: datetime | None = None,
    only_look: bool = False,
    only_back: bool = False,
) -> RolloutCheck:
    """What `rollout/advance` does: count the advisor's jobs (oldest first), decide, and carry it out.

    Args:
        only_look: decide, and change nothing.
        only_back: carry out a RollBack and nothing else, as the service does as soon as an answer failed.

    Raises:
        NothingToDo: no rollout is in force, or another scheduler was first.
        ChampionChanged: somebody promoted or rolled back meanwhile.
    """
    moment = now or datetime.now(UTC)
    if not only_look:
        repair_rollout_history(registry, advisor, actor)
    rollout = _in_force(registry, advisor)
    observed = count_observations(rollout_requests(jobs, rollout), rollout)
    decision = decide_rollout(rollout, observed, moment)
    if only_look or (only_back and not isinstance(decision, RollBack)):
        return RolloutCheck(rollout, observed, decision, rollout)
    return RolloutCheck(
        rollout, observed, decision, apply_rollout_decision(registry, rollout, decision, actor=actor, now=moment)
    )
