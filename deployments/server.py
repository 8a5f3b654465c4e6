"""Prefect's own server, for this machine alone: `python -m deployments.server --port N`.

`prefect server start` answers requests for any host name, so a page whose name is pointed at 127.0.0.1 would count as
its own. This starts the same application behind a check of the Host header, and lets it say whose it is. Password and
CORS are Prefect's own settings and come from the environment (`deployments.prefect_instance`).
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from deployments.prefect_instance import ALLOWED_HOSTS, HOST
from mondrian_core.prefect_server import IDENTITY_PATH
from mondrian_core.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class IdentityMiddleware:
    """ASGI middleware: answers `IDENTITY_PATH` with the workspace and the number of this process."""

    def __init__(self, app: ASGIApp, workspace: str) -> None:
        self._app, self._told = app, {"workspace": workspace, "pid": os.getpid()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        mine = scope["type"] == "http" and scope["path"] == IDENTITY_PATH
        await (JSONResponse(self._told) if mine else self._app)(scope, receive, send)


def with_host_check(app: ASGIApp, workspace: str) -> ASGIApp:
    """The application behind the check of the Host header, for requests and WebSockets alike."""
    return TrustedHostMiddleware(IdentityMiddleware(app, workspace), allowed_hosts=ALLOWED_HOSTS, www_redirect=False)


def main() -> None:
    """Entry point; runs until SIGTERM or SIGINT.

    Raises:
        SystemExit: with status 2 when no password is set. An open server would run commands for any web page.
    """
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    parser = argparse.ArgumentParser(prog="python -m deployments.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = get_current_settings().server
    if server.api.auth_string is None:
        parser.error("PREFECT_SERVER_API_AUTH_STRING is not set; start the server with `make up`")
    uvicorn.run(
        with_host_check(create_app(final=True), Settings().workspace_id),
        host=HOST,
        port=options.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
        server_header=False,
    )


if __name__ == "__main__":
    main()
