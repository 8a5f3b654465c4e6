"""A supervisor for tests: it reads generated units by the rules of launchd and systemd, and keeps their commands up."""

from __future__ import annotations

import os
import plistlib
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

RESTART_SECONDS = 0.2  # instead of seconds, as RestartSec= and ThrottleInterval say


class LaunchAgent(BaseModel):
    """The keys of launchd.plist(5) that an agent may have, with their types; anything else is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    Label: str = Field(pattern=r"^[A-Za-z0-9.-]+$")
    ProgramArguments: list[str] = Field(min_length=1)
    Program: str | None = None
    EnvironmentVariables: dict[str, str] = {}
    WorkingDirectory: str | None = None
    RunAtLoad: bool = False
    KeepAlive: bool | dict[Literal["SuccessfulExit", "Crashed", "NetworkState"], bool] = False
    ThrottleInterval: int = Field(default=10, ge=1)
    ExitTimeOut: int = Field(default=20, ge=0)
    AbandonProcessGroup: bool = False
    ProcessType: Literal["Background", "Standard", "Adaptive", "Interactive"] = "Standard"
    StandardOutPath: str | None = None
    StandardErrorPath: str | None = None
    StandardInPath: str | None = None
    Umask: int | None = None
    Nice: int | None = None
    LimitLoadToSessionType: str | list[str] | None = None


@dataclass(frozen=True)
class SupervisedCommand:
    """A command of a unit, and where its output goes."""

    words: list[str]
    log: Path | None


def command_of_agent(path: Path) -> SupervisedCommand:
    """The command of a property list that keeps itself alive."""
    agent = LaunchAgent.model_validate(plistlib.loads(path.read_bytes()))
    assert agent.KeepAlive is True and agent.RunAtLoad and agent.AbandonProcessGroup
    return SupervisedCommand(agent.ProgramArguments, Path(agent.StandardOutPath) if agent.StandardOutPath else None)


def command_of_unit(path: Path) -> SupervisedCommand:
    """The command of a systemd unit that restarts always."""
    parser = RawConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    service = parser["Service"]
    assert service["Restart"] == "always" and service["KillMode"] == "process"
    assert parser["Unit"]["StartLimitIntervalSec"] == "0" and parser["Install"]["WantedBy"] == "default.target"
    return SupervisedCommand(systemd_words(service["ExecStart"]), None)


def systemd_words(line: str) -> list[str]:
    """The words of ExecStart=, by systemd.syntax(7) and systemd.service(5); any expansion is an error."""
    words = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        word = (
            re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), quoted) if quoted else plain
        )
        for sign in "%$":
            rest = word.replace(sign * 2, "")
            assert sign not in rest, f"{sign} would be expanded in {word!r}"
            word = word.replace(sign * 2, sign)
        words.append(word)
    return words


class Supervisor:
    """Runs commands, each again whenever it ends, in an environment as bare as launchd's."""

    def __init__(self, commands: dict[str, SupervisedCommand], home: Path) -> None:
        self._commands, self._home = commands, home
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(name,)) for name in commands]
        self.starts = dict.fromkeys(commands, 0)

    def pid(self, name: str) -> int | None:
        """The process that runs now; None between two starts."""
        process = self._running.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def said(self, name: str) -> str:
        """What a unit printed so far."""
        return self._log(name).read_text(errors="replace")

    def _log(self, name: str) -> Path:
        return self._commands[name].log or self._home / f"{name}.log"

    def start(self) -> None:
        """Start everything."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """SIGTERM to everything, and wait."""
        self._stopping.set()
        for process in list(self._running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a unit ignores SIGTERM"

    def _keep(self, name: str) -> None:
        command = self._commands[name]
        environment = {"HOME": str(self._home), "PATH": "/usr/bin:/bin", "USER": "somebody"}
        while not self._stopping.is_set():
            with self._log(name).open("ab") as output:
                self._running[name] = process = subprocess.Popen(
                    command.words, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            self.starts[name] += 1
            if self._stopping.is_set():
                process.send_signal(signal.SIGTERM)
            process.wait()
            self._stopping.wait(RESTART_SECONDS)


@contextmanager
def supervised(commands: dict[str, SupervisedCommand], home: Path) -> Iterator[Supervisor]:
    """Everything runs inside the block."""
    keeper = Supervisor(commands, home)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
