"""Nulls that can fail: the arms are equally good on average and err in different ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bench import gate_error_rates, null_models, simulated_evaluations
from bench.null_models import NullModel, exceeded_promises
from bench.simulated_evaluations import SimulatedPassRates, advisor_scores, simulated_pass_rates
from bench.tail_structures import honest_gain
from bench.worthless_adapters import RecordedArms, load_recorded_arms, record_text
from mondrian_core.statistics.permutation_tests import sign_flip_p_value

HALO = "halo: one error per photograph"


@pytest.fixture(scope="module")
def arms() -> RecordedArms:
    """Made-up errors of four arms."""
    rng = np.random.default_rng(7)
    labels = advisor_scores(rng, 60)
    names = ("base", "sound", "shuffled-0", "shuffled-1")
    return RecordedArms(labels, {name: labels + rng.normal(0.3 * k, 1.2, labels.shape) for k, name in enumerate(names)})


@pytest.fixture(scope="module")
def nulls(arms: RecordedArms) -> Mapping[str, NullModel]:
    return null_models.null_models(arms)


def test_every_null_has_equal_means(nulls: Mapping[str, NullModel]) -> None:
    for name, null in nulls.items():
        rng, errors = np.random.default_rng(3), np.zeros(2)
        for _ in range(40):
            answers = null.simulate(rng, 1000)
            errors += [((rows - answers.labels) ** 2).mean() for rows in (answers.base, answers.candidate)]
        assert errors[1] / errors[0] == pytest.approx(1, abs=0.12), name


def test_no_null_swaps_the_arms(nulls: Mapping[str, NullModel]) -> None:
    skewed = nulls["skewed: the candidate's errors vary more"].simulate(np.random.default_rng(5), 20_000)
    theirs, ours = (((rows - skewed.labels) ** 2).mean(axis=1) for rows in (skewed.base, skewed.candidate))
    assert (ours < theirs).mean() > 0.52, "the candidate is better on most photographs, and no better on average"
    ties = nulls["ties: whole scores, half of the answers equal"].simulate(np.random.default_rng(5), 1000)
    assert np.mean((ties.base == ties.candidate).all(axis=1)) > 0.4
    assert np.array_equal(ties.base, np.round(ties.base))


def test_short_nulls_keep_their_promise(nulls: Mapping[str, NullModel]) -> None:
    cells = simulated_pass_rates({name: null.simulate for name, null in nulls.items()}, (8,), 40)
    assert not exceeded_promises(cells, nulls)
    assert "| halo: one error per photograph | 5% |" in null_models.null_markdown(cells, nulls)


def test_halo_shows_a_test_that_counts_scores_as_photographs(
    nulls: Mapping[str, NullModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        simulated_evaluations,
        "sign_flip_p_value",
        lambda differences, seed: sign_flip_p_value(np.repeat(differences, 8), seed=seed, draws=2000),
    )
    cells = simulated_pass_rates({HALO: nulls[HALO].simulate}, (20,), 60)
    assert exceeded_promises(cells, nulls) == cells


def test_real_adapters_are_recorded() -> None:
    recorded = load_recorded_arms()
    assert len(recorded.worthless) >= 2 and len(recorded.labels) >= 40
    assert {"base", "sound"} <= set(recorded.predictions)
    first, second = (recorded.predictions[arm] for arm in recorded.worthless[:2])
    assert np.abs(first - second).mean() > 0.1, "two different adapters"


@pytest.mark.parametrize(("holds", "status"), [(True, 0), (False, 1)])
def test_command_fails_with_a_broken_promise(holds: bool, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for flag, name in (("--nulls", "print_null_table"), ("--tail", "print_tail_table")):
        monkeypatch.setattr(gate_error_rates, name, lambda runs: holds)
        assert gate_error_rates.main([flag, "--runs", "20"]) == status


def test_a_null_above_its_promise_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cell = SimulatedPassRates(name="halo", photographs=20, runs=400, score_error=0.2, both=0.12, mean_change=0.0)
    monkeypatch.setattr(null_models, "simulated_pass_rates", lambda *_: [cell])
    monkeypatch.setattr(null_models, "null_models", lambda: {"halo": NullModel(honest_gain(0))})
    assert not null_models.print_null_table(400)
    assert "halo passes in 12.0% on 20 photographs; 5% was promised." in capsys.readouterr().out


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, rows = tmp_path / "record.json", [[1.5] * 8, [2.0] * 7 + [None], [3.0] * 8]
    path.write_text(record_text({"command": {"tested": 3}, "labels": [[5] * 8] * 3, "base": rows, "shuffled-0": rows}))
    found = load_recorded_arms(path)
    assert found.labels.shape == (2, 8), "a photograph without a complete answer is left out"
    assert found.predictions["base"][:, 0].tolist() == [1.5, 3.0] and found.worthless == ["shuffled-0"]
