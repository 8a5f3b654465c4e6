"""docs/reference/measured-where.md: where the figures of docs/experiments come from, by a comment next to each.

`<!-- measured on: DEVICE; BASE; DATA -->` under a page's title holds for its sections, under a section's title for that
section. A test finds tables without one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.git_files import ROOT

MEASURED_WHERE = Path("docs/reference/measured-where.md")
DEVICES = ("CPU", "CUDA GPU", "none: simulated")
# A base with random weights shows that code runs and what it costs, never what answers are worth.
BASES = re.compile(r"none|mini|mini, an earlier training|.* with random weights")
_PLACE = re.compile(r"<!-- measured on: ([^;]+); ([^;]+); (.+?) -->")
_TABLE = re.compile(r"^\|[-:]+\|", re.MULTILINE)
_COMMAND = re.compile(r"python\s+-m\s+(bench[. ][a-z_]+|mini_training(?:\.[a-z0-9_]+)+)")


@dataclass(frozen=True, kw_only=True)
class MeasuredSection:
    """A section of a page of figures.

    Attributes:
        page: its path.
        title: of the section; of the page for what comes before the first one.
        anchor: "" for the page itself.
        place: (device, base, data), from the section or its page; None if neither says it.
        has_figures: True for a table that was measured or simulated.
        commands: benchmarks that it names.
    """

    page: Path
    title: str
    anchor: str
    place: tuple[str, str, str] | None
    has_figures: bool
    commands: tuple[str, ...]


def measured_sections(files: Iterable[Path]) -> list[MeasuredSection]:
    """The sections of all pages of docs but the decisions, in the order of the pages."""
    pages = sorted(
        file for file in files if file.suffix == ".md" and file.parts[0] == "docs" and "decisions" not in file.parts
    )
    return [section for page in pages for section in _sections(page, (ROOT / page).read_text(encoding="utf-8"))]


def _sections(page: Path, text: str) -> Iterator[MeasuredSection]:
    inherited = None
    is_experiment = "experiments" in page.parts and page.name != "index.md"
    for number, part in enumerate(re.split(r"^#{1,2} ", text, flags=re.MULTILINE)[1:]):
        title = part.partition("\n")[0]
        found = _PLACE.search(part)
        place = (found[1], found[2], found[3]) if found else inherited
        inherited = place if number == 0 else inherited
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") if number else ""
        commands = tuple(dict.fromkeys(_COMMAND.findall(part)))
        measured = is_experiment or "<!-- figure" in part or "<!-- measured once" in part or commands
        yield MeasuredSection(
            page=page,
            title=title,
            anchor=anchor,
            place=place,
            has_figures=bool(measured and _TABLE.search(part)),
            commands=commands,
        )


def measured_table(files: Iterable[Path]) -> str:
    """One row for each section with figures."""
    rows = ["| figures | device | base | photographs and critiques | command |", "|---|---|---|---|---|"]
    for section in measured_sections(files):
        if section.has_figures and section.place:
            target = os.path.relpath(section.page, MEASURED_WHERE.parent) + (
                f"#{section.anchor}" if section.anchor else ""
            )
            name = section.page.stem if not section.anchor else f"{section.page.stem}: {section.title}"
            commands = ", ".join(f"`{each}`" for each in section.commands)
            rows.append(f"| [{name}]({target}) | {' | '.join(section.place)} | {commands} |")
    return "\n".join(rows)
