"""The portfolio bench: its figures from a critic whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.retrieval_and_drafts import main, measure_draft_errors, measure_retrieval
from mondrian_core.data.base_model_critic import BaseModelOutput
from mondrian_core.data.linking.link_manifest import HUMAN, LinkedRecord
from mondrian_core.rubric import DIMENSIONS, make_critique

GREYS = (10, 60, 110, 160, 210, 250)


class Reader:
    """A critic that reads a photograph's grey level: it sets the embedding, and scores one point above the truth."""

    fingerprint = "reader"

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        grey = float(np.asarray(image).mean())
        scores = dict.fromkeys(DIMENSIONS, min(10.0, score_of(grey) + 1))
        vector = (float(np.cos(grey / 100)), float(np.sin(grey / 100)))
        return BaseModelOutput(vector, make_critique(scores, dict.fromkeys(DIMENSIONS, "A grey wall.")))

    def critique_with_references(self, image: Image.Image, comparison: object) -> None:
        pytest.fail("retrieval asks for no comparison")


def score_of(grey: float) -> float:
    return grey / 30


@pytest.fixture
def records(tmp_path: Path) -> list[LinkedRecord]:
    made = []
    for number, grey in enumerate(GREYS):
        Image.new("RGB", (30, 20), (grey, grey, grey)).save(tmp_path / f"{number}.png")
        scores = dict.fromkeys(DIMENSIONS, float(score_of(grey)))
        comments = dict.fromkeys(DIMENSIONS, "A grey wall.")
        made.append(
            LinkedRecord(
                record=f"p{number}",
                photograph=f"{number}.png",
                sha256=str(number),
                width=30,
                height=20,
                found="x",
                origin=HUMAN,
                scores=scores,
                comments=comments,
            )
        )
    return made


def test_retrieval_by_embedding_finds_similar_scores(tmp_path: Path, records: list[LinkedRecord]) -> None:
    figures = measure_retrieval(tmp_path, records, Reader())
    assert figures["photographs"] == figures["mirror_first"] == figures["mirror_in_three"] == len(GREYS)
    assert figures["apart_nearest"] == figures["apart_best_possible"] < figures["apart_any"]


def test_calibration_removes_constant_offset(tmp_path: Path, records: list[LinkedRecord]) -> None:
    figures = measure_draft_errors(tmp_path, records[:4], records[:4], records[1:5], Reader())
    assert figures["error_base"] == pytest.approx(1.0)
    assert figures["error_shifted"] <= 0.25  # drafts have whole scores
    assert figures["error_training_mean"] > 1
    assert figures["words_of_the_advisor_base"] == 1.0
    assert figures["comments_with_synonyms"] == 0
    assert 1 / 16 - 0.02 < figures["p_shifted_is_no_better"] < 1 / 16 + 0.02  # four photographs, all better


@pytest.mark.mini
@pytest.mark.soak
def test_retrieval_and_drafts_benchmark_with_mini_model(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert main(["--photographs", "12", "--out", str(out)]) == 0
    assert out.is_file()
