"""Stages that compute on the accelerator: one at a time on this machine, whoever starts them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from mondrian_core import accelerator
from mondrian_core.events import Listener, Noticed, ignore
from mondrian_core.stages.context import Context

StageT = TypeVar("StageT", bound=Callable[..., Any])


def always(context: Context) -> bool:
    """Every run of the stage needs the accelerator."""
    return True


def on_accelerator(needed: Callable[[Context], bool] = always) -> Callable[[StageT], StageT]:
    """For a stage: it begins once the accelerator is free, and tells while it waits.

    Of several ranks that train together the first one alone takes the lock; the others can't go on without it.
    """

    def decorated(stage: StageT) -> StageT:
        name = stage.__name__

        @functools.wraps(stage)
        def run(context: Context, listen: Listener = ignore, **options: Any) -> Any:
            ranks = options.get("ranks")
            if (ranks is not None and not ranks.first) or not needed(context):
                return stage(context, listen, **options)
            with accelerator.working(f"{name} of {context.advisor}", lambda text: listen(Noticed(name, text))):
                return stage(context, accelerator.sharing(listen), **options)

        return run  # type: ignore[return-value]

    return decorated
