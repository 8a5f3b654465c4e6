"""Every table of docs/experiments says where its figures come from; the cheap ones are made again and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import figures
from bench.figures import (
    FIGURES,
    ExperimentFigure,
    figure_tables,
    markdown_tables,
    run_figure_command,
    selected_figures,
    undated_blocks,
    unmarked_figure_tables,
    with_figure,
)
from mondrian_core.errors import BadInput, Broken
from tests.git_files import ROOT

PAGES = sorted({*(ROOT / "docs" / "experiments").glob("*.md")} - {ROOT / "docs" / "experiments" / "index.md"})
PAGE = "# Page\n\n<!-- figure: a -->\n\n| old |\n|---|\n| 1 |\n\nold\n\n<!-- end of figure -->\n\nText.\n"
TABLE = "| value |\n|---|\n| 2.5 |"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_table_with_numbers_says_where_they_come_from(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert unmarked_figure_tables(text) == [], (
        "put these tables between `<!-- measured once -->` and `<!-- end of measured once -->` with date and commit, "
        "or register them in bench/figures.py"
    )
    assert undated_blocks(text) == []


def test_figures_of_the_pages_are_those_registered() -> None:
    found = {
        name: page.relative_to(ROOT / "docs").as_posix()
        for page in (ROOT / "docs").rglob("*.md")
        for name in figure_tables(page.read_text(encoding="utf-8"))
    }
    assert found == {name: figure.page for name, figure in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_page_names_the_command_that_is_registered(name: str) -> None:
    page = (ROOT / "docs" / FIGURES[name].page).read_text(encoding="utf-8")
    block = page.partition(f"<!-- figure: {name} -->")[2].partition(figures.FIGURE_END)[0]
    assert f"`python -m {FIGURES[name].command}`: 20" in block


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, figure in FIGURES.items() if figure.cheap])
def test_cheap_figures_are_those_of_the_page(name: str) -> None:
    page = (ROOT / "docs" / FIGURES[name].page).read_text(encoding="utf-8")
    assert run_figure_command(FIGURES[name]) == figure_tables(page)[name], f"run `make figures ARGS={name}`"


def test_only_the_block_of_the_figure_is_replaced() -> None:
    made = with_figure(PAGE, "a", TABLE, "`x`: 2026-01-01, commit 1234567.")
    assert figure_tables(made) == {"a": TABLE}
    assert made.startswith("# Page\n") and made.endswith("\n\nText.\n") and "old" not in made
    with pytest.raises(BadInput, match="0 places for the figure 'b'"):
        with_figure(PAGE, "b", TABLE, "")
    with pytest.raises(BadInput, match="2 places"):
        with_figure(PAGE + PAGE, "a", TABLE, "")


def test_tables_are_taken_out_of_whatever_a_command_prints() -> None:
    printed = f"Progress 1 of 2\n{TABLE}\nIt took 3 s.\n\n{TABLE}\n"
    assert markdown_tables(printed) == f"{TABLE}\n\n{TABLE}"


def test_unmarked_and_undated_figures_are_named() -> None:
    assert unmarked_figure_tables(PAGE) == [] and undated_blocks(PAGE) != []
    assert unmarked_figure_tables(f"# Page\n\n{TABLE}\n") == ["| value |"]
    assert unmarked_figure_tables("| page | what |\n|---|---|\n| [`a1`](b2.md) | words |\n") == []
    once = f"{figures.ONCE}\n\nMeasured once: 2026-11-21, commit 1234567.\n\n{TABLE}\n\n{figures.ONCE_END}\n"
    assert unmarked_figure_tables(once) == [] and undated_blocks(once) == []
    assert unmarked_figure_tables(f"{once}\n{TABLE}\n") == ["| value |"]
    assert undated_blocks(once.replace("2026-11-21", "lately")) != []


def test_failing_command_changes_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "FIGURES", {"a": ExperimentFigure("page.md", "no.such.module")})
    assert figures.main(["a"]) == 3
    assert page.read_text(encoding="utf-8") == PAGE
    assert "docs/page.md is unchanged" in capsys.readouterr().err
    monkeypatch.setattr(figures, "FIGURES", {"a": ExperimentFigure("page.md", "platform")})
    with pytest.raises(Broken, match="printed no table"):
        run_figure_command(figures.FIGURES["a"])


def test_figures_are_selected_by_name_or_page() -> None:
    assert selected_figures([]) == list(FIGURES)
    assert selected_figures(["sample-constants", "data"])[0] == "sample-constants"
    assert set(selected_figures(["data"])) == {name for name in FIGURES if FIGURES[name].page.endswith("/data.md")}
    with pytest.raises(BadInput, match="no figure or page 'nothing'"):
        selected_figures(["nothing"])
