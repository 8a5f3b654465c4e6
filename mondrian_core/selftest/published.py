"""Published figures: what the self-test found on known machines, and the table of docs/how-to/selftest.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mondrian_core.selftest.comparison import LOGITS, TRAINING
from mondrian_core.selftest.steps import MACHINE, STEPS, StepStatus

PUBLISHED_FILE = Path(__file__).resolve().parent / "published.json"
SPEED, LOAD = "speed", "load"
_KEPT_STEPS = (LOAD, LOGITS, TRAINING, SPEED)
_PACKAGES = ("mlx", "mlx-metal", "mlx-cpu", "mlx-vlm")
NO_MAC = "No Mac has been measured yet: there is no row of a GPU, and nothing is claimed for Metal."


def read_published(path: Path = PUBLISHED_FILE) -> list[dict[str, Any]]:
    """The published entries, one for each device, stream and base."""
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["entries"]
    return entries


def published_results(entries: Sequence[Mapping[str, Any]], fingerprint: str) -> Mapping[str, Any] | None:
    """The entry with the reference results of a base, which a CPU computed in float32; None if there is none."""
    matching = [entry for entry in entries if entry["fingerprint"] == fingerprint and entry["stream"] == "CPU"]
    return matching[0] if matching else None


def published_speed(
    entries: Sequence[Mapping[str, Any]], fingerprint: str, stream: str, device: str
) -> Mapping[str, Any] | None:
    """The speed figures of a device with this name; None if there are none."""
    for entry in entries:
        if (entry["fingerprint"], entry["stream"], entry["device"]) == (fingerprint, stream, device):
            speed: Mapping[str, Any] = entry[SPEED]
            return speed
    return None


def entries_of_report(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries to publish from a report whose steps are all fine.

    Raises:
        ValueError: something in the report is off.
    """
    if document["verdict"] != StepStatus.OK:
        raise ValueError("only a report whose verdict is ok can be published")
    machine, entries = document["machine"], []
    steps = [step for step in document["steps"] if step["stream"] in ("CPU", "GPU") and step["base"]]
    for base, stream in dict.fromkeys((step["base"], step["stream"]) for step in steps):
        found = {
            step["step"]: step["figures"]
            for step in steps
            if (step["base"], step["stream"], step["status"]) == (base, stream, StepStatus.OK)
        }
        if not set(_KEPT_STEPS) <= set(found):
            continue
        entries.append(
            {
                "device": machine["gpu_name"] if stream == "GPU" else machine["cpu_name"],
                "stream": stream,
                "system": f"{machine['system']} {machine['machine']}",
                "macos": machine["macos"],
                "cpus": machine["cpus"],
                "memory_bytes": machine["memory_bytes"],
                "date": document["date"],
                "packages": {name: document["packages"][name] for name in _PACKAGES if name in document["packages"]},
                "base": document["bases"][base],
                "fingerprint": found[LOAD]["fingerprint"],
                **{name: found[name] for name in _KEPT_STEPS},
            }
        )
    return entries


def checks_table() -> str:
    """The steps as a Markdown table."""
    lines = ["| check | what it checks | limit |", "|---|---|---|"]
    lines += [f"| {step.title} | {step.checks} | {step.limit:.0f} s |" for step in (MACHINE, *STEPS)]
    return "\n".join(lines)


def published_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries as a Markdown table, and whether a Mac is among them."""
    lines = [
        "| device | stream | base | date | mlx | tokens/s | training step | peak memory | adapter |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        speed = entry[SPEED]
        lines.append(
            f"| {entry['device']}, {entry['cpus']} CPUs, {entry['memory_bytes'] / 1e9:.0f} GB, {entry['system']} "
            f"| {entry['stream']} | {entry['base']} | {entry['date']} | {entry['packages']['mlx']} "
            f"| {speed['decode_tokens_per_second']:.0f} | {speed['training_step_seconds']:.2f} s for "
            f"{speed['training_step_tokens']} tokens | {speed['peak_memory_bytes'] / 1e9:.2f} GB "
            f"| x{speed['adapter_overhead']:.2f} |"
        )
    if not any(entry["stream"] == "GPU" and entry["macos"] for entry in entries):
        lines += ["", NO_MAC]
    return "\n".join(lines)
