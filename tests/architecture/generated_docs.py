"""The file map in README.md, the list of pages in docs/README.md, and the pages that are generated as a whole.

They are made from docstrings, page titles, comments next to figures, and the values and types of the code.
`python -m tests.architecture.generated_docs` rewrites them. A test compares them with the tree.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from functools import reduce
from pathlib import Path

from tests.architecture.measured_where import measured_table
from tests.architecture.metal_branches import METAL_BRANCHES, PAGE, metal_page
from tests.architecture.reference import reference_pages, reference_tables
from tests.git_files import ROOT, tracked_files

# Top-level entries without a docstring. Everything else is described by the docstring of its package or module.
ENTRIES = {
    "prefect.yaml": "which flow runs where and when",
    "adapters/": "default adapter registry: data, not code",
    "docs/": "how-to pages, reference, decisions, experiments",
    "tests/": "tests, in folders named after the packages",
}
ORDER = ("mondrian_core/", "tasks/", "flows/", "deployments/", "mondrian/", "prefect.yaml")
WIDTH = 96
EXPERIMENTS, DECISIONS = "experiments", "decisions"
MEASURED_WHERE = "docs/measured-where.md"


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


def page_list(files: Iterable[Path], folder: str) -> str:
    """A list of the pages in docs/`folder`, by name, with their titles."""
    pages = sorted(file for file in files if file.parent == Path("docs") / folder and file.suffix == ".md")
    return "\n".join(f"- [{_title(page)}]({folder}/{page.name})" for page in pages)


def _title(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def with_generated_parts() -> dict[str, str]:
    """What the pages with generated parts should contain, by path."""
    files = tracked_files()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for folder in (EXPERIMENTS, DECISIONS):
        index = _replaced(index, folder, page_list(files, folder))
    pages = {
        path: reduce(
            lambda text, part: _replaced(text, *part), parts.items(), (ROOT / path).read_text(encoding="utf-8")
        )
        for path, parts in reference_tables().items()
    }
    measured = (ROOT / MEASURED_WHERE).read_text(encoding="utf-8")
    return {
        "README.md": _replaced(readme, "file map", f"```\n{file_map(files)}\n```"),
        "docs/README.md": index,
        MEASURED_WHERE: _replaced(measured, "measured where", measured_table(files)),
        str(PAGE): metal_page(METAL_BRANCHES),
        **reference_pages(files),
        **pages,
    }


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
