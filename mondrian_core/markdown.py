"""Markdown escaping: texts by people, models and file names are shown literally, never read as markup.

Written for CommonMark with GitHub's extensions (tables, strikethrough, automatic links), which Prefect's pages and the
usual viewers read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ALWAYS = r"[\\`*\[\]<>|~&#@]"
_MAYBE = (
    r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # emphasis; a name_like_this has none
    r"|:(?=//)|/(?=/)|(?<=mailto):|(?<=xmpp):|(?<=www)\."  # automatic links
)
_SPECIAL = re.compile(f"{_ALWAYS}|{_MAYBE}", re.IGNORECASE)
_BLOCK = re.compile(r"^(?:([-+=])(?=[-=\s]|$)|(\d{1,9})([.)])(?=\s|$))")  # a list, a heading's underline, a rule


class Markdown(str):
    """A text that is already Markdown and is not escaped again."""

    __slots__ = ()


def escape_markdown(text: object) -> Markdown:
    """Escape a text to one literal line; `Markdown` stays unchanged."""
    if isinstance(text, Markdown):
        return text
    line = " ".join(_CONTROL.sub(" ", str(text)).split())
    escaped = _SPECIAL.sub(lambda found: f"\\{found.group()}", line)
    return Markdown(_BLOCK.sub(_as_text, escaped))


def _as_text(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def code_span(text: object) -> Markdown:
    """A text as an inline code span, for paths and identifiers."""
    line = " ".join(_CONTROL.sub(" ", str(text)).split())
    if not line:
        return Markdown("")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return Markdown(f"{ticks}{space}{line}{space}{ticks}")


def code_block(text: object) -> Markdown:
    """Lines to copy, such as a command."""
    lines = str(text).replace("\r", "\n").strip("\n")
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", lines)), default=0))
    return Markdown(f"{ticks}\n{lines}\n{ticks}")


def markdown_table(headings: Sequence[object], rows: Iterable[Sequence[Any]], aligned: Sequence[str] = ()) -> Markdown:
    """A table whose cells are escaped. `aligned`: "---" or "---:" per column."""
    head, *body = (f"| {' | '.join(markdown_cell(each) for each in row)} |" for row in (headings, *rows))
    rule = f"|{'|'.join(aligned or ['---'] * len(headings))}|"
    return Markdown("\n".join([head, rule, *body]))


def markdown_cell(value: Any) -> Markdown:
    """One value for a cell: empty for None, numbers with three digits, intervals in brackets."""
    return escape_markdown(_shown(value))


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(_shown(each)) for each in value)}]"
    return value
