"""What becomes of a candidate: decided from the gate report alone, as values.

Promote only when every gate that must be there is there and says PASS; any FAIL rejects; everything else is kept for a
person to decide. The report's own summary is not believed over its gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mondrian_core.errors import BadInput, GateFailed
from mondrian_core.registry import AdapterVersion, ChampionReference

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
REQUIRED_GATES = ("integrity", "effect", "format_compliance", "latency_overhead", "score_error", "health")
CHAMPION_GATE = "champion"


@dataclass(frozen=True)
class Promote:
    """All gates passed."""

    sentence: str


@dataclass(frozen=True)
class Keep:
    """No gate failed, and not all are sure. `command` and `deployment` promote it by hand, or evaluate it again."""

    sentence: str
    command: str
    deployment: str


@dataclass(frozen=True)
class Reject:
    """A gate failed."""

    sentence: str


PromotionDecision = Promote | Keep | Reject


def decide_promotion(
    report: Mapping[str, Any], champion: ChampionReference, *, advisor: str = "ADVISOR", version: str = "VERSION"
) -> PromotionDecision:
    """The decision on a candidate.

    Args:
        report: {"verdict", "gates": [{"name", "verdict", "sentence"}, ...], "compared_with": the champion at the time
            of the evaluation}, as a version carries it (`Version.report`).
        champion: the one to be replaced: it must be the one that the evaluation compared with. Unless it is the base
            alone, the gate "champion" is required too, over at least one photograph.
        advisor, version: for the commands of `Keep`.
    """
    gates = {gate["name"]: gate for gate in report.get("gates", [])}
    failed = [name for name, gate in gates.items() if gate["verdict"] == FAIL]
    if failed or report.get("verdict") == FAIL:
        return Reject(f"Rejected: {_named(gates, failed) or 'the report as a whole says FAIL'}.")
    compared = ChampionReference.recorded_in(report)
    if compared is None or not compared.matches(champion):
        return keep_for_reevaluation(compared, champion, advisor, version)
    required = (*REQUIRED_GATES, CHAMPION_GATE) if champion.version else REQUIRED_GATES
    missing = [name for name in required if name not in gates]
    if champion.version and gates.get(CHAMPION_GATE, {}).get("n") == 0:  # such as a champion on another base
        missing.append(f"{CHAMPION_GATE} (not compared with {champion})")
    unsure = [name for name, gate in gates.items() if gate["verdict"] != PASS]
    if not missing and not unsure and report.get("verdict", PASS) == PASS:
        instead = f"replaces {champion}" if champion.version else "is the first champion"
        return Promote(f"Promoted: all {len(gates)} gates passed; it {instead}.")
    why = [f"not sure: {_named(gates, unsure)}"] if unsure else []
    why += [f"not measured: {', '.join(missing)}"] if missing else []
    by_hand = f'mondrian adapters promote --advisor {advisor} --version {version} --reason "..."'
    flow = f'{_run_of("promote/manual", advisor, version)} -p reason="..."'
    return Keep(f"Kept as a candidate, {'; '.join(why) or 'the report as a whole is not PASS'}.", by_hand, flow)


def keep_for_reevaluation(
    compared: ChampionReference | None, champion: ChampionReference, advisor: str, version: str
) -> Keep:
    """The decision on a candidate that was compared with another champion than the one it would replace."""
    return Keep(
        f"Kept as a candidate: the champion changed; evaluate again ({_compared_otherwise(compared, champion)}).",
        f"mondrian evaluate --advisor {advisor} --adapter {version}",
        _run_of("evaluate/manual", advisor, version),
    )


def _run_of(deployment: str, advisor: str, version: str) -> str:
    """The command that runs a deployment on a version."""
    return f"mondrian prefect deployment run '{deployment}' -p advisor={advisor} -p version={version}"


def _compared_otherwise(compared: ChampionReference | None, champion: ChampionReference) -> str:
    if compared is None:
        return f"its report doesn't say which champion it was compared with; the champion is {champion}"
    changed = ", with other files" if compared.version == champion.version else ""
    return f"it was compared with {compared}, and the champion is {champion} now{changed}"


def _named(gates: Mapping[str, Mapping[str, Any]], names: list[str]) -> str:
    return "; ".join(
        f"{name} ({str(gates[name].get('sentence') or gates[name]['verdict']).rstrip('.')})" for name in names
    )


def check_manual_promotion(
    version: AdapterVersion, champion: ChampionReference, *, force: bool, reason: str | None
) -> None:
    """The rules of a promotion by hand, over `champion`.

    PASS goes through. INCONCLUSIVE needs a reason, and so does an evaluation that compared with another champion. FAIL,
    a version rejected by hand, and one that was never measured need force and a reason. What a file check finds is the
    registry's to refuse.

    Raises:
        GateFailed: the gates refuse it and it isn't forced.
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
            else (f"{name} was never put through the gates.")
        )
        raise GateFailed(
            problem, 'To promote it all the same, add --force --reason "..."; the reason goes into the history.'
        )
    if (force or verdict != PASS) and not given:
        what = "A forced promotion" if force else f"{name} is {verdict}: its promotion"
        raise BadInput(f"{what} needs a reason.", 'Add --reason "..."; it goes into the history.')
    compared = version.compared_with
    if not given and (compared is None or not compared.matches(champion)):
        raise BadInput(
            f"The champion changed since {name} was evaluated: {_compared_otherwise(compared, champion)}. "
            "Its promotion needs a reason.",
            f"Evaluate it again (`mondrian evaluate --advisor {version.advisor} --adapter {version.version}`), or add "
            '--reason "..."; it goes into the history.',
        )
