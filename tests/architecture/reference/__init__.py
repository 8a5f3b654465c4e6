"""The pages of docs/reference, and the tables of other pages, that are generated from the code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
    }


def reference_tables() -> dict[str, dict[str, str]]:
    """By path of a page, the tables between the comments of their names."""
    return {"docs/reference/events.md": {"events": event_tables.event_table(), "payload": event_tables.payload_table()}}
