"""Starts processes that find one another over the ring."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(
    root: Path, folder: Path, module: str, *arguments: str, size: int = 2, environment: dict[str, str] | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """`python -m module ARGUMENTS` as so many ranks; none of them outlives the block."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)]))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                **(environment or {}),
                "MLX_RANK": str(rank),
                "MLX_HOSTFILE": str(hosts),
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        for rank in range(size)
    ]
    try:
        yield running
    finally:
        for each in running:
            each.kill()
            each.communicate()


def ended(running: list[subprocess.Popen[str]], seconds: float) -> list[tuple[int, str, str]]:
    """(status, output, errors) of each once it ended; a rank that still runs then fails the test."""
    found = []
    for each in running:
        out, errors = each.communicate(timeout=seconds)
        found.append((each.returncode, out, errors))
    return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
