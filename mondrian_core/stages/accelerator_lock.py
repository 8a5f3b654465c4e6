"""Decorator for stages that need the accelerator: one at a time on this machine, whoever starts them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from mondrian_core import accelerator_lock
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.models.base_download import fetch_base
from mondrian_core.stages.context import StageContext

StageT = TypeVar("StageT", bound=Callable[..., Any])


def on_accelerator(stage: StageT) -> StageT:
    """Let a stage start once its base model is here and the accelerator is free, with a notice while it waits."""
    name = stage.__name__.removesuffix("_stage")  # the word in events and in the lock file

    @functools.wraps(stage)
    def run(context: StageContext, listen: EventListener = ignore_events, **options: Any) -> Any:
        fetch_base(context.base_model, listen)  # before the lock: a download may take an hour
        with accelerator_lock.exclusive_work(
            f"{name} of {context.advisor}", lambda text: listen(StageNotice(name, text))
        ):
            return stage(context, accelerator_lock.yielding_turns(listen), **options)

    return run  # type: ignore[return-value]
