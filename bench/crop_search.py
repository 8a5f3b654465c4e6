"""How honest the offer of a crop is: on a workspace's photographs, with a trained adapter.

    python -m bench.crop_search WORKSPACE ADAPTER [--advisor ansel] [--photographs 20]

Three rules judge the same passes: the first look alone, the second look against the whole photograph, and the rule of
`crop_search`, which also asks for more than a placebo gains. Each is applied to the real candidates and to placebo
candidates (boxes of 85 and 70 % at random places, which have no reason), so a rule that offers as many placebos as
candidates offers nothing. It also compares the grades of passes with scores only to those of whole critiques.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mondrian_core.images import downscale_to_fit, open_photograph
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import critique_messages
from mondrian_core.rubric import mean_score, scores_json_schema
from mondrian_core.serving.critique.crop_candidates import WHOLE_FRAME, CropCandidate, crop_candidates
from mondrian_core.serving.critique.crop_search import CropSearch, search_crops
from mondrian_core.serving.engine.local_engine import LocalEngine
from mondrian_core.store import Store

PLACEBOS = 12


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--advisor", default="ansel")
    parser.add_argument("--folder", default="source/visitors")
    parser.add_argument("--photographs", type=int, default=20)
    parser.add_argument("--base", default="mini")
    asked = parser.parse_args()
    engine, rng = LocalEngine(asked.base), np.random.default_rng(5)
    with Store(asked.workspace / "mondrian.db", read_only=True) as store:
        messages = critique_messages(store.advisor(asked.advisor))
    grades: list[tuple[float, float]] = []
    found: dict[str, list[CropSearch]] = {"candidates": [], "placebos": []}
    for path in sorted((asked.workspace / asked.folder).glob("*.jpg"))[: asked.photographs]:
        image = downscale_to_fit(open_photograph(path).image)
        question = Question(messages=messages, image=image, adapter=asked.adapter)

        def score(part: Any, question: Question = question) -> Any:
            return engine.ask(replace(question, image=part, schema=scores_json_schema())).expected_scores

        grades.append((mean_score(score(image)), mean_score(engine.ask(question).expected_scores)))
        boxes = [
            CropCandidate(WHOLE_FRAME.within(share, *rng.random(2).tolist()), "has no reason")
            for share in (0.85, 0.7)
            for _ in range(PLACEBOS // 2)
        ]
        found["candidates"].append(search_crops(image, score, candidates=crop_candidates(image)))
        found["placebos"].append(search_crops(image, score, candidates=boxes))
        print(path.name, {name: each[-1].reason for name, each in found.items()}, flush=True)
    alone, whole = np.array(grades).T
    print(
        json.dumps(
            {
                "photographs": len(grades),
                "scores_only_against_critique": {
                    "correlation": round(float(np.corrcoef(alone, whole)[0, 1]), 3),
                    "mean_absolute_difference": round(float(np.abs(alone - whole).mean()), 3),
                },
                **{name: rates(each) for name, each in found.items()},
            },
            indent=2,
        )
    )


def rates(searches: list[CropSearch]) -> dict[str, Any]:
    """How many each rule offers, and what the first and the second look say about the best crop."""
    judged = [each for each in searches if each.best is not None]
    first = [max(grade for _, grade in each.tried) - float(np.mean(each.whole.grades)) for each in judged if each.whole]
    return {
        "searches": len(searches),
        "offered_at_first_look": len(judged),
        "offered_at_second_look": sum(each.beats_whole for each in judged),
        "offered": sum(each.is_offered for each in judged),
        "rise_at_first_look": round(float(np.mean(first)), 3) if first else None,
        "rise_at_second_look": round(float(np.mean([np.mean(each.differences) for each in judged])), 3),
        "rise_of_its_placebo": round(
            float(
                np.mean(
                    [
                        np.mean(each.placebo.grades) - np.mean(each.whole.grades)
                        for each in judged
                        if each.placebo and each.whole
                    ]
                )
            ),
            3,
        ),
        "passes": round(float(np.mean([each.passes for each in searches])), 1),
        "seconds": round(float(np.mean([each.seconds for each in searches])), 2),
    }


if __name__ == "__main__":
    main()
