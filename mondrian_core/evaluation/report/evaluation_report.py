"""The evaluation report as a value: verdict, gate results and metrics, with JSON and Markdown formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS, GateResult, Verdict
from mondrian_core.files import read_json, write_json
from mondrian_core.gate_strictness import LoosenedSetting, loosened_text
from mondrian_core.markdown import markdown_table

REPORT_FORMAT = 1
VERDICT_MEANINGS: Mapping[str, str] = {
    PASS: "every required gate passed; the candidate can go live",
    FAIL: "a gate failed; the candidate must not go live",
    INCONCLUSIVE: "no gate failed, but not every gate could be decided; a person decides",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The result of an evaluation.

    Attributes:
        verdict: combined verdict of all gates.
        gates: results in the order of `GATES`.
        metrics: the numbers behind them as plain values (see `report_metrics`).
        about: what was evaluated: advisor, split, digests of base, candidate, champion and prompt.
        next_steps: recommended next steps, one sentence each.
        loosened: settings under which the gates are easier to pass than under the defaults.
        look: which look of the year this is and what it may spend (`LookEvidence`); None where nothing was compared.
        caveats: which figures don't come from this adapter or from the workspace's own photographs, one sentence each.
    """

    verdict: Verdict
    gates: tuple[GateResult, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    next_steps: tuple[str, ...] = ()
    loosened: tuple[LoosenedSetting, ...] = ()
    look: Mapping[str, Any] | None = None
    caveats: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """The verdict in words; names the loosened gates, under which no version is promoted automatically."""
        text = VERDICT_MEANINGS[self.verdict]
        if not self.loosened:
            return text
        return f"{text.partition(';')[0]}, {loosened_text(self.loosened)}; it is not promoted automatically"

    def gate(self, name: str) -> GateResult:
        """The gate of that name; KeyError when there is none."""
        return {gate.name: gate for gate in self.gates}[name]

    @property
    def scores(self) -> tuple[dict[str, Mapping[str, Any]], Mapping[str, Any] | None, bool]:
        """Figures by arm and dimension, the comparison with the base, and whether both come from cross-validation.

        They do when no photograph is held out to measure the adapter itself.
        """
        folds = self.metrics.get("folds")
        if folds and not self.metrics["photographs"]["labelled"]:
            return _with_dimensions(folds["arms"]), folds["against_base"], True
        arms = {arm: found["scores"] for arm, found in self.metrics["arms"].items()}
        return _with_dimensions(arms), self.metrics.get("against_base"), False

    @property
    def calibrations(self) -> Mapping[str, Any] | None:
        """The comparison with the best calibration of the base behind `gain`; None where there is none."""
        by_folds = self.metrics.get("gain", {}).get("by_folds")
        found: Mapping[str, Any] | None = (self.metrics["folds"] if by_folds else self.metrics).get("calibrations")
        return found

    @property
    def gain(self) -> str:
        """What the gain over the base is, in one sentence (`gain_sentence`); "" without a comparison."""
        return str(self.metrics.get("gain", {}).get("sentence", ""))

    def as_dict(self) -> dict[str, Any]:
        """Plain values; infinite bounds are None."""
        return {
            "format": REPORT_FORMAT,
            "verdict": self.verdict,
            "meaning": self.meaning,
            "gain": self.gain,
            "loosened": [setting.as_dict() for setting in self.loosened],
            "caveats": list(self.caveats),
            "gates": [gate.as_dict() for gate in self.gates],
            "next_steps": list(self.next_steps),
            "about": dict(self.about),
            "look": dict(self.look) if self.look is not None else None,
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationReport:
        """The report that `as_dict` wrote."""
        gates = tuple(GateResult.from_dict(gate) for gate in values["gates"])
        return cls(
            verdict=values["verdict"],
            gates=gates,
            metrics=values["metrics"],
            about=values["about"],
            next_steps=tuple(values["next_steps"]),
            loosened=tuple(LoosenedSetting(**setting) for setting in values.get("loosened", ())),
            look=values.get("look"),
            caveats=tuple(values.get("caveats", ())),
        )

    def save(self, path: Path) -> None:
        """Write comparison_report.json."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: Path) -> EvaluationReport:
        """Read comparison_report.json."""
        return cls.from_dict(read_json(path))

    def markdown(self) -> str:
        """Verdict, gate table and next steps as Markdown, for the terminal."""
        rows = [
            (
                gate.name,
                gate.verdict,
                number_text(gate.observed),
                number_text(gate.threshold),
                gate.n,
                interval_text(gate.interval),
                gate.sentence,
            )
            for gate in self.gates
        ]
        headings = ("gate", "verdict", "observed", "threshold", "n", "interval", "reason")
        lines = [f"## {self.verdict}: {self.meaning}", ""]
        lines += [self.gain, ""] if self.gain else []
        if self.caveats:
            lines += [*(f"- {caveat}" for caveat in self.caveats), ""]
        lines.append(markdown_table(headings, rows))
        if self.next_steps:
            lines += ["", "**Next steps**", "", *(f"- {step}" for step in self.next_steps)]
        return "\n".join(lines) + "\n"


def _with_dimensions(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {arm: found["dimensions"] for arm, found in arms.items() if found["dimensions"]}


def number_text(value: float | None) -> str:
    """Three significant digits; "" for None."""
    return "" if value is None else f"{value:.3g}"


def points_text(value: float | None) -> str:
    """Two decimals; "" for None."""
    return "" if value is None else f"{round(value, 2) + 0.0:.2f}"


def percent_text(value: float | None) -> str:
    """Whole per cent; "" for None."""
    return "" if value is None else f"{value:.0%}"


def interval_text(value: tuple[float | None, float | None] | None) -> str:
    """ "0.1 to 0.4", with "..." for an open side; "" for None."""
    if value is None or value == (None, None):
        return ""
    return f"{number_text(value[0]) or '...'} to {number_text(value[1]) or '...'}"
