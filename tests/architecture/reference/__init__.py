"""The pages of docs/reference that are generated from the code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.architecture.reference import command_line, error_types, http_api


def reference_pages(files: Iterable[Path]) -> dict[str, str]:
    """The pages by path. `files`: the tracked files of the repository."""
    return {
        command_line.PAGE: command_line.command_line_page(),
        http_api.PAGE: http_api.http_page(),
        error_types.PAGE: error_types.error_page(files),
    }
