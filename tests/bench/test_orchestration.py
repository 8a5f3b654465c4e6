"""The parts of the orchestration benchmark that need no server."""

from __future__ import annotations

import tomllib

import pytest

from bench.orchestration import RECIPE, main, orchestration_text, recipe_as_toml, retraining_overhead, spread
from mondrian_core.recipes import Recipe


def test_both_sides_of_a_pair_have_the_same_recipe() -> None:
    """One gets it as values, the other as a file."""
    assert Recipe.model_validate(tomllib.loads(recipe_as_toml(RECIPE))) == Recipe.model_validate(RECIPE)


def test_what_prefect_adds_is_the_difference_within_each_pair() -> None:
    found = retraining_overhead([12.0, 30.0, 21.0], [10.0, 20.0, 20.0])
    assert found["added by Prefect"] == {"median": 2.0, "least": 1.0, "greatest": 10.0}
    text = orchestration_text("retraining", {"pairs": 3, "seconds": found, "processor": found, "parts": {}})
    assert "| added by Prefect | 2.0 | 1.0 | 10.0 |" in text


def test_a_busy_machine_is_not_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (9.5, 8.0, 7.0))
    assert main(["--most-load", "0.5"]) == 1
    assert "The load is 9.5" in capsys.readouterr().err


def test_throughput_names_its_database() -> None:
    result = {"rounds": 2, "database": "PostgreSQL", "runs a minute": spread([10.0, 14.0])}
    assert (
        orchestration_text("throughput", result).splitlines()[0]
        == "| two workers, PostgreSQL | median | least | greatest |"
    )
