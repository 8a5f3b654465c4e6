"""Drafted critiques of photographs that nobody has critiqued, for a person to review.

The base looks at each photograph twice: alone, and beside the three training photographs of the advisor whose scores
are closest (given up when the base can't do that). Scores come from the first look, shifted by what the base and the
advisor gave the same training photographs; words from the second, with the advisor's own synonyms. Nothing here sees
what is held out: neither its scores and words, nor a photograph that looks like it. A draft is a proposal: it waits in
the table `drafts`, and no dataset has it before a person accepted or corrected it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from PIL import Image

from mondrian_core.data.base_critic import Critic
from mondrian_core.data.link import link
from mondrian_core.data.photographs import Found, LeftOutFile, for_everyone, hashed, refused
from mondrian_core.data.records import HUMAN, LinkedRecord
from mondrian_core.data.shift import Line, Vocabulary, lines, shifted
from mondrian_core.data.split import TRAIN, assign, point_of
from mondrian_core.data.twins import Subject, said, twins
from mondrian_core.drafts import Draft, Drafts
from mondrian_core.errors import BadPhotograph, NothingToDo
from mondrian_core.events import Advanced, Listener, Noticed, ignore
from mondrian_core.images import bounded, open_photograph, perceptual_hash
from mondrian_core.prompts import Comparison, Neighbour, Voice, prompt_digest
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS, Critique, make_critique
from mondrian_core.store import Store

LEAST_TRAINED = 5
NEIGHBOURS = 3
MOST_UNREAD = 2
MOST_COMMENT = 160


@dataclass(frozen=True, kw_only=True)
class Synthesized:
    """What a run drafted.

    Attributes:
        drafted: drafts that wait now because of this run.
        known: photographs that were drafted before, whatever was decided.
        remaining: photographs that could still be drafted.
        calibrated_on: training photographs that base and advisor were compared on.
        left_out: files that could not be used, with the reason.
    """

    drafted: int
    known: int
    remaining: int
    calibrated_on: int
    left_out: tuple[LeftOutFile, ...]


@dataclass(frozen=True)
class Advisor:
    """An advisor's critiques as the dataset would split them.

    Attributes:
        trained: critiques that a draft may learn from.
        judged: critiques that are held out; for measuring only.
        held_out: how their photographs look.
        seen: SHA-256 of every photograph with a critique, whoever wrote it.
    """

    trained: tuple[LinkedRecord, ...]
    judged: tuple[LinkedRecord, ...]
    held_out: tuple[Subject, ...]
    seen: frozenset[str]


def synthesize(
    store: Store, workspace: Path, voice: Voice, recipe: Recipe, critic: Critic, listen: Listener = ignore
) -> Synthesized:
    """Draft up to `recipe.synthesize.photographs` critiques; one transaction each, so an interruption loses none.

    Raises:
        NothingToDo: when there are too few critiques to learn a range from, or no photograph without a critique.
    """
    advisor = what_is_known(store, workspace, voice.advisor, recipe)
    drafts = Drafts(store)
    known = {draft.sha256 for draft in drafts.of(voice.advisor)}
    left_out: list[LeftOutFile] = []
    files = hashed(workspace, for_everyone(workspace, voice.advisor), left_out)
    offered = [each for each in files if each.sha256 not in advisor.seen | known]
    if not offered:
        raise NothingToDo(
            f"There is no photograph left to draft a critique of for '{voice.advisor}'.",
            "Put photographs under source/, or review what waits with `mondrian review`.",
        )
    writer = _Writer(workspace, voice, critic, advisor.trained, recipe.synthesize.calibration_photographs, listen)
    wanted, drafted, tried = recipe.synthesize.photographs, 0, 0
    for found in offered:
        if drafted == wanted:
            break
        tried += 1
        outcome = _drafted(found, workspace, advisor, writer)
        if isinstance(outcome, LeftOutFile):
            left_out.append(outcome)
            listen(Noticed("synthesize", f"{outcome.path} is left out: {outcome.reason}"))
            continue
        drafted += drafts.add([outcome])
        listen(Advanced("synthesize", drafted, min(wanted, len(offered)), found.path))
    return Synthesized(
        drafted=drafted,
        known=len(known),
        remaining=len(offered) - tried,
        calibrated_on=writer.calibrated_on,
        left_out=tuple(left_out),
    )


def what_is_known(store: Store, workspace: Path, advisor: str, recipe: Recipe) -> Advisor:
    """Split the critiques by a person as the dataset would.

    Raises:
        NothingToDo: when too few of them are trained on.
    """
    used = link(store, workspace, advisor).used
    looked_at: dict[str, tuple[LinkedRecord, Subject]] = {}
    for record in used:
        if record.origin != HUMAN:
            continue
        try:
            looks = perceptual_hash(open_photograph(workspace / record.photograph).image)
        except BadPhotograph:
            continue  # the dataset leaves it out too
        looked_at[record.sha256] = record, Subject(record.sha256, looks, said(record.scores, record.comments))
    sides = assign([subject for _, subject in looked_at.values()], recipe.data)
    trained = tuple(record for sha, (record, _) in sorted(looked_at.items()) if sides[sha] == TRAIN)
    if len(trained) < LEAST_TRAINED:
        raise NothingToDo(
            f"{len(trained)} training photographs of '{advisor}' have a critique by a person; "
            f"{LEAST_TRAINED} are needed to know the advisor's range and words.",
            f"Add critiques, or see with `mondrian link --advisor {advisor}` why they are left out.",
        )
    apart = [pair for sha, pair in sorted(looked_at.items()) if sides[sha] != TRAIN]
    judged, held_out = tuple(record for record, _ in apart), tuple(subject for _, subject in apart)
    return Advisor(trained, judged, held_out, frozenset(record.sha256 for record in used))


def _drafted(found: Found, workspace: Path, advisor: Advisor, writer: _Writer) -> Draft | LeftOutFile:
    try:
        image = open_photograph(workspace / found.path).image
    except BadPhotograph as error:
        return refused(found.path, error)
    here = Subject(found.sha256, perceptual_hash(image))
    if any(len(advisor.held_out) == pair.second for pair in twins([*advisor.held_out, here])):
        return LeftOutFile(found.path, "it looks like a photograph that is held out")
    return writer.draft(found, bounded(image))


class _Writer:
    """Writes drafts in one advisor's range and words."""

    def __init__(
        self,
        workspace: Path,
        voice: Voice,
        critic: Critic,
        trained: Sequence[LinkedRecord],
        calibration: int,
        listen: Listener,
    ) -> None:
        self._voice, self._critic, self._trained = voice, critic, trained
        self._vocabulary = Vocabulary(record.comments for record in trained)
        self._listen, self._unread = listen, 0
        self._lines, self.calibrated_on = self._calibrated(workspace, calibration, listen)

    def draft(self, found: Found, image: Image.Image) -> Draft | LeftOutFile:
        """A draft that waits, or why there is none."""
        look = self._critic.look(image, critique=True)
        if look.critique is None:
            return LeftOutFile(found.path, look.problem or "no critique")
        scores = shifted(look.critique.scores, self._lines)
        words = self._second_look(image, scores) or look.critique
        comments = {name: self._vocabulary.in_words(name, words.assessments[name].comment) for name in DIMENSIONS}
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"mondrian draft {self._voice.advisor} {found.sha256}"))
        return Draft(
            id=identity,
            advisor=self._voice.advisor,
            sha256=found.sha256,
            image_path=found.path,
            base=self._critic.fingerprint,
            prompt_digest=prompt_digest(self._voice),
            raw=look.critique.scores,
            proposal=make_critique(scores, comments),
        )

    def _second_look(self, image: Image.Image, scores: Mapping[str, float]) -> Critique | None:
        """The words beside the advisor's photographs; given up for this run when the base can't do that."""
        if self._unread == MOST_UNREAD:
            return None
        words = self._critic.compare(image, self._comparison(scores))
        self._unread = 0 if words else self._unread + 1
        if self._unread == MOST_UNREAD:
            message = (
                "The base gives no readable critique beside other photographs; the words are those of its first look."
            )
            self._listen(Noticed("synthesize", message))
        return words

    def _calibrated(self, workspace: Path, count: int, listen: Listener) -> tuple[dict[str, Line], int]:
        """Lines from base to advisor over training photographs, those with the smallest fixed points first."""
        base, theirs = [], []
        chosen = sorted(self._trained, key=lambda record: point_of(record.sha256))[:count]
        for done, record in enumerate(chosen, 1):
            look = self._critic.look(bounded(open_photograph(workspace / record.photograph).image), critique=True)
            if look.critique is not None:
                base.append(look.critique.scores)
                theirs.append(record.scores)
            listen(Advanced("calibrate", done, len(chosen), record.photograph))
        if not base:
            raise NothingToDo(
                "The base model gave no critique of a training photograph that can be read, so nothing can be shifted.",
                "Try another base model (MONDRIAN_BASE_MODEL).",
            )
        return lines(base, theirs), len(base)

    def _comparison(self, scores: Mapping[str, float]) -> Comparison:
        def distance(record: LinkedRecord) -> tuple[float, str]:
            return fmean((record.scores[name] - scores[name]) ** 2 for name in DIMENSIONS), record.sha256

        close = sorted(self._trained, key=distance)[:NEIGHBOURS]
        told = tuple(_neighbour(record.critique, record.photograph, scores) for record in close)
        spreads = {}
        for name in DIMENSIONS:
            values = [record.scores[name] for record in self._trained]
            spreads[name] = fmean(values), min(values), max(values)
        return Comparison(dict(scores), told, spreads, len(self._trained))


def _neighbour(critique: Critique, path: str, scores: Mapping[str, float]) -> Neighbour:
    """A neighbour with what the advisor said on the two dimensions where it is closest to the photograph."""
    near = sorted(DIMENSIONS, key=lambda name: abs(critique.scores[name] - scores[name]))[:2]
    comments = {name: critique.assessments[name].comment[:MOST_COMMENT] for name in near}
    return Neighbour(Path(path).name, critique.scores, comments)
