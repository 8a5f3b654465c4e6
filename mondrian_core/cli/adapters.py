"""`mondrian adapters ...`: the registry from the terminal."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core import registry as registry_room
from mondrian_core import rollout
from mondrian_core.cli.options import person, settings_of
from mondrian_core.cli.screen import answer, number
from mondrian_core.events import Event, Noticed
from mondrian_core.registry import Registry, Version
from mondrian_core.settings import Settings, check_advisor


def _registry(options: Namespace) -> Registry:
    if options.advisor:
        check_advisor(options.advisor)
    return Registry(settings_of(options).adapters_root)


def list_versions(options: Namespace) -> int:
    """Every version with its state; a champion that only a share sees says so."""
    registry = _registry(options)
    advisors = [options.advisor] if options.advisor else registry.advisors()
    versions = [version for advisor in advisors for version in registry.versions(advisor)]
    running = {advisor: rollout.active(registry, advisor) for advisor in advisors}
    places = {(advisor, found.version): found.place for advisor, found in running.items() if found}
    values = [
        {**registry_room.describe(version), "rollout": places.get((version.advisor, version.version))}
        for version in versions
    ]

    def draw(console: Console) -> None:
        if not values:
            where = registry.url or registry.root
            console.print(f"No adapters under {where}. Make one with `mondrian retrain --advisor A`.")
            if (overlooked := settings_of(options).overlooked_registry) is not None:
                console.print(f"There are adapters in {overlooked}: name it with --adapters or MONDRIAN_ADAPTERS.")
            return
        table = Table()
        for heading in ("advisor", "version", "state", "verdict", "created", "base", "parent"):
            table.add_column(heading)
        for value in values:
            shown = {**value, "state": " ".join(filter(None, (value["state"], value["rollout"])))}
            table.add_row(
                *(
                    str(shown.get(key) or "")
                    for key in ("advisor", "version", "state", "verdict", "created_at", "base", "parent")
                )
            )
        console.print(table)

    answer(options.json, values, draw)
    return 0


def prune(options: Namespace) -> int:
    """Delete old versions that nothing needs; 1 when there is none to delete."""
    registry = _registry(options)
    if options.force:
        rollout.refuse_while_running(registry, options.advisor)  # it answers with the version before, too
    names = registry.prune(
        options.advisor, keep=options.keep, actor=person(), force=options.force, dry_run=options.dry_run
    )
    done = "Would delete" if options.dry_run else "Deleted"
    told = f"{done}: {', '.join(names)}" if names else "Nothing to delete: what is left is needed or wanted."
    answer(options.json, {"removed": names, "dry_run": options.dry_run}, lambda console: console.print(told))
    return 0 if names else 1


def verify(options: Namespace) -> int:
    """Re-hash the files and hold the weights against their base; exit status 1 when something is wrong."""
    registry, settings = _registry(options), settings_of(options)
    chosen = [registry.get(options.advisor, options.version)] if options.version else registry.versions(options.advisor)
    found = [_verified(registry, version, settings) for version in chosen]
    for version, result in zip(chosen, found, strict=True):
        _act_on(registry, version, result["problems"], release=options.release)
    if books := registry.check(options.advisor):
        found.append({"version": None, "problems": list(books), "base": None, "change": None})
    answer(options.json, found, lambda console: console.print(escape("\n".join(map(_told, found)))))
    return 1 if any(result["problems"] for result in found) else 0


def _verified(registry: Registry, version: Version, settings: Settings) -> dict[str, Any]:
    from mondrian_core.models.inspection import inspect

    result: dict[str, Any] = {"version": version.version, "problems": [], "base": None, "change": None}
    result["problems"] = list(registry.verify(version.advisor, version.version))
    if not result["problems"]:
        named = (version.manifest.get("base") or {}).get("name")
        seen = inspect(version.path, version.base_fingerprint, [named, settings.base])
        result |= {"problems": list(seen.problems), "base": seen.base, "change": seen.change}
    return result


def _act_on(registry: Registry, version: Version, problems: list[str], *, release: bool) -> None:
    if problems and version.state not in ("quarantined", "legacy"):
        registry.quarantine(version.advisor, version.version, actor=person(), reason="; ".join(problems))
    if release and not problems and version.state == "quarantined":
        registry.release(version.advisor, version.version, actor=person(), reason="verified anew and found sound")


def _told(result: dict[str, Any]) -> str:
    name = result["version"] or "history and pointer"
    if result["problems"]:
        return f"{name}: {'; '.join(result['problems'])}{' (not served)' if result['version'] else ''}"
    if result["base"] is None:
        return f"{name}: files sound; its base is not at hand, so they were not held against it"
    return f"{name}: sound; on {result['base']} it changes its layers by {number(100 * result['change'])} %"


def import_adapter(options: Namespace) -> int:
    """Take a folder or archive in as a new candidate; it still has to pass its gates."""

    def listen(event: Event) -> None:
        notices.extend([event.message] if isinstance(event, Noticed) else [])

    notices: list[str] = []
    check_advisor(options.advisor)
    registry = Registry(settings_of(options).adapters_root, listen=listen)
    version = registry.import_from(options.advisor, Path(options.source), actor=person(), scale=options.scale)
    came = {key: value for key, value in version.manifest["imported_from"].items() if key != "gate_report"}

    def draw(console: Console) -> None:
        console.print(
            f"{version.version}: {version.state}. Next: mondrian evaluate --advisor {options.advisor} "
            f"--adapter {version.version}"
        )
        if "layout" in came:
            kind = "DoRA" if came.get("kind") == "dora" else "LoRA"
            console.print(
                f"  came as {came['layout']} ({kind}): {came['modules']} modules, rank {came['rank']}, scale "
                f"{', '.join(map(number, came['scales']))}; it is mlx-vlm's layout now"
            )
        for notice in notices:
            console.print(f"  {escape(notice)}")

    answer(options.json, {**registry_room.describe(version), "imported_from": came, "notices": notices}, draw)
    return 0
