"""`python -m bench.retrieval_and_drafts`: quality of embeddings and drafts of the base model on held-out photographs.

Retrieval: mean squared score difference between a photograph and the one with the most similar embedding, compared with
random pairs and with the best possible pairs; and whether a mirrored photograph retrieves its original.

Drafts: squared error of the base's scores against the advisor's on held-out photographs, before and after
calibration, compared with the mean of the training photographs; paired by photograph (sign-flip test).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mondrian_core.data.base_model_critic import BaseModelCritic, PhotographCritic
from mondrian_core.data.drafting import load_advisor_critiques
from mondrian_core.data.linking.link_manifest import LinkedRecord
from mondrian_core.data.score_calibration import AdvisorVocabulary, calibrated_draft_scores, fit_score_calibration
from mondrian_core.data.splits.split import split_point
from mondrian_core.images import downscale_to_fit, open_photograph
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Store

ScoreArray = NDArray[np.float64]
SIGN_FLIPS = 20_000


def main(arguments: list[str] | None = None) -> int:
    """Measure on a workspace (default: a new sample) and print the results."""
    parser = argparse.ArgumentParser(prog="bench.retrieval_and_drafts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workspace", type=Path, help="default: a temporary sample workspace")
    parser.add_argument("--photographs", type=int, default=80, help="photographs of the sample workspace (default 80)")
    parser.add_argument("--advisor", default="ansel")
    parser.add_argument("--base-model", default="mini")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mondrian-portfolio-") as folder:
        root = options.workspace or _make_sample(Path(folder) / "workspace", options.photographs)
        results = _measure_workspace(root, options.advisor, options.base_model)
    print(retrieval_and_drafts_markdown(results))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def retrieval_and_drafts_markdown(results: Mapping[str, Mapping[str, float]]) -> str:
    """Both results as Markdown tables."""
    found, drafts = results["retrieval"], results["drafts"]
    count = found["photographs"]
    return "\n".join(
        [
            f"| over {count} photographs | |",
            "|---|---|",
            f"| distance to the photograph with the most similar embedding | {found['apart_nearest']:.1f} |",
            f"| distance between any two | {found['apart_any']:.1f} |",
            f"| smallest distance to another photograph, on average | {found['apart_best_possible']:.1f} |",
            f"| cosine of two photographs, mean and standard deviation | {found['cosine_mean']:.2f}, "
            f"{found['cosine_deviation']:.2f} |",
            f"| a mirrored photograph finds its original first | {found['mirror_first']} of {count} |",
            f"| ... among the first three | {found['mirror_in_three']} of {count} |",
            "",
            f"| squared error on {drafts['held_out']} held-out photographs | |",
            "|---|---|",
            f"| the base | {drafts['error_base']:.2f} |",
            f"| calibrated, whole scores: what a draft proposes | {drafts['error_shifted']:.2f} (p = "
            f"{drafts['p_shifted_is_no_better']:.2g} that this is chance, sign flips over photographs) |",
            f"| always the mean of the training critiques | {drafts['error_training_mean']:.2f} |",
        ]
    )


def _make_sample(root: Path, photographs: int) -> Path:
    from mondrian_core.data.sample_workspace import create_workspace

    create_workspace(root, sample=True, photographs=photographs)
    return root


def _measure_workspace(root: Path, advisor: str, base_model: str) -> dict[str, Any]:
    from mondrian_core.models.base_model import load_base

    recipe = Recipe()
    with Store(root / "mondrian.db", read_only=True) as store:
        advisor_prompt = store.advisor(advisor)
        known = load_advisor_critiques(store, root, advisor, recipe)
    critic = BaseModelCritic(load_base(base_model), advisor_prompt, recipe.evaluate.max_tokens)
    calibrating = sorted(known.training_critiques, key=lambda record: split_point(record.sha256))
    calibrating = calibrating[: recipe.synthesize.calibration_photographs]
    return {
        "retrieval": measure_retrieval(root, [*known.training_critiques, *known.held_out_critiques], critic),
        "drafts": measure_draft_errors(root, known.training_critiques, calibrating, known.held_out_critiques, critic),
    }


def measure_retrieval(root: Path, records: Sequence[LinkedRecord], critic: PhotographCritic) -> dict[str, float]:
    """Retrieval metrics for these photographs."""
    images = [_image(root, record) for record in records]
    vectors = np.array([critic.analyze_photograph(image, critique=False).embedding for image in images])
    flipped = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
    mirrored = np.array([critic.analyze_photograph(image, critique=False).embedding for image in flipped])
    scores = np.array([[record.scores[name] for name in DIMENSIONS] for record in records])
    apart = ((scores[:, None] - scores[None]) ** 2).mean(axis=2)
    alike = vectors @ vectors.T
    pairs = np.triu_indices(len(records), 1)
    np.fill_diagonal(alike, -2.0)
    ranks = (mirrored @ vectors.T >= np.diag(mirrored @ vectors.T)[:, None]).sum(axis=1)
    return {
        "photographs": len(records),
        "cosine_mean": float(alike[pairs].mean()),
        "cosine_deviation": float(alike[pairs].std()),
        "apart_nearest": float(apart[np.arange(len(records)), alike.argmax(axis=1)].mean()),
        "apart_any": float(apart[pairs].mean()),
        "apart_best_possible": float((apart + 1e3 * np.eye(len(records))).min(axis=1).mean()),
        "mirror_first": int((ranks == 1).sum()),
        "mirror_in_three": int((ranks <= 3).sum()),
    }


def measure_draft_errors(
    root: Path,
    trained: Sequence[LinkedRecord],
    calibrating: Sequence[LinkedRecord],
    held_out: Sequence[LinkedRecord],
    critic: PhotographCritic,
) -> dict[str, float]:
    """Squared errors on held-out photographs by photograph, and the share of words that the advisor uses."""
    known = [(critique, record) for record in calibrating if (critique := _critique(root, record, critic))]
    line = fit_score_calibration([critique.scores for critique, _ in known], [record.scores for _, record in known])
    critiqued = [(critique, record) for record in held_out if (critique := _critique(root, record, critic))]
    truth = _score_array([record.scores for _, record in critiqued])
    mean = _score_array([record.scores for record in trained]).mean(axis=0)
    raw = ((_score_array([critique.scores for critique, _ in critiqued]) - truth) ** 2).mean(axis=1)
    put = (
        (_score_array([calibrated_draft_scores(critique.scores, line) for critique, _ in critiqued]) - truth) ** 2
    ).mean(axis=1)
    words = AdvisorVocabulary(record.comments for record in trained)
    comments = [{name: critique.assessments[name].comment for name in DIMENSIONS} for critique, _ in critiqued]
    reworded = [{name: words.with_advisor_synonyms(name, each[name]) for name in DIMENSIONS} for each in comments]
    return {
        "held_out": len(critiqued),
        "error_base": float(raw.mean()),
        "error_shifted": float(put.mean()),
        "error_training_mean": float(((mean - truth) ** 2).mean()),
        "p_shifted_is_no_better": _sign_flip(raw - put),
        "comments": len(DIMENSIONS) * len(comments),
        "comments_with_synonyms": sum(
            a[name] != b[name] for a, b in zip(comments, reworded, strict=True) for name in a
        ),
        "words_of_the_advisor_base": float(np.mean([words.covered_word_share(each) for each in comments])),
        "words_of_the_advisor_draft": float(np.mean([words.covered_word_share(each) for each in reworded])),
    }


def _sign_flip(differences: ScoreArray) -> float:
    """One-sided p-value of a mean difference above zero, by random sign flips over photographs."""
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (SIGN_FLIPS, len(differences)))
    return float((1 + ((signs * differences).mean(axis=1) >= differences.mean()).sum()) / (1 + SIGN_FLIPS))


def _image(root: Path, record: LinkedRecord) -> Image.Image:
    return downscale_to_fit(open_photograph(root / record.photograph).image)


def _critique(root: Path, record: LinkedRecord, critic: PhotographCritic) -> Any:
    return critic.analyze_photograph(_image(root, record), critique=True).critique


def _score_array(rows: Sequence[Any]) -> ScoreArray:
    return np.array([[row[name] for name in DIMENSIONS] for row in rows], dtype=np.float64)


if __name__ == "__main__":
    sys.exit(main())
