"""The machines of a shared Prefect server: their roles, the work queues and workers of each, and who is registered.

A role says which work a machine takes: `control` (promotions and other short runs on the registry), `serving` (the
service of this machine), `data` (everything that reads the database and the photographs; one machine only) and
`accelerator` (trainings and evaluations). Each role is a work queue; `serving` has one per machine, because a service
belongs to the workspace that it answers for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployments.prefect_instance import POOL, PrefectInstance
from deployments.prefect_setup import QUEUES, ensure_queue, prefect_client
from mondrian_core.errors import BadInput, PrefectUnavailable
from mondrian_core.settings import MACHINE_NAME, ROLES, Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

DEFAULT_QUEUE = "default"  # where a user's own deployments are
VARIABLE_PREFIX = "mondrian_machine_"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine of a server.

    Attributes:
        name: among the machines of the server.
        roles: the work it takes, some of `ROLES`.
        joined: False for the machine that runs the server.
        several: there are, or may be, other machines with accelerators.
        shared: identifies the shared folder or bucket that it uses; "" where it uses none.
    """

    name: str
    roles: tuple[str, ...]
    joined: bool = False
    several: bool = False
    shared: str = ""

    @property
    def serving_queue(self) -> str:
        """The queue of its own service."""
        return f"serving-{self.name}" if self.joined else "serving"

    @property
    def queues(self) -> tuple[str, ...]:
        """Every queue that its workers take runs from, in the order of `ROLES`."""
        own = tuple(self.serving_queue if role == "serving" else role for role in ROLES if role in self.roles)
        return own if self.joined else (*own, DEFAULT_QUEUE)


@dataclass(frozen=True)
class WorkerPlan:
    """A worker to start: its name, its queues, and how many runs it has at once (None: any number)."""

    name: str
    queues: tuple[str, ...]
    limit: int | None = None


def plan_workers(machine: Machine) -> list[WorkerPlan]:
    """The workers of a machine.

    Where several machines have accelerators, the queue `accelerator` has a worker of its own that takes one run at a
    time: a second run goes to another machine instead of waiting here. The limit is the worker's and not the queue's,
    so machines don't take turns, and a run that a dead worker left "Running" blocks nothing.
    """
    if not machine.several or "accelerator" not in machine.roles:
        return [WorkerPlan(machine.name, machine.queues)]
    others = tuple(queue for queue in machine.queues if queue != "accelerator")
    general = [WorkerPlan(machine.name, others)] if others else []
    return [*general, WorkerPlan(f"{machine.name}-accelerator", ("accelerator",), limit=1)]


def machine_name(settings: Settings, given: str | None = None) -> str:
    """The name of this machine: `given`, else `Settings.machine_name`.

    Raises:
        BadInput: `given` is not a valid name.
    """
    if given is not None and not MACHINE_NAME.fullmatch(given):
        raise BadInput(
            f"'{given}' is not a valid name of a machine.", "Use up to 40 of the characters a-z, 0-9 and -, such as m2."
        )
    return given or settings.machine_name


def set_up_machine(place: PrefectInstance, machine: Machine) -> None:
    """Register a machine; where it has joined and serves, with a queue and deployments of its own service.

    Raises:
        BadInput: another machine has the role `data` already, or shares another folder.
        PrefectUnavailable: the server has no pool or deployments yet.
    """
    with prefect_client(place) as client:
        _require_same_folder(client, machine)
        register_machine(client, machine)
        if machine.joined and "serving" in machine.roles:
            ensure_queue(client, machine.serving_queue, QUEUES["serving"])
            for source, own in serving_deployments(machine.name).items():
                _copy_deployment(client, source, own, machine)


def _require_same_folder(client: SyncPrefectClient, machine: Machine) -> None:
    """Refuse an accelerator that exchanges trainings through another folder than the data machine.

    Raises:
        BadInput: it does, or the data machine shares none.
    """
    data = next((other for other in registered_machines(client) if "data" in other.roles), None)
    if data is None or not machine.shared or data.name == machine.name or data.shared == machine.shared:
        return
    if not data.shared:
        raise BadInput(
            f"The data machine '{data.name}' shares no folder, so it can't hand out trainings.",
            f"Set MONDRIAN_SHARED on '{data.name}' and run `mondrian down` and `mondrian up` there.",
        )
    raise BadInput(
        f"The shared folder of this machine is not the one of the data machine '{data.name}': it belongs to others.",
        f"Set MONDRIAN_SHARED to the folder that '{data.name}' shares, as this machine sees it.",
    )


def serving_deployments(name: str) -> dict[str, str]:
    """The deployments of a joined machine's service, by those of the server's own machine."""
    return {"serve/local": name, "serve/stop": f"stop-{name}"}


def remove_machine(place: PrefectInstance, name: str) -> None:
    """Remove a joined machine from the server: its record, its service's deployments and queue. Runs are kept."""
    from prefect.exceptions import ObjectNotFound

    machine = Machine(name=name, roles=ROLES, joined=True)
    with prefect_client(place) as client:
        for own in serving_deployments(name).values():
            with suppress(ObjectNotFound):
                client.delete_deployment(client.read_deployment_by_name(f"serve/{own}").id)
        with suppress(ObjectNotFound):
            client.delete_work_queue_by_id(
                client.read_work_queue_by_name(machine.serving_queue, work_pool_name=POOL).id
            )
        unregister_machine(client, name)


def _copy_deployment(client: SyncPrefectClient, source: str, name: str, machine: Machine) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_deployment_by_name(source)
    except ObjectNotFound:
        raise PrefectUnavailable(
            f"The server has no deployment '{source}'.", "Run `mondrian up` on the server's machine, then join again."
        ) from None
    client.create_deployment(
        flow_id=found.flow_id,
        name=name,
        entrypoint=found.entrypoint,
        description=found.description,
        tags=found.tags,
        parameter_openapi_schema=found.parameter_openapi_schema,
        enforce_parameter_schema=found.enforce_parameter_schema,
        pull_steps=found.pull_steps,
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        work_pool_name=POOL,
        work_queue_name=machine.serving_queue,
    )


def register_machine(client: SyncPrefectClient, machine: Machine) -> None:
    """Record a machine on the server, so that others know its roles.

    Raises:
        BadInput: another machine has the role `data` already.
    """
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    require_one_data_machine(registered_machines(client), machine.name, machine.roles)
    name = _variable(machine.name)
    value = {"roles": list(machine.roles), "joined": machine.joined, "shared": machine.shared}
    if client.read_variable_by_name(name) is None:
        client.create_variable(VariableCreate(name=name, value=value, tags=["mondrian"]))
    else:
        client.update_variable(VariableUpdate(name=name, value=value))


def require_one_data_machine(known: Sequence[Machine], name: str, roles: Sequence[str]) -> None:
    """Refuse the role `data` for a machine when another one has it.

    Raises:
        BadInput: names the other one.
    """
    holder = next((other.name for other in known if other.name != name and "data" in other.roles), None)
    if "data" in roles and holder is not None:
        raise BadInput(
            f"'{holder}' is the data machine of this server already: the database has one place.",
            f"Leave out `--role data`, or run `mondrian leave` on '{holder}' first.",
        )


def unregister_machine(client: SyncPrefectClient, name: str) -> None:
    """Remove the record of a machine."""
    from prefect.exceptions import ObjectNotFound

    try:
        client.delete_variable_by_name(_variable(name))
    except ObjectNotFound:
        return


def registered_machines(client: SyncPrefectClient) -> list[Machine]:
    """All machines of the server, by name."""
    found = [_from_variable(variable.name, variable.value) for variable in client.read_variables(limit=200)]
    return sorted((machine for machine in found if machine is not None), key=lambda machine: machine.name)


def _variable(name: str) -> str:
    return f"{VARIABLE_PREFIX}{name.replace('-', '_')}"  # older servers refuse a dash in the name of a variable


def _from_variable(name: str, value: Any) -> Machine | None:
    if not name.startswith(VARIABLE_PREFIX) or not isinstance(value, Mapping):
        return None
    roles = value.get("roles")
    known = tuple(role for role in ROLES if isinstance(roles, Sequence) and role in roles)
    return Machine(
        name=name.removeprefix(VARIABLE_PREFIX).replace("_", "-"),
        roles=known,
        joined=bool(value.get("joined")),
        shared=str(value.get("shared") or ""),
    )
