"""undo_promotion: one step back for one promotion, and when it must do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mondrian_core.errors import NothingToDo
from mondrian_core.promotion import undo_promotion
from mondrian_core.registry import Registry
from tests.domain_events.conftest import add_version, promote
from tests.rollout.conftest import begin_rollout


def last_move(registry: Registry) -> str:
    return [entry for entry in registry.history("ansel") if entry.moves_pointer][-1].sha256


def undo(registry: Registry, promotion: str) -> str:
    return undo_promotion(registry, "ansel", promotion, actor="flow:auto", reason="fails").version


@pytest.fixture
def two_champions(registry: Registry) -> Registry:
    for _ in range(2):
        promote(registry, add_version(registry))
    return registry


def refuses(registry: Registry, promotion: str) -> None:
    before = registry.history("ansel")
    with pytest.raises(NothingToDo):
        undo(registry, promotion)
    assert registry.history("ansel") == before


def test_one_promotion_is_undone_once(two_champions: Registry) -> None:
    promotion = last_move(two_champions)
    assert undo(two_champions, promotion) == "v0001"
    refuses(two_champions, promotion)


def test_a_late_request_doesn_t_touch_a_later_promotion_of_the_same_version(two_champions: Registry) -> None:
    promotion = last_move(two_champions)
    two_champions.rollback("ansel", actor="person:anna", reason="a look")
    promote(two_champions, "v0002", reason="it is fine")
    refuses(two_champions, promotion)


def test_a_champion_that_came_by_a_rollback_stays(two_champions: Registry) -> None:
    promote(two_champions, add_version(two_champions))
    undo(two_champions, last_move(two_champions))
    assert two_champions.current("ansel") == "v0002"
    refuses(two_champions, last_move(two_champions))


def test_a_rollout_decides_itself(two_champions: Registry) -> None:
    begin_rollout(two_champions, add_version(two_champions))
    refuses(two_champions, last_move(two_champions))


def test_the_base_alone_is_no_target(registry: Registry) -> None:
    promote(registry, add_version(registry))
    refuses(registry, last_move(registry))


def test_a_damaged_target_is_no_target(two_champions: Registry) -> None:
    weights: Path = two_champions.get("ansel", "v0001").path / "adapters.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1])
    refuses(two_champions, last_move(two_champions))
