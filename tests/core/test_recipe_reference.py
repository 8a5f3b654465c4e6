"""docs/reference/recipes.md is generated; it must not lie."""

from pathlib import Path

from mondrian_core.recipes import recipe_reference_markdown

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "recipes.md"


def test_recipe_documentation_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == recipe_reference_markdown(), (
        "run: python -m mondrian_core.recipes > docs/reference/recipes.md"
    )
