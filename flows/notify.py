"""Show a notification on the desktop of the machine that runs this. Automations start it."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.notify import notify_task
from tasks.reporting import fail_without_traceback

SHOWN, LOGGED = "Shown", "Logged"


@flow(name="notify")
@fail_without_traceback
def notify_flow(
    title: Annotated[str, Field(min_length=1)], message: str | None = None, link: str | None = None
) -> State:
    """Show a notification; without a desktop it becomes an artifact and a line of the run's log.

    Args:
        title: its first line.
        message: further text.
        link: where to read more: an address, or a path on the service.
    """
    shown = notify_task(title, message or "", link or "")
    return Completed(name=SHOWN if shown else LOGGED, message=title)
