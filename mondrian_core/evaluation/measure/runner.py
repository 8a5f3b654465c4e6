"""Asking the models: every photograph, every arm, the effect, and the timed pairs. Everything goes into the journal."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mondrian_core.errors import BadPhotograph, MondrianError
from mondrian_core.evaluation.measure import latency
from mondrian_core.evaluation.measure.answer_cache import AnswerCache, adapter_files_digest, pixel_digest
from mondrian_core.evaluation.measure.latency import LatencyPair
from mondrian_core.evaluation.measure.outcomes import (
    EvaluationOutcome,
    ModelAnswer,
    failed_outcome,
    outcome_from_answer,
)
from mondrian_core.events import EventListener, StageNotice, StageProgressed
from mondrian_core.images import downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.photograph_model import OnToken, PhotographModel, Question
from mondrian_core.prompts import (
    AdvisorPrompt,
    ChatMessage,
    PortfolioComparison,
    comparison_messages,
    critique_messages,
)
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique, round_score
from mondrian_core.samples_file import BASE, CANDIDATE, CHAMPION, SamplesFile

if TYPE_CHECKING:
    from PIL import Image

STAGE = "evaluate"
WARM_UPS = 2
_THUMBNAIL = 240


class EvaluationModel(PhotographModel, Protocol):
    """What an evaluation needs of a photograph model; `mlx_model.MlxModel` is the real one."""

    fingerprint: str
    metal: bool

    def use(self, adapter: Path | None) -> None:
        """Switch to this adapter, or to the base model (None), before the next question."""

    def ask(self, question: Question, on_token: OnToken | None = None) -> ModelAnswer:
        """Answer a question."""

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """Mean KL(base || adapter) in nats over the score tokens of `text`."""


@dataclass(frozen=True, kw_only=True)
class LabelledPhotograph:
    """A photograph of the evaluation split with the advisor's scores (0-10) and, if known, the whole critique."""

    photograph: str
    image: Image.Image | Path
    scores: Mapping[str, float]
    critique: str | None = None
    title: str | None = None  # what a person knows it by, such as its file name


@dataclass(frozen=True)
class EvaluationPhotograph:
    """A photograph that is asked about."""

    name: str
    image: Image.Image
    digest: str
    labelled: bool


@dataclass(kw_only=True)
class EvaluationRunner:
    """One evaluation under way: what is asked and what is known already."""

    model: EvaluationModel
    prompt: AdvisorPrompt
    adapters: Mapping[str, Path | None]  # by arm; the arms that are asked
    journal: SamplesFile
    cache: AnswerCache
    recipe: Recipe
    listen: EventListener
    champion_trained_on: frozenset[str] | None = (
        frozenset()
    )  # names of photographs; None: what it was trained on isn't known
    digests: dict[Path | None, str] = field(default_factory=dict)

    def answer_all(
        self, subjects: Sequence[EvaluationPhotograph], done: Sequence[EvaluationOutcome]
    ) -> list[EvaluationOutcome]:
        """Every arm's answer to every photograph; the champion is asked about labelled ones it never saw."""
        known = {(outcome.photograph, outcome.arm): outcome for outcome in done}
        wanted = [(subject, arm) for subject in subjects for arm in self.adapters if self.may_ask(subject, arm)]
        outcomes = []
        for count, (subject, arm) in enumerate(wanted, 1):
            outcome = known.get((subject.name, arm))
            if outcome is None:
                outcome = self.ask(subject, arm)
                self.journal.append("answer", outcome.as_dict())
            outcomes.append(outcome)
            self.listen(
                StageProgressed(STAGE, count, len(wanted), f"{subject.name}: {arm} {outcome.reason or outcome.status}")
            )
        return outcomes

    def may_ask(self, subject: EvaluationPhotograph, arm: str, *, of_folds: bool = False) -> bool:
        """False for the champion on a photograph without labels, or one that it was trained on.

        Where what it was trained on isn't known, it is compared on what the dataset holds out, and on nothing else.
        """
        if arm != CHAMPION:
            return True
        if self.champion_trained_on is None:
            return subject.labelled and CHAMPION in self.adapters and not of_folds
        return subject.labelled and CHAMPION in self.adapters and subject.name not in self.champion_trained_on

    def ask(
        self,
        subject: EvaluationPhotograph,
        arm: str,
        adapter: Path | None = None,
        *,
        constrained: bool = False,
        comparison: PortfolioComparison | None = None,
    ) -> EvaluationOutcome:
        """One answer, from the cache where it can be; `adapter` instead of the one that `adapters` names for the arm.

        Raises:
            MondrianError: the adapter is refused. Whatever else stops an answer is an outcome of that photograph.
        """
        folder = self.adapters.get(arm) if adapter is None else adapter
        told = f"{subject.digest} {constrained} {comparison!r}" if constrained or comparison else subject.digest
        kept = self.cache.get(self._digest(folder), told) if arm != CANDIDATE else None
        if kept is not None:
            return replace(kept, photograph=subject.name, arm=arm, kept=True)
        settings = self.recipe.evaluate
        try:
            answer = self.model.ask(
                Question(
                    messages=self._messages(comparison),
                    image=subject.image,
                    adapter=folder,
                    max_tokens=settings.max_tokens,
                    temperature=settings.temperature,
                    seed=answer_seed(settings.seed, subject.digest),
                    constrained=constrained,
                )
            )
        except MondrianError:
            raise
        except Exception as error:  # noqa: BLE001  whatever stops one answer is an outcome of that photograph
            return failed_outcome(subject.name, arm, error)
        outcome = outcome_from_answer(subject.name, arm, answer)
        if arm != CANDIDATE:
            self.cache.put(self._digest(folder), told, outcome)
        return outcome

    def _messages(self, comparison: PortfolioComparison | None = None) -> list[ChatMessage]:
        return critique_messages(self.prompt) if comparison is None else comparison_messages(self.prompt, comparison)

    def _digest(self, folder: Path | None) -> str:
        if folder not in self.digests:
            self.digests[folder] = adapter_files_digest(folder)
        return self.digests[folder]

    def measure_divergences(
        self, subjects: Sequence[EvaluationPhotograph], outcomes: Sequence[EvaluationOutcome], done: Mapping[str, float]
    ) -> list[float]:
        """Effect of the candidate on the scores of the base's own answers (of a plain one where it gave none)."""
        adapter = self.adapters[CANDIDATE]
        assert adapter is not None
        answers = {outcome.photograph: outcome for outcome in outcomes if outcome.arm == BASE}
        values = []
        for subject in subjects[: self.recipe.evaluate.effect_photographs]:
            value = done.get(subject.name)
            if value is None:
                value = self.model.divergence(adapter, subject.image, _canonical_answer(answers.get(subject.name)))
                self.journal.append("divergence", {"photograph": subject.name, "nats": value})
            values.append(value)
        return values

    def measure_latency(
        self, subjects: Sequence[EvaluationPhotograph], done: Sequence[LatencyPair]
    ) -> list[LatencyPair]:
        """Timed pairs, interleaved base-candidate-candidate-base, until the fixed looks have decided."""
        settings, limit = self.recipe.evaluate, self.recipe.gates.overhead_ratio
        pairs = list(done)
        if latency.enough_latency_pairs(pairs, settings.latency_pairs, limit):
            return pairs
        for _ in range(WARM_UPS):
            self._pair(subjects[0], swapped=False)
        while not latency.enough_latency_pairs(pairs, settings.latency_pairs, limit):
            pair = self._pair(subjects[len(pairs) % len(subjects)], swapped=len(pairs) % 2 == 1)
            pairs.append(pair)
            self.journal.append("pair", asdict(pair))
            self.listen(
                StageProgressed(
                    "latency", len(pairs), latency.interim_looks(settings.latency_pairs)[-1], f"ratio {pair.ratio:.3f}"
                )
            )
        return pairs

    def _pair(self, subject: EvaluationPhotograph, *, swapped: bool) -> LatencyPair:
        order = (CANDIDATE, BASE) if swapped else (BASE, CANDIDATE)
        tokens = self.recipe.evaluate.latency_tokens
        times: dict[str, ModelAnswer] = {}
        switches: dict[str, float] = {}
        for arm in order:
            began = time.perf_counter()
            self.model.use(self.adapters[arm])
            switches[arm] = time.perf_counter() - began
            times[arm] = self.model.ask(
                Question(
                    messages=self._messages(),
                    image=subject.image,
                    adapter=self.adapters[arm],
                    max_tokens=tokens,
                    exact_tokens=tokens,
                    constrained=False,
                )
            )
        base, candidate = times[BASE], times[CANDIDATE]
        # the second pair of A-B-B-A finds its arm in use already, which would count as a switch in no time
        switch = None if swapped else switches[CANDIDATE]
        return LatencyPair(
            base_prefill=base.prefill_seconds,
            base_decode=base.decode_seconds,
            candidate_prefill=candidate.prefill_seconds,
            candidate_decode=candidate.decode_seconds,
            switch=switch,
        )


def answer_seed(seed: int, digest: str) -> int:
    """The seed of one photograph's answer (32 bits): the same whatever else is asked, and in every arm."""
    return int.from_bytes(hashlib.sha256(f"{seed} {digest}".encode()).digest()[:4], "big")


def _canonical_answer(outcome: EvaluationOutcome | None) -> str:
    """An answer in canonical spelling, so that a score stands where scores are looked for."""
    scores = {name: round_score(score) for name, score in outcome.scores.items()} if outcome else {}
    if outcome is not None and outcome.status == "valid":
        return outcome.text
    return canonical_answer(
        make_critique({**dict.fromkeys(DIMENSIONS, 5), **scores}, dict.fromkeys(DIMENSIONS, "Plain."))
    )


def open_labelled_photographs(
    labelled: Sequence[LabelledPhotograph], listen: EventListener
) -> tuple[list[EvaluationPhotograph], list[LabelledPhotograph]]:
    """Each source photograph once, opened; the second of the same name is a variant and doesn't count."""
    subjects, kept, seen = [], [], set()
    for entry in labelled:
        if entry.photograph in seen:
            listen(StageNotice(STAGE, f"{entry.photograph} is there more than once; only the first counts."))
            continue
        seen.add(entry.photograph)
        image = open_photograph(entry.image).image if isinstance(entry.image, Path) else entry.image
        subjects.append(EvaluationPhotograph(entry.photograph, image, pixel_digest(image), True))
        kept.append(entry)
    return subjects, kept


def open_unlabelled_photographs(
    photographs: Sequence[Path | Image.Image], wanted: int, known: set[str], listen: EventListener
) -> list[EvaluationPhotograph]:
    """Up to `wanted` photographs without labels, none twice or among `known` digests; bad files are left out."""
    subjects: list[EvaluationPhotograph] = []
    seen = set(known)
    for source in photographs:
        if len(subjects) >= wanted:
            break
        try:
            image = open_photograph(source).image if isinstance(source, Path) else source
        except BadPhotograph as error:
            listen(StageNotice(STAGE, f"Left out of the format check: {error.problem}"))
            continue
        digest = pixel_digest(image)
        if digest in seen:
            continue
        seen.add(digest)
        subjects.append(EvaluationPhotograph(f"unlabelled-{digest[:12]}", image, digest, False))
    return subjects


def label_record(subject: EvaluationPhotograph, entry: LabelledPhotograph) -> dict[str, Any]:
    """What the journal keeps of a labelled photograph, a small picture (JPEG, base64) included."""
    picture = base64.b64encode(jpeg_bytes(downscale_to_fit(subject.image.convert("RGB"), _THUMBNAIL), 80)).decode()
    return {
        "photograph": subject.name,
        "title": entry.title,
        "digest": subject.digest,
        "scores": dict(entry.scores),
        "critique": entry.critique,
        "picture": picture,
    }
