"""Drafting critiques of photographs that have none, for a person to review.

The base model critiques each photograph twice: alone, and compared with the three training photographs of the advisor
whose scores are closest (abandoned when the base can't do that). Scores come from the first critique, calibrated on
training photographs that both base and advisor scored; words come from the second, with the advisor's own synonyms.
Held-out data is never used: neither its scores and words, nor photographs that look like it. A draft is a proposal: it
waits in the table `drafts`, and enters a dataset only after a person accepted or corrected it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from PIL import Image

from mondrian_core.data.base_model_critic import PhotographCritic
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.linking.link_manifest import HUMAN, LinkedRecord
from mondrian_core.data.linking.photograph_files import (
    ExcludedFile,
    PhotographFile,
    excluded_photograph,
    hash_photograph_files,
    paths_outside_other_portfolios,
)
from mondrian_core.data.score_calibration import (
    AdvisorVocabulary,
    LinearCalibration,
    calibrated_draft_scores,
    fit_score_calibration,
)
from mondrian_core.data.splits.split import TRAIN, assign_splits, split_point
from mondrian_core.errors import BadPhotograph, NothingToDo
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.images import downscale_to_fit, open_photograph
from mondrian_core.near_duplicates import (
    PhotographFingerprint,
    critique_fingerprint,
    near_duplicates_of,
    photograph_fingerprint,
)
from mondrian_core.next_steps import import_photographs_step, quoted_command
from mondrian_core.prompts import AdvisorPrompt, PortfolioComparison, PortfolioNeighbour, prompt_digest
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS, Critique, make_critique
from mondrian_core.store import Store
from mondrian_core.store.drafts import Draft, DraftStore

MIN_TRAINING_CRITIQUES = 5
NEIGHBOURS = 3
MAX_UNPARSED_ANSWERS = 2
MAX_COMMENT_CHARACTERS_SHOWN = 160


@dataclass(frozen=True, kw_only=True)
class DraftingResult:
    """What a run drafted.

    Attributes:
        drafted: new drafts that wait for review.
        known: photographs that were drafted before, whatever the decision.
        remaining: photographs that could still be drafted.
        calibrated_on: training photographs that the calibration was fitted on.
        left_out: files that could not be used, with the reason.
    """

    drafted: int
    known: int
    remaining: int
    calibrated_on: int
    left_out: tuple[ExcludedFile, ...]


@dataclass(frozen=True)
class AdvisorCritiques:
    """An advisor's critiques as the dataset would split them.

    Attributes:
        training_critiques: critiques that a draft may learn from.
        held_out_critiques: critiques for measuring only.
        held_out_photographs: fingerprints of their photographs.
        critiqued_hashes: SHA-256 of every photograph with a critique, whoever wrote it.
    """

    training_critiques: tuple[LinkedRecord, ...]
    held_out_critiques: tuple[LinkedRecord, ...]
    held_out_photographs: tuple[PhotographFingerprint, ...]
    critiqued_hashes: frozenset[str]


def draft_critiques(
    store: Store,
    workspace: Path,
    advisor_prompt: AdvisorPrompt,
    recipe: Recipe,
    critic: PhotographCritic,
    listen: EventListener = ignore_events,
) -> DraftingResult:
    """Draft up to `recipe.synthesize.photographs` critiques, one transaction each, so an interruption loses none.

    Args:
        store: opened for writing.
        workspace: folder that photographs are relative to.
        advisor_prompt: the advisor's prompt.
        recipe: how many drafts to make, and how the dataset is split.
        critic: the base model.
        listen: receives progress, and a notice for each file that is left out.

    Raises:
        NothingToDo: when there are too few critiques to calibrate on, or no photograph without a critique.
    """
    advisor = load_advisor_critiques(store, workspace, advisor_prompt.advisor, recipe)
    drafts = DraftStore(store)
    known = {draft.sha256 for draft in drafts.find(advisor_prompt.advisor)}
    left_out: list[ExcludedFile] = []
    files = hash_photograph_files(
        workspace, paths_outside_other_portfolios(workspace, advisor_prompt.advisor), left_out
    )
    offered = [each for each in files if each.sha256 not in advisor.critiqued_hashes | known]
    if not offered:
        raise NothingToDo(
            f"No photograph is left to draft a critique of for '{advisor_prompt.advisor}'.",
            f"{import_photographs_step(advisor_prompt.advisor)} Review the drafts that wait: "
            f"{quoted_command('review', '--advisor', advisor_prompt.advisor)}.",
        )
    writer = _DraftWriter(
        workspace, advisor_prompt, critic, advisor.training_critiques, recipe.synthesize.calibration_photographs, listen
    )
    wanted, drafted, tried = recipe.synthesize.photographs, 0, 0
    for found in offered:
        if drafted == wanted:
            break
        tried += 1
        outcome = _draft_photograph(found, workspace, advisor, writer)
        if isinstance(outcome, ExcludedFile):
            left_out.append(outcome)
            listen(StageNotice("synthesize", f"{outcome.path} is left out: {outcome.reason}"))
            continue
        drafted += drafts.add([outcome])
        listen(StageProgressed("synthesize", drafted, min(wanted, len(offered)), found.path))
    return DraftingResult(
        drafted=drafted,
        known=len(known),
        remaining=len(offered) - tried,
        calibrated_on=writer.calibrated_on,
        left_out=tuple(left_out),
    )


def load_advisor_critiques(store: Store, workspace: Path, advisor: str, recipe: Recipe) -> AdvisorCritiques:
    """Load the critiques by a person, split as the dataset would split them.

    Raises:
        NothingToDo: when too few of them are in training.
    """
    used = link_critiques(store, workspace, advisor).used
    fingerprinted: dict[str, tuple[LinkedRecord, PhotographFingerprint]] = {}
    for record in used:
        if record.origin != HUMAN:
            continue
        try:
            image = open_photograph(workspace / record.photograph).image
        except BadPhotograph:
            continue  # the dataset leaves it out too
        fingerprinted[record.sha256] = (
            record,
            photograph_fingerprint(record.sha256, image, critique_fingerprint(record.scores, record.comments)),
        )
    splits = assign_splits([subject for _, subject in fingerprinted.values()], recipe.data)
    trained = tuple(record for sha, (record, _) in sorted(fingerprinted.items()) if splits[sha] == TRAIN)
    if len(trained) < MIN_TRAINING_CRITIQUES:
        raise NothingToDo(
            f"{len(trained)} training photographs of '{advisor}' have a critique by a person; "
            f"{MIN_TRAINING_CRITIQUES} are needed to learn the advisor's range and words.",
            f"Add critiques, or see with `mondrian link --advisor {advisor}` why they are left out.",
        )
    apart = [pair for sha, pair in sorted(fingerprinted.items()) if splits[sha] != TRAIN]
    judged, held_out = tuple(record for record, _ in apart), tuple(subject for _, subject in apart)
    return AdvisorCritiques(trained, judged, held_out, frozenset(record.sha256 for record in used))


def _draft_photograph(
    found: PhotographFile, workspace: Path, advisor: AdvisorCritiques, writer: _DraftWriter
) -> Draft | ExcludedFile:
    try:
        image = open_photograph(workspace / found.path).image
    except BadPhotograph as error:
        return excluded_photograph(found.path, error)
    fingerprint = photograph_fingerprint(found.sha256, image)
    if near_duplicates_of(advisor.held_out_photographs, [fingerprint]):
        return ExcludedFile(found.path, "it looks like a photograph that is held out")
    return writer.draft(found, downscale_to_fit(image))


class _DraftWriter:
    """Writes drafts in one advisor's score range and vocabulary."""

    def __init__(
        self,
        workspace: Path,
        advisor_prompt: AdvisorPrompt,
        critic: PhotographCritic,
        trained: Sequence[LinkedRecord],
        calibration: int,
        listen: EventListener,
    ) -> None:
        self._advisor_prompt, self._critic, self._trained = advisor_prompt, critic, trained
        self._vocabulary = AdvisorVocabulary(record.comments for record in trained)
        self._listen, self._unread = listen, 0
        self._lines, self.calibrated_on = self._fit_calibration(workspace, calibration, listen)

    def draft(self, found: PhotographFile, image: Image.Image) -> Draft | ExcludedFile:
        """A draft for review, or the reason why there is none."""
        look = self._critic.analyze_photograph(image, critique=True)
        if look.critique is None:
            return ExcludedFile(found.path, look.problem or "no critique")
        scores = calibrated_draft_scores(look.critique.scores, self._lines)
        words = self._critique_with_references(image, scores) or look.critique
        comments = {
            name: self._vocabulary.with_advisor_synonyms(name, words.assessments[name].comment) for name in DIMENSIONS
        }
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"mondrian draft {self._advisor_prompt.advisor} {found.sha256}"))
        return Draft(
            id=identity,
            advisor=self._advisor_prompt.advisor,
            sha256=found.sha256,
            image_path=found.path,
            base=self._critic.fingerprint,
            prompt_digest=prompt_digest(self._advisor_prompt),
            raw=look.critique.scores,
            proposal=make_critique(scores, comments),
        )

    def _critique_with_references(self, image: Image.Image, scores: Mapping[str, float]) -> Critique | None:
        """The critique after a comparison with the advisor's photographs; None once the base has failed at that."""
        if self._unread == MAX_UNPARSED_ANSWERS:
            return None
        words = self._critic.critique_with_references(image, self._comparison(scores))
        self._unread = 0 if words else self._unread + 1
        if self._unread == MAX_UNPARSED_ANSWERS:
            message = "The base model can't critique with references; drafts use the words of its first critique."
            self._listen(StageNotice("synthesize", message))
        return words

    def _fit_calibration(
        self, workspace: Path, count: int, listen: EventListener
    ) -> tuple[dict[str, LinearCalibration], int]:
        """Calibration from base to advisor over training photographs, those with the smallest split points first."""
        base, theirs = [], []
        chosen = sorted(self._trained, key=lambda record: split_point(record.sha256))[:count]
        for done, record in enumerate(chosen, 1):
            look = self._critic.analyze_photograph(
                downscale_to_fit(open_photograph(workspace / record.photograph).image), critique=True
            )
            if look.critique is not None:
                base.append(look.critique.scores)
                theirs.append(record.scores)
            listen(StageProgressed("calibrate", done, len(chosen), record.photograph))
        if not base:
            raise NothingToDo(
                "None of the base model's critiques of training photographs can be parsed to calibrate on.",
                "Try another base model (MONDRIAN_BASE_MODEL).",
            )
        return fit_score_calibration(base, theirs), len(base)

    def _comparison(self, scores: Mapping[str, float]) -> PortfolioComparison:
        def distance(record: LinkedRecord) -> tuple[float, str]:
            return fmean((record.scores[name] - scores[name]) ** 2 for name in DIMENSIONS), record.sha256

        close = sorted(self._trained, key=distance)[:NEIGHBOURS]
        neighbours = tuple(_neighbour(record.critique, record.photograph, scores) for record in close)
        spreads = {}
        for name in DIMENSIONS:
            values = [record.scores[name] for record in self._trained]
            spreads[name] = fmean(values), min(values), max(values)
        return PortfolioComparison(dict(scores), neighbours, spreads, len(self._trained))


def _neighbour(critique: Critique, path: str, scores: Mapping[str, float]) -> PortfolioNeighbour:
    """A neighbour with the advisor's comments on the two dimensions where its scores are closest."""
    near = sorted(DIMENSIONS, key=lambda name: abs(critique.scores[name] - scores[name]))[:2]
    comments = {name: critique.assessments[name].comment[:MAX_COMMENT_CHARACTERS_SHOWN] for name in near}
    return PortfolioNeighbour(Path(path).name, critique.scores, comments)
