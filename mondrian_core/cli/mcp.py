"""`mondrian mcp`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mondrian_core.cli.options import CommandOptions, WholeNumber, settings_from_options


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class McpOptions(CommandOptions):
    """Options of `mondrian mcp`."""

    folder: Annotated[
        tuple[Path, ...],
        Parameter(help="folder whose photographs programs may name too; may be repeated"),
    ] = ()
    service: Annotated[
        str | None,
        Parameter(help="the service that critiques; default: the workspace's own if it runs, else this process"),
    ] = None
    transport: Annotated[
        Literal["stdio", "http"], Parameter(show_default=True, help="http: streamable HTTP at /mcp")
    ] = "stdio"
    host: Annotated[str, Parameter(show_default=True, help="address to listen on, with --transport http")] = "127.0.0.1"
    port: Annotated[WholeNumber, Parameter(show_default=True, help="port to listen on, with --transport http")] = 5101


def mcp_command(*, options: McpOptions = McpOptions()) -> int:
    """Serve the Model Context Protocol until the client closes the connection."""
    from mondrian_core.mcp_server.critics import Critic
    from mondrian_core.mcp_server.photograph_access import PhotographAccess
    from mondrian_core.mcp_server.server import build_mcp_server
    from mondrian_core.mcp_server.transports import serve_http, serve_stdio
    from mondrian_core.store import Store

    settings = settings_from_options(options)
    root = settings.require_workspace()
    with Store(settings.database):
        pass  # migrated, and readable
    access = PhotographAccess([*options.folder, root / "source"])
    critic = Critic(settings, options.service)
    server = build_mcp_server(settings, access, critic)
    try:
        if options.transport == "stdio":
            serve_stdio(server)
        else:
            serve_http(server, options.host, options.port, settings.service_token)
    except KeyboardInterrupt:
        pass  # the way to end it in a terminal
    finally:
        critic.close()
    return 0
