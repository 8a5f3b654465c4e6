"""Describe a version, compare two, and build the family tree of versions, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mondrian_core.registry.version import AdapterVersion
from mondrian_core.registry.version_answers import VersionAnswers, read_version_answers
from mondrian_core.rubric import DIMENSIONS

# Parts of the manifest that always differ, or don't describe the adapter.
_IGNORED_MANIFEST_KEYS = ("version", "files", "format", "gate_report", "training", "imported_from", "answer_form")
# Metrics of other models, or shown by dimension and by photograph elsewhere.
_IGNORED_METRICS = frozenset(
    {"base", "champion", "rivals", "dimensions", "per_photograph", "against_base", "against_champion", "health"}
)


def version_summary(version: AdapterVersion) -> dict[str, Any]:
    """One row for a list: advisor, state, verdict, time and provenance."""
    manifest = version.manifest
    return {
        "advisor": version.advisor,
        "version": version.version,
        "state": version.state,
        "verdict": version.verdict,
        "loosened": [str(setting) for setting in version.evaluations[-1].loosened] if version.evaluations else [],
        "created_at": manifest.get("created_at"),
        "base": (manifest.get("base") or {}).get("name"),
        "base_fingerprint": version.base_fingerprint,
        "parent": version.parent,
        "answer_form": version.answer_form.value,
        "dataset": (manifest.get("dataset") or {}).get("digest"),
        "recipe": (manifest.get("recipe") or {}).get("digest"),
        "run": manifest.get("run"),
        "seed": manifest.get("seed"),
        "path": str(version.path),
        "gates": [dict(gate) for gate in (version.report or {}).get("gates", [])],
        "metrics": manifest.get("metrics") or {},
    }


def diff_versions(first: AdapterVersion, second: AdapterVersion) -> list[dict[str, Any]]:
    """Rows {"what", "first", "second"} of every value in which two versions differ, gates first, then the manifest.

    A missing value is None.
    """
    left, right = dict(_facts(first)), dict(_facts(second))
    names = [*left, *(name for name in right if name not in left)]
    return [
        {"what": name, "first": left.get(name), "second": right.get(name)}
        for name in names
        if left.get(name) != right.get(name)
    ]


def _facts(version: AdapterVersion) -> Iterator[tuple[str, Any]]:
    yield "state", version.state
    yield "verdict", version.verdict
    yield "answer_form", version.answer_form.value
    for gate in (version.report or {}).get("gates", []):
        yield f"gate {gate['name']}", gate["verdict"]
        yield f"gate {gate['name']} observed", gate.get("observed")
    for name, value in version.manifest.items():
        if name not in _IGNORED_MANIFEST_KEYS:
            yield from ((leaf, found) for leaf, found in _leaves(name, value) if not _is_detail(leaf, found))


def _is_detail(name: str, value: Any) -> bool:
    return name.startswith("metrics.") and (isinstance(value, list) or not _IGNORED_METRICS.isdisjoint(name.split(".")))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def compare_versions(
    first: AdapterVersion, second: AdapterVersion, workspace: Path | None, photographs: int
) -> dict[str, Any]:
    """Everything that distinguishes two versions, for the command and the page.

    Args:
        first: one version.
        second: the other.
        workspace: where the runs of versions without stored answers are; None: nowhere.
        photographs: number of photographs whose critiques are compared.

    Returns:
        {"first", "second": names, "differences": of `diff_versions`, "scores": of `compare_version_scores`,
        "critiques": of `compare_version_critiques`, "answers": by version, the file with its answers or None}.
    """
    ours, theirs = (read_version_answers(version, workspace) for version in (first, second))
    return {
        "first": first.version,
        "second": second.version,
        "differences": diff_versions(first, second),
        "scores": compare_version_scores(ours, theirs),
        "critiques": compare_version_critiques(ours, theirs, photographs),
        "answers": {
            version.version: str(each.source) if each.source else None
            for version, each in zip((first, second), (ours, theirs), strict=True)
        },
    }


def compare_version_scores(first: VersionAnswers, second: VersionAnswers) -> dict[str, Any]:
    """Scores of both versions on the labelled photographs for which both gave a readable answer.

    {"photographs": n, "first"/"second": {"mse", "mae", "bias"}, "dimensions": {name: {"advisor": mean score, "first":
    mean score, "second": ..., "first_mse": ..., "second_mse": ...}}}; without such photographs only {"photographs": 0}.
    """
    common = [
        name
        for name in first.labels
        if all(name in each.answers and each.answers[name].scores for each in (first, second)) and name in second.labels
    ]
    if not common:
        return {"photographs": 0}
    arms = {"first": first, "second": second}
    errors = {
        arm: {d: [each.answers[n].scores[d] - first.labels[n][d] for n in common] for d in DIMENSIONS}
        for arm, each in arms.items()
    }
    whole = {arm: [error for of_one in by_name.values() for error in of_one] for arm, by_name in errors.items()}
    dimensions = {}
    for name in DIMENSIONS:
        truth = _mean([first.labels[n][name] for n in common])
        dimensions[name] = {"advisor": truth}
        dimensions[name] |= {arm: truth + _mean(errors[arm][name]) for arm in arms}
        dimensions[name] |= {f"{arm}_mse": _mean([e * e for e in errors[arm][name]]) for arm in arms}
    summary = {
        arm: {"mse": _mean([e * e for e in found]), "mae": _mean([abs(e) for e in found]), "bias": _mean(found)}
        for arm, found in whole.items()
    }
    return {"photographs": len(common), **summary, "dimensions": dimensions}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def compare_version_critiques(first: VersionAnswers, second: VersionAnswers, count: int) -> list[dict[str, Any]]:
    """The `count` photographs about which two versions differ most, each with both critiques and the advisor's scores.

    Photographs with one readable answer come first, those with none last.

    Args:
        first: answers of one version.
        second: answers of the other.
        count: number of photographs.
    """
    rows = []
    for name in first.answers.keys() & second.answers.keys():
        one, other = first.answers[name], second.answers[name]
        readable = (one.critique is not None) + (other.critique is not None)
        apart = sum(abs(one.scores[d] - other.scores[d]) for d in DIMENSIONS) if one.scores and other.scores else 0.0
        row = {
            "photograph": name,
            "advisor": dict(first.labels.get(name) or second.labels.get(name) or {}),
            "first": _critique_of(one),
            "second": _critique_of(other),
        }
        rows.append(((1, 2, 0).index(readable), -apart, name, row))
    return [row for *_, row in sorted(rows, key=lambda each: each[:3])[:count]]


def _critique_of(answer: Any) -> dict[str, Any]:
    return answer.critique.as_dict() if answer.critique is not None else {"unreadable": answer.text}


def version_lineage(versions: Mapping[str, AdapterVersion], start: str) -> list[str]:
    """`start`, its parent, its grandparent, ...; a parent that no longer exists ends the list."""
    line = [start]
    while (version := versions.get(line[-1])) is not None:
        if version.parent is None or version.parent in line:
            break
        line.append(version.parent)
    return line


def version_family(versions: Mapping[str, AdapterVersion], member: str) -> dict[str, Any]:
    """The oldest known ancestor of `member` with its descendants: {"version", "state", ..., "children": [...]}.

    A parent that no longer exists has state None. A cycle of manifests ends where it closes.
    """
    children: dict[str, list[str]] = {}
    for version in versions.values():
        if version.parent is not None:
            children.setdefault(version.parent, []).append(version.version)

    def node(name: str, above: frozenset[str]) -> dict[str, Any]:
        version = versions.get(name)
        below = [child for child in sorted(children.get(name, [])) if child not in above | {name}]
        return {
            "version": name,
            "state": version.state if version else None,
            "verdict": version.verdict if version else None,
            "created_at": version.manifest.get("created_at") if version else None,
            "children": [node(child, above | {name}) for child in below],
        }

    return node(version_lineage(versions, member)[-1], frozenset())
