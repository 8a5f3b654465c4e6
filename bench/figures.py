"""`python -m bench.figures`: run the commands behind the tables of docs/experiments and write the tables into the page.

A table of figures stands between two comments of its page, `<!-- figure: NAME -->` and `<!-- end of figure -->`, with
the command that made it, the date, the commit and the machine. `FIGURES` names its page and command; the tables that
the command prints are what the page shows. Figures that can't be made again here stand between `<!-- measured once -->`
and `<!-- end of measured once -->`, with their date and commit.

A command runs before its page is touched, so a failure changes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.errors import BadInput, Broken, MondrianError
from mondrian_core.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
FIGURE_END, ONCE, ONCE_END = "<!-- end of figure -->", "<!-- measured once -->", "<!-- end of measured once -->"
_MEASURED_CODE = ("mondrian_core", "bench", "mini_training", "requirements.lock")  # what figures depend on
_BLOCK = re.compile(r"<!-- figure: (?P<name>[a-z0-9-]+) -->\n(?P<body>.*?)<!-- end of figure -->", re.DOTALL)


@dataclass(frozen=True)
class ExperimentFigure:
    """A table of a page and the command that makes it.

    Attributes:
        page: below docs/.
        command: what follows `python -m`; it prints the tables as Markdown, and anything else besides.
        cheap: True when it takes seconds and gives the same figures every time; a test then compares it with the page.
    """

    page: str
    command: str
    cheap: bool = False


FIGURES: dict[str, ExperimentFigure] = {
    "near-duplicates": ExperimentFigure("experiments/data.md", "bench.near_duplicates --searched 0"),
    "near-duplicate-search": ExperimentFigure(
        "experiments/data.md", "bench.near_duplicates --edited 0 --different 0 --searched 5000"
    ),
    "retrieval-and-drafts": ExperimentFigure("experiments/data.md", "bench.retrieval_and_drafts"),
    "gate-error-rates": ExperimentFigure("experiments/evaluation.md", "bench.gate_error_rates --runs 1000"),
    "year-of-looks": ExperimentFigure("experiments/evaluation.md", "bench.gate_error_rates --year --years 100"),
    "tail-structures": ExperimentFigure("experiments/evaluation.md", "bench.gate_error_rates --tail --runs 400"),
    "null-models": ExperimentFigure("experiments/evaluation.md", "bench.gate_error_rates --nulls --runs 300"),
    "calibration-gate": ExperimentFigure("experiments/evaluation.md", "bench.calibration_gate --runs 200"),
    "calibration-gate-judged": ExperimentFigure(
        "experiments/evaluation.md", "bench.calibration_gate --judged --runs 60"
    ),
    "studio-plan-mini": ExperimentFigure(
        "how-to/several-machines.md", "bench.studio_plan --data 101 --train 281 --evaluate 43", cheap=True
    ),
    "studio-plan-assumed": ExperimentFigure(
        "how-to/several-machines.md", "bench.studio_plan --data 101 --train 7200 --evaluate 1800", cheap=True
    ),
    "hopeless-answers": ExperimentFigure("experiments/evaluation.md", "bench.hopeless_answers"),
    "drift-watch": ExperimentFigure("experiments/drift.md", "bench.drift_simulation"),
    "sample-constants": ExperimentFigure(
        "experiments/evaluation.md", "bench.sample_retraining --constants", cheap=True
    ),
    "weekly-runs": ExperimentFigure("experiments/runs-in-prefect.md", "bench.simulated_week"),
}


def markdown_tables(text: str) -> str:
    """The Markdown tables in a text, one blank line between them; other lines are left out."""
    tables: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            tables[-1].append(line.rstrip())
        elif tables[-1]:
            tables.append([])
    return "\n\n".join("\n".join(table) for table in tables if table)


def run_figure_command(figure: ExperimentFigure) -> str:
    """Run the command and return its tables.

    Raises:
        Broken: when it fails or prints no table.
    """
    run = subprocess.run(
        [sys.executable, "-m", *shlex.split(figure.command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    tables = markdown_tables(run.stdout)
    if run.returncode or not tables:
        why = f"ended with status {run.returncode}" if run.returncode else "printed no table"
        last = (run.stderr.strip().splitlines() or [""])[-1]
        raise Broken(
            f"`python -m {figure.command}` {why}. {last}".strip(),
            f"docs/{figure.page} is unchanged. Run the command by itself to see all of its output.",
        )
    return tables


def with_figure(page: str, name: str, tables: str, provenance: str) -> str:
    """The text of a page with the block of a figure replaced.

    Raises:
        BadInput: when the page has no such block, or more than one.
    """
    blocks = [block for block in _BLOCK.finditer(page) if block["name"] == name]
    if len(blocks) != 1:
        raise BadInput(
            f"The page has {len(blocks)} places for the figure '{name}' instead of one.",
            f"Put the lines `<!-- figure: {name} -->` and `{FIGURE_END}` where the table belongs.",
        )
    block = blocks[0]
    made = f"<!-- figure: {name} -->\n\n{tables}\n\n{provenance}\n\n{FIGURE_END}"
    return page[: block.start()] + made + page[block.end() :]


def figure_tables(page: str) -> dict[str, str]:
    """Name of each figure in the text of a page -> its tables."""
    return {block["name"]: markdown_tables(block["body"]) for block in _BLOCK.finditer(page)}


def provenance_line(figure: ExperimentFigure, seconds: float) -> str:
    """How a figure was made: command, date, commit, machine (without its name) and wall time."""
    commit = _git("rev-parse", "--short=10", "HEAD") or "unknown"
    if _git("status", "--porcelain", "--", *_MEASURED_CODE):
        commit += " with uncommitted changes"
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return f"`python -m {figure.command}`: {today}, commit {commit}; {machine}; {seconds:.0f} s."


def unmarked_figure_tables(page: str) -> list[str]:
    """First lines of the tables with numbers that stand in no figure and in no block of what was measured once."""
    inside, table, found = "", [], []  # type: str, list[str], list[str]
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        if table and not inside and any(re.search(r"\d", re.sub(r"`[^`]*`|\]\([^)]*\)", "", row)) for row in table[2:]):
            found.append(table[0])
        table = []
        if line.startswith("<!-- figure: ") or line == ONCE:
            inside = line
        elif line in (FIGURE_END, ONCE_END):
            inside = ""
    return found


def undated_blocks(page: str) -> list[str]:
    """Blocks, figures and those measured once, that lack a date or a commit; their first 60 characters."""
    blocks = [block.group() for block in _BLOCK.finditer(page)]
    blocks += re.findall(re.escape(ONCE) + r".*?" + re.escape(ONCE_END), page, re.DOTALL)
    dated = re.compile(r"20\d\d-\d\d-\d\d,\s+commit\s+[0-9a-f]{7,}")
    return [block[:60] for block in blocks if not dated.search(block)]


def _git(*arguments: str) -> str:
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def selected_figures(selection: Sequence[str]) -> list[str]:
    """Names of the figures that are named, or stand in a page that is; all without a selection.

    Raises:
        BadInput: when nothing has such a name.
    """
    names: list[str] = [] if selection else list(FIGURES)
    for wanted in selection:
        found = [name for name, figure in FIGURES.items() if wanted in (name, figure.page, Path(figure.page).stem)]
        if not found:
            pages = sorted({Path(figure.page).stem for figure in FIGURES.values()})
            raise BadInput(
                f"There is no figure or page '{wanted}'.",
                f"The figures are {', '.join(sorted(FIGURES))}; the pages are {', '.join(pages)}.",
            )
        names += [name for name in found if name not in names]
    return names


def main(arguments: list[str] | None = None) -> int:
    """Make the selected figures again; say how long each takes."""
    parser = argparse.ArgumentParser(prog="bench.figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures or pages (default: all)")
    parser.add_argument("--list", action="store_true", help="list the figures and their commands")
    options = parser.parse_args(arguments)
    try:
        names = selected_figures(options.names)
        for number, name in enumerate(names, 1):
            figure = FIGURES[name]
            if options.list:
                print(f"{name:<22} docs/{figure.page:<26} python -m {figure.command}")
                continue
            print(f"[{number}/{len(names)}] {name}: python -m {figure.command}", flush=True)
            before = time.monotonic()
            tables = run_figure_command(figure)
            seconds = time.monotonic() - before
            path = ROOT / "docs" / figure.page
            page = path.read_text(encoding="utf-8")
            write_atomic(path, with_figure(page, name, tables, provenance_line(figure, seconds)))
            same = figure_tables(page).get(name) == tables
            print(f"      {seconds:.0f} s, docs/{figure.page} {'has the same figures' if same else 'has new figures'}")
    except MondrianError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
