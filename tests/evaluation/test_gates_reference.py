"""docs/gates.md is generated; it must not lie."""

from __future__ import annotations

from pathlib import Path

from mondrian_core.evaluation.gate_reference import reference
from mondrian_core.evaluation.gates import GATES
from mondrian_core.evaluation.rules import RULES
from mondrian_core.evaluation.statistics import rate_lower
from mondrian_core.recipes import GateRecipe


def test_the_document_is_the_generated_text(root: Path) -> None:
    text = (root / "docs" / "gates.md").read_text()
    assert text == reference(), "run: python -m mondrian_core.evaluation.gate_reference > docs/gates.md"


def test_every_gate_has_its_rule_and_its_line() -> None:
    assert set(RULES) == {*GATES, "seconds_per_photograph"}
    assert all(f"| {name} |" in reference() for name in RULES)


def test_numbers_come_from_the_recipe() -> None:
    assert "1.37" in reference(GateRecipe(overhead_ratio=1.37))


def test_the_examples_of_the_bound_hold() -> None:
    assert rate_lower(29, 29) >= 0.9 > rate_lower(28, 28)
    assert rate_lower(45, 46) >= 0.9 > rate_lower(44, 46) and rate_lower(59, 61) >= 0.9
