"""Connection timeouts and limits of the HTTP server.

A connection that sends nothing, stops in the middle of a request or doesn't read the response is closed. At the limit
of open connections the one that has been idle longest is closed, so that idle connections keep nobody out.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mondrian_core.serving.http.problem_details import problem_response
from mondrian_core.serving.http.security import UNAUTHENTICATED_PATHS

MAX_CONNECTIONS = 512
EXTRA_CONNECTIONS = 16  # beyond the limit, for `UNAUTHENTICATED_PATHS` only
RESERVED_DESCRIPTORS = 64  # for the database, the model process, photographs and logs
ACCEPT_BATCH = 16  # accepted in one turn of the event loop, before one can be closed for another
LISTEN_BACKLOG = 128  # connections that the kernel queues


@dataclass(frozen=True, kw_only=True)
class ConnectionTimeouts:
    """Seconds that the service waits for a connection."""

    head: float = 15.0  # from connecting, or from the last response, to complete request headers
    body: float = 30.0  # without a byte of the body
    whole_body: float = 600.0
    stalled: float = 2.0  # without a byte of the body, at the limit of connections
    answer: float = 60.0  # without reading a byte of the response


def max_connections(descriptors: int | None = None) -> int:
    """The limit of open connections: each may need a second descriptor for its upload."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, (soft - RESERVED_DESCRIPTORS) // 2))


class HttpConnection(H11Protocol):
    """One connection of `HttpServer`, with the event-loop times that `ConnectionTimeouts` limits."""

    patience = ConnectionTimeouts()
    most = MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """At the limit, close an idle connection, or refuse this one."""
        self.since = self.last_read = self.loop.time()
        self.blocked_since: float | None = None
        _enable_keepalive(transport.get_extra_info("socket"))
        super().connection_made(transport)  # type: ignore[arg-type]
        others = [
            each
            for each in self.connections
            if isinstance(each, HttpConnection) and each is not self and not each.transport.is_closing()
        ]
        if len(others) < self.most:
            return
        closable = [each for each in others if each.idle] or [each for each in others if each.stalled]
        if closable:
            min(closable, key=lambda each: each.last_read if each.stalled else each.since).transport.abort()
        elif len(others) < self.most + EXTRA_CONNECTIONS:
            self.app = _only_open_paths(self.app)
        else:
            self.transport.abort()

    @property
    def idle(self) -> bool:
        """True while no complete request waits for its response."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Record the time of the data."""
        self.last_read = self.loop.time()
        was_idle = self.idle
        super().data_received(data)
        if was_idle and not self.idle:
            self.since = self.last_read

    def on_response_complete(self) -> None:
        """Record the start of the idle time."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Record that the client stopped reading."""
        self.blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Record that the client reads again."""
        self.blocked_since = None
        super().resume_writing()

    def overdue(self, now: float) -> bool:
        """True when a timeout has passed."""
        if self.blocked_since is not None and now - self.blocked_since > self.patience.answer:
            return True
        if self.idle:
            return now - self.since > self.patience.head
        if not self._owes_body:
            self.last_read = now  # the request is complete, or the service is not reading
            return False
        return now - self.last_read > self.patience.body or now - self.since > self.patience.whole_body

    @property
    def stalled(self) -> bool:
        """True while the rest of a body is overdue."""
        silence = self.loop.time() - self.last_read
        return not self.idle and self._owes_body and silence > self.patience.stalled

    @property
    def _owes_body(self) -> bool:
        cycle = self.cycle
        return bool(cycle.more_body and not self.flow.read_paused and not cycle.waiting_for_100_continue)


def _only_open_paths(app: ASGIApp) -> ASGIApp:
    """The app for a connection beyond the limit: only /health is answered."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in UNAUTHENTICATED_PATHS:
            await app(scope, receive, send)
            return
        busy = problem_response(503, "too-many-connections", "Too many connections are open.", "Try again in 5 s.")
        busy.headers.update({"Retry-After": "5", "Connection": "close"})
        await busy(scope, receive, send)

    return answer


class HttpServer(uvicorn.Server):
    """uvicorn's server, which checks the timeouts of its connections once a second."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Set the kernel's queue separately: uvicorn's backlog is also the number it accepts in one turn."""
        await super().startup(sockets=sockets)
        for each in sockets or []:
            each.listen(LISTEN_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Close connections past a timeout."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for each in list(self.server_state.connections):
                if isinstance(each, HttpConnection) and each.overdue(now):
                    each.transport.abort()
        return await super().on_tick(counter)


def uvicorn_config(
    app: Any, *, patience: ConnectionTimeouts | None = None, most: int | None = None, leave_seconds: int = 5
) -> uvicorn.Config:
    """uvicorn's settings with `HttpConnection`.

    Args:
        app: the ASGI app.
        patience: timeouts.
        most: open connections; None: as many as the process's descriptors allow.
        leave_seconds: for requests in progress at shutdown.
    """
    kind = type(
        "HttpConnection",
        (HttpConnection,),
        {"patience": patience or ConnectionTimeouts(), "most": most or max_connections()},
    )
    return uvicorn.Config(
        app,
        http=kind,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        backlog=ACCEPT_BATCH,
        server_header=False,
        timeout_graceful_shutdown=leave_seconds,
    )


def _enable_keepalive(connection: Any) -> None:
    """Enable TCP keepalive: a machine that vanished (asleep, out of reach) is detected within a minute."""
    options = [
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 60_000),
    ]
    for level, name, value in options:
        number = getattr(socket, name, None)
        if number is not None and connection is not None:
            try:
                connection.setsockopt(level, number, value)
            except OSError:
                pass  # not supported by this kind of socket or system
