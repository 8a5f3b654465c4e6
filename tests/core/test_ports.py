"""Ports: free, or taken by somebody who is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from mondrian_core import ports
from mondrian_core.errors import PortInUse


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens, and answers nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_free_port_is_free() -> None:
    port = ports.any_free()
    assert ports.is_free(port)
    ports.require_free(port)


def test_the_process_on_a_taken_port_is_named(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ANSWER_SECONDS", 0.2)
    assert not ports.is_free(taken)
    with pytest.raises(PortInUse, match=rf"Port {taken} is taken by process {os.getpid()} \(") as raised:
        ports.require_free(taken)
    assert raised.value.exit_status == 3
