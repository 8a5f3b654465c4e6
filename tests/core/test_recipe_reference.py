"""docs/recipes.md is generated; it must not lie."""

from pathlib import Path

from mondrian_core.recipes import reference

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"


def test_the_document_is_the_generated_text() -> None:
    assert DOCUMENT.read_text() == reference(), "run: python -m mondrian_core.recipes > docs/recipes.md"
