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

from mondrian_core.serving.problems import problem
from mondrian_core.serving.security import OPEN_PATHS

MOST = 512
SPARE = 16  # beyond the most, for `OPEN_PATHS` alone
KEPT_FREE = 64  # descriptors for the database, the model process, photographs and logs
BACKLOG = 16  # accepted in one turn of the event loop, before any of them can make room for another
WAITING = 128  # connections that the kernel holds until they are accepted


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds that a connection may keep the service waiting."""

    head: float = 15.0  # from connecting, or from the last answer, to a whole request line and headers
    body: float = 30.0  # without a byte of the body
    whole_body: float = 600.0
    stalled: float = 2.0  # without a byte of the body, while others wait for a connection
    answer: float = 60.0  # without taking a byte of the answer


def most_connections(descriptors: int | None = None) -> int:
    """Connections that may be open at once: each may need another descriptor for what it uploads."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    if soft == resource.RLIM_INFINITY:
        return MOST
    return max(8, min(MOST, (soft - KEPT_FREE) // 2))


class Connection(H11Protocol):
    """One connection of `Server`, with the moments that `Patience` is about (of the event loop's clock)."""

    patience = Patience()
    most = MOST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let one that is idle make room, or leave."""
        self.since = self.heard = self.loop.time()
        self.stuck: float | None = None
        _notice_dead_peers(transport.get_extra_info("socket"))
        super().connection_made(transport)  # type: ignore[arg-type]
        others = [
            each
            for each in self.connections
            if isinstance(each, Connection) and each is not self and not each.transport.is_closing()
        ]
        if len(others) < self.most:
            return
        waste = [each for each in others if each.idle] or [each for each in others if each.stalled]
        if waste:
            min(waste, key=lambda each: each.heard if each.stalled else each.since).transport.abort()
        elif len(others) < self.most + SPARE:
            self.app = _only_open_paths(self.app)
        else:
            self.transport.abort()

    @property
    def idle(self) -> bool:
        """True while no whole request head has come that is still to be answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Note when."""
        self.heard = self.loop.time()
        was_idle = self.idle
        super().data_received(data)
        if was_idle and not self.idle:
            self.since = self.heard

    def on_response_complete(self) -> None:
        """From now on it is idle."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The other side takes nothing any more."""
        self.stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It takes again."""
        self.stuck = None
        super().resume_writing()

    def overdue(self, now: float) -> bool:
        """True when it has kept the service waiting too long."""
        if self.stuck is not None and now - self.stuck > self.patience.answer:
            return True
        if self.idle:
            return now - self.since > self.patience.head
        if not self._owes_body:
            self.heard = now  # it has said all, or we are the ones who don't listen
            return False
        return now - self.heard > self.patience.body or now - self.since > self.patience.whole_body

    @property
    def stalled(self) -> bool:
        """True while a body that we wait for doesn't come."""
        silence = self.loop.time() - self.heard
        return not self.idle and self._owes_body and silence > self.patience.stalled

    @property
    def _owes_body(self) -> bool:
        cycle = self.cycle
        return bool(cycle.more_body and not self.flow.read_paused and not cycle.waiting_for_100_continue)


def _only_open_paths(app: ASGIApp) -> ASGIApp:
    """The app for a connection beyond the most: whether the service is well can still be asked."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await app(scope, receive, send)
            return
        busy = problem(503, "too-many-connections", "Too many connections are open.", "Try again in 5 s.")
        busy.headers.update({"Retry-After": "5", "Connection": "close"})
        await busy(scope, receive, send)

    return answer


class Server(uvicorn.Server):
    """uvicorn's server, which looks after its connections once a second."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen with the kernel's own queue; uvicorn's backlog is also how many it accepts in one turn."""
        await super().startup(sockets=sockets)
        for each in sockets or []:
            each.listen(WAITING)

    async def on_tick(self, counter: int) -> bool:
        """Close what is overdue."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for each in list(self.server_state.connections):
                if isinstance(each, Connection) and each.overdue(now):
                    each.transport.abort()
        return await super().on_tick(counter)


def config_of(
    app: Any, *, patience: Patience | None = None, most: int | None = None, leave_seconds: int = 5
) -> uvicorn.Config:
    """uvicorn's settings for an app whose connections are looked after."""
    kind = type("Connection", (Connection,), {"patience": patience or Patience(), "most": most or most_connections()})
    return uvicorn.Config(
        app,
        http=kind,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        backlog=BACKLOG,
        server_header=False,
        timeout_graceful_shutdown=leave_seconds,
    )


def _notice_dead_peers(line: Any) -> None:
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
