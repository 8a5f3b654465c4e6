"""Links from artifacts to pages of the service: the report of a run, a version, its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from mondrian_core.markdown import code_span
from mondrian_core.service_address import last_service_address, running_service_address
from mondrian_core.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ServedPage:
    """A page of the workspace's service that an artifact refers to.

    Attributes:
        path: of the page, such as "/runs/RUN/report".
        command: shows the same in a terminal.
        address: base URL of the service, or the one that it had when it last ran.
        service: "here" while it runs on this machine, "elsewhere" when MONDRIAN_SERVICE_URL names it, else "stopped".
    """

    path: str
    command: str
    address: str
    service: Literal["here", "elsewhere", "stopped"]

    @property
    def url(self) -> str:
        """The page's URL; it answers while the service runs."""
        return f"{self.address}{quote(self.path, safe='/%')}"

    @property
    def text(self) -> str:
        """The page's URL, or the command when no service runs."""
        return self.command if self.service == "stopped" else self.url

    def markdown(self, title: str) -> str:
        """A link to the page, with the command that shows the same where the service was not running.

        Args:
            title: what the page is; plain words, because Prefect's pages show a backslash in a link's text.
        """
        if self.service == "stopped":
            start, link = code_span("mondrian serve"), f"[the service's page](<{self.url}>)"
            return f"{title}: {code_span(self.command)}, or {link} once it runs ({start}; it was not running)."
        elsewhere = " (the service of MONDRIAN_SERVICE_URL)" if self.service == "elsewhere" else ""
        return f"[{title}](<{self.url}>){elsewhere}"


def run_page(root: Path, run: str, *, report: bool = False) -> ServedPage:
    """The page of a run, or its evaluation report, in the service of the workspace at `root`."""
    path = f"/runs/{quote(run, safe='')}{'/report' if report else ''}"
    return _page(root, path, f"mondrian runs show {run}{' --open' if report else ''}")


def version_page(root: Path, advisor: str, version: str, *, report: bool = False) -> ServedPage:
    """The page of a version, or the report of its newest evaluation, in the service of the workspace at `root`."""
    path = f"/registry/{advisor}/{quote(version, safe='')}{'/report' if report else ''}"
    return _page(root, path, f"mondrian adapters show {version} --advisor {advisor}")


def _page(root: Path, path: str, command: str) -> ServedPage:
    settings = Settings(workspace=root)
    if settings.service_url:
        return ServedPage(path=path, command=command, address=settings.service_url.rstrip("/"), service="elsewhere")
    address = running_service_address(settings)
    if address:
        return ServedPage(path=path, command=command, address=address, service="here")
    return ServedPage(path=path, command=command, address=last_service_address(settings), service="stopped")
