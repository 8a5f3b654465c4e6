"""docs/reference/critique-files.md shows the formats, columns and outcomes of the code."""

from __future__ import annotations

from pathlib import Path

from mondrian_core.critique_files.reference_tables import page_with_tables, reference_tables


def test_the_page_is_up_to_date(root: Path) -> None:
    text = (root / "docs" / "reference" / "critique-files.md").read_text(encoding="utf-8")
    assert all(table in text for table in reference_tables().values())
    assert text == page_with_tables(text), (
        "run: python -m mondrian_core.critique_files.reference_tables docs/reference/critique-files.md"
    )
