"""How clients reach the server: standard input and output, or streamable HTTP on this machine."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from mondrian_core.errors import BadInput
from mondrian_core.serving.http.connections import uvicorn_config
from mondrian_core.serving.http.security import SecurityMiddleware, is_local_host
from mondrian_core.serving.http.sessions import Sessions
from mondrian_core.serving.server import listening_socket

HTTP_PATH = "/mcp"
_LEAVE_SECONDS = 5


def serve_stdio(server: MCPServer) -> None:
    """Serve until standard input ends.

    The SDK takes standard output for the protocol alone: what libraries print goes to standard error.
    """
    server.run("stdio")


def serve_http(server: MCPServer, host: str, port: int, token: str | None) -> None:
    """Serve streamable HTTP at `HTTP_PATH`, with the token and the checks of the critique service.

    Args:
        server: the tools.
        host: to listen on.
        port: to listen on.
        token: that each request must carry; None: only local host names are accepted.

    Raises:
        BadInput: another machine could connect, and there is no token.
        PortInUse: another process listens there.
    """
    import uvicorn

    if not is_local_host(host) and not token:
        raise BadInput(
            f"Binding to {host} lets other machines connect.",
            "Set MONDRIAN_SERVICE_TOKEN to a long random string, or bind to 127.0.0.1.",
        )
    checked_here = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(streamable_http_path=HTTP_PATH, transport_security=checked_here)
    app.add_middleware(SecurityMiddleware, sessions=Sessions(token) if token else None)
    with listening_socket(host, port) as listening:
        uvicorn.Server(uvicorn_config(app, leave_seconds=_LEAVE_SECONDS)).run(sockets=[listening])
