"""Hold a process of a test where it opens a certain file. Python imports this module at its start, by its name.

`MONDRIAN_TEST_HOLD` is a folder. While it has a file `pattern`, whoever opens a path that matches writes `held` and
waits until that file is gone. So a test reaches a moment inside a stage, whatever the load of the machine.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from pathlib import Path
from typing import Any


def hold_if_matching(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578)."""
    if event != "open" or not isinstance(arguments[0], str) or "/.held" in arguments[0]:
        return
    folder = os.environ.get("MONDRIAN_TEST_HOLD", "")
    pattern = _read(f"{folder}/.held-pattern")
    if pattern and fnmatch.fnmatch(arguments[0], pattern):
        Path(f"{folder}/.held-at").write_text(f"{os.getpid()}", encoding="ascii")
        while _read(f"{folder}/.held-pattern") == pattern:
            time.sleep(0.05)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


if "MONDRIAN_TEST_HOLD" in os.environ:
    sys.addaudithook(hold_if_matching)
