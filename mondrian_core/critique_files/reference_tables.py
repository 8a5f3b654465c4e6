"""The tables of docs/reference/critique-files.md.

`python -m mondrian_core.critique_files.reference_tables docs/reference/critique-files.md` writes them into the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mondrian_core.critique_files.columns import COLUMNS
from mondrian_core.critique_files.formats import CRITIQUE_FORMATS
from mondrian_core.critique_files.planning import OUTCOME_MEANINGS
from mondrian_core.markdown import Markdown, markdown_table
from mondrian_core.rubric import DIMENSIONS


def reference_tables() -> dict[str, str]:
    """Each table as Markdown, by the name of its block in the page."""
    formats = [
        (Markdown(f"`{each.name}`"), ", ".join(each.suffixes), Markdown(each.meaning), "yes" if each.write else "no")
        for each in CRITIQUE_FORMATS.values()
    ]
    columns, first = [], DIMENSIONS[0]
    for column in COLUMNS:
        dimension, _, part = column.name.rpartition("_")
        if dimension in DIMENSIONS and dimension != first:
            continue
        name = f"*dimension*_{part}" if dimension == first else column.name
        meaning = column.meaning.partition(": ")[2] if dimension == first else column.meaning
        titles = ", ".join(title or "the name of the dimension alone" for title in column.titles)
        columns.append((Markdown(name if "*" in name else f"`{name}`"), Markdown(meaning), titles))
    outcomes = [(Markdown(f"`{outcome.value}`"), meaning) for outcome, meaning in OUTCOME_MEANINGS.items()]
    return {
        "formats": markdown_table(("format", "files", "contents", "exported"), formats),
        "columns": markdown_table(("column", "contents", "other titles"), columns),
        "outcomes": markdown_table(("outcome", "meaning"), outcomes),
    }


def page_with_tables(text: str) -> str:
    """A page with the tables of this release in its blocks."""
    for name, table in reference_tables().items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = block.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(page_with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
