"""The pages, and the tables of other pages, that are generated from the code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mondrian_core.critique_files.reference_tables import reference_tables as critique_tables
from mondrian_core.evaluation.gates.reference_page import gate_reference_page
from mondrian_core.recipes import recipe_reference_markdown
from tests.architecture.reference import (
    command_line,
    database_schema,
    deployments_page,
    error_types,
    event_tables,
    files_page,
    http_api,
)


def reference_pages(files: Iterable[Path]) -> dict[str, str]:
    """The pages by path. `files`: the tracked files of the repository."""
    return {
        command_line.PAGE: command_line.command_line_page(),
        http_api.PAGE: http_api.http_page(),
        error_types.PAGE: error_types.error_page(files),
        database_schema.PAGE: database_schema.database_page(),
        deployments_page.PAGE: deployments_page.deployments_page(),
        files_page.PAGE: files_page.files_page(),
        "docs/reference/gates.md": gate_reference_page(),
        "docs/reference/recipes.md": recipe_reference_markdown(),
    }


def reference_tables() -> dict[str, dict[str, str]]:
    """By path of a page, the tables between the comments of their names."""
    return {
        "docs/reference/critique-files.md": critique_tables(),
        "docs/reference/events.md": {"events": event_tables.event_table(), "payload": event_tables.payload_table()},
    }
