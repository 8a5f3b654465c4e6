"""docs/reference/gates.md is generated and must be up to date."""

from __future__ import annotations

from pathlib import Path

from mondrian_core.evaluation.gates.definitions import GATES
from mondrian_core.evaluation.gates.reference_page import gate_reference_page
from mondrian_core.recipes import GateRecipe
from mondrian_core.statistics.intervals import clopper_pearson_lower


def test_gates_documentation_is_up_to_date(root: Path) -> None:
    text = (root / "docs" / "reference" / "gates.md").read_text()
    assert text == gate_reference_page(), (
        "run: python -m mondrian_core.evaluation.gates.reference_page > docs/reference/gates.md"
    )


def test_every_gate_is_documented() -> None:
    page = gate_reference_page()
    assert all(f"| {gate.name} | {gate.rule_text(GateRecipe())}".replace("||", "\\|\\|") in page for gate in GATES)


def test_thresholds_come_from_the_recipe() -> None:
    assert "1.37" in gate_reference_page(GateRecipe(overhead_ratio=1.37))


def test_documented_examples_of_the_format_bound_hold() -> None:
    assert clopper_pearson_lower(29, 29) >= 0.9 > clopper_pearson_lower(28, 28)
    assert clopper_pearson_lower(45, 46) >= 0.9 > clopper_pearson_lower(44, 46) and clopper_pearson_lower(59, 61) >= 0.9
