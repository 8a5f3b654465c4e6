"""A registered version becomes the champion by hand."""

from prefect import flow, pause_flow_run
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.parameters import Advisor, Version
from mondrian_core.errors import GateFailed
from mondrian_core.registry import Registry
from tasks import registry
from tasks.run import run_name, settings_of
from tasks.telling import plain_failures

APPROVAL_SECONDS = 24 * 3600


class Approval(RunInput):
    """What the person who resumes the run in the UI fills in."""

    approve: bool = Field(False, description="promote this version")
    name: str = Field("", max_length=100, description="who approves")


@flow(name="promote", flow_run_name=run_name)
@plain_failures
def promote(
    advisor: Advisor,
    version: Version,
    reason: str = "",
    force: bool = False,
    approve: bool = False,
    adapters: str | None = None,
) -> State:
    """Check the version, ask if wanted, promote; the champion must not change meanwhile.

    Args:
        advisor: whose adapter, an id of the table `advisors`.
        version: a registered version such as v0003.
        reason: goes into the registry's history; needed unless every gate passed.
        force: promote although the gates speak against it.
        approve: wait, up to a day, until somebody approves in the UI.
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
    """
    root = settings_of(None, adapters).adapters_root
    champion = Registry(root).current(advisor)
    registry.inspect_version(root, advisor, version, force=force, reason=reason)
    if approve:
        reason = f"{reason} (approved by {approval(version)})".strip()
    return Completed(
        message=registry.promote_by_hand(root, advisor, version, expected=champion, force=force, reason=reason)
    )


def approval(version: str) -> str:
    """Who approved.

    Raises:
        GateFailed: when the answer was no.
    """
    answer = pause_flow_run(wait_for_input=Approval, timeout=APPROVAL_SECONDS)
    if not answer.approve:
        raise GateFailed(f"{version} was not approved.", "Nothing was changed.")
    return answer.name or "a person in the UI"
