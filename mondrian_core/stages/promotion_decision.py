"""The promotion decision on a candidate: a pure function of its gate reports and of what would be served.

A candidate is promoted only when every required gate has a result and all results are PASS. Any FAIL rejects it.
Otherwise it is kept for a person to decide. The report's own verdict never overrides a worse result of a gate. A gate
that the recipe only reports (`GateResult.decides` is False) stops nothing.

What speaks against a promotion besides its gates, and what a person may override, is in `mondrian_core.promotion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from mondrian_core.promotion import (
    FAIL,
    PASS,
    EvaluationConditions,
    Objection,
    champion_difference,
    deciding_evaluation,
    deployment_command,
    evaluation_commands,
    promotion_objections,
)
from mondrian_core.registry import AdapterVersion, ChampionReference

if TYPE_CHECKING:
    from mondrian_core.evaluation.gates.gate import Gate


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
        f'{deployment_command("promote/manual", advisor, version)} -p reason="..."',
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
        f"Kept as a candidate: the champion changed; evaluate again ({champion_difference(compared, champion)}).",
        *evaluation_commands(advisor, version),
    )


def _with_reasons(gates: Mapping[str, Mapping[str, Any]], names: list[str]) -> str:
    return "; ".join(
        f"{name} ({str(gates[name].get('sentence') or gates[name]['verdict']).rstrip('.')})" for name in names
    )


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
        return Keep(sentence, *evaluation_commands(version.advisor, version.version))
    if isinstance(decision, Keep):
        return replace(decision, sentence=sentence)
    return Keep(sentence, *_promote_commands(version.advisor, version.version))
