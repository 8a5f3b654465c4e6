"""Ensure that the service runs on this machine, healthy and with these options."""

from contextlib import nullcontext
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.parameters import Port, TrafficShare
from tasks.reporting import fail_without_traceback
from tasks.run_context import flow_run_name, settings_from_parameters
from tasks.service import WARNED, ensure_service_task, service_smoke_task, stop_service_on_exit, wait_for_service_exit
from tasks.service_record import ServeOptions


@flow(name="serve", flow_run_name=flow_run_name)
@fail_without_traceback
def serve_flow(  # noqa: PLR0913, PLR0917  (each one is a field of Prefect's form)
    model_mode: Literal["base", "fine_tuned", "ab_test"] = "fine_tuned",
    port: Port = 5100,
    ab_test_split: TrafficShare = 0.5,
    lora_path: str | None = None,
    fallback: bool = True,
    restart: bool = False,
    smoke_photographs: Annotated[int, Field(ge=0, le=20)] = 2,
    foreground: bool = False,
    workspace: str | None = None,
    adapters: str | None = None,
    base_model: str | None = None,
) -> State:
    """Start the service, or leave a healthy one alone; a promotion reaches it without this.

    Args:
        model_mode: which model answers: base, fine_tuned (the champion), or both in an A/B test.
        port: of the service, on this machine only.
        ab_test_split: share of photographs for the adapter in an A/B test.
        lora_path: adapter folder or version; empty: the champion.
        fallback: let the base answer while there is no usable adapter; off: the run fails.
        restart: replace it even when it is healthy.
        smoke_photographs: smoke test photographs per advisor with a champion; the run fails when they fail; 0: none.
        foreground: keep the service inside this run; canceling the run stops the service.
        workspace: folder; empty: the worker's own (MONDRIAN_WORKSPACE).
        adapters: the registry's folder; empty: the worker's own (MONDRIAN_ADAPTERS).
        base_model: hub id, folder or `mini`; empty: the default for the worker's machine.
    """
    settings = settings_from_parameters(workspace, adapters, base_model)
    wanted = ServeOptions(
        port=port, model_mode=model_mode, ab_test_split=ab_test_split, lora_path=lora_path, fallback=fallback
    )
    message = ensure_service_task(settings, wanted, restart=restart)
    name = "Completed"
    with stop_service_on_exit(settings) if foreground else nullcontext():
        if smoke_photographs:
            smoke = service_smoke_task(settings, wanted, smoke_photographs)
            message = f"{message} {smoke.sentence}"
            name = "Completed" if smoke.passed else WARNED
        if foreground:
            wait_for_service_exit(settings)
    return Completed(name=name, message=message)
