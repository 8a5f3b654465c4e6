"""Texts of the code as Markdown: what they quote in backticks becomes code, everything else is shown literally."""

from __future__ import annotations

import re

from mondrian_core.markdown import Markdown, escape_markdown


def escaped_prose(text: str) -> Markdown:
    """One line of Markdown."""
    pieces = re.split(r"`([^`]*)`", " ".join(text.split()))
    shown = [f"`{piece}`" if place % 2 else _escaped(piece) for place, piece in enumerate(pieces)]
    return Markdown("".join(shown))


def _escaped(piece: str) -> str:
    """`escape_markdown`, with the spaces at both ends, which separate it from the code around it."""
    return f"{' ' * piece.startswith(' ')}{escape_markdown(piece)}{' ' * (piece.endswith(' ') and piece != ' ')}"
