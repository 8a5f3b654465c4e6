"""The promotion decision on a candidate: a pure function of its gate reports and of what would be served.

A candidate is promoted only when every required gate has a result and all results are PASS. Any FAIL rejects it.
Otherwise it is kept for a person to decide. The report's own verdict never overrides a worse result of a gate. A gate
that the recipe only reports (`GateResult.decides` is False) stops nothing.

The newest evaluation under the present conditions decides. Whatever speaks against a promotion besides its gates is an
`Objection`; one is enough to stop an automatic promotion (docs/decisions/0103).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.gate_strictness import loosened_text
from mondrian_core.registry import CONDITIONS, AdapterVersion, ChampionReference, RecordedEvaluation
from mondrian_core.registry.version import VERSION_NAME
from mondrian_core.stages.evaluation_conditions import EvaluationConditions, condition_differences

if TYPE_CHECKING:
    from mondrian_core.evaluation.gates.gate import Gate

# The values of `evaluation.gates.results`. The evaluation is slow to import, so it is imported for a decision only.
PASS, FAIL = "PASS", "FAIL"


@dataclass(frozen=True)
class Promote:
    """All gates passed."""

    sentence: str


@dataclass(frozen=True)
class Keep:
    """No gate failed, but not all passed.

    Attributes:
        sentence: the reason.
        command, deployment: commands that promote the version manually or evaluate it again.
    """

    sentence: str
    command: str
    deployment: str


@dataclass(frozen=True)
class Reject:
    """A gate failed."""

    sentence: str


PromotionDecision = Promote | Keep | Reject


def decide_promotion(
    report: Mapping[str, Any],
    champion: ChampionReference,
    *,
    advisor: str = "ADVISOR",
    version: str = "VERSION",
    gates: Sequence[Gate] | None = None,
) -> PromotionDecision:
    """The decision on a candidate.

    Args:
        report: {"verdict", "gates": [{"name", "verdict", "sentence", "decides"}, ...], "compared_with": the champion at
            the time of the evaluation}, as stored in a version (`AdapterVersion.report`).
        champion: the one that would be replaced. The evaluation must have compared with exactly this one.
        advisor: for the commands in `Keep`.
        version: for the commands in `Keep`.
        gates: those that state what a promotion requires; None: all.
    """
    results = {result["name"]: result for result in report.get("gates", []) if result.get("decides", True)}
    failed = [name for name, result in results.items() if result["verdict"] == FAIL]
    if failed or report.get("verdict") == FAIL:
        return Reject(f"Rejected: {_with_reasons(results, failed) or 'the verdict of the report is FAIL'}.")
    compared = ChampionReference.recorded_in(report)
    if compared is None or not compared.matches(champion):
        return keep_for_reevaluation(compared, champion, advisor, version)
    missing = _missing_results(_all_gates() if gates is None else gates, results, champion)
    undecided = [name for name, result in results.items() if result["verdict"] != PASS]
    if not missing and not undecided and report.get("verdict", PASS) == PASS:
        effect = f"replaces {champion}" if champion.version else "is the first champion"
        return Promote(f"Promoted: all {len(results)} gates passed; it {effect}.")
    reasons = [f"inconclusive: {_with_reasons(results, undecided)}"] if undecided else []
    reasons += [f"not measured: {', '.join(missing)}"] if missing else []
    sentence = f"Kept as a candidate, {'; '.join(reasons) or 'the verdict of the report is not PASS'}."
    return Keep(sentence, *_promote_commands(advisor, version))


def _promote_commands(advisor: str, version: str) -> tuple[str, str]:
    """The command and the deployment that promote a version manually."""
    return (
        f'mondrian adapters promote --advisor {advisor} --version {version} --reason "..."',
        f'{_deployment_command("promote/manual", advisor, version)} -p reason="..."',
    )


def _evaluate_commands(advisor: str, version: str) -> tuple[str, str]:
    """The command and the deployment that evaluate a version again."""
    return (
        f"mondrian evaluate --advisor {advisor} --adapter {version}",
        _deployment_command("evaluate/manual", advisor, version),
    )


def _all_gates() -> Sequence[Gate]:
    from mondrian_core.evaluation.gates.definitions import GATES

    return GATES


def _missing_results(
    gates: Sequence[Gate], results: Mapping[str, Mapping[str, Any]], champion: ChampionReference
) -> list[str]:
    """The gates that this promotion requires and that have no result."""
    from mondrian_core.evaluation.gates.gate import Requirement

    missing = []
    for gate in gates:
        match gate.required:
            case Requirement.ALWAYS:
                required = True
            case Requirement.WITH_CHAMPION:
                required = bool(champion.version)
            case Requirement.IF_MEASURED | Requirement.BY_RECIPE:
                required = False
            case _:
                assert_never(gate.required)
        if required and gate.name not in results:
            missing.append(gate.name)
        elif required and gate.required is Requirement.WITH_CHAMPION and results[gate.name].get("n") == 0:
            missing.append(f"{gate.name} (not compared with {champion})")  # such as a champion on another base
    return missing


def keep_for_reevaluation(
    compared: ChampionReference | None, champion: ChampionReference, advisor: str, version: str
) -> Keep:
    """The decision on a candidate whose evaluation compared it with a different champion."""
    return Keep(
        f"Kept as a candidate: the champion changed; evaluate again ({_champion_difference(compared, champion)}).",
        *_evaluate_commands(advisor, version),
    )


def _deployment_command(deployment: str, advisor: str, version: str) -> str:
    """The command that runs a deployment for a version."""
    return f"mondrian prefect deployment run '{deployment}' -p advisor={advisor} -p version={version}"


def _champion_difference(compared: ChampionReference | None, champion: ChampionReference) -> str:
    if compared is None:
        return f"its report doesn't record the champion that it was compared with; the champion is {champion}"
    changed = ", with other files" if compared.version == champion.version else ""
    return f"it was compared with {compared}, and the champion is {champion} now{changed}"


def _with_reasons(gates: Mapping[str, Mapping[str, Any]], names: list[str]) -> str:
    return "; ".join(
        f"{name} ({str(gates[name].get('sentence') or gates[name]['verdict']).rstrip('.')})" for name in names
    )


@dataclass(frozen=True)
class Objection:
    """A reason against a promotion, besides the results of the gates.

    Attributes:
        sentence: a clause about the version, such as "v0002 is older than the champion v0003".
        next_step: what to do instead of promoting.
        needs_force: a person needs --force and a reason to override it; otherwise a reason is enough.
    """

    sentence: str
    next_step: str
    needs_force: bool = False


def deciding_evaluation(version: AdapterVersion, now: EvaluationConditions | None) -> RecordedEvaluation | None:
    """The newest evaluation that holds under the conditions in force, or else the newest; None: never evaluated."""
    holds = [
        each
        for each in version.evaluations
        if now is None or not condition_differences(each.report.get(CONDITIONS), now).changed
    ]
    return next(reversed(holds or version.evaluations), None)


def promotion_objections(
    version: AdapterVersion,
    champion: AdapterVersion | None,
    now: EvaluationConditions | None,
) -> tuple[Objection, ...]:
    """What speaks against a promotion besides the verdict of the deciding evaluation.

    Args:
        version: to promote.
        champion: the one that it would replace.
        now: the conditions in force; None: they are not compared.
    """
    evaluate = f"Evaluate it again: `{_evaluate_command(version)}`."
    found = [
        Objection(
            f"{_failure_phrase(failed)}, and no later one passed these gates on the same photographs",
            evaluate,
            needs_force=True,
        )
        for failed in version.unanswered_failures
    ]
    decides = deciding_evaluation(version, now)
    if decides is not None and now is not None:
        differences = condition_differences(decides.report.get(CONDITIONS), now)
        found += [Objection(clause, evaluate, needs_force=True) for clause in differences.changed]
        found += [Objection(clause, evaluate) for clause in differences.unknown]
    if decides is not None and not decides.settings:
        found.append(Objection("its evaluation doesn't record the thresholds of its gates", evaluate))
    elif decides is not None and decides.loosened:
        found.append(Objection(f"it was evaluated {loosened_text(decides.loosened)}", evaluate))
    if champion is not None and 0 < version.number < champion.number:
        compared = _were_compared(version, champion) or _were_compared(champion, version)
        how = "although the two were compared" if compared else "and was never compared with it"
        found.append(Objection(f"{version.version} is older than the champion {champion.version} {how}", evaluate))
    return tuple(found)


def decide_registered_promotion(
    version: AdapterVersion, reference: ChampionReference, champion: AdapterVersion | None, now: EvaluationConditions
) -> PromotionDecision:
    """The automatic decision on a registered version.

    Args:
        version: the candidate.
        reference: the champion as the registry's writers see it.
        champion: the same as a version; None: the base alone.
        now: the conditions in force.
    """
    objections = promotion_objections(version, champion, now)
    decides = deciding_evaluation(version, now)
    decision = decide_promotion(
        decides.report if decides else {}, reference, advisor=version.advisor, version=version.version
    )
    if isinstance(decision, Reject):
        return decision
    if version.unanswered_failures:
        return Reject(f"Rejected: {objections[0].sentence}.")
    if version.state == "retired":
        objections = (
            Objection(f"{version.version} was champion before and was replaced or rolled back", ""),
            *objections,
        )
    if not objections:
        return decision
    against = "; ".join(objection.sentence for objection in objections)
    if isinstance(decision, Keep):
        sentence = f"{decision.sentence.rstrip('.')}; {against}."
    else:
        sentence = f"Kept as a candidate: all gates passed, but {against}."
    if any(objection.needs_force for objection in objections):
        return Keep(sentence, *_evaluate_commands(version.advisor, version.version))
    if isinstance(decision, Keep):
        return replace(decision, sentence=sentence)
    return Keep(sentence, *_promote_commands(version.advisor, version.version))


def check_manual_promotion(
    version: AdapterVersion,
    champion: ChampionReference,
    *,
    force: bool,
    reason: str | None,
    objections: Sequence[Objection] = (),
    decides: RecordedEvaluation | None = None,
) -> tuple[str, ...]:
    """Check a manual promotion that would replace `champion`; gives what speaks against it, for the history.

    PASS needs nothing more. INCONCLUSIVE and most objections need a reason, and so does an evaluation that compared
    with another champion. FAIL, an evaluation under other conditions, a version that a person rejected and one that
    was never evaluated need `force` and a reason. The registry refuses damaged files.

    Args:
        version: to promote.
        champion: the one that it would replace.
        force: promote against a refusal.
        reason: for the history.
        objections: of `promotion_objections`.
        decides: of `deciding_evaluation`; None: the newest evaluation.

    Raises:
        GateFailed: the gates or the conditions refuse the version and `force` is not set.
        BadInput: the reason is missing.
    """
    decides = decides or (version.evaluations[-1] if version.evaluations else None)
    verdict, name = decides.verdict if decides else None, f"{version.version} of '{version.advisor}'"
    refusal = _refusal(version, decides, [each for each in objections if each.needs_force])
    if refusal is not None and not force:
        raise GateFailed(*refusal)
    against = [] if verdict in (PASS, FAIL, None) else [f"{name} is {verdict}"]
    against += [objection.sentence for objection in objections]
    compared = ChampionReference.recorded_in(decides.report) if decides else None
    if decides is not None and (compared is None or not compared.matches(champion)):
        against.append(f"the champion changed since {name} was evaluated: {_champion_difference(compared, champion)}")
    if (force or against) and not (reason or "").strip():
        what = "A forced promotion" if force else f"{_as_sentence('; '.join(against))} Its promotion"
        again = "" if force else f"Evaluate it again (`{_evaluate_command(version)}`), or add "
        raise BadInput(f"{what} needs a reason.", f'{again or "Add "}--reason "..."; it is recorded in the history.')
    return tuple(against)


def _refusal(
    version: AdapterVersion, decides: RecordedEvaluation | None, refusing: Sequence[Objection]
) -> tuple[str, str] | None:
    """The problem and the next step for a version that needs `force`; None for any other."""
    name = f"{version.version} of '{version.advisor}'"
    override = 'To promote it anyway, add --force --reason "..."; the reason is recorded in the history.'
    failed = version.unanswered_failures
    if version.state == "rejected" or failed or (decides is not None and decides.verdict == FAIL):
        gates = sorted({gate for each in (*failed, *filter(None, [decides])) for gate in each.failed_gates})
        why = [objection.sentence for objection in refusing]
        problem = f"The gates refuse {name}{': ' + ', '.join(gates) if gates else ''}."
        return problem + (f" {_as_sentence('; '.join(why))}" if why else ""), override
    if decides is None:
        return f"{name} was never evaluated.", f"Evaluate it: `{_evaluate_command(version)}`. {override}"
    if refusing:
        why = [objection.sentence for objection in refusing]
        return f"The evaluation of {name} no longer holds: {'; '.join(why)}.", f"{refusing[0].next_step} {override}"
    return None


def _were_compared(candidate: AdapterVersion, champion: AdapterVersion) -> bool:
    """True when an evaluation of `candidate` compared it with `champion` on at least one photograph."""
    for evaluation in candidate.evaluations:
        compared = ChampionReference.recorded_in(evaluation.report)
        gates = {gate["name"]: gate for gate in evaluation.report.get("gates", [])}
        if compared and compared.matches(champion.reference) and gates.get("champion", {}).get("n"):
            return True
    return False


def _failure_phrase(evaluation: RecordedEvaluation) -> str:
    when = f"of {evaluation.at[:10]}" if evaluation.at else "at its registration"
    return f"its evaluation {when} failed ({', '.join(evaluation.failed_gates) or 'FAIL'})"


def _as_sentence(text: str) -> str:
    first = text[:1] if VERSION_NAME.match(text) else text[:1].upper()  # v0001 stays as it is typed
    return f"{first}{text[1:].rstrip('.')}."


def _evaluate_command(version: AdapterVersion) -> str:
    return _evaluate_commands(version.advisor, version.version)[0]
