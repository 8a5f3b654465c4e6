"""The smoke set of serve/local asks the running service itself, and says which version answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mondrian_core.errors import Broken
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tasks import service
from tasks.service import Wanted, smoke_set

Start = Callable[..., Any]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The artifacts that were left."""
    found: list[str] = []
    monkeypatch.setattr(service, "leave_page", lambda key, page, sentence: found.append(page))
    return found


def test_the_promoted_version_must_answer(
    start: Start, settings: Settings, promote: Callable[[str], None], control: Callable[..., None], pages: list[str]
) -> None:
    promote("v0001")
    running = start(model_mode="fine_tuned")
    wanted = Wanted(port=running.port, model_mode="fine_tuned")
    assert smoke_set.fn(settings, wanted, 3) == "Smoke set: 1 of 1 photographs answered (ansel v0001)."
    assert "| source/one.jpg | ansel | v0001 | v0001 | lora |" in pages[0]
    control(unsound=["v0002"])
    promote("v0002")
    with pytest.raises(Broken, match="v0001 answered, not v0002"):
        smoke_set.fn(settings, wanted, 3)
    control(die=99)
    with pytest.raises(Broken, match="500 The critique failed"):
        smoke_set.fn(settings, wanted, 3)
    control()
    assert "v0001" not in running.get("/?x").text.partition("Latest critiques")[2], "nobody's photographs"
    with Store(settings.database, read_only=True) as store:
        assert all(job.explicit_mode for job in store.jobs()), "they take no part in an A/B test"


def test_without_a_champion_the_base_answers(start: Start, settings: Settings, pages: list[str]) -> None:
    running = start()
    said = smoke_set.fn(settings, Wanted(port=running.port), 1)
    assert said == "Smoke set: 1 of 1 photographs answered (ansel base)."
    running.process.kill()
    running.process.wait()
    with pytest.raises(Broken, match="no answer"):
        smoke_set.fn(settings, Wanted(port=running.port), 1)
