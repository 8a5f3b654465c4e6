"""deployments/compose/compose.yaml as text: Docker isn't needed to see that it fits this version of Mondrian."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from deployments.prefect_instance import server_storage_variables
from mondrian_core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deployments" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
SECRET = re.compile(r"(?i)password|secret|token|auth_string")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HealthCheck(Strict):
    test: list[str] = Field(min_length=2)
    interval: str
    timeout: str
    retries: int
    start_period: str | None = None


class Service(Strict):
    image: str = Field(pattern=r"^[a-z/]+:\d+\.\d+\S*$")  # a version, never `latest`
    restart: Literal["unless-stopped"]
    command: list[str] = Field(default_factory=list)
    depends_on: dict[str, dict[Literal["condition"], Literal["service_healthy"]]] = Field(default_factory=dict)
    ports: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    volumes: list[str] = Field(default_factory=list)
    healthcheck: HealthCheck


class ComposeFile(Strict):
    name: str
    services: dict[str, Service]
    volumes: dict[str, Any]


FILE = ComposeFile.model_validate(yaml.safe_load(TEXT))


def test_services_wait_for_each_other_and_keep_their_data() -> None:
    assert set(FILE.services) == {"postgres", "redis", "prefect"}
    assert set(FILE.services["prefect"].depends_on) == {"postgres", "redis"}
    named = {
        name for service in FILE.services.values() for name in (each.partition(":")[0] for each in service.volumes)
    }
    assert named == set(FILE.volumes)


def test_prefect_is_the_version_of_the_lock() -> None:
    locked = re.search(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked is not None
    assert FILE.services["prefect"].image == f"prefecthq/prefect:{locked[1]}-python3.11"


def test_the_server_is_set_up_as_mondrian_up_does() -> None:
    """The same variables, with the services' own addresses."""
    password = "${POSTGRES_PASSWORD:?set it in .env}"
    settings = Settings(
        prefect_database=f"postgresql://prefect:{password}@postgres:5432/prefect", prefect_redis="redis://redis:6379/0"
    )
    environment = FILE.services["prefect"].environment
    assert server_storage_variables(settings).items() <= environment.items()
    assert environment["PREFECT_SERVER_API_AUTH_STRING"].startswith("${PREFECT_AUTH_STRING:?")


def test_no_secret_is_in_the_file_and_each_one_is_named_in_the_example() -> None:
    values = {
        name: value
        for service in FILE.services.values()
        for name, value in service.environment.items()
        if SECRET.search(name)
    }
    assert values and all(re.fullmatch(r"\$\{\w+:\?[^}]+\}", value) for value in values.values())
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    example = (FOLDER / ".env.example").read_text(encoding="utf-8")
    assert used == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))


def test_only_the_server_is_reachable_and_not_from_everywhere_by_default() -> None:
    ports = {name: service.ports for name, service in FILE.services.items() if service.ports}
    assert ports == {"prefect": ["${MONDRIAN_PREFECT_ADDRESS:-127.0.0.1}:4200:4200"]}
