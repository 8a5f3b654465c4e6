"""`mondrian adapters show` and `mondrian adapters diff`: a version and its lineage; two versions compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mondrian_core.cli.adapters.mlx_vlm_command import mlx_vlm_command_words, shell_line
from mondrian_core.cli.options import AdvisorOptions, WholeNumber, settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result, rich_gate_table
from mondrian_core.errors import MondrianError
from mondrian_core.gate_strictness import loosened_text
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import (
    OBJECTIONS,
    AdapterVersion,
    Registry,
    compare_versions,
    version_family,
    version_summary,
)
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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DiffOptions(AdvisorOptions):
    """Options of `mondrian adapters diff`."""

    photographs: Annotated[
        WholeNumber,
        Parameter(show_default=True, help="print critiques of the N photographs on which they differ most"),
    ] = 2


def show_adapter_command(
    version: Annotated[str, Parameter(help="a version such as v0001")], /, *, options: AdvisorOptions
) -> int:
    """Show one version: origin, lineage, gates and history."""
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    shown = registry.get(validate_advisor_id(options.advisor), version)
    versions = {each.version: each for each in registry.versions(options.advisor)}
    events = [entry for entry in registry.history(options.advisor) if shown.version in (entry.version, entry.before)]
    value = {
        **version_summary(shown),
        "manifest": shown.manifest,
        "lineage": registry.lineage(options.advisor, shown.version),
        "family": version_family(versions, shown.version),
        "history": [entry.as_dict() for entry in events],
    }
    command = mlx_vlm_command_words(settings.base, shown.path, _advisor_prompt(settings, shown.advisor))

    def draw(console: Console) -> None:
        _draw_version(console, shown, value)
        console.print("To use it with mlx-vlm alone:")
        console.print(shell_line(command), soft_wrap=True, markup=False, highlight=False)

    print_result(options.json, value, draw)
    return 0


def _advisor_prompt(settings: Settings, advisor: str) -> AdvisorPrompt | None:
    """The advisor's prompt if the workspace has one; a version can be shown without it."""
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
        console.print(f"  trained on all {trained['photographs']} photographs; its scores come from cross-validation")
    console.print(_lineage_tree(value["family"], version.version))
    if gates := (version.report or {}).get("gates"):
        console.print(rich_gate_table(gates))
    if version.evaluations and version.evaluations[-1].loosened:
        console.print(f"  evaluated {escape(loosened_text(version.evaluations[-1].loosened))}")
    for failed in version.unanswered_failures:
        console.print(
            f"  an evaluation {failed.at[:10] or 'at the registration'} failed: {', '.join(failed.failed_gates)}; no "
            "later one passed these gates on the same photographs"
        )
    table = _table("History", "", "when", "what", "who", "why")
    for entry in value["history"]:
        what = entry["event"] if entry["version"] == version.version else f"{entry['event']} of {entry['version']}"
        against = "; ".join(entry["detail"].get(OBJECTIONS, ()))
        why = entry["reason"] + (f" (although {against})" if against else "")
        table.add_row(str(entry["serial"]), entry["at"][:16], what, entry["actor"], escape(why))
    if value["history"]:
        console.print(table)


def _lineage_tree(node: Mapping[str, Any], shown: str) -> Tree:
    """The lineage, oldest first, with the version `shown` in bold."""
    facts = [node["version"], node["state"] or "gone", node["verdict"] or "", (node["created_at"] or "")[:10]]
    text = "  ".join(fact for fact in facts if fact)
    tree = Tree(f"[bold]{text}  <- this one[/]" if node["version"] == shown else text)
    tree.children.extend(_lineage_tree(child, shown) for child in node["children"])
    return tree


def diff_adapters_command(
    versions: Annotated[tuple[str, str], Parameter(help="two versions")], /, *, options: DiffOptions
) -> int:
    """Compare two versions: settings, scores, and critiques of the same photographs."""
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    validate_advisor_id(options.advisor)
    first, second = (registry.get(options.advisor, name) for name in versions)
    value = compare_versions(first, second, settings.root, options.photographs)
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
        console.print("Their manifests don't differ.")
    _draw_scores(console, value["scores"], names)
    for row in value["critiques"]:
        console.print(_critiques(row, names))
    for name in names:
        if value["answers"][name] is None:
            console.print(f"The answers of {name} are no longer stored; run `mondrian evaluate` to create them again.")


def _short(name: str) -> str:
    return name.removeprefix(next((prefix for prefix in IMPLIED_PREFIXES if name.startswith(prefix)), ""))


def _draw_scores(console: Console, scores: Mapping[str, Any], names: tuple[str, str]) -> None:
    if not scores["photographs"]:
        console.print("No labelled photograph was answered by both versions, so their scores can't be compared.")
        return
    title = f"Scores on the {scores['photographs']} labelled photographs that both versions answered"
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
    assessment = critique["dimensional_analysis"][dimension]
    return f"[bold]{display_number(assessment['score'])}[/]  {escape(assessment['comment'])}"


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
