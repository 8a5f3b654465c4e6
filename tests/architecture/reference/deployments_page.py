"""docs/reference/deployments.md, from prefect.yaml and the flows that it names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import yaml

from mondrian_core.markdown import Markdown, markdown_table
from tests.architecture.reference.docstrings import docstring_names, docstring_summary
from tests.architecture.reference.prose_markup import escaped_prose
from tests.git_files import ROOT

PAGE = "docs/reference/deployments.md"
_START = """# Deployments

This page is generated from `prefect.yaml` and the flows. `mondrian up` applies them to the workspace's Prefect server.
The names are an interface: `mondrian prefect deployment run 'promote/manual' -p advisor=ansel -p version=v0003` starts
a run, and so does the page Deployments of Prefect's UI, with a form for the parameters.

All of them use the work pool `{pool}` of type process. A queue stands for a role of machines
([several machines](../how-to/several-machines.md)). A schedule that is off
is switched on by `active: true` in `prefect.yaml`.

{overview}
"""


def deployments_page() -> str:
    """The page as Markdown."""
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    found = [(_flow(entry), entry) for entry in document["deployments"]]
    named = {f"{flow.name}/{entry['name']}": (flow, entry) for flow, entry in found}
    (pool,) = {entry["work_pool"]["name"] for _, entry in found}
    rows = [
        (
            Markdown(f"[{name}](#{name.replace('/', '')})"),
            Markdown("<br>".join(_schedule(each) for each in entry.get("schedules", []))),
            entry["work_pool"]["work_queue_name"],
            Markdown(escaped_prose(entry["description"])),
        )
        for name, (_, entry) in named.items()
    ]
    overview = markdown_table(("deployment", "schedule", "queue", "what it does"), rows)
    sections = [_section(name, flow, entry) for name, (flow, entry) in named.items()]
    return "\n\n".join(part.strip("\n") for part in (_START.format(pool=pool, overview=overview), *sections)) + "\n"


def _flow(entry: Mapping[str, Any]) -> Any:
    path, name = entry["entrypoint"].split(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


def _schedule(schedule: Mapping[str, Any]) -> str:
    state = {True: "on", False: "off", None: "on while a rollout is active"}[schedule.get("active")]
    return f"`{schedule['cron']}` {schedule['timezone']} ({state})"


def _section(name: str, flow: Any, entry: Mapping[str, Any]) -> str:
    facts = [f"Tags: {', '.join(f'`{tag}`' for tag in entry['tags'])}."]
    if limit := entry.get("concurrency_limit"):
        facts.append(f"At most {limit['limit']} run at a time; further ones are canceled.")
    if preset := entry.get("parameters"):
        facts.append(f"Preset: {', '.join(f'`{key}={value}`' for key, value in preset.items())}.")
    schema, texts = flow.parameters, docstring_names(flow.fn, "Args")
    rows = [
        (
            Markdown(f"`{parameter}`"),
            _kind(facts_of),
            "required" if parameter in schema.required else _default(facts_of.get("default")),
            Markdown(escaped_prose(texts[parameter].rstrip("."))),
        )
        for parameter, facts_of in schema.properties.items()
    ]
    parts = [f"## {name}", escaped_prose(docstring_summary(flow.fn)), " ".join(facts)]
    if rows:
        parts.append(markdown_table(("parameter", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _kind(schema: Mapping[str, Any]) -> str:
    if several := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_kind(each) for each in several if each.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "object"))
    least, most = schema.get("minimum"), schema.get("maximum")
    return f"{kind}, {least:g} to {most:g}" if least is not None and most is not None else kind


def _default(value: Any) -> Markdown:
    return Markdown("" if value in (None, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`")
