"""A write to a shared store, done once more when another machine was first."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

from mondrian_core.errors import RegistryBusy
from mondrian_core.registry.ledger import LOCK
from mondrian_core.registry.object_store import Lost
from mondrian_core.registry.reading import Reading
from mondrian_core.registry.version import Version

Here = TypeVar("Here", bound=Reading)
Given = ParamSpec("Given")
Result = TypeVar("Result")
TRIES = 12
LONGEST = 1.0  # seconds between two tries, at most


def again(
    write: Callable[Concatenate[Here, str, Given], Result],
) -> Callable[Concatenate[Here, str, Given], Result]:
    """Let a writing method begin anew, with what the other one left, as often as it loses.

    Raises:
        RegistryBusy: others were first every time.
    """

    @functools.wraps(write)
    def run(self: Here, advisor: str, /, *arguments: Given.args, **options: Given.kwargs) -> Result:
        for attempt in range(TRIES):
            try:
                done = write(self, advisor, *arguments, **options)
            except Lost:
                time.sleep(random.uniform(0.0, min(LONGEST, 0.02 * 2**attempt)))
                continue
            if isinstance(done, Version) and self.url is not None:  # it lies in a room that is gone by now
                return cast("Result", self.get(advisor, done.version))
            return done
        raise RegistryBusy(self.root / advisor / LOCK)

    return run
