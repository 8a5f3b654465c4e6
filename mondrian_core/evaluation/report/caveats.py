"""What a reader must know before believing a report's figures: the sentences of its first screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.evaluation.gates.results import GateMeasurements, deciding_comparison
from mondrian_core.recipes import GateRecipe
from mondrian_core.samples_file import PhotographOrigin


def report_caveats(measured: GateMeasurements, photographs: Mapping[str, int], recipe: GateRecipe) -> tuple[str, ...]:
    """Where the figures come from, as far as they don't come from this adapter and the workspace's own photographs.

    Args:
        measured: the measurements of the gates.
        photographs: `photograph_counts`.
        recipe: of the gates.
    """
    return tuple(
        sentence
        for sentence in (
            _about_stop(measured),
            _about_folds(measured, recipe),
            _about_rendered(measured, photographs),
            _about_unrecorded(photographs),
            *_about_fractions(measured),
        )
        if sentence
    )


def _about_stop(measured: GateMeasurements) -> str:
    if measured.planned is None or measured.samples is None or measured.samples.stopped is None:
        return ""
    return (
        f"The evaluation stopped after {measured.samples.stopped['asked']} answers about {sum(measured.planned)} "
        "photographs, because no further answer could change that the format fails. All other figures come from those "
        "answers and decide nothing; `evaluate.stop_early = false` in the recipe measures everything."
    )


def _about_folds(measured: GateMeasurements, recipe: GateRecipe) -> str:
    compared, by_folds = deciding_comparison(measured.against_base, measured.by_folds, recipe)
    if not by_folds or compared is None:
        return ""
    return (
        f"The scores are not this adapter's: they come from cross-validation of its recipe on {compared.n} photographs."
    )


def _about_rendered(measured: GateMeasurements, photographs: Mapping[str, int]) -> str:
    rendered = photographs[f"unlabelled_{PhotographOrigin.RENDERED}"]
    if not rendered:
        return ""
    asked = photographs["labelled"] + photographs["unlabelled"]
    counts = measured.own_formats.get("candidate")
    decide = ""
    if counts is not None and counts.ran:
        folds = f", {measured.own_by_folds} of them by folds" if measured.own_by_folds else ""
        decide = f" The format is judged on {counts.ran} answers about own photographs{folds}."
    return (
        f"{rendered} of the {asked} photographs were rendered by Mondrian, because the workspace has too few that "
        f"the adapter was not trained on.{decide}"
    )


def _about_unrecorded(photographs: Mapping[str, int]) -> str:
    unknown = photographs[f"unlabelled_{PhotographOrigin.UNKNOWN}"]
    if not unknown:
        return ""
    return f"An earlier release measured this and didn't record whether {unknown} of the photographs were rendered."


def _about_fractions(measured: GateMeasurements) -> list[str]:
    """Arms that state fractions where the rubric asks for whole scores."""
    outcomes = measured.samples.outcomes if measured.samples else ()
    sentences = []
    for arm in dict.fromkeys(outcome.arm for outcome in outcomes):
        read = [outcome.scores.values() for outcome in outcomes if outcome.arm == arm and outcome.readable]
        fractional = sum(not all(float(score).is_integer() for score in scores) for scores in read)
        if fractional:
            sentences.append(
                f"{fractional} of {len(read)} answers by the {arm} state fractions such as 8.5; these count."
            )
    return sentences


def photographs_sentence(photographs: Mapping[str, Any], split: str) -> str:
    """How many photographs were asked about, by what is known about them."""
    own = photographs[f"unlabelled_{PhotographOrigin.OWN}"]
    parts = [f"{own} of the workspace"] if own else []
    for origin, text in ((PhotographOrigin.RENDERED, "rendered"), (PhotographOrigin.UNKNOWN, "of unrecorded origin")):
        if count := photographs[f"unlabelled_{origin}"]:
            parts.append(f"{count} {text}")
    labelled = photographs["labelled"]
    where = split if " " in split else f"{split} split"
    scored = f"{labelled} photographs with the advisor's scores ({where}, never trained on). " if labelled else ""
    return f"{scored}Without scores, never trained on, for format, effect and time: {' and '.join(parts) or 'none'}."
