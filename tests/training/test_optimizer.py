"""The learning rate where the recipe names none."""

from __future__ import annotations

import pytest

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.optimizer import default_learning_rate, scheduled_learning_rate, with_default_learning_rate


def test_wider_base_gets_smaller_learning_rate() -> None:
    assert default_learning_rate(2560) == pytest.approx(2e-4)
    assert default_learning_rate(256) / default_learning_rate(2560) == pytest.approx(10**0.775)


def test_explicit_learning_rate_is_kept() -> None:
    assert with_default_learning_rate(TrainRecipe(learning_rate=3e-5), 256).learning_rate == 3e-5
    assert with_default_learning_rate(TrainRecipe(), 2560).learning_rate == pytest.approx(2e-4)


@pytest.mark.mini
def test_width_of_the_bundled_base(base: BaseVLM) -> None:
    assert base.hidden_size == 256


def test_schedule_requires_resolved_learning_rate() -> None:
    with pytest.raises(ValueError, match="with_default_learning_rate"):
        scheduled_learning_rate(0, 10, TrainRecipe())
