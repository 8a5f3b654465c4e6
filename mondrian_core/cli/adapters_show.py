"""`mondrian adapters show` and `mondrian adapters diff`: a version and its family, and two versions side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mondrian_core import registry as registry_room
from mondrian_core.cli.mlx_vlm_command import mlx_vlm_command_words, shell_line
from mondrian_core.cli.options import settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result, rich_gate_table
from mondrian_core.errors import MondrianError
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store import Store

SECTIONS = {"recipe": "Recipe", "dataset": "Data", "metrics": "Metrics", "gate": "Gates"}
SHORT_HASH_LENGTH = 12
IMPLIED_PREFIXES = (
    "recipe.values.",
    "recipe.",
    "dataset.",
    "metrics.arms.candidate.",
    "metrics.",
    "gate ",
)  # from the title


def show_adapter_command(options: Namespace) -> int:
    """One version: where it comes from, its family, its gates, what happened to it."""
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    version = registry.get(validate_advisor_id(options.advisor), options.version)
    versions = {each.version: each for each in registry.versions(options.advisor)}
    events = [entry for entry in registry.history(options.advisor) if version.version in (entry.version, entry.before)]
    value = {
        **registry_room.version_summary(version),
        "manifest": version.manifest,
        "lineage": registry.lineage(options.advisor, version.version),
        "family": registry_room.version_family(versions, version.version),
        "history": [entry.as_dict() for entry in events],
    }
    command = mlx_vlm_command_words(settings.base, version.path, _voice(settings, version.advisor))

    def draw(console: Console) -> None:
        _draw_version(console, version, value)
        console.print("The library alone answers with it:")
        console.print(shell_line(command), soft_wrap=True, markup=False, highlight=False)

    print_result(options.json, value, draw)
    return 0


def _voice(settings: Settings, advisor: str) -> AdvisorPrompt | None:
    """The advisor's prompt where the workspace has it; versions can be looked at without one."""
    try:
        with Store(settings.database, read_only=True) as store:
            return store.advisor(advisor)
    except MondrianError:
        return None


def _draw_version(console: Console, version: AdapterVersion, value: Mapping[str, Any]) -> None:
    console.print(f"[bold]{version.advisor} {version.version}[/]  {version.state}")
    console.print(f"  folder: {version.path}")
    for key in ("created_at", "run", "code_commit", "seed"):
        if version.manifest.get(key) is not None:
            console.print(f"  {key}: {escape(str(version.manifest[key]))}")
    trained = (version.manifest.get("training") or {}).get("trained_on") or {}
    if trained.get("extent") == "all":
        console.print(f"  trained on all {trained['photographs']} photographs; its scores are its recipe's, by folds")
    console.print(_lineage_tree(value["family"], version.version))
    if gates := (version.report or {}).get("gates"):
        console.print(rich_gate_table(gates))
    table = _table("History", "", "when", "what", "who", "why")
    for entry in value["history"]:
        what = entry["event"] if entry["version"] == version.version else f"{entry['event']} of {entry['version']}"
        table.add_row(str(entry["serial"]), entry["at"][:16], what, entry["actor"], escape(entry["reason"]))
    if value["history"]:
        console.print(table)


def _lineage_tree(node: Mapping[str, Any], here: str) -> Tree:
    """The family, oldest first, with the version in question in bold."""
    facts = [node["version"], node["state"] or "gone", node["verdict"] or "", (node["created_at"] or "")[:10]]
    text = "  ".join(fact for fact in facts if fact)
    tree = Tree(f"[bold]{text}  <- this one[/]" if node["version"] == here else text)
    tree.children.extend(_lineage_tree(child, here) for child in node["children"])
    return tree


def diff_adapters_command(options: Namespace) -> int:
    """What differs between two versions, how they score, and what both said about the same photographs."""
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    validate_advisor_id(options.advisor)
    pair = [registry.get(options.advisor, name) for name in options.versions]
    first, second = (registry_room.read_version_answers(version, settings.root) for version in pair)
    value: dict[str, Any] = {
        "first": pair[0].version,
        "second": pair[1].version,
        "differences": registry_room.diff_versions(*pair),
        "scores": registry_room.compare_version_scores(first, second),
        "critiques": registry_room.compare_version_critiques(first, second, options.photographs),
        "answers": {
            version.version: str(each.source) if each.source else None
            for version, each in zip(pair, (first, second), strict=True)
        },
    }
    print_result(options.json, value, lambda console: _draw_diff(console, value))
    return 0


def _draw_diff(console: Console, value: Mapping[str, Any]) -> None:
    names = (value["first"], value["second"])
    sections: dict[str, list[Mapping[str, Any]]] = {}
    for row in value["differences"]:
        sections.setdefault(SECTIONS.get(str(row["what"]).split()[0].split(".")[0], "Other"), []).append(row)
    for title in (*SECTIONS.values(), "Other"):
        if rows := sections.get(title):
            table = _table(title, "what", *names)
            for row in rows:
                table.add_row(escape(_short(str(row["what"]))), _cell(row["first"]), _cell(row["second"]))
            console.print(table)
    if not value["differences"]:
        console.print("They differ in nothing that is written down.")
    _draw_scores(console, value["scores"], names)
    for row in value["critiques"]:
        console.print(_critiques(row, names))
    for name in names:
        if value["answers"][name] is None:
            console.print(f"The answers of {name} are not here any more; `mondrian evaluate` makes them again.")


def _short(name: str) -> str:
    return name.removeprefix(next((prefix for prefix in IMPLIED_PREFIXES if name.startswith(prefix)), ""))


def _draw_scores(console: Console, scores: Mapping[str, Any], names: tuple[str, str]) -> None:
    if not scores["photographs"]:
        console.print("No labelled photograph was answered by both, so their scores can't be held against each other.")
        return
    title = f"Scores on the {scores['photographs']} labelled photographs that both answered"
    table = _table(title, "dimension", "advisor", *names, *(f"squared error {name}" for name in names))
    for name, row in scores["dimensions"].items():
        table.add_row(
            DIMENSION_TITLES[name],
            *(display_number(row[key]) for key in ("advisor", "first", "second", "first_mse", "second_mse")),
        )
    biases = [f"{scores[arm]['bias']:+.3g}" for arm in ("first", "second")]
    table.add_row(
        "[bold]All[/]",
        "",
        *(f"bias {bias}" for bias in biases),
        *(f"[bold]{display_number(scores[arm]['mse'])}[/]" for arm in ("first", "second")),
    )
    console.print(table)


def _critiques(row: Mapping[str, Any], names: tuple[str, str]) -> Table:
    table = Table(title=f"Photograph {_cell(row['photograph'])}", title_justify="left", show_lines=True)
    table.add_column("dimension", no_wrap=True)
    if row["advisor"]:
        table.add_column("advisor")
    for name in names:
        table.add_column(name, overflow="fold", ratio=1)
    for dimension in DIMENSIONS:
        truth = [display_number(row["advisor"][dimension])] if row["advisor"] else []
        cells = [_comment(row[arm], dimension) for arm in ("first", "second")]
        table.add_row(DIMENSION_TITLES[dimension], *truth, *cells)
    grades = [escape(str(row[arm].get("overall_grade", ""))) for arm in ("first", "second")]
    table.add_row("Overall grade", *([""] if row["advisor"] else []), *grades)
    return table


def _comment(critique: Mapping[str, Any], dimension: str) -> str:
    if "unreadable" in critique:
        return escape(f"unreadable: {critique['unreadable'][:80]}") if dimension == DIMENSIONS[0] else ""
    found = critique["dimensional_analysis"][dimension]
    return f"[bold]{display_number(found['score'])}[/]  {escape(found['comment'])}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _cell(value: Any) -> str:
    """A value for people; a hash by its beginning."""
    text = display_number(value)
    is_hash = len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)
    return text[:SHORT_HASH_LENGTH] if is_hash else escape(text)
