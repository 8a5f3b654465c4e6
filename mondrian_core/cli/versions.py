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
from mondrian_core.cli.library import library_command, told
from mondrian_core.cli.options import settings_of
from mondrian_core.cli.screen import answer, gate_table, number
from mondrian_core.errors import MondrianError
from mondrian_core.prompts import Voice
from mondrian_core.registry import Registry, Version
from mondrian_core.rubric import DIMENSIONS, TITLES
from mondrian_core.settings import Settings, check_advisor
from mondrian_core.store import Store

SECTIONS = {"recipe": "Recipe", "dataset": "Data", "metrics": "Metrics", "gate": "Gates"}
LONGEST_HASH = 12
UNDERSTOOD = ("recipe.values.", "recipe.", "dataset.", "metrics.arms.candidate.", "metrics.", "gate ")  # from the title


def show(options: Namespace) -> int:
    """One version: where it comes from, its family, its gates, what happened to it."""
    settings = settings_of(options)
    registry = Registry(settings.adapters_root)
    version = registry.get(check_advisor(options.advisor), options.version)
    versions = {each.version: each for each in registry.versions(options.advisor)}
    events = [entry for entry in registry.history(options.advisor) if version.version in (entry.version, entry.before)]
    value = {
        **registry_room.describe(version),
        "manifest": version.manifest,
        "lineage": registry.lineage(options.advisor, version.version),
        "family": registry_room.family(versions, version.version),
        "history": [entry.as_dict() for entry in events],
    }
    command = library_command(settings.base, version.path, _voice(settings, version.advisor))

    def draw(console: Console) -> None:
        _draw_version(console, version, value)
        console.print("The library alone answers with it:")
        console.print(told(command), soft_wrap=True, markup=False, highlight=False)

    answer(options.json, value, draw)
    return 0


def _voice(settings: Settings, advisor: str) -> Voice | None:
    """The advisor's prompt where the workspace has it; versions can be looked at without one."""
    try:
        with Store(settings.database, read_only=True) as store:
            return store.voice(advisor)
    except MondrianError:
        return None


def _draw_version(console: Console, version: Version, value: Mapping[str, Any]) -> None:
    console.print(f"[bold]{version.advisor} {version.version}[/]  {version.state}")
    console.print(f"  folder: {version.path}")
    for key in ("created_at", "run", "code_commit", "seed"):
        if version.manifest.get(key) is not None:
            console.print(f"  {key}: {escape(str(version.manifest[key]))}")
    trained = (version.manifest.get("training") or {}).get("trained_on") or {}
    if trained.get("extent") == "all":
        console.print(f"  trained on all {trained['photographs']} photographs; its scores are its recipe's, by folds")
    console.print(_tree(value["family"], version.version))
    if gates := (version.report or {}).get("gates"):
        console.print(gate_table(gates))
    table = _table("History", "", "when", "what", "who", "why")
    for entry in value["history"]:
        what = entry["event"] if entry["version"] == version.version else f"{entry['event']} of {entry['version']}"
        table.add_row(str(entry["serial"]), entry["at"][:16], what, entry["actor"], escape(entry["reason"]))
    if value["history"]:
        console.print(table)


def _tree(node: Mapping[str, Any], here: str) -> Tree:
    """The family, oldest first, with the version in question in bold."""
    facts = [node["version"], node["state"] or "gone", node["verdict"] or "", (node["created_at"] or "")[:10]]
    text = "  ".join(fact for fact in facts if fact)
    tree = Tree(f"[bold]{text}  <- this one[/]" if node["version"] == here else text)
    tree.children.extend(_tree(child, here) for child in node["children"])
    return tree


def diff(options: Namespace) -> int:
    """What differs between two versions, how they score, and what both said about the same photographs."""
    settings = settings_of(options)
    registry = Registry(settings.adapters_root)
    check_advisor(options.advisor)
    pair = [registry.get(options.advisor, name) for name in options.versions]
    first, second = (registry_room.answers_of(version, settings.root) for version in pair)
    value: dict[str, Any] = {
        "first": pair[0].version,
        "second": pair[1].version,
        "differences": registry_room.diff(*pair),
        "scores": registry_room.scores_side_by_side(first, second),
        "critiques": registry_room.critiques_side_by_side(first, second, options.photographs),
        "answers": {
            version.version: str(each.source) if each.source else None
            for version, each in zip(pair, (first, second), strict=True)
        },
    }
    answer(options.json, value, lambda console: _draw_diff(console, value))
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
    return name.removeprefix(next((prefix for prefix in UNDERSTOOD if name.startswith(prefix)), ""))


def _draw_scores(console: Console, scores: Mapping[str, Any], names: tuple[str, str]) -> None:
    if not scores["photographs"]:
        console.print("No labelled photograph was answered by both, so their scores can't be held against each other.")
        return
    title = f"Scores on the {scores['photographs']} labelled photographs that both answered"
    table = _table(title, "dimension", "advisor", *names, *(f"squared error {name}" for name in names))
    for name, row in scores["dimensions"].items():
        table.add_row(
            TITLES[name], *(number(row[key]) for key in ("advisor", "first", "second", "first_mse", "second_mse"))
        )
    biases = [f"{scores[arm]['bias']:+.3g}" for arm in ("first", "second")]
    table.add_row(
        "[bold]All[/]",
        "",
        *(f"bias {bias}" for bias in biases),
        *(f"[bold]{number(scores[arm]['mse'])}[/]" for arm in ("first", "second")),
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
        truth = [number(row["advisor"][dimension])] if row["advisor"] else []
        cells = [_comment(row[arm], dimension) for arm in ("first", "second")]
        table.add_row(TITLES[dimension], *truth, *cells)
    grades = [escape(str(row[arm].get("overall_grade", ""))) for arm in ("first", "second")]
    table.add_row("Overall grade", *([""] if row["advisor"] else []), *grades)
    return table


def _comment(critique: Mapping[str, Any], dimension: str) -> str:
    if "unreadable" in critique:
        return escape(f"unreadable: {critique['unreadable'][:80]}") if dimension == DIMENSIONS[0] else ""
    found = critique["dimensional_analysis"][dimension]
    return f"[bold]{number(found['score'])}[/]  {escape(found['comment'])}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _cell(value: Any) -> str:
    """A value for people; a hash by its beginning."""
    text = number(value)
    is_hash = len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)
    return text[:LONGEST_HASH] if is_hash else escape(text)
