"""Events of the database: new critiques, and answers that fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mondrian_core.domain_events.relay import begin_relay, relay_events
from mondrian_core.domain_events.workspace_events import FAILURE_ALPHA, data_events, service_events
from mondrian_core.promotion import undo_promotion
from mondrian_core.registry import Registry
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.settings import Settings
from mondrian_core.store import DimensionalProfile, Job, Store, utc_timestamp
from tests.domain_events.conftest import MemoryServer, add_version, promote
from tests.rollout.conftest import answer, begin_rollout
from tests.waiting import wait_until


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.create(settings.database) as made:
        yield made


def write_critiques(store: Store, first: int, count: int, origin: str = "human") -> None:
    store.add_profiles(
        DimensionalProfile(
            id=f"p{number}",
            advisor="ansel",
            image_path=f"source/{number}.jpg",
            scores=dict.fromkeys(DIMENSIONS, 7.0),
            comments=dict.fromkeys(DIMENSIONS, "Good."),
            overall_grade="B",
            origin=origin,
        )
        for number in range(first, first + count)
    )


def add_jobs(store: Store, version: str, failed: list[bool], first: int = 0, **details: object) -> None:
    """Answers of a version, a millisecond apart and all past; a failed one fell back to the base."""
    now = datetime.now(UTC)
    store.import_jobs(
        Job(
            id=f"j{first + number}",
            filename="x.jpg",
            advisor="ansel",
            status="completed",
            created_at=utc_timestamp(now + timedelta(milliseconds=number)),
            completed_at=utc_timestamp(now + timedelta(milliseconds=number)),
            requested_mode="lora",
            mode="baseline" if fails else "lora",
            adapter_version=None if fails else version,
            answer=answer(7.0),
            photograph_sha256=f"{first + number:064x}",
            details=dict(details),
        )
        for number, fails in enumerate(failed)
    )
    last = now + timedelta(milliseconds=len(failed))
    wait_until(lambda: datetime.now(UTC) > last, "the last answer's time", pause_seconds=0.01)


def degraded(settings: Settings, registry: Registry) -> list[str]:
    return [each.cause or "" for each in service_events(settings, registry, "ansel", registry.history("ansel"))]


def test_data_grows_in_steps(settings: Settings, registry: Registry, store: Store, server: MemoryServer) -> None:
    begin_relay(server)
    promote(registry, add_version(registry, dataset={"critiques": 12}))
    write_critiques(store, 0, 12 + 9)
    write_critiques(store, 100, 50, origin="model")
    assert data_events(settings, registry, "ansel") == []
    relay_events(settings, server)
    for count, expected in ((1, [10]), (1, []), (8, []), (1, [20])):
        write_critiques(store, 200 + len(store.profiles("ansel")), count)
        sent = [each for each in relay_events(settings, server) if each.name == "data.grown"]
        assert [each.evidence["new"] // 10 * 10 for each in sent] == expected


def test_growth_counts_from_the_champion_s_dataset(settings: Settings, registry: Registry, store: Store) -> None:
    write_critiques(store, 0, 30)
    promote(registry, add_version(registry, dataset={"photographs": {"train": 15, "test": 5}}))
    (event,) = data_events(settings, registry, "ansel")
    assert (event.version, event.evidence["new"]) == ("v0001", 10)
    promote(registry, add_version(registry, dataset={"critiques": 30}))
    assert data_events(settings, registry, "ansel") == []


def test_a_champion_whose_answers_fail_degrades_the_service(
    settings: Settings, registry: Registry, store: Store
) -> None:
    promote(registry, add_version(registry))
    promote(registry, add_version(registry))
    add_jobs(store, "v0002", [False] * 20)
    assert degraded(settings, registry) == []
    add_jobs(store, "v0002", [True] * 8, first=20)
    (event,) = service_events(settings, registry, "ansel", registry.history("ansel"))
    assert (event.cause, event.version, event.evidence["failed"]) == ("adapter", "v0002", 8)
    assert (
        undo_promotion(registry, "ansel", event.evidence["promotion"], actor="flow:auto", reason=event.reason).version
        == "v0001"
    )
    assert degraded(settings, registry) == [], "the failures were not those of v0001"


def test_a_predecessor_that_failed_as_often_is_no_better_choice(
    settings: Settings, registry: Registry, store: Store
) -> None:
    promote(registry, add_version(registry))
    add_jobs(store, "v0001", [True, False, False] * 12)
    promote(registry, add_version(registry))
    add_jobs(store, "v0002", [True, False, False] * 12, first=100)
    assert degraded(settings, registry) == []


def test_a_rollout_and_its_answers_are_left_to_its_guardrails(
    settings: Settings, registry: Registry, store: Store
) -> None:
    promote(registry, add_version(registry))
    begin_rollout(registry, add_version(registry))
    add_jobs(store, "v0002", [True] * 20)
    assert degraded(settings, registry) == []


def test_faults_of_the_service_are_not_the_adapter_s(settings: Settings, registry: Registry, store: Store) -> None:
    promote(registry, add_version(registry))
    now = utc_timestamp(datetime.now(UTC))
    store.import_jobs(
        Job(
            id=f"f{number}",
            filename="x.jpg",
            advisor="ansel",
            status="failed",
            created_at=now,
            completed_at=now,
            requested_mode="lora",
            error="The disk is full.",
            photograph_sha256=f"{number:064x}",
            details={"fault": "service"},
        )
        for number in range(6)
    )
    assert degraded(settings, registry) == ["service"]


def test_a_sound_adapter_rarely_raises_an_alarm(settings: Settings) -> None:
    """Checked after every one of 400 answers; Ville's inequality promises FAILURE_ALPHA at the tolerated rate."""
    import numpy as np

    from mondrian_core.statistics.e_processes import log_e_rate_above

    drawn = np.random.default_rng(5).random((400, 400)) < 0.05
    alarms = sum(
        any(
            log_e_rate_above(int(failed), number - int(failed), 0.05) >= -np.log(FAILURE_ALPHA)
            for number, failed in enumerate(np.cumsum(row), start=1)
            if failed > 3
        )
        for row in drawn
    )
    assert alarms <= 400 * FAILURE_ALPHA * 2.5  # 10 of 400; more has a chance below 0.3 %
