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
from mondrian_core.cli.options import command_line_actor, settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result
from mondrian_core.events import StageEvent, StageNotice
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.settings import Settings, validate_advisor_id


def _open_registry(options: Namespace) -> Registry:
    if options.advisor:
        validate_advisor_id(options.advisor)
    return Registry(settings_from_options(options).adapters_root)


def list_adapters_command(options: Namespace) -> int:
    """Every version with its state; a champion that only a share sees says so."""
    registry = _open_registry(options)
    advisors = [options.advisor] if options.advisor else registry.advisors()
    versions = [version for advisor in advisors for version in registry.versions(advisor)]
    running = {advisor: rollout.active_rollout(registry, advisor) for advisor in advisors}
    places = {(advisor, found.version): found.position for advisor, found in running.items() if found}
    values = [
        {**registry_room.version_summary(version), "rollout": places.get((version.advisor, version.version))}
        for version in versions
    ]

    def draw(console: Console) -> None:
        if not values:
            where = registry.url or registry.root
            console.print(f"No adapters under {where}. Make one with `mondrian retrain --advisor A`.")
            if (overlooked := settings_from_options(options).overlooked_registry) is not None:
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

    print_result(options.json, values, draw)
    return 0


def prune_adapters_command(options: Namespace) -> int:
    """Delete old versions that nothing needs; 1 when there is none to delete."""
    registry = _open_registry(options)
    if options.force:
        rollout.require_no_active_rollout(registry, options.advisor)  # it answers with the version before, too
    names = registry.prune(
        options.advisor, keep=options.keep, actor=command_line_actor(), force=options.force, dry_run=options.dry_run
    )
    done = "Would delete" if options.dry_run else "Deleted"
    told = f"{done}: {', '.join(names)}" if names else "Nothing to delete: what is left is needed or wanted."
    print_result(options.json, {"removed": names, "dry_run": options.dry_run}, lambda console: console.print(told))
    return 0 if names else 1


def verify_adapters_command(options: Namespace) -> int:
    """Re-hash the files and hold the weights against their base; exit status 1 when something is wrong."""
    registry, settings = _open_registry(options), settings_from_options(options)
    chosen = [registry.get(options.advisor, options.version)] if options.version else registry.versions(options.advisor)
    found = [_verify_version(registry, version, settings) for version in chosen]
    for version, result in zip(chosen, found, strict=True):
        _quarantine_or_release(registry, version, result["problems"], release=options.release)
    if books := registry.check(options.advisor):
        found.append({"version": None, "problems": list(books), "base": None, "change": None})
    print_result(options.json, found, lambda console: console.print(escape("\n".join(map(_verification_line, found)))))
    return 1 if any(result["problems"] for result in found) else 0


def _verify_version(registry: Registry, version: AdapterVersion, settings: Settings) -> dict[str, Any]:
    from mondrian_core.models.lora.adapter_inspection import inspect_adapter

    result: dict[str, Any] = {"version": version.version, "problems": [], "base": None, "change": None}
    result["problems"] = list(registry.verify(version.advisor, version.version))
    if not result["problems"]:
        named = (version.manifest.get("base") or {}).get("name")
        seen = inspect_adapter(version.path, version.base_fingerprint, [named, settings.base])
        result |= {"problems": list(seen.problems), "base": seen.base, "change": seen.change}
    return result


def _quarantine_or_release(registry: Registry, version: AdapterVersion, problems: list[str], *, release: bool) -> None:
    if problems and version.state not in ("quarantined", "legacy"):
        registry.quarantine(version.advisor, version.version, actor=command_line_actor(), reason="; ".join(problems))
    if release and not problems and version.state == "quarantined":
        registry.release(
            version.advisor, version.version, actor=command_line_actor(), reason="verified anew and found sound"
        )


def _verification_line(result: dict[str, Any]) -> str:
    name = result["version"] or "history and pointer"
    if result["problems"]:
        return f"{name}: {'; '.join(result['problems'])}{' (not served)' if result['version'] else ''}"
    if result["base"] is None:
        return f"{name}: files sound; its base is not at hand, so they were not held against it"
    return f"{name}: sound; on {result['base']} it changes its layers by {display_number(100 * result['change'])} %"


def import_adapter_command(options: Namespace) -> int:
    """Take a folder or archive in as a new candidate; it still has to pass its gates."""

    def listen(event: StageEvent) -> None:
        notices.extend([event.message] if isinstance(event, StageNotice) else [])

    notices: list[str] = []
    validate_advisor_id(options.advisor)
    registry = Registry(settings_from_options(options).adapters_root, listen=listen)
    version = registry.import_from(
        options.advisor, Path(options.source), actor=command_line_actor(), scale=options.scale
    )
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
                f"{', '.join(map(display_number, came['scales']))}; it is mlx-vlm's layout now"
            )
        for notice in notices:
            console.print(f"  {escape(notice)}")

    print_result(
        options.json, {**registry_room.version_summary(version), "imported_from": came, "notices": notices}, draw
    )
    return 0
