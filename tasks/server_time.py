"""The time of the Prefect server, whose clock stamps every state of a run.

The clocks of several machines differ. What a machine compares with a state or a due time must therefore be the server's
time: by a clock that is an hour ahead, a run that another machine has just claimed looks abandoned.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def server_time(client: SyncPrefectClient) -> datetime:
    """The server's time, to the second, from the Date header of an answer; this machine's when a proxy removes it."""
    stamp = client.request("GET", "/health").headers.get("date")
    return parsedate_to_datetime(stamp).astimezone(UTC) if stamp else datetime.now(UTC)
