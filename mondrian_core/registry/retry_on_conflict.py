"""A write to a shared store, done once more when another machine was first."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

from mondrian_core.errors import RegistryBusy
from mondrian_core.registry.advisor_store import LOCK_FILE
from mondrian_core.registry.object_store import WriteConflict
from mondrian_core.registry.reader import RegistryReader
from mondrian_core.registry.version import AdapterVersion

ReaderT = TypeVar("ReaderT", bound=RegistryReader)
WriteParams = ParamSpec("WriteParams")
ResultT = TypeVar("ResultT")
MAX_TRIES = 12
MAX_DELAY_SECONDS = 1.0  # seconds between two tries, at most


def retry_on_conflict(
    write: Callable[Concatenate[ReaderT, str, WriteParams], ResultT],
) -> Callable[Concatenate[ReaderT, str, WriteParams], ResultT]:
    """Let a writing method begin anew, with what the other one left, as often as it loses.

    Raises:
        RegistryBusy: others were first every time.
    """

    @functools.wraps(write)
    def run(self: ReaderT, advisor: str, /, *arguments: WriteParams.args, **options: WriteParams.kwargs) -> ResultT:
        for attempt in range(MAX_TRIES):
            try:
                done = write(self, advisor, *arguments, **options)
            except WriteConflict:
                time.sleep(random.uniform(0.0, min(MAX_DELAY_SECONDS, 0.02 * 2**attempt)))
                continue
            if isinstance(done, AdapterVersion) and self.url is not None:  # it lies in a room that is gone by now
                return cast("ResultT", self.get(advisor, done.version))
            return done
        raise RegistryBusy(self.root / advisor / LOCK_FILE)

    return run
