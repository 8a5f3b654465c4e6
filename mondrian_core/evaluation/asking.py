"""Asking the models: every photograph, every arm, the effect, and the timed pairs. Everything goes into the journal."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mondrian_core.errors import BadPhotograph, MondrianError
from mondrian_core.evaluation import latency
from mondrian_core.evaluation.cache import AnswerCache, adapter_digest, photograph_digest
from mondrian_core.evaluation.latency import Pair
from mondrian_core.evaluation.outcomes import BASE, CANDIDATE, CHAMPION, Answer, Journal, Outcome, failed, judge_answer
from mondrian_core.events import Advanced, Listener, Noticed
from mondrian_core.images import bounded, jpeg_bytes, open_photograph
from mondrian_core.recipes import Recipe

if TYPE_CHECKING:
    from PIL import Image

STAGE = "evaluate"
WARM_UPS = 2
_THUMBNAIL = 240


class Model(Protocol):
    """What an evaluation asks of a model; `mlx_model.MlxModel` is the real one."""

    fingerprint: str
    metal: bool

    def use(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on; None: as the base."""

    def answer(self, image: Image.Image, *, max_tokens: int, exact_tokens: int | None = None) -> Answer:
        """A greedy, unconstrained answer."""

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """Mean KL(base || adapter) in nats per token of `text`."""


@dataclass(frozen=True)
class Labelled:
    """A photograph of the evaluation split with the advisor's scores (0-10) and, if known, the whole critique."""

    photograph: str
    image: Image.Image | Path
    scores: Mapping[str, float]
    critique: str | None = None


@dataclass(frozen=True)
class Subject:
    """A photograph that is asked about."""

    name: str
    image: Image.Image
    digest: str
    labelled: bool


@dataclass
class Asking:
    """One evaluation under way: what is asked and what is known already."""

    model: Model
    adapters: Mapping[str, Path | None]  # by arm; the arms that are asked
    journal: Journal
    cache: AnswerCache
    recipe: Recipe
    listen: Listener

    def answers(self, subjects: Sequence[Subject], done: Sequence[Outcome]) -> list[Outcome]:
        """Every arm's answer to every photograph; the champion is asked about labelled ones only."""
        known = {(outcome.photograph, outcome.arm): outcome for outcome in done}
        digests = {arm: adapter_digest(folder) for arm, folder in self.adapters.items()}
        wanted = [
            (subject, arm) for subject in subjects for arm in self.adapters if subject.labelled or arm != CHAMPION
        ]
        outcomes = []
        for count, (subject, arm) in enumerate(wanted, 1):
            outcome = known.get((subject.name, arm))
            if outcome is None:
                outcome = self._outcome(subject, arm, digests[arm])
                self.journal.append("answer", outcome.as_dict())
            outcomes.append(outcome)
            self.listen(
                Advanced(STAGE, count, len(wanted), f"{subject.name}: {arm} {outcome.reason or outcome.status}")
            )
        return outcomes

    def _outcome(self, subject: Subject, arm: str, digest: str) -> Outcome:
        kept = self.cache.get(digest, subject.digest) if arm != CANDIDATE else None
        if kept is not None:
            return replace(kept, photograph=subject.name, arm=arm, kept=True)
        self.model.use(self.adapters[arm])
        try:
            answer = self.model.answer(subject.image, max_tokens=self.recipe.evaluate.max_tokens)
        except MondrianError:
            raise
        except Exception as error:  # noqa: BLE001  whatever stops one answer is an outcome of that photograph
            return failed(subject.name, arm, error)
        outcome = judge_answer(subject.name, arm, answer)
        if arm != CANDIDATE:
            self.cache.keep(digest, subject.digest, outcome)
        return outcome

    def divergences(
        self, subjects: Sequence[Subject], outcomes: Sequence[Outcome], done: Mapping[str, float]
    ) -> list[float]:
        """Effect of the candidate on the texts that the base wrote (its own where the base wrote none)."""
        adapter = self.adapters[CANDIDATE]
        assert adapter is not None
        texts = {(outcome.photograph, outcome.arm): outcome.text for outcome in outcomes}
        values = []
        for subject in subjects[: self.recipe.evaluate.effect_photographs]:
            text = texts.get((subject.name, BASE)) or texts.get((subject.name, CANDIDATE))
            if not text:
                continue
            value = done.get(subject.name)
            if value is None:
                value = self.model.divergence(adapter, subject.image, text)
                self.journal.append("divergence", {"photograph": subject.name, "nats": value})
            values.append(value)
        return values

    def pairs(self, subjects: Sequence[Subject], done: Sequence[Pair]) -> list[Pair]:
        """Timed pairs, interleaved base-candidate-candidate-base, until the fixed looks have decided."""
        settings, limit = self.recipe.evaluate, self.recipe.gates.overhead_ratio
        pairs = list(done)
        if latency.finished(pairs, settings.latency_pairs, limit):
            return pairs
        for _ in range(WARM_UPS):
            self._pair(subjects[0], swapped=False)
        while not latency.finished(pairs, settings.latency_pairs, limit):
            pair = self._pair(subjects[len(pairs) % len(subjects)], swapped=len(pairs) % 2 == 1)
            pairs.append(pair)
            self.journal.append("pair", asdict(pair))
            self.listen(Advanced("latency", len(pairs), latency.looks_of(settings.latency_pairs)[-1],
                                 f"ratio {pair.ratio:.3f}"))  # fmt: skip
        return pairs

    def _pair(self, subject: Subject, *, swapped: bool) -> Pair:
        order = (CANDIDATE, BASE) if swapped else (BASE, CANDIDATE)
        tokens = self.recipe.evaluate.latency_tokens
        times: dict[str, Answer] = {}
        for arm in order:
            self.model.use(self.adapters[arm])
            times[arm] = self.model.answer(subject.image, max_tokens=tokens, exact_tokens=tokens)
        base, candidate = times[BASE], times[CANDIDATE]
        return Pair(base.prefill_seconds, base.decode_seconds, candidate.prefill_seconds, candidate.decode_seconds)


def labelled_subjects(labelled: Sequence[Labelled], listen: Listener) -> tuple[list[Subject], list[Labelled]]:
    """Each source photograph once, opened; the second of the same name is a variant and doesn't count."""
    subjects, kept, seen = [], [], set()
    for entry in labelled:
        if entry.photograph in seen:
            listen(Noticed(STAGE, f"{entry.photograph} is there more than once; only the first counts."))
            continue
        seen.add(entry.photograph)
        image = open_photograph(entry.image).image if isinstance(entry.image, Path) else entry.image
        subjects.append(Subject(entry.photograph, image, photograph_digest(image), True))
        kept.append(entry)
    return subjects, kept


def unlabelled_subjects(photographs: Sequence[Path | Image.Image], wanted: int, known: set[str],
                        listen: Listener) -> list[Subject]:  # fmt: skip
    """Up to `wanted` photographs without labels, none twice or among `known` digests; bad files are left out."""
    subjects: list[Subject] = []
    seen = set(known)
    for source in photographs:
        if len(subjects) >= wanted:
            break
        try:
            image = open_photograph(source).image if isinstance(source, Path) else source
        except BadPhotograph as error:
            listen(Noticed(STAGE, f"Left out of the format check: {error.problem}"))
            continue
        digest = photograph_digest(image)
        if digest in seen:
            continue
        seen.add(digest)
        subjects.append(Subject(f"unlabelled-{digest[:12]}", image, digest, False))
    return subjects


def label_record(subject: Subject, entry: Labelled) -> dict[str, Any]:
    """What the journal keeps of a labelled photograph, a small picture (JPEG, base64) included."""
    picture = base64.b64encode(jpeg_bytes(bounded(subject.image.convert("RGB"), _THUMBNAIL), 80)).decode()
    return {"photograph": subject.name, "digest": subject.digest, "scores": dict(entry.scores),
            "critique": entry.critique, "picture": picture}  # fmt: skip
