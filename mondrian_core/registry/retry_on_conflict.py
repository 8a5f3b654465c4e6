"""Repeat a write to a shared store when another machine was first."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

from mondrian_core.errors import RegistryBusy
from mondrian_core.object_store import WriteConflict
from mondrian_core.registry.advisor_store import LOCK_FILE
from mondrian_core.registry.reader import RegistryReader
from mondrian_core.registry.version import AdapterVersion

ReaderT = TypeVar("ReaderT", bound=RegistryReader)
WriteParams = ParamSpec("WriteParams")
ResultT = TypeVar("ResultT")
MAX_TRIES = 12
MAX_DELAY_SECONDS = 1.0  # between two tries


def retry_on_conflict(
    write: Callable[Concatenate[ReaderT, str, WriteParams], ResultT],
) -> Callable[Concatenate[ReaderT, str, WriteParams], ResultT]:
    """Repeat a writing method from the start, on the new state, after each conflict.

    Raises:
        RegistryBusy: every one of MAX_TRIES tries met a conflict.
    """

    @functools.wraps(write)
    def run(self: ReaderT, advisor: str, /, *arguments: WriteParams.args, **options: WriteParams.kwargs) -> ResultT:
        for attempt in range(MAX_TRIES):
            try:
                done = write(self, advisor, *arguments, **options)
            except WriteConflict:
                time.sleep(random.uniform(0.0, min(MAX_DELAY_SECONDS, 0.02 * 2**attempt)))
                continue
            if (
                isinstance(done, AdapterVersion) and self.url is not None
            ):  # its path is in a temporary folder that is gone
                return cast("ResultT", self.get(advisor, done.version))
            return done
        raise RegistryBusy(self.root / advisor / LOCK_FILE)

    return run
