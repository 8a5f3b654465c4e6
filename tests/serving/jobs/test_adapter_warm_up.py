"""Champions' adapters are in memory before the first request, within the budget, and after a new model process too."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from mondrian_core.registry import Registry
from mondrian_core.serving.engine.interface import AdapterCacheUse
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import Settings
from tests.waiting import wait_until

Make = Callable[..., Service]
MB = 1 << 20


@pytest.fixture
def two_champions(registry: Registry, promote: Callable[[str], None], tmp_path: Path) -> None:
    """Promoted versions of ansel and of dorothea."""
    promote("v0001")
    made = tmp_path / "another"
    made.mkdir()
    save_file({f"layer.lora_{side}": np.full((2, 2), 3, np.float32) for side in "ab"}, made / "adapters.safetensors")
    (made / "adapter_config.json").write_text("{}")
    registry.register("dorothea", made, {"base": {"name": "mini", "fingerprint": "fake"}})
    registry.promote("dorothea", "v0001", expected=None, actor="person:test", reason="a test")


@pytest.fixture
def running(two_champions: None, make_service: Make) -> Iterator[tuple[TestClient, Service]]:
    service = make_service("fine_tuned")
    with TestClient(create_app(service), base_url="http://localhost") as client:
        yield client, service


def in_memory(service: Service, count: int) -> Callable[[], bool]:
    return lambda: service.model.adapter_cache == AdapterCacheUse(count, count * MB, 8 * MB)


def test_all_champions_are_loaded_before_a_request(running: tuple[TestClient, Service]) -> None:
    client, service = running
    wait_until(in_memory(service, 2), "both adapters in memory")
    assert client.get("/health").json()["adapter_cache"] == {
        "adapters": 2,
        "bytes": 2 * MB,
        "budget_bytes": 8 * MB,
    }
    metrics = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[:1] != "#")
    assert float(metrics["mondrian_adapter_cache_bytes"]) == 2 * MB
    assert service.adapters.active_versions == {"ansel": "v0001", "dorothea": "v0001"}


def test_a_promotion_is_loaded_too(running: tuple[TestClient, Service], promote: Callable[[str], None]) -> None:
    _, service = running
    wait_until(in_memory(service, 2))
    promote("v0002")
    wait_until(in_memory(service, 3), "the promoted adapter in memory")


def test_a_new_model_process_is_warmed_again(running: tuple[TestClient, Service], photograph: Any) -> None:
    client, service = running
    wait_until(in_memory(service, 2))
    os.kill(service.model.pid or 0, signal.SIGKILL)
    answer = client.post("/analyze", files={"image": ("a.jpg", photograph())}, data={"advisor": "ansel"})
    assert answer.status_code == 200 and service.model.starts == 2
    wait_until(in_memory(service, 2), "both adapters in the new process")


def test_it_stops_when_the_budget_is_full(
    two_champions: None, make_service: Make, control: Callable[..., None], settings: Settings
) -> None:
    control(cached=1)
    service, notices = make_service("fine_tuned"), []
    assert service.worker.warm_up is not None
    service.worker.warm_up._listen = notices.append
    loaded = [service.worker.warm_up.load_next() for _ in range(4)]
    assert loaded == [True, False, False, False] and service.model.adapter_cache == AdapterCacheUse(1, MB, MB)
    assert "MONDRIAN_ADAPTER_CACHE_MB" in notices[-1].message


def test_an_adapter_that_cannot_be_loaded_is_tried_once(
    two_champions: None, make_service: Make, control: Callable[..., None]
) -> None:
    service = make_service("fine_tuned", fallback="base")
    control(unsound=["v0001"])
    assert service.worker.warm_up is not None
    assert [service.worker.warm_up.load_next() for _ in range(3)] == [True, True, False]


def test_the_mode_base_loads_none(two_champions: None, make_service: Make) -> None:
    assert make_service("base").worker.warm_up is None
