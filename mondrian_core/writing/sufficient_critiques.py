"""What a number of critiques is enough for, from the rules of the gates and the power of their test. Pure functions.

A gate about scores decides on photographs that the adapter was not trained on: those that are held out, or all of them
where the recipe has folds and too few are held out. It can pass from `score_photographs` on, if the sign-flip test can
reach the level of the look with so few. Whether it will depends on how much better the adapter is: where one was
measured, the spread of its differences counts, otherwise the halved error that `recipe_choice` chooses a recipe by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from mondrian_core.recipe_choice import (
    SHOWN_REDUCTION,
    SIMULATED_SPREAD,
    WANTED_POWER,
    choose_recipe_for,
    expected_held_out,
)
from mondrian_core.recipes import GateRecipe, Recipe
from mondrian_core.registry import HistoryEntry, LookRequest, LookRules
from mondrian_core.registry.looks import looks_in_history, next_look
from mondrian_core.statistics.permutation_tests import fewest_pairs_for_p_value
from mondrian_core.statistics.sample_size import detection_power, sample_size_for_reduction
from mondrian_core.writing.adapter_errors import AdapterErrors

SMALL_SAMPLE = 2  # photographs more than normal theory asks for, as in `sample_size_for_reduction`
_MOST_CRITIQUES = 5_000  # the search for a number ends here


@dataclass(frozen=True, kw_only=True)
class CritiqueSufficiency:
    """What the critiques of an advisor are enough for.

    Attributes:
        critiques: by a person, of different photographs.
        deciding: photographs on which the gates about scores would decide, about.
        by_folds: True when those are all of them, by cross-validation.
        more_to_decide: critiques that are missing until these gates can pass an adapter; None: no number is enough.
        more_to_show: critiques that are missing until they pass an improvement such as the present adapter's (without
            one, a halved error) in 80 % of the looks; None when the adapter is no better than the base.
        sentence: for people.
    """

    critiques: int
    deciding: int
    by_folds: bool
    more_to_decide: int | None
    more_to_show: int | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@lru_cache(maxsize=_MOST_CRITIQUES)
def _chosen_recipe(critiques: int) -> Recipe:
    """The recipe that a retraining without one would choose by the number of critiques."""
    return choose_recipe_for(critiques).recipe


def deciding_photographs(critiques: int, recipe: Recipe) -> tuple[int, bool]:
    """(how many photographs decide about scores, whether by folds), as the splits give them on average."""
    held_out = math.floor(expected_held_out(critiques, recipe) + 1e-9)
    if recipe.evaluate.folds and held_out < recipe.gates.score_photographs:
        return (critiques if critiques >= recipe.evaluate.folds else 0), True
    return held_out, False


def photographs_to_decide(gates: GateRecipe, level: float) -> int | None:
    """The fewest photographs with which `score_error` can pass at a look's level; None when no number can."""
    pairs = fewest_pairs_for_p_value(min(level, gates.p_value))
    return None if pairs is None else max(pairs, gates.score_photographs)


def upcoming_level(history: Sequence[HistoryEntry], gates: GateRecipe, now: datetime | None = None) -> float:
    """One-sided level (0-1) of an advisor's next look, on the same base and prompt as the last one."""
    looks = looks_in_history(history)
    rules = LookRules(
        yearly_level=gates.yearly_level, first_level=gates.first_look_level, per_year=gates.looks_per_year
    )
    question = looks[-1].question if looks else ""
    request = LookRequest(run="", candidate="", question=question, photographs=(), rules=rules)
    return next_look(history, request, now or datetime.now(UTC)).level


def sufficiency(
    critiques: int,
    *,
    recipe: Recipe | None = None,
    history: Sequence[HistoryEntry] = (),
    measured: AdapterErrors | None = None,
) -> CritiqueSufficiency:
    """What `critiques` critiques are enough for.

    Args:
        critiques: by a person, of different photographs.
        recipe: of the next retraining; None: as a retraining chooses it.
        history: of the advisor's registry, which counts the looks of the year.
        measured: the errors of the present adapter.
    """
    present = recipe or _chosen_recipe(critiques)
    level = upcoming_level(history, present.gates)
    needed = photographs_to_decide(present.gates, level)
    deciding, by_folds = deciding_photographs(critiques, present)
    goal = _fewest_from(critiques, recipe, needed)
    shown = _photographs_to_show(measured, present.gates, level)
    show_goal = _fewest_from(critiques, recipe, max(shown, needed)) if shown and needed else None
    found = CritiqueSufficiency(
        critiques=critiques,
        deciding=deciding,
        by_folds=by_folds,
        more_to_decide=None if goal is None else goal - critiques,
        more_to_show=None if show_goal is None else show_goal - critiques,
        sentence="",
    )
    then = recipe or _chosen_recipe(critiques if goal is None else goal)
    return replace(found, sentence=_sentence(found, then, measured))


def _fewest_from(critiques: int, recipe: Recipe | None, photographs: int | None) -> int | None:
    """The smallest number of critiques, from `critiques` on, with so many deciding photographs."""
    if photographs is None:
        return None
    for count in range(critiques, critiques + _MOST_CRITIQUES):
        if deciding_photographs(count, recipe or _chosen_recipe(count))[0] >= photographs:
            return count
    return None


def _photographs_to_show(measured: AdapterErrors | None, gates: GateRecipe, level: float) -> int | None:
    """How many photographs pass the present adapter's improvement, or a halved error, in 80 % of the looks."""
    if level <= 0:
        return None
    alpha = min(level, gates.p_value)
    if measured is None or not measured.base_errors:
        enough = (
            count
            for count in range(1, _MOST_CRITIQUES)
            if detection_power(count, SHOWN_REDUCTION, SIMULATED_SPREAD, alpha=alpha) >= WANTED_POWER
        )
        return next((count + SMALL_SAMPLE for count in enough), None)
    names = list(measured.base_errors)
    differences = [measured.base_errors[name] - measured.own_errors[name] for name in names]
    scale = sum(measured.base_errors.values()) / len(names)
    reduction = sum(differences) / len(names) / scale if scale else 0.0
    if reduction <= 0:
        return None
    wanted = max(reduction, gates.score_improvement)
    return sample_size_for_reduction(differences, scale, wanted, alpha=alpha, power=WANTED_POWER)


def _sentence(found: CritiqueSufficiency, recipe: Recipe, measured: AdapterErrors | None) -> str:
    """One or two short sentences: what is missing, or what there is enough for."""
    count = f"{found.critiques} critique{'' if found.critiques == 1 else 's'}"
    if found.more_to_decide is None:
        return f"{count}. This year's looks are spent: no number of critiques lets an adapter pass the gates now."
    if found.more_to_decide:
        how = f"{recipe.evaluate.folds} folds" if recipe.evaluate.folds else "the photographs held out"
        return f"{count}. {found.more_to_decide} more and the gates can decide about an adapter's scores, by {how}."
    by = f"all {found.deciding}, by folds" if found.by_folds else f"about {found.deciding} that are held out"
    enough = f"{count}: enough for the gates to decide about scores, on {by}."
    if found.more_to_show is None:
        return enough
    known = measured is not None and bool(measured.base_errors)
    such = f"an improvement such as that of {measured.version}" if known and measured else "a halved error"
    if found.more_to_show:
        return f"{enough} {found.more_to_show} more and {such} passes in four of five looks."
    return f"{enough} {such[0].upper()}{such[1:]} passes in four of five looks."
