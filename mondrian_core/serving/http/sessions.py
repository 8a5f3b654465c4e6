"""Log-ins of browsers, and how often a wrong token may be tried.

A session is a random value that only the browser's cookie holds; this process knows its hash. It says nothing about the
token, ends when the person logs out, and does not outlive the process (docs/decisions/0120).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from starlette.requests import cookie_parser

SESSION_SECONDS = 30 * 24 * 3600
MAX_SESSIONS = 256
MAX_ADDRESSES = 1024

Clock = Callable[[], float]


class Sessions:
    """The open sessions of a service.

    Args:
        token: that opens one.
        name: what tells this service's cookie from those of others on the same host: browsers ignore the port.
        clock: seconds.
    """

    def __init__(self, token: str, name: str = "", clock: Clock = time.monotonic) -> None:
        self._token, self._clock = token.encode(), clock
        self.cookie_name = f"mondrian_session_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def is_token(self, text: str) -> bool:
        """True for the service's token, compared in constant time."""
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self._token)

    def open(self) -> str:
        """A new session's secret. Past `MAX_SESSIONS` the oldest one ends."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[_hashed(secret)] = self._clock() + SESSION_SECONDS
            while len(self._ends) > MAX_SESSIONS:
                self._ends.popitem(last=False)
        return secret

    def is_open(self, secret: str) -> bool:
        """True for the secret of a session that has not ended."""
        with self._lock:
            return self._ends.get(_hashed(secret), 0.0) > self._clock()

    def close(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._ends.pop(_hashed(secret), None)

    def secret_in(self, cookie_header: str) -> str:
        """The session's secret in a Cookie header; "" without one."""
        return cookie_parser(cookie_header).get(self.cookie_name, "")


class FailureLimit:
    """Counts failures by address; an address with too many is refused until the first of them is old enough.

    Args:
        most: failures within `seconds`.
        seconds: of the window.
        clock: seconds.
    """

    def __init__(self, most: int, seconds: float, clock: Clock = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def seconds_left(self, address: str) -> int:
        """Whole seconds until this address may try again; 0: now."""
        with self._lock:
            failures = self._recent(address)
            if len(failures) < self._most:
                return 0
            return max(1, round(failures[0] + self._seconds - self._clock() + 0.5))

    def record(self, address: str) -> None:
        """Count a failure."""
        with self._lock:
            failures = self._recent(address)
            failures.append(self._clock())
            self._failures[address] = failures
            self._failures.move_to_end(address)
            while len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)

    def _recent(self, address: str) -> deque[float]:
        oldest = self._clock() - self._seconds
        return deque((at for at in self._failures.get(address, ()) if at > oldest), maxlen=self._most)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
