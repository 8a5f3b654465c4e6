"""A command's output as a terminal shows it: recorded with its times, kept as JSON, replayed into rows of text.

The emulator knows what rich writes: text, colors, carriage return, cursor up, and erased lines.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.files import write_atomic

COLUMNS, ROWS = 100, 30
_CONTROL = re.compile(r"\x1b\[(?P<parameters>[\d;?]*)(?P<command>[A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b")
_UNFINISHED = re.compile(r"\x1b(\[[\d;?]*)?$")


@dataclass(frozen=True)
class TerminalRecording:
    """What a command wrote.

    Attributes:
        status: its exit status.
        events: (seconds since it began, text), in order.
    """

    status: int
    events: tuple[tuple[float, str], ...]

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        write_atomic(file, json.dumps({"status": self.status, "events": self.events}))

    @classmethod
    def load(cls, file: Path) -> TerminalRecording:
        """Read what `save` wrote."""
        stored = json.loads(file.read_text(encoding="utf-8"))
        return cls(stored["status"], tuple((seconds, text) for seconds, text in stored["events"]))


def record_terminal(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> TerminalRecording:
    """Run a command in a terminal of `COLUMNS` by `ROWS` characters until it ends.

    Args:
        command: and its arguments.
        folder: to run it in.
        environment: the whole environment; TERM and COLORTERM are added.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    shown = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        command, cwd=folder, env=shown, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    events, began = [], time.monotonic()
    for piece in _pieces(ours):
        events.append((round(time.monotonic() - began, 3), piece))
    os.close(ours)
    return TerminalRecording(process.wait(), tuple(events))


def _pieces(descriptor: int) -> Iterator[str]:
    kept = b""
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # Linux: the other end is closed
            return
        if not data:
            return
        kept += data
        text = kept.decode("utf-8", errors="ignore")
        if text.encode() == kept:  # otherwise the piece ends within a character: the next one completes it
            kept = b""
            yield text


def replay_terminal(recording: TerminalRecording) -> Iterator[tuple[float, list[str]]]:
    """All lines written so far after each event, as (seconds, lines). A line keeps the colors' control sequences.

    A line is always written from its beginning, as rich does: text after a carriage return replaces it.
    """
    lines, row, replacing, unread = [""], 0, False, ""
    for seconds, text in recording.events:
        cut = _UNFINISHED.search(unread + text)  # a sequence that the next event completes
        whole, unread = ((unread + text)[: cut.start()], cut[0]) if cut else (unread + text, "")
        for found in _CONTROL.finditer(whole):
            piece, command = found[0], found["command"]
            if piece == "\r":
                replacing = True
            elif piece == "\n":
                row, replacing = row + 1, False
                lines += [""] * (row + 1 - len(lines))
            elif command == "A":
                row = max(0, row - int(found["parameters"] or 1))
            elif command == "K":
                lines[row] = ""
            elif command in (None, "m"):
                lines[row] = piece if replacing else lines[row] + piece
                replacing = False
        yield seconds, list(lines)
