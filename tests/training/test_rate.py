"""The learning rate where the recipe names none."""

from __future__ import annotations

import pytest

from mondrian_core.models.base import Base
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.optimizer import learning_rate, settled, suited_rate


def test_a_wider_base_gets_smaller_steps() -> None:
    assert suited_rate(2560) == pytest.approx(2e-4)
    assert suited_rate(256) / suited_rate(2560) == pytest.approx(10**0.775)


def test_a_rate_that_is_named_stays() -> None:
    assert settled(TrainRecipe(learning_rate=3e-5), 256).learning_rate == 3e-5
    assert settled(TrainRecipe(), 2560).learning_rate == pytest.approx(2e-4)


@pytest.mark.mini
def test_width_of_the_bundled_base(base: Base) -> None:
    assert base.width == 256


def test_an_unsettled_recipe_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="settled"):
        learning_rate(0, 10, TrainRecipe())
