"""Rollouts in the registry's history: the entry that changes a rollout holds its whole state.

Start, change and rollback of a rollout are one entry each, so they take effect in the one step that makes an entry
take effect, in a folder and in an object store alike: nothing has to be repaired, and one of several writers wins.

The pointer decides. A rollout is active only while its own promotion made the champion (the promotion's entry holds the
rollout's salt), so a rollback or any other promotion ends it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mondrian_core.errors import BadInput, ChampionChanged, NothingToDo
from mondrian_core.files import read_json
from mondrian_core.registry import OBJECTIONS, ChampionReference, HistoryEntry, Registry
from mondrian_core.rollout.decision_rules import decide_rollout, rollout_after_decision
from mondrian_core.rollout.observation_log import observe_rollout
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

STATE_KEY = "rollout_state"  # of the details of an entry that changes a rollout
LEGACY_FILE = "rollout.json"  # where older releases kept the state
CURRENT_CHAMPION = "whoever"  # can't be the name of a version
SERVICE_ACTOR = "service"  # actor of rollbacks that the service does after a failed answer
CarryOut = Literal["any", "rollback", "nothing"]


def load_rollout(registry: Registry, advisor: str) -> Rollout | None:
    """The latest rollout, active or not; None when there was none.

    Raises:
        BadInput: when its state can't be read.
    """
    return _latest_rollout(registry, advisor, registry.history(advisor))


def active_rollout(registry: Registry, advisor: str) -> Rollout | None:
    """The active rollout; None when the champion answers everything.

    Raises:
        BadInput: when its state can't be read.
    """
    entries = registry.history(advisor)
    rollout = _latest_rollout(registry, advisor, entries)
    return rollout if rollout is not None and _is_active(rollout, entries) else None


def _is_active(rollout: Rollout, entries: Sequence[HistoryEntry]) -> bool:
    moves = [entry for entry in entries if entry.moves_pointer]
    promoted = bool(moves) and moves[-1].after == rollout.version and moves[-1].detail.get("rollout") == rollout.salt
    return promoted and rollout.status == "running"


def _latest_rollout(registry: Registry, advisor: str, entries: Sequence[HistoryEntry]) -> Rollout | None:
    marked = [entry for entry in entries if "rollout" in entry.detail]
    if not marked:
        return None
    file = registry.root / advisor / LEGACY_FILE
    try:
        # an older release wrote a file next to the entry
        state = marked[-1].detail[STATE_KEY] if STATE_KEY in marked[-1].detail else read_json(file)
        return Rollout.from_dict(state)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"Can't read the rollout of '{advisor}' in the history of {registry.url or registry.root}: {error}.",
            f"Roll back with `mondrian adapters rollback --advisor {advisor}`, or promote another version.",
        ) from None


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

    The state is part of the promotion's entry, so of several that start at once one promotes and is rolled out.

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
            **_entry_detail(rollout),
            **({OBJECTIONS: list(start.objections)} if start.objections else {}),
        },
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
    """Carry out a decision once: one entry of the history, which for a rollback moves the pointer.

    Raises:
        ChampionChanged: there was a promotion or rollback in the meantime.
        NothingToDo: another scheduler was first.
    """
    if isinstance(decision, Hold):
        return rollout
    changed = rollout_after_decision(rollout, decision, now or datetime.now(UTC))
    detail = _entry_detail(changed)

    def require_unchanged(entries: Sequence[HistoryEntry]) -> None:
        stored = _latest_rollout(registry, rollout.advisor, entries)
        moves = [entry for entry in entries if entry.moves_pointer]
        if stored is None or stored.salt != rollout.salt or not _is_active(stored, entries):
            raise ChampionChanged(rollout.advisor, rollout.version, moves[-1].after if moves else None)
        if isinstance(decision, Advance) and stored.revision != rollout.revision:
            raise NothingToDo(f"The rollout of {rollout.version} has changed in the meantime.", "Check it again.")

    about: dict[str, Any] = {"actor": actor, "reason": changed.why, "detail": detail, "require": require_unchanged}
    if isinstance(decision, RollBack):
        registry.rollback(rollout.advisor, expected=rollout.version, **about)
    else:
        registry.record_rollout(rollout.advisor, rollout.version, **about)
    return changed


def _entry_detail(rollout: Rollout) -> dict[str, Any]:
    """The details of an entry that starts or changes a rollout."""
    detail: dict[str, Any] = {"rollout": rollout.salt, "share": rollout.share, STATE_KEY: rollout.as_dict()}
    return detail | ({"revision": rollout.revision, "evidence": dict(rollout.evidence)} if rollout.revision else {})


def rollout_ended_by_service(registry: Registry, advisor: str) -> Rollout | None:
    """The latest rollout when the service rolled it back and nothing was promoted since; otherwise None."""
    rollout = load_rollout(registry, advisor)
    moves = [entry for entry in registry.history(advisor) if entry.moves_pointer] if rollout else []
    if rollout is None or rollout.status != "rolled_back" or len(moves) < 2 or moves[-1].actor != SERVICE_ACTOR:
        return None
    return rollout if moves[-2].detail.get("rollout") == rollout.salt else None


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
        jobs: the advisor's on this machine, oldest first; those of other machines come from the registry's store.
        actor: who checks, for the history.
        now: for tests; by default the current time.
        carry_out: which decisions to carry out. The service carries out a rollback alone, after a failed answer.

    Raises:
        NothingToDo: no rollout is active, or another scheduler was first.
        ChampionChanged: there was a promotion or rollback in the meantime.
    """
    moment = now or datetime.now(UTC)
    rollout = _require_active(registry, advisor)
    observed = observe_rollout(registry, rollout, jobs, publish=carry_out != "nothing")
    decision = _held_after_failure(registry, rollout, decide_rollout(rollout, observed, moment))
    if carry_out == "nothing" or (carry_out == "rollback" and not isinstance(decision, RollBack)):
        return RolloutCheck(rollout, observed, decision, rollout)
    return RolloutCheck(
        rollout, observed, decision, apply_rollout_decision(registry, rollout, decision, actor=actor, now=moment)
    )
