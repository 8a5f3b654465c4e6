"""What speaks against promoting a registered version besides its gates, and whether a person may still promote it.

The newest evaluation under the present conditions decides. Whatever speaks against a promotion besides its gates is an
`Objection`; one is enough to stop an automatic promotion (docs/decisions/0103).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.gate_strictness import loosened_text
from mondrian_core.promotion.evaluation_conditions import EvaluationConditions, condition_differences
from mondrian_core.registry import CONDITIONS, AdapterVersion, ChampionReference, RecordedEvaluation
from mondrian_core.registry.version import VERSION_NAME

PASS, FAIL = "PASS", "FAIL"  # the values of `evaluation.gates.results`, which is above this package


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
        against.append(f"the champion changed since {name} was evaluated: {champion_difference(compared, champion)}")
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
    return evaluation_commands(version.advisor, version.version)[0]


def evaluation_commands(advisor: str, version: str) -> tuple[str, str]:
    """The command and the deployment that evaluate a version again."""
    return (
        f"mondrian evaluate --advisor {advisor} --adapter {version}",
        deployment_command("evaluate/version", advisor, version),
    )


def deployment_command(deployment: str, advisor: str, version: str) -> str:
    """The command that runs a deployment for a version."""
    return f"mondrian prefect deployment run '{deployment}' -p advisor={advisor} -p version={version}"


def champion_difference(compared: ChampionReference | None, champion: ChampionReference) -> str:
    """How the champion that an evaluation compared with differs from the present one."""
    if compared is None:
        return f"its report doesn't record the champion that it was compared with; the champion is {champion}"
    changed = ", with other files" if compared.version == champion.version else ""
    return f"it was compared with {compared}, and the champion is {champion} now{changed}"
