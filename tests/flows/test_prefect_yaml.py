"""prefect.yaml read strictly: Prefect silently ignores a mistyped key, and one in a schedule drops the file."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect import Flow
from prefect.utilities.schema_tools import validate
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mondrian_core.rollout import ROLLOUT_DEPLOYMENT

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
PROMISED = {
    "retrain/scheduled",
    "train/dataset",
    "promote/manual",
    "rollback/manual",
    "rollback/automatic",
    "notify/desktop",
    "rollout/advance",
    "evaluate/version",
    "serve/local",
    "serve/stop",
    "index/portfolio",
    "synthesize/drafts",
    "backup/scheduled",
    "prune/scheduled",
    "drift/scheduled",
}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pool(Strict):
    name: Literal["apple-silicon"]
    work_queue_name: Literal["accelerator", "control", "data", "serving"]


class Schedule(Strict):
    slug: str = Field(pattern=r"^[a-z0-9-]+$")
    cron: str = Field(pattern=r"^(\S+ ){4}\S+$")
    timezone: str
    active: bool | None = None  # None: decided at run time, and left alone by `prefect deploy`
    parameters: dict[str, Any] = Field(default_factory=dict)


class Limit(Strict):
    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Deployment(Strict):
    name: str
    entrypoint: str = Field(pattern=r"^flows/[a-z_]+\.py:[a-z_]+$")
    description: str
    tags: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[Schedule] = Field(default_factory=list)
    concurrency_limit: Limit | None = None
    work_pool: Pool

    @property
    def full_name(self) -> str:
        """The flow's name and the deployment's, as commands use it."""
        return f"{flow_of(self).name}/{self.name}"


class File(Strict):
    name: Literal["mondrian"]
    definitions: dict[str, Pool]
    pull: list[dict[Literal["prefect.deployments.steps.set_working_directory"], dict[Literal["directory"], str]]]
    deployments: list[Deployment]


FILE = File.model_validate(yaml.safe_load(TEXT))


def flow_of(deployment: Deployment) -> Any:
    path, _, name = deployment.entrypoint.partition(":")
    spec = importlib.util.spec_from_file_location(f"entrypoint_{Path(path).stem}", ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_deployment_names_are_unchanged() -> None:
    names = [deployment.full_name for deployment in FILE.deployments]
    assert len(names) == len(set(names))
    assert set(names) == PROMISED


@pytest.mark.parametrize("deployment", FILE.deployments, ids=lambda each: each.full_name)
def test_entrypoint_is_a_flow_that_accepts_the_parameters(deployment: Deployment) -> None:
    found = flow_of(deployment)
    assert isinstance(found, Flow)
    assert found.fn.__name__ == deployment.entrypoint.rpartition(":")[2]
    known = set(found.parameters.properties)
    assert known == set(inspect.signature(found.fn).parameters)
    given = [deployment.parameters, *(schedule.parameters for schedule in deployment.schedules)]
    assert set().union(*given) <= known
    for schedule in deployment.schedules:
        found.validate_parameters({**deployment.parameters, **schedule.parameters})


@pytest.mark.parametrize("deployment", FILE.deployments, ids=lambda each: each.full_name)
def test_every_parameter_is_explained_in_the_form(deployment: Deployment) -> None:
    properties = flow_of(deployment).parameters.properties
    assert [name for name, schema in properties.items() if not schema.get("description")] == []


def test_wrong_parameters_are_refused() -> None:
    deployments = {deployment.full_name: flow_of(deployment) for deployment in FILE.deployments}
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("retrain/scheduled", {"advisor": "../ansel"}),
        ("retrain/scheduled", {"advisor": "ansel", "recipe": {"train": {"rnak": 4}}}),
        ("retrain/scheduled", {"advisor": "ansel", "seed": -1}),
        ("promote/manual", {"advisor": "ansel", "version": "7"}),
    ]
    for name, parameters in wrong:
        with pytest.raises(Exception, match=r"(?i)valid"):
            deployments[name].validate_parameters(parameters)


def test_schedules_have_a_real_time_zone() -> None:
    for deployment in FILE.deployments:
        for schedule in deployment.schedules:
            ZoneInfo(schedule.timezone)


def test_retraining_has_a_weekly_schedule() -> None:
    weekly = next(each for each in FILE.deployments if each.full_name == "retrain/scheduled").schedules
    assert [schedule.parameters["advisor"] for schedule in weekly] == ["ansel"]
    assert weekly[0].active and weekly[0].cron.split()[-1] != "*"


def test_only_the_rollout_check_has_a_schedule_that_the_program_switches() -> None:
    switched = [each.full_name for each in FILE.deployments if any(times.active is None for times in each.schedules)]
    assert switched == [ROLLOUT_DEPLOYMENT]


def test_every_deployment_has_one_topic() -> None:
    topics = {"data", "training", "evaluation", "promotion", "serving", "maintenance"}
    assert {each.full_name: each.tags for each in FILE.deployments if {*each.tags[1:]} - topics} == {}
    assert all(each.tags[0] == "mondrian" and len(each.tags) == 2 for each in FILE.deployments)


def test_prefect_yaml_has_no_absolute_paths() -> None:
    assert re.findall(r"(?:^|[\s:\"'])(/[A-Za-z]\S*)", TEXT.split("deployments:", 1)[1]) == []


def test_each_worker_runs_its_own_checkout() -> None:
    """The placeholder is filled in where a run starts; a path would be the one of the machine that deployed."""
    assert [step["prefect.deployments.steps.set_working_directory"] for step in FILE.pull] == [
        {"directory": "{{ $MONDRIAN_CHECKOUT }}"}
    ]


def test_what_needs_the_database_stays_on_the_data_machine() -> None:
    queues = {deployment.full_name: deployment.work_pool.work_queue_name for deployment in FILE.deployments}
    flows = ("retrain", "evaluate", "index", "synthesize", "backup", "prune", "drift")
    assert {queues[name] for name in queues if name.partition("/")[0] in flows} == {"data"}
    assert {queues[name] for name in queues if name.startswith("serve/")} == {"serving"}
    assert [name for name, queue in queues.items() if queue == "accelerator"] == ["train/dataset"]


@pytest.mark.parametrize("typo", ["concurrency_limitt: 3", "retries: 3"])
def test_unknown_prefect_yaml_key_is_rejected(typo: str) -> None:
    broken = TEXT.replace("  - name: scheduled\n", f"  - name: scheduled\n    {typo}\n", 1)
    assert broken != TEXT
    with pytest.raises(ValidationError):
        File.model_validate(yaml.safe_load(broken))


def is_valid_schema_value(value: Any, schema: dict[str, Any]) -> bool:
    """As Prefect's server validates the parameters of a new run."""
    return not validate(value, schema, raise_on_error=False)


def test_retraining_form_is_a_recipe_and_five_overrides() -> None:
    """Every other setting is accepted as values, and an unknown key is refused by the schema itself."""
    retrain = next(each for each in FILE.deployments if each.full_name == "retrain/scheduled")
    flow = flow_of(retrain)
    fields = flow.parameters.properties
    in_order = sorted(fields, key=lambda name: fields[name]["position"])
    assert in_order[:7] == ["advisor", "recipe", "epochs", "rank", "learning_rate", "dropout", "seed"]
    assert all("anyOf" not in fields[name] for name in in_order if name != "recipe"), "one plain field each"
    name, file, values = fields["recipe"]["anyOf"]
    assert name["enum"][:2] == ["auto", "default"] and "small-set" in name["enum"]
    assert is_valid_schema_value("recipes/mine.toml", file) and not is_valid_schema_value("smal-set", file)
    assert "properties" not in values, "an editor for JSON"
    older = {"train": {"warmup_fraction": 0.1}, "gates": {"score_photographs": 9}}
    flow.validate_parameters({"advisor": "ansel", "recipe": older, "seed": 3})
    assert is_valid_schema_value(older, values)
    unknown_keys: list[dict[str, Any]] = [{"train": {"rnak": 4}}, {"gates": {"scores": 1}}, {"trian": {}}]
    for unknown in unknown_keys:
        assert not is_valid_schema_value(unknown, values)
    limits: list[tuple[str, float]] = [
        ("epochs", 0),
        ("rank", 257),
        ("learning_rate", 0),
        ("dropout", 1.0),
        ("seed", -1),
    ]
    for setting, beyond in limits:
        assert not is_valid_schema_value(beyond, fields[setting]), setting
