"""Versions as plain values for people: one described, two side by side, the line of parents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mondrian_core.registry.version import Version

# Parts of the manifest that differ between any two versions, or say nothing about the adapter.
_SILENT = ("version", "files", "format", "gate_report", "training", "imported_from")


def describe(version: Version) -> dict[str, Any]:
    """One row for a list: who, state, verdict, when, from what."""
    manifest = version.manifest
    return {
        "advisor": version.advisor,
        "version": version.version,
        "state": version.state,
        "verdict": version.verdict,
        "created_at": manifest.get("created_at"),
        "base": (manifest.get("base") or {}).get("name"),
        "base_fingerprint": version.base_fingerprint,
        "parent": version.parent,
        "dataset": (manifest.get("dataset") or {}).get("digest"),
        "recipe": (manifest.get("recipe") or {}).get("digest"),
        "run": manifest.get("run"),
        "seed": manifest.get("seed"),
        "path": str(version.path),
        "gates": [dict(gate) for gate in (version.report or {}).get("gates", [])],
        "metrics": manifest.get("metrics") or {},
    }


def diff(first: Version, second: Version) -> list[dict[str, Any]]:
    """Rows {"what", "first", "second"} of every value in which two versions differ, gates first, then the manifest.

    A value that one side doesn't have is None.
    """
    left, right = dict(_facts(first)), dict(_facts(second))
    names = [*left, *(name for name in right if name not in left)]
    return [
        {"what": name, "first": left.get(name), "second": right.get(name)}
        for name in names
        if left.get(name) != right.get(name)
    ]


def _facts(version: Version) -> Iterator[tuple[str, Any]]:
    yield "state", version.state
    yield "verdict", version.verdict
    for gate in (version.report or {}).get("gates", []):
        yield f"gate {gate['name']}", gate["verdict"]
        yield f"gate {gate['name']} observed", gate.get("observed")
    for name, value in version.manifest.items():
        if name not in _SILENT:
            yield from _leaves(name, value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def lineage(versions: Mapping[str, Version], start: str) -> list[str]:
    """`start`, its parent, its parent's parent, ...; a parent that is gone is named and ends the line."""
    line = [start]
    while (version := versions.get(line[-1])) is not None:
        if version.parent is None or version.parent in line:
            break
        line.append(version.parent)
    return line
