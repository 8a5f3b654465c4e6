"""Run Prefect's server: `python -m deployments.server --port N`.

It listens on this machine only, unless MONDRIAN_PREFECT_HOST names the host under which other machines reach it.
`prefect server start` accepts any Host header, which allows DNS rebinding: a page whose host name resolves to 127.0.0.1
would count as the server's own. This module runs the same application behind a check of the Host header, and adds a
path that identifies the workspace. Password and CORS are Prefect's own settings (`deployments.prefect_instance`).
"""

from __future__ import annotations

import argparse
import os
from functools import partialmethod
from typing import TYPE_CHECKING

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from deployments.prefect_database import compact_database
from deployments.prefect_instance import EVERY_INTERFACE, HOST, allowed_hosts
from mondrian_core.prefect_server import IDENTITY_PATH, prefect_home
from mondrian_core.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

DATABASE_OUTAGE_SECONDS = 300  # clients try for longer


class IdentityMiddleware:
    """ASGI middleware that answers `IDENTITY_PATH` with the workspace and the ID of this process."""

    def __init__(self, app: ASGIApp, workspace: str) -> None:
        self._app, self._identity = app, {"workspace": workspace, "pid": os.getpid()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `IDENTITY_PATH`; pass every other request on."""
        mine = scope["type"] == "http" and scope["path"] == IDENTITY_PATH
        await (JSONResponse(self._identity) if mine else self._app)(scope, receive, send)


def with_host_check(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap the application in a check of the Host header, for requests and WebSockets."""
    identified = IdentityMiddleware(app, settings.workspace_id)
    return TrustedHostMiddleware(identified, allowed_hosts=allowed_hosts(settings), www_redirect=False)


def keep_task_states_through_outages() -> None:
    """Let the recorder of task states try for `DATABASE_OUTAGE_SECONDS` instead of five.

    It tries once a second (`PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL`) and then drops what it couldn't
    write: a task that ended during a restart of PostgreSQL would be shown as running forever. Prefect has no setting.
    """
    from prefect.server.services.task_run_recorder import TaskRunRecorder

    start = partialmethod(TaskRunRecorder.start, max_persist_retries=DATABASE_OUTAGE_SECONDS)
    TaskRunRecorder.start = start  # type: ignore[method-assign,assignment]


def main() -> None:
    """Run the server until SIGTERM or SIGINT.

    Raises:
        SystemExit: status 2 when no password is set. An open server would run commands for any web page.
    """
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    parser = argparse.ArgumentParser(prog="python -m deployments.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = get_current_settings().server
    if server.api.auth_string is None:
        parser.error("PREFECT_SERVER_API_AUTH_STRING is not set; start the server with `mondrian up`")
    settings = Settings()
    keep_task_states_through_outages()
    compact_database(prefect_home(settings) / "prefect.db")
    uvicorn.run(
        with_host_check(create_app(final=True), settings),
        host=EVERY_INTERFACE if settings.prefect_host else HOST,
        port=options.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
        server_header=False,
    )


if __name__ == "__main__":
    main()
