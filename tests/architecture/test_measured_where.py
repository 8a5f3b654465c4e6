"""Every table of figures says on which device, base and photographs it was measured, and none claims Metal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import measured_where
from tests.architecture.measured_where import BASES, DEVICES, measured_sections, measured_table
from tests.git_files import ROOT, tracked_files


def test_every_table_of_figures_says_where_it_was_measured() -> None:
    unknown = [
        f"{each.page}: {each.title}"
        for each in measured_sections(tracked_files())
        if each.has_figures and not each.place
    ]
    assert unknown == [], "add `<!-- measured on: DEVICE; BASE; DATA -->` under the title of the page or the section"


def test_every_page_of_experiments_is_listed() -> None:
    pages = {path.name for path in (ROOT / "docs" / "experiments").glob("*.md")} - {"index.md"}
    listed = {each.page.name for each in measured_sections(tracked_files()) if each.has_figures}
    assert pages <= listed


def test_devices_and_bases_are_known_ones() -> None:
    for section in measured_sections(tracked_files()):
        if section.place:
            device, base, _ = section.place
            assert device in DEVICES and BASES.fullmatch(base), f"{section.page}: {section.title}"


def test_places_are_inherited_from_the_page_and_replaced_by_a_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path("docs/experiments/speed.md")
    (tmp_path / page.parent).mkdir(parents=True)
    table = "\n| what | s |\n|---|---:|\n| one | 1 |\n"
    (tmp_path / page).write_text(
        "# Speed\n\n<!-- measured on: CPU; mini; rendered -->\n\n## Of one's own\n\n`python -m bench.speed`\n"
        f"{table}\n## Simulated\n\n<!-- measured on: none: simulated; none; scores -->\n{table}\n## Words\n"
    )
    monkeypatch.setattr(measured_where, "ROOT", tmp_path)
    assert measured_table([page]).splitlines()[2:] == [
        "| [speed: Of one's own](../experiments/speed.md#of-ones-own) | CPU | mini | rendered | `bench.speed` |",
        "| [speed: Simulated](../experiments/speed.md#simulated) | none: simulated | none | scores |  |",
    ]
    (tmp_path / page).write_text(f"# Speed\n\n## New\n{table}")
    assert [(each.has_figures, each.place) for each in measured_sections([page])] == [(False, None), (True, None)]
