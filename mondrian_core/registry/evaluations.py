"""The recorded evaluations of a version, and which failures among them no later evaluation has answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mondrian_core.gate_strictness import LoosenedSetting, loosened_settings

# Keys of a gate report besides "verdict", "gates" and COMPARED_WITH.
PHOTOGRAPHS = "photographs"  # the photographs with scores that it was judged on
SETTINGS = "settings"  # `gate_strictness.judged_settings` of its recipe
CONDITIONS = "conditions"  # base, prompt, EXIF switch and answer format (`promotion.evaluation_conditions`)
TRAINING_INPUTS = "training_inputs"  # digest of what the retraining learned from, which evaluated the version


@dataclass(frozen=True)
class RecordedEvaluation:
    """One evaluation of a version.

    Attributes:
        report: the gate report, {"verdict", "gates", ...}.
        at: time of the record, ISO 8601; "" for the evaluation at the registration.
        actor: who evaluated it.
        serial: of its history entry; 0 at the registration.
    """

    report: Mapping[str, Any]
    at: str = ""
    actor: str = ""
    serial: int = 0

    @property
    def verdict(self) -> str | None:
        """PASS, FAIL or INCONCLUSIVE; FAIL also when only a gate says so."""
        return "FAIL" if self.failed_gates else self.report.get("verdict")

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by gate name, of the gates that decide."""
        return {gate["name"]: gate["verdict"] for gate in self.report.get("gates", []) if gate.get("decides", True)}

    @property
    def failed_gates(self) -> tuple[str, ...]:
        """Names of the gates that failed."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict == "FAIL")

    @property
    def photographs(self) -> frozenset[str]:
        """The photographs with scores that it was judged on; empty when they weren't recorded."""
        return frozenset(self.report.get(PHOTOGRAPHS) or ())

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that its verdict depends on; {} when they weren't recorded."""
        return self.report.get(SETTINGS) or {}

    @property
    def loosened(self) -> tuple[LoosenedSetting, ...]:
        """Its settings that are looser than the defaults of this release."""
        return loosened_settings(self.settings)

    def answers(self, failed: RecordedEvaluation) -> bool:
        """Whether this later evaluation settles an earlier FAIL.

        It does when every gate that failed passes now, on at least the same photographs, under settings that are no
        looser. A PASS on other photographs alone is not enough: it may be the luckier of two draws.
        """
        verdicts = self.verdicts
        passed = all(verdicts.get(name) == "PASS" for name in failed.failed_gates) and self.verdict != "FAIL"
        known = failed.failed_gates or self.verdict == "PASS"
        covers = failed.photographs <= self.photographs
        return bool(passed and known and covers and not loosened_settings(self.settings, failed.settings))


def unanswered_failures(evaluations: Sequence[RecordedEvaluation]) -> tuple[RecordedEvaluation, ...]:
    """The evaluations with verdict FAIL that no later one answers, oldest first."""
    return tuple(
        failed
        for place, failed in enumerate(evaluations)
        if failed.verdict == "FAIL" and not any(later.answers(failed) for later in evaluations[place + 1 :])
    )
