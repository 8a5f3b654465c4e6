"""The promotion decision on a candidate: a pure function of its gate report.

A candidate is promoted only when every required gate has a result and all results are PASS. Any FAIL rejects it.
Otherwise it is kept for a person to decide. The report's own verdict never overrides a worse result of a gate. A gate
that the recipe only reports (`GateResult.decides` is False) stops nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.registry import AdapterVersion, ChampionReference

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
    command = f'mondrian adapters promote --advisor {advisor} --version {version} --reason "..."'
    deployment = f'{_deployment_command("promote/manual", advisor, version)} -p reason="..."'
    sentence = f"Kept as a candidate, {'; '.join(reasons) or 'the verdict of the report is not PASS'}."
    return Keep(sentence, command, deployment)


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
        f"mondrian evaluate --advisor {advisor} --adapter {version}",
        _deployment_command("evaluate/manual", advisor, version),
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


def check_manual_promotion(
    version: AdapterVersion, champion: ChampionReference, *, force: bool, reason: str | None
) -> None:
    """Check a manual promotion that would replace `champion`.

    PASS needs nothing more. INCONCLUSIVE needs a reason, and so does an evaluation that compared with another champion.
    FAIL, a version that a person rejected and one that was never evaluated need `force` and a reason. The registry
    refuses damaged files.

    Raises:
        GateFailed: the gates refuse the version and `force` is not set.
        BadInput: the reason is missing.
    """
    given = bool((reason or "").strip())
    name, verdict = f"{version.version} of '{version.advisor}'", version.verdict
    refused = version.state == "rejected" or verdict == FAIL
    if (refused or verdict is None) and not force:
        failed = [gate for gate, result in version.verdicts.items() if result == FAIL]
        problem = (
            f"The gates refuse {name}{': ' + ', '.join(failed) if failed else ''}."
            if refused
            else f"{name} was never evaluated."
        )
        raise GateFailed(
            problem, 'To promote it anyway, add --force --reason "..."; the reason is recorded in the history.'
        )
    if (force or verdict != PASS) and not given:
        what = "A forced promotion" if force else f"{name} is {verdict}: its promotion"
        raise BadInput(f"{what} needs a reason.", 'Add --reason "..."; it is recorded in the history.')
    compared = version.compared_with
    if not given and (compared is None or not compared.matches(champion)):
        raise BadInput(
            f"The champion changed since {name} was evaluated: {_champion_difference(compared, champion)}. "
            "Its promotion needs a reason.",
            f"Evaluate it again (`mondrian evaluate --advisor {version.advisor} --adapter {version.version}`), or add "
            '--reason "..."; it is recorded in the history.',
        )
