"""The report: one JSON document that a user can attach to a bug report.

It holds no names of users or hosts, no paths and no values of the environment. All texts but one are made here from
numbers and from names of this package; the words of an error are the exception, and pass through `PrivateWords`.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mondrian_core.selftest.steps import MACHINE, StepResult, StepStatus
from mondrian_core.software_identity import code_digest, package_versions

SCHEMA, SCHEMA_VERSION = "mondrian-selftest", 1
HIDDEN = "…"
PUBLIC_OWNERS = ("mlx-community", "Qwen", "lmstudio-community")  # of bases on the hub; another owner may be the user
SETTINGS_PREFIXES = ("MLX_", "MTL_", "METAL_", "AGX_", "OPENBLAS_")  # only which of these are set is reported
_SHORTEST_WORD = 4  # shorter parts of values and paths occur in ordinary words


class PrivateWords:
    """Words that identify a user, a machine or a place."""

    def __init__(self, places: Iterable[str], environment: Mapping[str, str] = os.environ) -> None:
        """Collect them from this process.

        Args:
            places: paths and names whose parts are private.
            environment: variables whose values are private.
        """
        found = [*places, *environment.values(), socket.gethostname(), str(Path.cwd())]
        with suppress(RuntimeError):
            found.append(str(Path.home()))
        names = [socket.gethostname()]
        with suppress(KeyError, OSError):
            names.append(getpass.getuser())
        parts = {part.casefold() for text in found for part in re.split(r"[/\\:;,=.@\s]+", text)}
        self._words = {part for part in parts if len(part) >= _SHORTEST_WORD} | {name.casefold() for name in names}

    def remove(self, text: str) -> str:
        """The text with every word that looks like a path or contains a private word replaced."""
        return " ".join(HIDDEN if self._is_private(word) else word for word in text.split())

    def _is_private(self, word: str) -> bool:
        folded = word.casefold()
        return any(sign in word for sign in "/\\~@") or any(private in folded for private in self._words)


@dataclass(frozen=True, kw_only=True)
class SelfTestReport:
    """The result of a self-test.

    Attributes:
        results: every step, in order.
        bases: names of the bases by label; a base that isn't on this machine is absent.
        seconds: how long all of it took.
    """

    results: Sequence[StepResult]
    bases: Mapping[str, str]
    seconds: float

    @property
    def off(self) -> list[StepResult]:
        """Results that are off."""
        return [result for result in self.results if result.status is StepStatus.OFF]

    @property
    def machine(self) -> Mapping[str, Any]:
        """Facts of the machine; {} if MLX did not start."""
        return next((result.figures for result in self.results if result.step == MACHINE.name), {})

    def as_dict(self, private: PrivateWords) -> dict[str, Any]:
        """The document that a user can attach to a bug report."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "date": datetime.now(UTC).date().isoformat(),
            "verdict": StepStatus.OFF if self.off else StepStatus.OK,
            "seconds": round(self.seconds, 1),
            "mondrian": {"version": _version(), "code": code_digest()},
            "packages": package_versions(),
            "machine": dict(self.machine),
            "variables_set": sorted(name for name in os.environ if name.startswith(SETTINGS_PREFIXES)),
            "bases": {label: public_base_name(name) for label, name in self.bases.items()},
            "steps": [_step(result, private) for result in self.results],
        }


def _step(result: StepResult, private: PrivateWords) -> dict[str, Any]:
    return {
        **asdict(result),
        "seconds": round(result.seconds, 2),
        "detail": private.remove(result.detail),
        "places": list(result.places),
        "advice": result.advice,
    }


def public_base_name(name: str) -> str:
    """The base's name if it is public: mini, or a hub id of a well-known owner."""
    if name == "mini" or (name.count("/") == 1 and name.split("/")[0] in PUBLIC_OWNERS):
        return name
    return "a folder or another hub id"


def _version() -> str:
    try:
        return metadata.version("mondrian")
    except metadata.PackageNotFoundError:
        return "checkout"
