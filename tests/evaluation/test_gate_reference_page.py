"""docs/gates.md is generated; it must not lie."""

from __future__ import annotations

from pathlib import Path

from mondrian_core.evaluation.gates.definitions import GATES
from mondrian_core.evaluation.gates.reference_page import gate_reference_page
from mondrian_core.evaluation.gates.rule_texts import GATE_RULE_TEXTS
from mondrian_core.recipes import GateRecipe
from mondrian_core.statistics.intervals import clopper_pearson_lower


def test_gates_documentation_is_up_to_date(root: Path) -> None:
    text = (root / "docs" / "gates.md").read_text()
    assert text == gate_reference_page(), "run: python -m mondrian_core.evaluation.gates.reference_page > docs/gates.md"


def test_every_gate_has_its_rule_and_its_line() -> None:
    assert set(GATE_RULE_TEXTS) == {*GATES, "seconds_per_photograph"}
    assert all(f"| {name} |" in gate_reference_page() for name in GATE_RULE_TEXTS)


def test_numbers_come_from_the_recipe() -> None:
    assert "1.37" in gate_reference_page(GateRecipe(overhead_ratio=1.37))


def test_the_examples_of_the_bound_hold() -> None:
    assert clopper_pearson_lower(29, 29) >= 0.9 > clopper_pearson_lower(28, 28)
    assert clopper_pearson_lower(45, 46) >= 0.9 > clopper_pearson_lower(44, 46) and clopper_pearson_lower(59, 61) >= 0.9
