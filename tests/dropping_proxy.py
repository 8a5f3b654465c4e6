"""A TCP proxy that loses what it should forward: a cable that was pulled, not a server that refuses."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from mondrian_core.ports import find_free_port

CHUNK = 65536


class DroppingProxy:
    """Forwards a port of this machine to another one, until `cut`; `restore` forwards again.

    While it is cut, it takes connections and bytes and loses them: nobody gets an answer, and nobody an error. What was
    connected meanwhile is closed by `restore`, because a stream that misses bytes is of no use.
    """

    def __init__(self, target_port: int) -> None:
        self.port, self._target = find_free_port(), target_port
        self.sent = b""
        """What all connections sent since the last `forget`, whether it arrived or was lost."""
        self._whole = threading.Event()
        self._whole.set()
        self._damaged: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Address of the near side."""
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Forget what was sent so far."""
        self.sent = b""

    def cut(self) -> None:
        """Lose everything from now on."""
        self._whole.clear()

    def restore(self) -> None:
        """Forward again, on new connections."""
        self._whole.set()
        while self._damaged:
            _close(self._damaged.pop())

    def close(self) -> None:
        """Stop listening and close what is open."""
        self.restore()
        _close(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole.is_set():
                threading.Thread(target=self._lose, args=(near,), daemon=True).start()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _close(near)
                continue
            for one, other, sends in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._forward, args=(one, other, sends), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, sends: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self.sent += data if sends else b""
                if self._whole.is_set():
                    target.sendall(data)
                    continue
                self._damaged += [source, target]
                if sends:
                    self._lose(source)
                return
        _close(source)
        _close(target)

    def _lose(self, source: socket.socket) -> None:
        self._damaged.append(source)
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self.sent += data


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
