"""The crop search of a job, and what the jobs table keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mondrian_core.errors import MondrianError
from mondrian_core.photograph_model import Question
from mondrian_core.pixel_files import PixelFile, PixelFileCache, load_image
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.critique.crop_search import search_crops_with_model
from mondrian_core.serving.critique.strategies import (
    AnalysisContext,
    OnStrategyProgress,
    StrategyProgress,
    critique_question,
)
from mondrian_core.serving.engine.interface import Canceled, Engine, Reply
from mondrian_core.settings import AnalysisMode

CROPS_KEY = "crops"  # of a job's details


def record_crop_search(
    engine: Engine,
    context: AnalysisContext,
    answered: tuple[AnalysisMode, ServedAdapter | None],
    pixel_files: PixelFileCache | None,
    on_progress: OnStrategyProgress,
) -> dict[str, Any]:
    """Look for a better crop with the model that gave the critique; plain values for the job's details.

    When the search fails, the critique stays; the record says why there is no crop.

    Args:
        engine: the model.
        context: of the critique.
        answered: the strategy and the adapter (None: the base) that gave it.
        pixel_files: how images reach an engine in another process; None gives the engine the image itself.
        on_progress: called with the number of passes.

    Raises:
        Canceled: the job was canceled.
    """
    strategy, adapter = answered

    def ask(question: Question) -> Reply:
        if pixel_files is not None and isinstance(context.image, PixelFile):
            file = pixel_files.put(f"{context.image.path.stem}-crop", load_image(question.image))
            question = replace(question, image=file)
        return engine.ask(question)

    def on_pass(passes: int) -> None:
        on_progress(StrategyProgress(strategy, "crops", passes))

    try:
        return search_crops_with_model(ask, critique_question(context, adapter), on_pass).as_dict()
    except Canceled:
        raise
    except MondrianError as error:
        return {"offered": False, "reason": f"The search for a crop failed. {error}"}


def offered_crop(details: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the crop that a job's details offer, with `whole` and `crop`; None when they offer none."""
    found = details.get(CROPS_KEY) or {}
    crop, whole = found.get("crop"), found.get("whole")
    valid = isinstance(crop, dict) and isinstance(whole, dict) and len(crop.get("box") or ()) == 4
    return found if found.get("offered") is True and valid else None


def crop_sentence(found: Mapping[str, Any]) -> str:
    """The record of a search for people: the result and what it cost; of an offer, both grades with their intervals.

    A crop that isn't offered may still score higher than the whole photograph, as other crops of its size do. Its
    figures would read like an offer, so only the JSON has them.
    """
    text = str(found.get("reason", ""))
    if offered := offered_crop({CROPS_KEY: found}):
        crop, whole = offered["crop"], offered["whole"]
        sides = ", ".join(f"{100 * side:.0f}" for side in crop.get("box", ()))
        turned = f", rotated by {crop['degrees']:g} degrees" if crop.get("degrees") else ""
        text += f" Crop (left, top, right, bottom in %): {sides}{turned}."
        text += f" Expected grade {_with_interval(whole)} whole, {_with_interval(crop)} cropped"
        text += f"; difference {_interval_text(found, 'difference', 'difference_interval')}."
    passes = found.get("passes")
    return f"{text} ({passes} passes, {found.get('seconds', 0):.1f} s)" if passes else text


def _with_interval(judged: Mapping[str, Any]) -> str:
    return _interval_text(judged, "grade", "interval")


def _interval_text(values: Mapping[str, Any], name: str, interval: str) -> str:
    low, high = values[interval]
    return f"{values[name]:.2f} ({low:.2f} to {high:.2f})"
