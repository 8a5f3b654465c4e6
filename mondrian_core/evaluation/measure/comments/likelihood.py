"""How likely the advisor's held-out comments are under base and candidate, with the right photograph and with others.

Every held-out critique is read by teacher forcing (`models.text_likelihood`), once with its own photograph and once
with each of some others. The unit is nats per token, negative log-likelihood: less is better.
Legend: `N` photographs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.evaluation.measure.comments.specificity import CHOICES, neighbors
from mondrian_core.evaluation.measure.photographs import EvaluationPhotograph
from mondrian_core.evaluation.measure.runner import EvaluationRunner
from mondrian_core.events import StageProgressed
from mondrian_core.rubric import AnswerForm
from mondrian_core.samples_file import BASE, CANDIDATE
from mondrian_core.training_target import training_target

Vector = NDArray[np.float64]
LIKELIHOOD, PROCESSOR_TIME = "comment_likelihood", "processor_time"  # kinds of records in samples.jsonl
# With how many photographs an arm reads a critique. The base's reading only says how much a photograph tells; the
# candidate also has to find the right one.
READINGS: Mapping[str, int] = {BASE: 4, CANDIDATE: CHOICES}


@dataclass(frozen=True)
class ReadCritique:
    """Nats per token of a photograph's critique under one arm, by the name of the photograph that was shown."""

    photograph: str
    arm: str
    nats: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CommentLikelihood:
    """Nats per token of the advisor's held-out comments.

    Attributes:
        photographs: the N names.
        base, candidate: (N,) with the right photograph.
        base_told, candidate_told: how much less likely a comment is with another photograph (mean over the same others
            for both arms): what the photograph tells the arm about it. Without photographs that stand alone in a fold.
        found: photographs that the candidate finds among `choices`, because its critique is likeliest with it.
        choices: photographs among which it was to be found; 1: none was exchanged.
    """

    photographs: tuple[str, ...]
    base: Vector
    candidate: Vector
    base_told: Vector
    candidate_told: Vector
    found: int
    choices: int


def comment_likelihood(read: Sequence[ReadCritique]) -> CommentLikelihood | None:
    """The comparison; None without a critique that both arms read with its own photograph."""
    by_arm = {arm: {each.photograph: each.nats for each in read if each.arm == arm} for arm in READINGS}
    names = [name for name, nats in by_arm[CANDIDATE].items() if name in nats and name in by_arm[BASE].get(name, {})]
    if not names:
        return None
    told, found, choices = [], 0, 1
    for name in names:
        base, candidate = by_arm[BASE][name], by_arm[CANDIDATE][name]
        shared = [other for other in base if other != name and other in candidate]
        if not shared:
            continue
        told.append([float(np.mean([nats[other] for other in shared])) - nats[name] for nats in (base, candidate)])
        found += all(candidate[name] < nats for other, nats in candidate.items() if other != name)
        choices = max(choices, len(candidate))
    table = np.array(told, dtype=np.float64).reshape(-1, 2)
    return CommentLikelihood(
        photographs=tuple(names),
        base=np.array([by_arm[BASE][name][name] for name in names], dtype=np.float64),
        candidate=np.array([by_arm[CANDIDATE][name][name] for name in names], dtype=np.float64),
        base_told=table[:, 0],
        candidate_told=table[:, 1],
        found=found,
        choices=choices,
    )


def probe_comment_likelihood(
    runner: EvaluationRunner,
    subjects: Sequence[EvaluationPhotograph],
    critiques: Mapping[str, str],
    known: Sequence[ReadCritique],
    adapter: Path | None = None,
) -> None:
    """Read the critiques of the first `evaluate.comment_photographs` labelled photographs under base and candidate.

    Args:
        runner: the evaluation in progress.
        subjects: its photographs; those of one fold in cross-validation, which are then exchanged among themselves.
        critiques: the advisor's critique of each photograph that has one.
        known: what is recorded already.
        adapter: of the fold; None: the candidate.
    """
    began, done = time.process_time(), {(each.photograph, each.arm) for each in known}
    answers = {name: answer for name, text in critiques.items() if (answer := _target(text, runner.prompt.form))}
    chosen = [subject for subject in subjects if subject.name in answers][: runner.recipe.evaluate.comment_photographs]
    folders = {BASE: None, CANDIDATE: adapter or runner.adapters[CANDIDATE]}
    for arm, folder in folders.items():
        if all((subject.name, arm) in done for subject in chosen):
            continue
        readers = _readers(len(chosen), min(READINGS[arm], len(chosen)))
        nats: dict[str, dict[str, float]] = {subject.name: {} for subject in chosen}
        for place, subject in enumerate(chosen):
            names = [chosen[reader].name for reader in readers[place]]
            likelihoods = runner.model.comment_likelihoods(folder, subject.image, [answers[name] for name in names])
            for name, found in zip(names, likelihoods, strict=True):
                if found.tokens:
                    nats[name][subject.name] = -found.nats / found.tokens
            runner.listen(StageProgressed("comments", place + 1, len(chosen), f"{subject.name}: {arm}"))
        for name, by_shown in nats.items():
            runner.samples.append(LIKELIHOOD, {"photograph": name, "arm": arm, "nats": by_shown})
    if not done:
        runner.samples.append(PROCESSOR_TIME, {"part": "comments", "seconds": time.process_time() - began})


def _readers(n: int, choices: int) -> list[list[int]]:
    """For each photograph the critiques that are read with it: its own, and those that are compared with it."""
    found: list[list[int]] = [[place] for place in range(n)]
    for place in range(n):
        for other in neighbors(place, n, choices):
            found[other].append(place)
    return found


def _target(text: str, form: AnswerForm) -> str | None:
    try:
        return training_target(parse_critique_lenient(text).critique, form)
    except CritiqueParseError:
        return None


def read_critique_from_record(record: Mapping[str, Any]) -> ReadCritique:
    """The value of a record of `samples.jsonl`."""
    return ReadCritique(record["photograph"], record["arm"], record["nats"])
