"""The trainer's bench, shortened: both sides really train on the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

import mondrian_core.training  # noqa: F401  (before mlx)
from bench import training_speed

pytestmark = [pytest.mark.mini, pytest.mark.soak]


def test_training_benchmark_runs_both_trainers() -> None:
    found = training_speed.measure_training_speed("mini", pairs=2, rows=4, epochs=1)
    ours, library = found["first_loss"]["ours"], found["first_loss"]["rival"]
    # the library also supervises the line break behind the end token, which no chat ever needs
    assert 0 < ours < library < ours + 0.2
    assert found["ratio_of_peaks"] > 0 and found["ratio_of_times"]["pairs"] == 2
    assert len(found["losses"]["ours"]) == len(found["losses"]["rival"]) == 1


def test_wide_base_model_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mondrian_core.models.base_model import load_base

    small = {**training_speed.WIDE, "hidden_size": 256, "intermediate_size": 64, "vocab_size": 4096}
    monkeypatch.setattr(training_speed, "WIDE", small)
    base = load_base(str(training_speed.make_wide_base(tmp_path / "wide")))
    assert (base.hidden_size, base.language_model.args.vocab_size) == (256, 4096)
