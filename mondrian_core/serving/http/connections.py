"""The service's end of its connections: how long each may keep a descriptor, and who gives way when there are many.

A connection that says nothing, stops in the middle of a request or takes no answer is closed. When as many are open as
the process may have, the one that has been idle longest makes room, so that idle ones shut nobody out.
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
EXTRA_CONNECTIONS = 16  # beyond the most, for `OPEN_PATHS` alone
RESERVED_DESCRIPTORS = 64  # descriptors for the database, the model process, photographs and logs
ACCEPT_BATCH = 16  # accepted in one turn of the event loop, before any of them can make room for another
LISTEN_BACKLOG = 128  # connections that the kernel holds until they are accepted


@dataclass(frozen=True, kw_only=True)
class ConnectionTimeouts:
    """Seconds that a connection may keep the service waiting."""

    head: float = 15.0  # from connecting, or from the last answer, to a whole request line and headers
    body: float = 30.0  # without a byte of the body
    whole_body: float = 600.0
    stalled: float = 2.0  # without a byte of the body, while others wait for a connection
    answer: float = 60.0  # without taking a byte of the answer


def max_connections(descriptors: int | None = None) -> int:
    """Connections that may be open at once: each may need another descriptor for what it uploads."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, (soft - RESERVED_DESCRIPTORS) // 2))


class HttpConnection(H11Protocol):
    """One connection of `Server`, with the moments that `Patience` is about (of the event loop's clock)."""

    patience = ConnectionTimeouts()
    most = MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let one that is idle make room, or leave."""
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
        waste = [each for each in others if each.idle] or [each for each in others if each.stalled]
        if waste:
            min(waste, key=lambda each: each.last_read if each.stalled else each.since).transport.abort()
        elif len(others) < self.most + EXTRA_CONNECTIONS:
            self.app = _only_open_paths(self.app)
        else:
            self.transport.abort()

    @property
    def idle(self) -> bool:
        """True while no whole request head has come that is still to be answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Note when."""
        self.last_read = self.loop.time()
        was_idle = self.idle
        super().data_received(data)
        if was_idle and not self.idle:
            self.since = self.last_read

    def on_response_complete(self) -> None:
        """From now on it is idle."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The other side takes nothing any more."""
        self.blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It takes again."""
        self.blocked_since = None
        super().resume_writing()

    def overdue(self, now: float) -> bool:
        """True when it has kept the service waiting too long."""
        if self.blocked_since is not None and now - self.blocked_since > self.patience.answer:
            return True
        if self.idle:
            return now - self.since > self.patience.head
        if not self._owes_body:
            self.last_read = now  # it has said all, or we are the ones who don't listen
            return False
        return now - self.last_read > self.patience.body or now - self.since > self.patience.whole_body

    @property
    def stalled(self) -> bool:
        """True while a body that we wait for doesn't come."""
        silence = self.loop.time() - self.last_read
        return not self.idle and self._owes_body and silence > self.patience.stalled

    @property
    def _owes_body(self) -> bool:
        cycle = self.cycle
        return bool(cycle.more_body and not self.flow.read_paused and not cycle.waiting_for_100_continue)


def _only_open_paths(app: ASGIApp) -> ASGIApp:
    """The app for a connection beyond the most: whether the service is well can still be asked."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in UNAUTHENTICATED_PATHS:
            await app(scope, receive, send)
            return
        busy = problem_response(503, "too-many-connections", "Too many connections are open.", "Try again in 5 s.")
        busy.headers.update({"Retry-After": "5", "Connection": "close"})
        await busy(scope, receive, send)

    return answer


class HttpServer(uvicorn.Server):
    """uvicorn's server, which looks after its connections once a second."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen with the kernel's own queue; uvicorn's backlog is also how many it accepts in one turn."""
        await super().startup(sockets=sockets)
        for each in sockets or []:
            each.listen(LISTEN_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Close what is overdue."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for each in list(self.server_state.connections):
                if isinstance(each, HttpConnection) and each.overdue(now):
                    each.transport.abort()
        return await super().on_tick(counter)


def uvicorn_config(
    app: Any, *, patience: ConnectionTimeouts | None = None, most: int | None = None, leave_seconds: int = 5
) -> uvicorn.Config:
    """uvicorn's settings for an app whose connections are looked after."""
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


def _enable_keepalive(line: Any) -> None:
    """A machine that vanished (asleep, out of reach) never says so: ask it now and then, and give up after a minute."""
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
        if number is not None and line is not None:
            try:
                line.setsockopt(level, number, value)
            except OSError:
                pass  # a kind of socket, or a system, that has none of these
