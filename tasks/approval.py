"""Ask a person in Prefect's UI, while the flow run is paused. Nothing is held meanwhile, neither model nor lock."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.input.actions import aread_flow_run_input
from prefect.input.run_input import Keyset, keyset_from_base_key
from pydantic import Field

POLL_SECONDS = 3
SERVER_GRACE_SECONDS = 600  # when the server's own limit is reached first, it ends the run as Failed


class Approval(RunInput):
    """The form for the person who resumes the run in the UI."""

    approve: bool = Field(False, description="on: promote this version; off: decline")
    name: str = Field("", max_length=100, description="who decides, for the registry's history")
    comment: str = Field("", max_length=500, description="why, for the registry's history")

    def sentence(self, verb: str) -> str:
        """ "approved by Ansel: better light", for the history and the state of the run."""
        return f"{verb} by {self.name or 'a person in the UI'}{f': {self.comment}' if self.comment else ''}"


def wait_for_approval(description: str, *, seconds: float) -> Approval | None:
    """The answer of the person who resumes this flow run; None when nobody did in time.

    Args:
        description: Markdown above the form.
        seconds: how long to wait.
    """
    return asyncio.run(_ask(Approval.with_initial_data(description=description), uuid4().hex, seconds))


async def _ask(form: type[Approval], key: str, seconds: float) -> Approval | None:
    """Pause with a key of its own: a run that starts again after a restart of the machine asks again."""
    limit = int(seconds) + SERVER_GRACE_SECONDS
    question = apause_flow_run(wait_for_input=form, timeout=limit, poll_interval=POLL_SECONDS, key=key)
    with suppress(TimeoutError):
        try:
            return await asyncio.wait_for(question, seconds)
        except Pause:
            # The answer of a slow server came too late, Prefect's client asked again, and a paused run can't pause.
            # Prefect would end this process, and leave a paused run without a form.
            return await asyncio.wait_for(_wait_while_paused(form, key), seconds)
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    async with get_client() as client:
        run = await client.read_flow_run(context.flow_run.id)
    # a run that a slow server never paused is running too, without an answer
    is_running = run.state is not None and run.state.is_running()
    answered_last_moment = is_running and await aread_flow_run_input(_keyset(key)["response"]) is not None
    return await form.aload(_keyset(key)) if answered_last_moment else None


def _keyset(key: str) -> Keyset:
    """The names under which Prefect stores form and answer of a pause."""
    return keyset_from_base_key(f"paused-{key}")


async def _wait_while_paused(form: type[Approval], key: str) -> Approval | None:
    """Store the form of a run that is paused already, and wait for the answer, as `apause_flow_run` does."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    await form.asave(_keyset(key))
    async with get_client() as client:
        while not ((state := (await client.read_flow_run(context.flow_run.id)).state) and state.is_running()):
            await asyncio.sleep(POLL_SECONDS)
    return await form.aload(_keyset(key))
