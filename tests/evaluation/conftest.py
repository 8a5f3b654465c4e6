"""Fixtures: an advisor, photographs with and without labels, adapters as folders, and a run with a fake model."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mondrian_core.evaluation import (
    CandidateInfo,
    EvaluationInputs,
    EvaluationReport,
    LabelledPhotograph,
    TrainingProvenance,
    evaluate_with_model,
)
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.recipes import Recipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS

VOICE = AdvisorPrompt("ansel", "Ansel Adams")


def _load() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "evaluation_fake_model", Path(__file__).with_name("fake_model.py")
    )
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_model() -> ModuleType:
    """tests/evaluation/fake_model.py"""
    return sys.modules.get("evaluation_fake_model") or _load()


@pytest.fixture
def recipe() -> Recipe:
    """Only the plain questions, on all photographs."""
    amounts = {"compliance_photographs": 60, "edited_photographs": 0, "constrained_photographs": 0}
    return recipe_from_values({"evaluate": amounts})


@pytest.fixture
def complete_recipe(recipe: Recipe) -> Recipe:
    """The same, but an evaluation goes on when the format can no longer pass."""
    return recipe_from_values({"evaluate": {**recipe.evaluate.model_dump(), "stop_early": False}})


@pytest.fixture
def labelled(fake_model: ModuleType) -> list[LabelledPhotograph]:
    """Twenty photographs with the advisor's scores."""
    return make_labelled(fake_model, 20)


def make_labelled(fake_model: ModuleType, count: int, seed: int = 5) -> list[LabelledPhotograph]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        scores = {name: float(rng.integers(1, 10)) for name in DIMENSIONS}
        critique = fake_model.answer_text(np.array([scores[name] for name in DIMENSIONS]), "Austere")
        found.append(
            LabelledPhotograph(
                photograph=f"photo-{number:02d}",
                image=fake_model.photograph(scores, number),
                scores=scores,
                critique=critique,
            )
        )
    return found


def adapter(folder: Path, name: str) -> Path:
    """A folder that represents an adapter; its bytes depend on its name."""
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "adapters.safetensors").write_bytes(name.encode())
    return path


@pytest.fixture
def run(
    tmp_path: Path, fake_model: ModuleType, recipe: Recipe, labelled: list[LabelledPhotograph]
) -> Callable[..., EvaluationReport]:
    """Evaluate a fake model; options that aren't given are sound."""

    def evaluate(
        model: Any, photographs: list[LabelledPhotograph] | None = None, out: str = "run", **options: Any
    ) -> EvaluationReport:
        given = labelled if photographs is None else photographs
        rng = np.random.default_rng(9)
        more = [
            fake_model.photograph({name: float(rng.integers(1, 10)) for name in DIMENSIONS}, 100 + k) for k in range(60)
        ]
        champion = options.pop("champion", None)
        trained = TrainingProvenance(
            photo_ids=frozenset(f"other-{k}" for k in range(20)), scores=tuple(entry.scores for entry in given)
        )
        unlabelled, chosen = options.pop("unlabelled", more), options.pop("recipe", recipe)
        voice, rendered = options.pop("voice", VOICE), options.pop("rendered", ())
        known = CandidateInfo(
            **{"trained": trained, "champion": adapter(tmp_path, champion) if champion else None} | options
        )
        candidate = adapter(tmp_path, "candidate")
        inputs = EvaluationInputs(
            adapter=candidate,
            labelled=given,
            unlabelled=unlabelled,
            rendered=rendered,
            prompt=voice,
            recipe=chosen,
            out=tmp_path / out,
            info=known,
        )
        return evaluate_with_model(model, inputs)

    return evaluate
