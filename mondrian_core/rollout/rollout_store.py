"""Store rollouts in `adapters/<advisor>/rollout.json`, next to the registry's pointer and under the same lock.

The pointer decides. A rollout is active only while its own promotion made the champion (the promotion's history entry
holds the rollout's salt), so a rollback or any other promotion ends it with the same rename.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mondrian_core.errors import BadInput, ChampionChanged, NothingToDo
from mondrian_core.files import read_json, write_json
from mondrian_core.registry import OBJECTIONS, ChampionReference, Registry
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
CURRENT_CHAMPION = "whoever"  # can't be the name of a version
SERVICE_ACTOR = "service"  # actor of rollbacks that the service does after a failed answer
CarryOut = Literal["any", "rollback", "nothing"]


def load_rollout(registry: Registry, advisor: str) -> Rollout | None:
    """The latest rollout, active or not; None when there was none.

    Raises:
        BadInput: when its file can't be read.
    """
    try:
        return Rollout.from_dict(read_json(registry.root / advisor / ROLLOUT_FILE))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"Can't read {registry.root / advisor / ROLLOUT_FILE}: {error}.",
            "Remove it; the champion then answers all requests.",
        ) from None


def active_rollout(registry: Registry, advisor: str) -> Rollout | None:
    """The active rollout; None when the champion answers everything."""
    rollout = load_rollout(registry, advisor)
    if rollout is None or rollout.status != "running":
        return None
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer]
    is_active = bool(moves) and moves[-1].after == rollout.version and moves[-1].detail.get("rollout") == rollout.salt
    return rollout if is_active else None


@dataclass(frozen=True, kw_only=True)
class RolloutStart:
    """What a rollout starts with.

    Attributes:
        version: the candidate.
        plan: steps and guardrails.
        actor: who starts it, for the history.
        reason: why, for the history.
        expected: the champion to replace, None for the base; by default the current one.
        now: for tests; by default the current time.
        forced: True to promote although gates object.
        problems: what the gates object to.
        run: name of the run that starts it; a run starts it once (`Registry.promote`).
        objections: what speaks against it and was overridden, for the history.
    """

    version: str
    plan: RolloutPlan
    actor: str
    reason: str
    expected: ChampionReference | str | None = CURRENT_CHAMPION
    now: datetime | None = None
    forced: bool = False
    problems: Sequence[str] = ()
    run: str | None = None
    objections: Sequence[str] = ()


def start_rollout(registry: Registry, advisor: str, start: RolloutStart) -> Rollout:
    """Promote the version of `start`, beginning with the first share of its plan.

    The file is written under the lock of the promotion, just before the pointer moves: a process killed in between
    leaves an inactive rollout, and of two that start at once the winner's file stays.

    Raises:
        NothingToDo: another rollout is active, or this version was rolled back recently.
        MondrianError: what `Registry.promote` raises.
    """
    moment = (start.now or datetime.now(UTC)).astimezone(UTC)
    require_no_active_rollout(registry, advisor)
    if (until := cool_down_end(registry, advisor, start.version, start.plan)) is not None and moment < until:
        raise NothingToDo(
            f"{start.version} of '{advisor}' was rolled back.",
            f"It may be rolled out again at {until:%Y-%m-%d %H:%M} UTC.",
        )
    champion = registry.reference(advisor) if start.expected == CURRENT_CHAMPION else start.expected
    control = champion.version if isinstance(champion, ChampionReference) else champion
    started_at = moment.isoformat()
    rollout = Rollout(
        advisor=advisor,
        version=start.version,
        control=control,
        salt=secrets.token_hex(8),
        plan=start.plan,
        started_at=started_at,
        step_started_at=started_at,
        why=start.reason,
    )
    registry.promote(
        advisor,
        start.version,
        expected=champion,
        actor=start.actor,
        reason=start.reason,
        forced=start.forced,
        problems=start.problems,
        detail={
            "rollout": rollout.salt,
            "share": rollout.share,
            **({OBJECTIONS: list(start.objections)} if start.objections else {}),
        },
        extra_files={ROLLOUT_FILE: rollout.as_dict()},
        run=start.run,
    )
    return rollout


def require_no_active_rollout(registry: Registry, advisor: str) -> None:
    """Refuse a promotion while a rollout is active.

    Otherwise a later rollback would return to a version that has answered only a share of the traffic.

    Raises:
        NothingToDo: a rollout is active.
    """
    running = active_rollout(registry, advisor)
    if running is not None:
        raise NothingToDo(
            f"The rollout of {running.version} of '{advisor}' is {running.position}.",
            f"Wait for its end (`mondrian rollout show --advisor {advisor}`), end it with `mondrian rollout set "
            f'--advisor {advisor} 1.0 --reason "..."`, '
            f"or roll back with `mondrian adapters rollback --advisor {advisor}`.",
        )


def cool_down_end(registry: Registry, advisor: str, version: str, plan: RolloutPlan) -> datetime | None:
    """When a version that was rolled back may be rolled out again; None when it never was."""
    rollbacks = [entry for entry in registry.history(advisor) if entry.event == "rollback" and entry.version == version]
    return datetime.fromisoformat(rollbacks[-1].at) + timedelta(hours=plan.cool_down_hours) if rollbacks else None


def apply_rollout_decision(
    registry: Registry, rollout: Rollout, decision: RolloutDecision, *, actor: str, now: datetime | None = None
) -> Rollout:
    """Carry out a decision once: move the pointer for a rollback, write the file, then the history.

    Raises:
        ChampionChanged: there was a promotion or rollback in the meantime.
        NothingToDo: another scheduler was first.
    """
    if isinstance(decision, Hold):
        return rollout
    changed = rollout_after_decision(rollout, decision, now or datetime.now(UTC))
    if isinstance(decision, RollBack):
        registry.rollback(rollout.advisor, actor=actor, reason=decision.sentence, expected=rollout.version)
    with registry.locked(rollout.advisor):
        stored = load_rollout(registry, rollout.advisor)
        if stored is None or stored.salt != rollout.salt or stored.revision != rollout.revision:
            raise NothingToDo(f"The rollout of {rollout.version} has changed in the meantime.", "Check it again.")
        if isinstance(decision, Advance) and active_rollout(registry, rollout.advisor) is None:
            raise ChampionChanged(rollout.advisor, rollout.version, registry.current(rollout.advisor))
        write_json(registry.root / rollout.advisor / ROLLOUT_FILE, changed.as_dict())
    if isinstance(decision, Advance):
        _record_in_history(registry, changed, actor)
    return changed


def rollout_ended_by_service(registry: Registry, advisor: str) -> Rollout | None:
    """The latest rollout when the service rolled it back and nothing was promoted since; otherwise None."""
    rollout = load_rollout(registry, advisor)
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer] if rollout else []
    if rollout is None or rollout.status != "rolled_back" or len(moves) < 2 or moves[-1].actor != SERVICE_ACTOR:
        return None
    return rollout if moves[-2].detail.get("rollout") == rollout.salt else None


def _record_in_history(registry: Registry, rollout: Rollout, actor: str) -> None:
    """Append the rollout's last change to the history."""
    detail = {
        "rollout": rollout.salt,
        "share": rollout.share,
        "revision": rollout.revision,
        "evidence": dict(rollout.evidence),
    }
    registry.record_rollout(rollout.advisor, rollout.version, actor=actor, reason=rollout.why, detail=detail)


def repair_rollout_history(registry: Registry, advisor: str, actor: str) -> None:
    """Append the change of a share that a killed process wrote to the file but not to the history."""
    rollout = load_rollout(registry, advisor)
    if rollout is None or rollout.revision == 0 or rollout.status == "rolled_back":
        return
    entries = registry.history(advisor)
    moves = [entry for entry in entries if entry.moves_pointer]
    if not moves or moves[-1].detail.get("rollout") != rollout.salt:
        return  # something else made the present champion
    if all(entry.detail.get("revision") != rollout.revision for entry in entries if entry.serial > moves[-1].serial):
        _record_in_history(registry, rollout, actor)


def set_rollout_share(
    registry: Registry, advisor: str, share: float, *, actor: str, reason: str, now: datetime | None = None
) -> Rollout:
    """Set a later share of the plan manually; 1.0 ends the rollout in favour of the new version.

    Args:
        registry: of the adapters.
        advisor: whose rollout it is.
        share: of a later step of the plan (0-1).
        actor: who sets it, for the history.
        reason: why, for the history.
        now: for tests; by default the current time.

    Raises:
        NothingToDo: no rollout is active.
        BadInput: the share isn't one of the later steps, or there is no reason.
    """
    rollout = _require_active(registry, advisor)
    ahead = [step.share for step in rollout.plan.steps[rollout.step + 1 :]]
    if share not in ahead:
        listed = ", ".join(f"{later:g}" for later in ahead)
        raise BadInput(f"{share:g} is not a later share of this rollout.", f"Choose one of {listed}.")
    if not reason.strip():
        raise BadInput("A share that is set manually needs a reason.", 'Add --reason "..."; it goes into the history.')
    return apply_rollout_decision(
        registry, rollout, Advance(share, f"Manually: {reason.strip()}"), actor=actor, now=now
    )


def _require_active(registry: Registry, advisor: str) -> Rollout:
    rollout = active_rollout(registry, advisor)
    if rollout is None:
        raise NothingToDo(f"No rollout of '{advisor}' is active.", "Its champion answers all requests.")
    return rollout


@dataclass(frozen=True)
class RolloutCheck:
    """One check of a rollout: the state before, the observations, the decision, and the state after."""

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


def _held_after_failure(registry: Registry, rollout: Rollout, decision: RolloutDecision) -> RolloutDecision:
    """No further share for a version that failed an evaluation since it was promoted."""
    failed = registry.get(rollout.advisor, rollout.version).unanswered_failures
    since = [each for each in failed if each.at and datetime.fromisoformat(each.at) >= rollout.started]
    if not isinstance(decision, Advance) or not since:
        return decision
    gates = ", ".join(sorted({gate for each in since for gate in each.failed_gates}))
    return Hold(
        f"An evaluation of {rollout.version} failed since its rollout began ({gates}): roll back, or evaluate again.",
        decision.evidence,
    )


DECISION_LABELS: dict[type[Any], str] = {Advance: "advance", Hold: "hold", RollBack: "roll back"}


def check_rollout(
    registry: Registry,
    advisor: str,
    jobs: Iterable[Job],
    *,
    actor: str,
    now: datetime | None = None,
    carry_out: CarryOut = "any",
) -> RolloutCheck:
    """Count an advisor's jobs, decide, and carry out the decision, as `rollout/advance` does.

    Args:
        registry: of the adapters.
        advisor: whose rollout is checked.
        jobs: the advisor's, oldest first.
        actor: who checks, for the history.
        now: for tests; by default the current time.
        carry_out: which decisions to carry out. The service carries out a rollback alone, after a failed answer.

    Raises:
        NothingToDo: no rollout is active, or another scheduler was first.
        ChampionChanged: there was a promotion or rollback in the meantime.
    """
    moment = now or datetime.now(UTC)
    if carry_out != "nothing":
        repair_rollout_history(registry, advisor, actor)
    rollout = _require_active(registry, advisor)
    observed = count_observations(rollout_requests(jobs, rollout), rollout)
    decision = _held_after_failure(registry, rollout, decide_rollout(rollout, observed, moment))
    if carry_out == "nothing" or (carry_out == "rollback" and not isinstance(decision, RollBack)):
        return RolloutCheck(rollout, observed, decision, rollout)
    return RolloutCheck(
        rollout, observed, decision, apply_rollout_decision(registry, rollout, decision, actor=actor, now=moment)
    )
