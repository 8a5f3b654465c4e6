"""Whether preference tuning on judged recommendations makes them better: rendered photographs, a simulated person.

    python -m bench.advice_preferences --base mini --out FOLDER [--judged 40] [--held-out 40] [--epochs 2]

An adapter is taught an advisor's critiques. It then answers about further photographs, twice each with sampling, and a
person judges every recommendation: useful if it names a fault that the renderer drew in that dimension. The product's
own code turns the judgements into pairs and tunes the adapter on them. A control is tuned on as many random judgements,
since tuning on its own answers might change an adapter whatever the judgements say. All arms answer greedily about
photographs that neither phase has seen.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.data.linking.advice_preferences import Judgements, advice_preferences
from mondrian_core.data.linking.link_manifest import MODEL, CritiqueCandidate, LinkedRecord
from mondrian_core.dataset_types import DatasetRow, PreferencePair
from mondrian_core.evaluation.measure.comments.likelihood import ReadCritique, comment_likelihood
from mondrian_core.evaluation.measure.comments.specificity import text_specificity
from mondrian_core.evaluation.measure.comments.texts import read_answers
from mondrian_core.evaluation.measure.mlx_model import MlxModel
from mondrian_core.mini.advice_phrases import RECOMMENDATIONS
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import Scene, sample_scene
from mondrian_core.mini.scene_critic import write_scene_critique
from mondrian_core.mini.scene_faults import scene_faults
from mondrian_core.mini.tastes import ANSEL, score_scene
from mondrian_core.models.base_model import load_base
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import AdvisorPrompt, critique_messages, training_messages
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.statistics.intervals import student_mean_interval
from mondrian_core.statistics.permutation_tests import sign_flip_p_value
from mondrian_core.store.advice_judgements import AdviceJudgement
from mondrian_core.text_quality import critique_text_problem
from mondrian_core.training import PreferencePairSplit, TrainingRows, train_adapter
from mondrian_core.training_target import training_target

PROMPT = AdvisorPrompt(ANSEL.advisor, ANSEL.name, ANSEL.bio, form=AnswerForm.ADVICE)
START, TUNED, CONTROL = "start", "tuned", "random_judgements"
ANSWERS = 2  # about each judged photograph
MAX_TOKENS = 800
READ_WITH = 4  # photographs that a held-out critique is read with, its own included
_SEED = 71_000


@dataclass(frozen=True, kw_only=True)
class JudgedPhotograph:
    """A rendered photograph: its name, scene, picture, and the advisor's answer to it."""

    name: str
    scene: Scene
    image: Image.Image
    answer: str

    @property
    def row(self) -> DatasetRow:
        """The row that teaches the advisor's answer."""
        return row_with(self.name, self.image, self.answer)


def row_with(name: str, image: Image.Image, answer: str) -> DatasetRow:
    """A row in the form with advice."""
    return DatasetRow(
        photo_id=name,
        image=image,
        messages=training_messages(PROMPT, answer),
        answer=answer,
        scores=parse_critique_strict(answer).scores,
        loss_dimensions=DIMENSIONS,
        weight=1.0,
        form=AnswerForm.ADVICE,
    )


def photographs(kind: str, count: int, seed: int) -> list[JudgedPhotograph]:
    """New photographs with what the advisor says about them."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(seed + number)
        scene = sample_scene(rng)
        answer = training_target(write_scene_critique(scene, ANSEL, rng), AnswerForm.ADVICE)
        found.append(JudgedPhotograph(name=f"{kind}-{number}", scene=scene, image=render_scene(scene), answer=answer))
    return found


def fault_of_recommendation(text: str) -> str | None:
    """The fault that a recommendation of any voice is about; None for other words."""
    for kind, phrases in _PHRASES.items():
        if any(phrase.fullmatch(text) for phrase in phrases):
            return kind
    return None


def _patterns() -> dict[str, list[re.Pattern[str]]]:
    found: dict[str, list[re.Pattern[str]]] = {}
    for told in RECOMMENDATIONS.values():
        for kind, phrases in told.items():
            found.setdefault(kind, []).extend(
                re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(phrase))) for phrase in phrases
            )
    return found


_PHRASES = _patterns()


def is_right(scene: Scene, dimension: str, text: str) -> bool:
    """True when a recommendation names a fault that is drawn, and that the advisor doesn't forgive."""
    drawn = {fault.kind for fault in scene_faults(scene)[dimension]} - ANSEL.forgives
    return fault_of_recommendation(text) in drawn


def read(text: str) -> Critique | None:
    """The critique; None when it can't be read strictly."""
    try:
        return parse_critique_strict(text)
    except CritiqueParseError:
        return None


def answers(
    model: MlxModel, adapter: Path | None, asked: Sequence[JudgedPhotograph], temperature: float, seed: int
) -> list[Critique | None]:
    """One answer about each photograph, unconstrained."""
    questions = [
        Question(
            messages=critique_messages(PROMPT),
            image=each.image,
            adapter=adapter,
            max_tokens=MAX_TOKENS,
            temperature=temperature,
            seed=seed + number,
            constrained=False,
        )
        for number, each in enumerate(asked)
    ]
    found: list[Critique | None] = [None] * len(asked)
    for number, answer in model.ask_each(questions):
        if not isinstance(answer, Exception):
            found[number] = read(answer.text)
    return found


def judged_pairs(
    asked: Sequence[JudgedPhotograph],
    given: Sequence[Sequence[Critique | None]],
    judge: Callable[[Scene, str, str], bool],
) -> list[PreferencePair]:
    """The pairs that the product makes of a person's judgements of every recommendation.

    Args:
        asked: the photographs.
        given: for each round of answers, one answer about each photograph.
        judge: whether the person finds the recommendation on a dimension useful.
    """
    candidates: list[CritiqueCandidate] = []
    judgements: dict[str, Judgements] = {}
    for turn, critiques in enumerate(given):
        for photograph, critique in zip(asked, critiques, strict=True):
            if critique is not None:
                linked = _linked(f"job:{turn}-{photograph.name}", photograph, critique)
                candidates.append(CritiqueCandidate(linked, len(candidates)))
                judgements[linked.record] = {
                    name: AdviceJudgement(
                        subject=name,
                        useful=judge(photograph.scene, name, text),
                        text=text,
                        regions=critique.regions.get(name, ()),
                        judged_at="",
                    )
                    for name, text in critique.recommendations.items()
                }
    images = {each.name: each.image for each in asked}
    found = advice_preferences(candidates, [each.linked.photograph for each in candidates], judgements)
    return [
        PreferencePair(
            row_with(each.photograph, images[each.photograph], each.chosen), each.rejected, each.kind, each.dimension
        )
        for each in found
    ]


def _linked(record: str, photograph: JudgedPhotograph, critique: Critique) -> LinkedRecord:
    return LinkedRecord(
        record=record,
        photograph=photograph.name,
        sha256=photograph.name,
        width=photograph.image.width,
        height=photograph.image.height,
        found="",
        origin=MODEL,
        scores=critique.scores,
        comments={name: critique.assessments[name].comment for name in DIMENSIONS},
        recommendations=critique.recommendations,
        regions=critique.regions,
        strengths=critique.strengths,
        priority_improvements=critique.priority_improvements,
    )


def figures(asked: Sequence[JudgedPhotograph], given: Sequence[Critique | None]) -> dict[str, Any]:
    """What an arm's answers are like. Shares are 0-1, `score_error` is a mean squared error in squared points.

    `texts_in_order` counts answers without empty or repeated texts, `own_photograph_found` how often an answer is more
    like the advisor's critique of its photograph than like those of up to seven others, and of how many.
    """
    pairs = [(photograph, critique) for photograph, critique in zip(asked, given, strict=True) if critique is not None]
    right = [
        is_right(photograph.scene, name, text)
        for photograph, critique in pairs
        for name, text in critique.recommendations.items()
    ]
    errors = [
        (critique.scores[name] - score) ** 2
        for photograph, critique in pairs
        for name, score in score_scene(photograph.scene, ANSEL).items()
    ]
    advisor = dict(read_answers((each.name, each.answer) for each in asked))
    written = dict(read_answers((each.name, training_target(said, AnswerForm.ADVICE)) for each, said in pairs))
    specific = text_specificity(written, {name: advisor[name] for name in written})
    return {
        "read_strictly": _rounded(len(pairs) / len(asked)),
        "recommendations": len(right),
        "right": _rounded(np.mean(right)) if right else None,
        "score_error": _rounded(np.mean(errors)) if errors else None,
        "texts_in_order": sum(critique_text_problem(critique) is None for _, critique in pairs),
        "own_photograph_found": None if specific is None else [specific.found, len(specific.photographs)],
    }


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def compared(
    asked: Sequence[JudgedPhotograph], before: Sequence[Critique | None], after: Sequence[Critique | None]
) -> dict[str, Any]:
    """The change of the share of right recommendations, paired over photographs that both arms advise on."""

    def share(photograph: JudgedPhotograph, critique: Critique | None) -> float | None:
        right = [
            is_right(photograph.scene, name, text)
            for name, text in (critique.recommendations.items() if critique else ())
        ]
        return float(np.mean(right)) if right else None

    both = [(share(each, one), share(each, two)) for each, one, two in zip(asked, before, after, strict=True)]
    differences = [two - one for one, two in both if one is not None and two is not None]
    if len(differences) < 2:
        return {"photographs": len(differences)}
    interval = student_mean_interval(differences)
    return {
        "photographs": len(differences),
        "change": _rounded(np.mean(differences)),
        "interval_95": None if interval is None else [_rounded(bound) for bound in interval],
        "p_better": _rounded(sign_flip_p_value(differences)),
    }


def comment_nats(model: MlxModel, arms: Mapping[str, Path], asked: Sequence[JudgedPhotograph]) -> dict[str, Any]:
    """Nats per token of the advisor's held-out comments under two arms, and how much the photograph tells each."""
    read_critiques: list[ReadCritique] = []
    for arm, adapter in arms.items():
        nats: dict[str, dict[str, float]] = {each.name: {} for each in asked}
        for place, shown in enumerate(asked):
            readers = [asked[(place + step) % len(asked)] for step in range(min(READ_WITH, len(asked)))]
            found = model.comment_likelihoods(adapter, shown.image, [each.answer for each in readers])
            for reader, likelihood in zip(readers, found, strict=True):
                nats[reader.name][shown.name] = -likelihood.nats / likelihood.tokens
        read_critiques += [ReadCritique(name, arm, by_shown) for name, by_shown in nats.items()]
    found_likelihood = comment_likelihood(read_critiques)
    if found_likelihood is None:
        return {}
    return {
        title: _rounded(np.mean(getattr(found_likelihood, name)))
        for title, name in (
            ("nats_per_token_before", "base"),
            ("nats_per_token", "candidate"),
            ("told_by_the_photograph_before", "base_told"),
            ("told_by_the_photograph", "candidate_told"),
        )
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole experiment."""
    began, out = time.perf_counter(), options.out
    base = load_base(options.base)
    model = MlxModel(base, PROMPT)
    taught, judged, held_out = (
        photographs(kind, count, _SEED + 10_000 * place)
        for place, (kind, count) in enumerate(
            (("taught", options.taught), ("judged", options.judged), ("held-out", options.held_out))
        )
    )
    recipe = TrainRecipe(epochs=options.supervised_epochs, answered_photographs=0, preference_pairs=1)
    rows = TrainingRows([each.row for each in taught], feature_cache=out / "features")
    model.use(None)
    start = train_adapter(base, rows, recipe, out / START).adapter
    given = [answers(model, start, judged, options.temperature, 1000 * turn) for turn in range(ANSWERS)]
    said = [
        is_right(photograph.scene, name, text)
        for turn in given
        for photograph, critique in zip(judged, turn, strict=True)
        for name, text in (critique.recommendations.items() if critique else ())
    ]
    rng = np.random.default_rng(options.seed)
    share = float(np.mean(said)) if said else 0.0
    pairs = {
        TUNED: judged_pairs(judged, given, is_right),
        CONTROL: judged_pairs(judged, given, lambda *_: bool(rng.random() < share)),
    }
    fewest = min(map(len, pairs.values()))
    result: dict[str, Any] = {
        "base": str(options.base),
        "settings": {name: value for name, value in vars(options).items() if name not in ("base", "out")},
        "judged_recommendations": len(said),
        "found_useful": _rounded(share),
        "pairs": {name: len(found) for name, found in pairs.items()},
    }
    if not fewest:
        return {**result, "outcome": "no pairs: the base writes no recommendations that differ, or none at all"}
    adapters = {START: start}
    for name, found in pairs.items():
        chosen = [found[place] for place in sorted(rng.permutation(len(found))[:fewest])]
        shutil.copytree(out / START, out / name, dirs_exist_ok=True)
        tuned = recipe.model_copy(
            update={"preference_epochs": options.epochs, "preference_learning_rate": options.learning_rate}
        )
        model.use(None)
        together = replace(rows, pairs=PreferencePairSplit(chosen))
        adapters[name] = train_adapter(base, together, tuned, out / name, resume=True).adapter
    held = {name: answers(model, adapter, held_out, 0.0, 0) for name, adapter in adapters.items()}
    return {
        **result,
        "pairs_used": fewest,
        "arms": {name: figures(held_out, found) for name, found in held.items()},
        "change_of_right": {name: compared(held_out, held[START], held[name]) for name in pairs},
        "comments": {
            name: comment_nats(model, {BASE: start, CANDIDATE: adapters[name]}, held_out[: options.read])
            for name in pairs
        },
        "seconds": round(time.perf_counter() - began),
    }


def main() -> None:
    """Run the experiment and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapters")
    parser.add_argument("--taught", type=int, default=24, help="photographs with the advisor's critique")
    parser.add_argument("--judged", type=int, default=40, help="photographs whose recommendations are judged")
    parser.add_argument("--held-out", type=int, default=40, help="photographs that the arms are measured on")
    parser.add_argument("--read", type=int, default=16, help="held-out critiques whose likelihood is measured")
    parser.add_argument("--supervised-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2, help="of preference tuning")
    parser.add_argument("--learning-rate", type=float, default=None, help="of preference tuning")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the judged answers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(run(options), indent=2))


if __name__ == "__main__":
    main()
