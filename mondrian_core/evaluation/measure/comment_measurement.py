"""What an evaluation's samples say about the comments: every part of the gate `comments`, computed from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mondrian_core.evaluation.measure.comments.agreement import CommentAgreement, comment_agreement
from mondrian_core.evaluation.measure.comments.broken_text import BrokenText, broken_text
from mondrian_core.evaluation.measure.comments.copied_text import CopiedText, copied_text
from mondrian_core.evaluation.measure.comments.likelihood import CommentLikelihood, comment_likelihood
from mondrian_core.evaluation.measure.comments.specificity import TextSpecificity, text_specificity
from mondrian_core.evaluation.measure.comments.texts import (
    WrittenAnswer,
    answers_by_photograph,
    read_answer,
    read_answers,
)
from mondrian_core.evaluation.measure.comments.voice import VoiceComparison, voice_comparison
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.samples_file import BASE, CANDIDATE


@dataclass(frozen=True, kw_only=True)
class CommentMeasurement:
    """The measurements of the words; None where something can't be measured.

    Attributes:
        photographs: commented by the advisor, held out, and answered readably by the candidate.
        by_folds: they are those of cross-validation, so the figures are the recipe's.
        likelihood: of the advisor's comments under base and candidate.
        specificity, base_specificity: how the arms' own comments fit their photographs.
        voice: this advisor's against the other advisors'.
        agreement: of comments with scores.
        copied: words in runs that training knows.
        broken: answers that say nothing; over all answers about the workspace's own photographs.
    """

    photographs: int
    by_folds: bool
    likelihood: CommentLikelihood | None
    specificity: TextSpecificity | None
    base_specificity: TextSpecificity | None
    voice: VoiceComparison | None
    agreement: CommentAgreement | None
    copied: CopiedText | None
    broken: BrokenText


def comment_measurement(samples: EvaluationSamples, seed: int = 0) -> CommentMeasurement:
    """Measure the comments.

    The photographs that decide are the held-out ones, or those of the folds where none is held out. What needs no
    critique of the same photograph (voice, agreement, broken answers) counts the workspace's other photographs too.

    Args:
        samples: of the evaluation.
        seed: of the bootstrap samples.
    """
    by_folds = not samples.labels and bool(samples.folds.outcomes)
    records, outcomes = samples.scored
    advisor = read_answers((name, record["critique"]) for name, record in records.items() if record.get("critique"))
    candidate, base = (answers_by_photograph(outcomes, arm) for arm in (CANDIDATE, BASE))
    own, own_base = (
        answers_by_photograph(samples.answers_of(arm, own=True), arm) | (answers if by_folds else {})
        for arm, answers in ((CANDIDATE, candidate), (BASE, base))
    )
    if by_folds:
        training = list(advisor.values())
    else:
        training = _critiques(samples.training)
    commented = {name: candidate[name] for name in advisor if name in candidate}
    return CommentMeasurement(
        photographs=len(commented),
        by_folds=by_folds,
        likelihood=comment_likelihood(samples.comment_likelihoods),
        specificity=text_specificity(commented, advisor),
        base_specificity=text_specificity(base, {name: advisor[name] for name in commented}),
        voice=voice_comparison(training, _critiques(samples.other_critiques), own, own_base),
        agreement=comment_agreement(
            _training_by_fold(training, samples.folds.fold_of) if by_folds else {0: training},
            {
                "advisor": {name: advisor[name] for name in commented},
                "candidate": candidate if by_folds else own,
                "base": base if by_folds else own_base,
            },
            samples.folds.fold_of if by_folds else {},
            seed,
        ),
        copied=copied_text(commented, advisor, training),
        broken=broken_text(list(own.values()), training, list(own_base.values())),
    )


def _critiques(texts: tuple[str, ...]) -> list[WrittenAnswer]:
    found = (read_answer(f"critique {number}", text) for number, text in enumerate(texts))
    return [answer for answer in found if answer is not None]


def _training_by_fold(critiques: list[WrittenAnswer], fold_of: Mapping[str, int]) -> dict[int, list[WrittenAnswer]]:
    """By fold the critiques of the other folds, which its adapter was trained on."""
    return {
        fold: [each for each in critiques if each.photograph in fold_of and fold_of[each.photograph] != fold]
        for fold in set(fold_of.values())
    }
