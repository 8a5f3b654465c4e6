"""docs/reference/command-line.md, from the application of the command line.

cyclopts writes the sections. Options that many commands share are described once, in front of them, and what a
command's docstring says about exit statuses is added.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from cyclopts import App

from mondrian import DEPLOYMENT_COMMANDS
from mondrian_core.cli.app import EXPERT_PANEL, build_app

PAGE = "docs/reference/command-line.md"
# Panels of options that several commands have: title -> the command whose section describes them.
SHARED_PANELS = ("Workspace and output", "XMP sidecars", "Training settings (override the recipe)", EXPERT_PANEL)
_COMPLETION = "## mondrian --"  # cyclopts' own command, described in the introduction
_START = """# Command line

This page is generated from the commands themselves. `mondrian COMMAND --help` prints the same for one command, and
`--help-all` adds the expert training settings. `mondrian --install-completion` installs completion for bash, zsh or
fish. Option names take `-` and `_` alike. An option takes precedence over an
[environment variable](settings.md), and that over the default. Names of
[older scripts](../how-to/coming-from-the-older-scripts.md) are translated.

## Exit statuses

| status | meaning |
|---|---|
| 0 | done |
| 1 | the answer is no: a gate failed, or there was nothing to do; where a command says more, its section does |
| 2 | wrong usage or bad input |
| 3 | something broke |
| 130 | interrupted |

An error is one paragraph on standard error: what happened, and what to do next. With `--json` it is
`{"error": ..., "next_step": ..., "exit_status": ...}` on standard output; `--debug` prints the traceback too.
[Errors](errors.md) lists the messages.
"""


def command_line_page() -> str:
    """The page as Markdown."""
    app = build_app(extra_commands=DEPLOYMENT_COMMANDS)
    head, *sections = re.split(r"^(?=###? mondrian )", app.generate_docs(), flags=re.MULTILINE)
    overview = head[head.index("**Workspace**") : head.index("**General**")].replace("**:", "**")
    overview = re.sub(r"^\* \[(`[^`]+`)\](\([^)]+\)): ", r"- [\1]\2: ", overview, flags=re.MULTILINE)
    shared: dict[str, str] = {}
    written = [_section(app, section, shared) for section in sections if not section.startswith(_COMPLETION)]
    options = [f"### {title}\n\n{shared[title]}" for title in SHARED_PANELS]
    parts = [_START, "## Commands\n", overview, "## Shared options\n", *options, *written]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _section(app: App, section: str, shared: dict[str, str]) -> str:
    """One command: title, usage, what it does, its own options, and the names of the shared ones."""
    title, rest = section.split("\n", 1)
    usage, _, panels = rest.partition("\n**")
    words = title.split()[2:]
    usage = re.sub(r"```console\n(.*)\n```", r"Usage: `\1`", usage)
    if (said := _docstring(app, words)) and (help_text := app.parse_commands(words)[1][-1].help):
        usage = usage.replace(help_text, said)
    own, named = [], []
    for name, options in _panels(f"**{panels}" if panels else ""):
        if name in SHARED_PANELS:
            shared.setdefault(name, options)
            named.append(f"[{name}](#{_anchor(name)})")
        else:
            own.append(f"**{name}**\n\n{options}")
    also = [f"Also: {', '.join(named)}."] if named else []
    return "\n\n".join(part.strip("\n") for part in (title, usage, *own, *also) if part.strip())


def _docstring(app: App, words: list[str]) -> str:
    """The docstring of a command, its paragraphs up to the first section such as Args."""
    command = app.parse_commands(words)[1][-1].default_command
    text = inspect.getdoc(command) if command else None
    return re.split(r"\n\n(?=[A-Z]\w+:\n)", text)[0].strip() if text else ""


def _panels(text: str) -> Iterator[tuple[str, str]]:
    for name, options in re.findall(r"^\*\*([^*]+)\*\*:\n\n(.*?)(?=^\*\*|\Z)", text, re.MULTILINE | re.DOTALL):
        yield name, re.sub(r"^\* ", "- ", options.strip(), flags=re.MULTILINE)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
