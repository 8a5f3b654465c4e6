"""Names: public ones are unique, modules have telling names, and the glossary matches the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.git_files import ROOT, tracked_files

PACKAGES = ("mondrian", "mondrian_core", "tasks", "flows", "deployments", "bench", "mini_training")
EVERYWHERE = {"main"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base", "stuff"}
# Packages, commands and recipe tables whose names are ordinary words of the trade and need no definition.
ORDINARY = {
    "adapters",
    "advisors",
    "analyze",
    "api_examples",
    "charts",
    "checks",
    "cli",
    "compare",
    "critique",
    "critique_files",
    "data",
    "demo",
    "down",
    "evaluate",
    "evaluation",
    "gates",
    "http",
    "import",
    "import_export",
    "importing",
    "inference",
    "init",
    "jobs",
    "linking",
    "measure",
    "models",
    "name",
    "prefect",
    "restore",
    "retrain",
    "review",
    "runs",
    "serve",
    "serving",
    "splits",
    "stages",
    "start",
    "statistics",
    "store",
    "templates",
    "train",
    "training",
    "up",
}
GLOSSARY = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")


def python_files() -> list[Path]:
    return [file for file in tracked_files() if file.parts[0] in PACKAGES and file.suffix == ".py"]


def public_definitions() -> Iterator[tuple[str, Path]]:
    for file in python_files():
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                yield node.name, file


def glossary_terms() -> list[str]:
    """The terms in bold, in lower case."""
    return [term.lower() for term in re.findall(r"\*\*([^*]+)\*\*", GLOSSARY)]


def words_of(text: str) -> str:
    """Lower-case words of code or prose, with identifiers taken apart, separated by single spaces."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " " + " ".join(re.findall(r"[a-z0-9]+", apart.lower())) + " "


def test_public_classes_and_functions_have_unique_names() -> None:
    places = defaultdict(list)
    for name, file in public_definitions():
        places[name].append(str(file))
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in EVERYWHERE} == {}


def test_no_module_has_a_vague_name() -> None:
    assert [str(file) for file in python_files() if {file.stem, *file.parts[:-1]} & VAGUE] == []


def test_the_code_uses_every_term_of_the_glossary() -> None:
    code = words_of("\n".join((ROOT / file).read_text(encoding="utf-8") for file in python_files()))
    missing = [term for term in glossary_terms() if words_of(term).rstrip() not in code]
    assert missing == [], missing


def test_the_glossary_has_no_term_twice() -> None:
    terms = glossary_terms()
    assert sorted(terms) == sorted(set(terms))


def test_the_glossary_defines_packages_stages_commands_and_recipe_tables() -> None:
    from mondrian import DEPLOYMENT_COMMANDS
    from mondrian_core.cli.app import build_app
    from mondrian_core.recipes import Recipe

    packages = {file.parent.name for file in python_files() if file.parts[0] == "mondrian_core" and len(file.parts) > 2}
    commands = {name for name in build_app(extra_commands=DEPLOYMENT_COMMANDS) if not name.startswith("-")}
    defined = set(glossary_terms())
    assert sorted((packages | commands | set(Recipe.model_fields)) - set(ORDINARY) - defined) == []


def test_the_glossary_defines_the_values_of_the_product() -> None:
    """Singular terms for what packages hold in the plural."""
    expected = {
        "advisor",
        "critique",
        "gate",
        "split",
        "fold",
        "champion",
        "candidate",
        "arm",
        "job",
        "draft",
        "recipe",
    }
    assert expected <= set(glossary_terms())
