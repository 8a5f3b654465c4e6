"""`mondrian adapters list`, `verify`, `prune` and `import`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core import rollout
from mondrian_core.cli.options import (
    AdvisorOptions,
    CommandOptions,
    OptionalAdvisorOptions,
    WholeNumber,
    command_line_actor,
    settings_from_options,
)
from mondrian_core.cli.terminal_output import display_number, print_result
from mondrian_core.events import StageEvent, StageNotice
from mondrian_core.registry import AdapterVersion, Registry, version_summary
from mondrian_core.settings import Settings, validate_advisor_id


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class VerifyOptions(AdvisorOptions):
    """Options of `mondrian adapters verify`."""

    release: Annotated[bool, Parameter(help="restore quarantined versions that pass verification")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PruneOptions(AdvisorOptions):
    """Options of `mondrian adapters prune`."""

    keep: Annotated[
        WholeNumber,
        Parameter(show_default=True, help="candidates and rejected versions to keep, newest first"),
    ] = 5
    force: Annotated[bool, Parameter(help="also delete versions that a rollback could return to")] = False
    dry_run: Annotated[bool, Parameter(help="print what would be deleted and exit")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportOptions(AdvisorOptions):
    """Options of `mondrian adapters import`."""

    scale: Annotated[
        Literal["alpha", "alpha/rank"] | None,
        Parameter(help="for the legacy flat layout: the factor of its trainer (mlx-vlm until March 2026: alpha)"),
    ] = None


def _open_registry(options: CommandOptions, advisor: str | None) -> Registry:
    if advisor:
        validate_advisor_id(advisor)
    return Registry(settings_from_options(options).adapters_root)


def list_adapters_command(*, options: OptionalAdvisorOptions = OptionalAdvisorOptions()) -> int:  # noqa: B008  (frozen)
    """List every version with its state, and the share of a champion in rollout."""
    registry = _open_registry(options, options.advisor)
    advisors = [options.advisor] if options.advisor else registry.advisors()
    versions = [version for advisor in advisors for version in registry.versions(advisor)]
    running = {advisor: rollout.active_rollout(registry, advisor) for advisor in advisors}
    places = {(advisor, found.version): found.position for advisor, found in running.items() if found}
    values = [
        {**version_summary(version), "rollout": places.get((version.advisor, version.version))} for version in versions
    ]

    def draw(console: Console) -> None:
        if not values:
            where = registry.url or registry.root
            console.print(f"No adapters in {where}. Create one with `mondrian retrain --advisor A`.")
            if (overlooked := settings_from_options(options).overlooked_registry) is not None:
                console.print(f"There are adapters in {overlooked}: to use it, set --adapters or MONDRIAN_ADAPTERS.")
            return
        table = Table()
        for heading in ("advisor", "version", "state", "verdict", "created", "base", "parent"):
            table.add_column(heading)
        for value in values:
            loosened = ", loosened gates" if value["loosened"] else ""
            shown = {
                **value,
                "state": " ".join(filter(None, (value["state"], value["rollout"]))),
                "verdict": f"{value['verdict'] or ''}{loosened}",
            }
            table.add_row(
                *(
                    str(shown.get(key) or "")
                    for key in ("advisor", "version", "state", "verdict", "created_at", "base", "parent")
                )
            )
        console.print(table)

    print_result(options.json, values, draw)
    return 0


def prune_adapters_command(*, options: PruneOptions) -> int:
    """Delete old versions that nothing needs; exit status 1 when there is none."""
    registry = _open_registry(options, options.advisor)
    if options.force:
        rollout.require_no_active_rollout(registry, options.advisor)  # a rollout needs the previous version too
    names = registry.prune(
        options.advisor, keep=options.keep, actor=command_line_actor(), force=options.force, dry_run=options.dry_run
    )
    done = "Would delete" if options.dry_run else "Deleted"
    text = f"{done}: {', '.join(names)}" if names else "Nothing to delete."
    print_result(options.json, {"removed": names, "dry_run": options.dry_run}, lambda console: console.print(text))
    return 0 if names else 1


def verify_adapters_command(
    version: Annotated[str | None, Parameter(help="default: all versions")] = None, /, *, options: VerifyOptions
) -> int:
    """Check file hashes, and the weights against their base; exit status 1 when something is wrong."""
    registry, settings = _open_registry(options, options.advisor), settings_from_options(options)
    chosen = [registry.get(options.advisor, version)] if version else registry.versions(options.advisor)
    _hash_bases_anew(chosen, settings)
    results = [_verify_version(registry, each, settings) for each in chosen]
    for checked, result in zip(chosen, results, strict=True):
        _quarantine_or_release(registry, checked, result["problems"], release=options.release)
    if problems := registry.check(options.advisor):
        results.append({"version": None, "problems": list(problems), "base": None, "change": None})
    print_result(
        options.json, results, lambda console: console.print(escape("\n".join(map(_verification_line, results))))
    )
    return 1 if any(result["problems"] for result in results) else 0


def _hash_bases_anew(versions: Sequence[AdapterVersion], settings: Settings) -> None:
    """Hash the bases that the versions are compared with, so that no remembered digest decides."""
    from mondrian_core.models.base_identity import load_base_identity
    from mondrian_core.models.base_model import local_base_path

    named = [(version.manifest.get("base") or {}).get("name") for version in versions]
    for name in dict.fromkeys([*named, settings.base]):
        if name and (folder := local_base_path(name)) is not None:
            load_base_identity(folder, fresh=True)


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
            version.advisor, version.version, actor=command_line_actor(), reason="verified again: no problem found"
        )


def _verification_line(result: dict[str, Any]) -> str:
    name = result["version"] or "history and pointer"
    if result["problems"]:
        return f"{name}: {'; '.join(result['problems'])}{' (not served)' if result['version'] else ''}"
    if result["base"] is None:
        return f"{name}: files are valid; its base is not available, so the weights were not compared with it"
    return f"{name}: valid; on {result['base']} it changes its layers by {display_number(100 * result['change'])} %"


def import_adapter_command(
    source: Annotated[Path, Parameter(help="a folder (mlx-vlm's, PEFT's), an archive, or model_config.json")],
    /,
    *,
    options: ImportOptions,
) -> int:
    """Import a folder or archive as a new candidate; it still has to pass its gates."""

    def listen(event: StageEvent) -> None:
        notices.extend([event.message] if isinstance(event, StageNotice) else [])

    notices: list[str] = []
    validate_advisor_id(options.advisor)
    registry = Registry(settings_from_options(options).adapters_root, listen=listen)
    version = registry.import_from(options.advisor, source, actor=command_line_actor(), scale=options.scale)
    came = {key: value for key, value in version.manifest["imported_from"].items() if key != "gate_report"}

    def draw(console: Console) -> None:
        console.print(
            f"{version.version}: {version.state}. Next: mondrian evaluate --advisor {options.advisor} "
            f"--adapter {version.version}"
        )
        if "layout" in came:
            kind = "DoRA" if came.get("kind") == "dora" else "LoRA"
            console.print(
                f"  imported from {came['layout']} ({kind}): {came['modules']} modules, rank {came['rank']}, scale "
                f"{', '.join(map(display_number, came['scales']))}; stored in mlx-vlm's layout"
            )
        for notice in notices:
            console.print(f"  {escape(notice)}")

    print_result(options.json, {**version_summary(version), "imported_from": came, "notices": notices}, draw)
    return 0
