"""The file map in CONTRIBUTING.md, lists of decisions and experiments, and the pages that are generated as a whole.

They are made from docstrings, titles and first lines of pages, comments next to figures, and the code's values.
`python -m tests.architecture.generated_docs` rewrites them. A test compares them with the tree.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from functools import reduce
from pathlib import Path

from tests.architecture.measured_where import MEASURED_WHERE, measured_table
from tests.architecture.metal_branches import METAL_BRANCHES, PAGE, metal_page
from tests.architecture.reference import reference_pages, reference_tables
from tests.git_files import ROOT, tracked_files

# Top-level entries without a docstring. Everything else is described by the docstring of its package or module.
ENTRIES = {
    "prefect.yaml": "which flow runs where and when",
    "adapters/": "default adapter registry: data, not code",
    "docs/": "tutorials, how-to guides, reference, explanation, decisions, experiments",
    "tests/": "tests, in folders named after the packages",
}
ORDER = ("mondrian_core/", "tasks/", "flows/", "deployments/", "mondrian/", "prefect.yaml")
WIDTH = 96
INDEX = "index.md"
# Of decisions, in the order of their index page. A decision names one in its first lines: `Topic: Training`.
TOPICS = (
    "Photographs and critiques",
    "Datasets",
    "The model and its answers",
    "Training",
    "Evaluation and gates",
    "Registry and rollouts",
    "Service",
    "Operation",
    "Packaging and code",
    "Checks, tests and documentation",
)


def first_sentence(module: Path) -> str:
    """The first sentence of a module's docstring without its full stop, shortened to one line of the file map."""
    text = ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\. |\.$", " ".join(text.split("\n\n")[0].split()))[0].replace("`", "")
    return sentence if len(sentence) <= WIDTH else re.split(r"[:;,] ", sentence)[0]


def file_map(files: Iterable[Path]) -> str:
    """Two columns: top-level folders, and below mondrian_core/ its modules and packages."""
    files = list(files)
    top = {f"{file.parts[0]}/" for file in files if len(file.parts) > 1 and not file.parts[0].startswith(".")}
    names = [*ORDER, *sorted(top - set(ORDER))]
    lines = []
    for name in names:
        lines.append((name, ENTRIES.get(name) or first_sentence(Path(name) / "__init__.py")))
        if name == "mondrian_core/":
            lines += [(f"  {inside}", first_sentence(path)) for inside, path in sorted(_core_modules(files).items())]
    return "\n".join(f"{name:<24}{description}".rstrip() for name, description in lines)


def _core_modules(files: Iterable[Path]) -> dict[str, Path]:
    modules = {}
    for file in files:
        if file.parts[0] == "mondrian_core" and file.suffix == ".py":
            if len(file.parts) == 2 and file.name != "__init__.py":
                modules[file.name] = file
            elif len(file.parts) == 3 and file.name == "__init__.py":
                modules[f"{file.parts[1]}/"] = file
    return modules


def experiment_table(files: Iterable[Path]) -> str:
    """A table of the pages in docs/experiments with what each `<!-- summary: ... -->` comment says."""
    rows = ["| page | what |", "|---|---|"]
    for page in _pages(files, "experiments"):
        summary = re.search(r"<!-- summary: (.+?) -->", _text(page))
        rows.append(f"| [{_title(page)}]({page.name}) | {summary[1] if summary else ''} |")
    return "\n".join(rows)


def decision_tables(files: Iterable[Path]) -> str:
    """A table of decisions with status and date for each topic, from the first lines of their pages.

    Raises:
        ValueError: when a page lacks one of these lines, or its topic is not one of `TOPICS`.
    """
    rows: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for page in _pages(files, "decisions"):
        lines = dict(re.findall(r"^(Status|Date|Topic): (.+)$", _text(page), re.MULTILINE))
        if len(lines) < 3 or lines["Topic"] not in rows:
            raise ValueError(
                f"{page} needs the lines `Status: `, `Date: ` and `Topic: `, with one of the topics {TOPICS}"
            )
        status = re.split("[;:]", lines["Status"])[0]
        rows[lines["Topic"]].append(f"| [{_title(page)}]({page.name}) | {status} | {lines['Date'][:10]} |")
    table = "\n\n| decision | status | date |\n|---|---|---|\n"
    return "\n\n".join(f"## {topic}{table}" + "\n".join(rows[topic]) for topic in TOPICS)


def _pages(files: Iterable[Path], folder: str) -> list[Path]:
    inside = (file for file in files if file.parent == Path("docs") / folder and file.suffix == ".md")
    return sorted(page for page in inside if page.name != INDEX)


def _title(page: Path) -> str:
    return _text(page).partition("\n")[0].lstrip("# ")


def _text(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def with_generated_parts() -> dict[str, str]:
    """What the pages with generated parts should contain, by path."""
    files = tracked_files()
    parts: dict[str, dict[str, str]] = {
        "CONTRIBUTING.md": {"file map": f"```\n{file_map(files)}\n```"},
        "docs/experiments/index.md": {"experiments": experiment_table(files)},
        "docs/decisions/index.md": {"decisions": decision_tables(files)},
        str(MEASURED_WHERE): {"measured where": measured_table(files)},
        **reference_tables(),
    }
    pages = {
        path: reduce(lambda text, part: _replaced(text, *part), of_page.items(), _text(Path(path)))
        for path, of_page in parts.items()
    }
    return {**pages, str(PAGE): metal_page(METAL_BRANCHES), **reference_pages(files)}


def _replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the two comments of that name."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def main() -> int:
    """Rewrite these files."""
    for path, text in with_generated_parts().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
