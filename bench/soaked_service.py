"""The service that `bench.soak` kills and starts again, and what is counted meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mondrian_core.settings import Settings
from mondrian_core.store import utc_timestamp

PIN_SECONDS = 20.0  # window in which crashes count; shorter than in production, so that adapters answer most requests
SERVE_SCRIPT = """
import json, sys
from pathlib import Path
from mondrian_core.serving.engine.supervisor import ModelProcessLimits
from mondrian_core.serving.server import ServerOptions, run_server
from mondrian_core.settings import Settings
given = json.loads(sys.argv[1])
settings = Settings(workspace=Path(given["workspace"]), adapters=Path(given["adapters"]), base_model="mini")
limits = ModelProcessLimits(backoff=0.05, crash_window=given["pin_seconds"])
options = ServerOptions(port=given["port"], model_mode="fine_tuned", command=tuple(given["command"]) or None,
                        limits=limits, quiet=True)
run_server(settings, options, ready=lambda port: print(port, flush=True))
"""


@dataclass(kw_only=True)
class SoakCounts:
    """Counts of requests, disruptions and errors."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    kills: int = 0
    api_kills: int = 0
    promotions: int = 0
    rollbacks: int = 0
    lost: int = 0
    wrong_version: int = 0
    made_twice: int = 0
    sent_again: int = 0
    tried_again: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    unexplained_fallbacks: int = 0
    misattributed_crashes: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    memory_mb: list[list[float]] = field(default_factory=list)
    descriptors: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_correct(self) -> bool:
        """True when nothing was lost or incorrect."""
        wrong = (self.lost, self.made_twice, self.wrong_version, self.unexplained_fallbacks, self.misattributed_crashes)
        return not any(wrong) and set(self.statuses) == {200} and self.is_resource_use_flat

    @property
    def is_resource_use_flat(self) -> bool:
        """True if, after the first quarter of each start, memory grew by less than 25 % and descriptors by under 10."""
        return all(map(_is_flat, self.memory_mb, self.descriptors))


def _is_flat(memory: list[float], descriptors: list[int]) -> bool:
    start = len(memory) // 4
    memory, descriptors = memory[start:], descriptors[start:]
    return len(memory) < 4 or (memory[-1] < 1.25 * memory[0] + 10 and descriptors[-1] < descriptors[0] + 10)


class SoakedService:
    """The service in a separate process, on one port for all its starts."""

    def __init__(self, workspace: Path, adapters: Path, command: list[str], counts: SoakCounts) -> None:
        self._parameters = {
            "workspace": str(workspace),
            "adapters": str(adapters),
            "command": command,
            "port": 0,
            "pin_seconds": PIN_SECONDS,
        }
        self._workspace, self._counts = Settings(workspace=workspace).workspace_id, counts
        self.boot = ""
        self.killed: list[tuple[str, str]] = []  # times before and after each kill of a model process
        self.start()

    @property
    def address(self) -> str:
        """URL of the service."""
        return f"http://127.0.0.1:{self._parameters['port']}"

    def start(self) -> None:
        """Start the service and check that it is a new start of ours."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE_SCRIPT, json.dumps(self._parameters)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self._parameters["port"] = int(self.process.stdout.readline())
        health = httpx.get(f"{self.address}/health", timeout=60).json()
        assert health["workspace"] == self._workspace and health["boot"] != self.boot, health
        self.boot = health["boot"]
        self._counts.memory_mb.append([])
        self._counts.descriptors.append([])

    def record_resources(self) -> None:
        """Record its memory and file descriptors."""
        pid = self.process.pid
        self._counts.memory_mb[-1].append(_memory(pid))
        self._counts.descriptors[-1].append(len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208

    def kill_model(self) -> None:
        """Send SIGKILL to the model process, if one is running."""
        pid = httpx.get(f"{self.address}/health", timeout=60).json()["model_process"]["pid"]
        if pid is not None:
            before = utc_timestamp()
            try:
                os.kill(pid, signal.SIGKILL)
                self._counts.kills += 1
            except ProcessLookupError:
                pass
            self.killed.append((before, utc_timestamp()))

    def kill(self) -> None:
        """Send SIGKILL to the service and restart it."""
        self.process.kill()
        self._wait()
        self._counts.api_kills += 1
        self.start()

    def stop(self) -> None:
        """Stop the service with SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _memory(pid: int) -> float:
    """Resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
