"""Run the models of an evaluation: every arm on every photograph, the divergence from the base, and timed pairs.

Everything is recorded in `samples.jsonl` at once, so that an interrupted evaluation resumes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mondrian_core.errors import MondrianError
from mondrian_core.evaluation.measure import latency
from mondrian_core.evaluation.measure.answer_cache import (
    AnswerCache,
    adapter_files_digest,
    question_digest,
)
from mondrian_core.evaluation.measure.latency import LatencyPair
from mondrian_core.evaluation.measure.outcomes import (
    EvaluationOutcome,
    ModelAnswer,
    failed_outcome,
    outcome_from_answer,
)
from mondrian_core.evaluation.measure.photographs import STAGE, EvaluationPhotograph
from mondrian_core.events import EventListener, StageProgressed
from mondrian_core.lora_files import adapter_answer_form
from mondrian_core.photograph_model import OnToken, PhotographModel, Question, rubric_question_schema
from mondrian_core.prompts import (
    AdvisorPrompt,
    ChatMessage,
    PortfolioComparison,
    comparison_messages,
    critique_messages,
)
from mondrian_core.recipes import Recipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm, canonical_answer, make_critique, round_score
from mondrian_core.samples_file import BASE, BEST_CHAMPION, CANDIDATE, CHAMPION, SamplesFile

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.models.text_likelihood import TextLikelihood

WARM_UPS = 2
PHOTOGRAPHS_AT_ONCE = 24  # each arm answers about so many before the next arm does, and their features stay in memory


class EvaluationModel(PhotographModel, Protocol):
    """What an evaluation needs of a photograph model; `mlx_model.MlxModel` is the real one."""

    fingerprint: str
    metal: bool

    def use(self, adapter: Path | None) -> None:
        """Switch to this adapter, or to the base model (None), before the next question."""

    def ask(self, question: Question, on_token: OnToken | None = None) -> ModelAnswer:
        """Answer a question."""

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, ModelAnswer | Exception]]:
        """Each question's number and answer, or the error in its place, as they are ready: in any order.

        Raises:
            MondrianError: an adapter is refused.
        """

    def comment_likelihoods(
        self, adapter: Path | None, image: Image.Image, answers: Sequence[str]
    ) -> Sequence[TextLikelihood]:
        """How likely the comments of these answers are about a photograph, under an adapter or the base (None)."""

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """Mean KL(base || adapter) in nats over the score tokens of `text`."""


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """One question to one arm.

    Attributes:
        subject: the photograph.
        arm: whose answer it is.
        adapter: to use instead of the arm's.
        constrained: True to decode under the schema.
        comparison: the advisor's similar photographs to add to the prompt (retrieval).
    """

    subject: EvaluationPhotograph
    arm: str
    adapter: Path | None = None
    constrained: bool = False
    comparison: PortfolioComparison | None = None


@dataclass(kw_only=True)
class EvaluationRunner:
    """One evaluation in progress.

    Attributes:
        model: answers the questions.
        prompt: the advisor's prompt.
        adapters: folder by arm, None for the base; the arms that are asked.
        samples: records every measurement.
        cache: answers of earlier evaluations.
        recipe: how much is measured, and how answers are sampled.
        listen: receives progress and notices.
        champion_trained_on: names of the photographs that the champion was trained on; None when unknown.
        best_trained_on: the same of the best champion, where that is another version.
        digests: of adapter files, by folder, as they are needed.
        is_lost: True when the answers so far show that no further answer can change the verdict.
    """

    model: EvaluationModel
    prompt: AdvisorPrompt
    adapters: Mapping[str, Path | None]
    samples: SamplesFile
    cache: AnswerCache
    recipe: Recipe
    listen: EventListener
    champion_trained_on: frozenset[str] | None = (
        frozenset()
    )  # names of photographs; None: what it was trained on isn't known
    best_trained_on: frozenset[str] | None = frozenset()
    digests: dict[Path | None, str] = field(default_factory=dict)
    is_lost: Callable[[Sequence[EvaluationOutcome]], bool] = lambda _: False

    def answer_all(
        self, subjects: Sequence[EvaluationPhotograph], done: Sequence[EvaluationOutcome]
    ) -> list[EvaluationOutcome]:
        """Every arm's answer to every photograph, or those up to the one after which the verdict `is_lost`.

        The candidate answers first about each group of photographs. Where that decides, the base answers about the
        same photographs, for comparison, and nobody about more. The champion answers only labelled photographs that it
        wasn't trained on.
        """
        known = {(outcome.photograph, outcome.arm): outcome for outcome in done}
        total = sum(self.may_ask(subject, arm) for subject in subjects for arm in self.adapters)
        outcomes: list[EvaluationOutcome] = []
        for first in range(0, len(subjects), PHOTOGRAPHS_AT_ONCE):
            group = subjects[first : first + PHOTOGRAPHS_AT_ONCE]
            wanted = [(subject.name, arm) for subject in group for arm in self.adapters if self.may_ask(subject, arm)]
            self._answer_group(group, wanted, known, outcomes, total)
            outcomes += [known[name] for name in wanted if name in known]
            if self.is_lost(outcomes):
                break
        return outcomes

    def _answer_group(
        self,
        group: Sequence[EvaluationPhotograph],
        wanted: Sequence[tuple[str, str]],
        known: dict[tuple[str, str], EvaluationOutcome],
        earlier: Sequence[EvaluationOutcome],
        total: int,
    ) -> None:
        """Add the answers about a group of photographs to the known ones, until the verdict `is_lost`.

        Args:
            group: the photographs.
            wanted: names of photographs and arms, of the whole group.
            known: outcomes by photograph and arm; they are not asked for again.
            earlier: outcomes of the groups before.
            total: number of answers of the whole evaluation, for the progress.
        """

        def lost() -> bool:
            return self.is_lost([*earlier, *(known[name] for name in wanted if name in known)])

        stopped = lost()
        for arm in sorted(self.adapters, key=lambda arm: arm != CANDIDATE):
            if stopped and arm != BASE:
                continue
            asked = [each for each in group if not stopped or (each.name, CANDIDATE) in known]
            missing = [each for each in asked if (each.name, arm) in wanted and (each.name, arm) not in known]
            for inquiry, outcome in self.ask_each([Inquiry(subject=subject, arm=arm) for subject in missing]):
                self.samples.append("answer", outcome.as_dict())
                known[inquiry.subject.name, arm] = outcome
                count = len(earlier) + sum(name in known for name in wanted)
                what = f"{inquiry.subject.name}: {arm} {outcome.reason or outcome.status}"
                self.listen(StageProgressed(STAGE, count, total, what))
                if arm == CANDIDATE and lost():
                    stopped = True
                    break

    def may_ask(self, subject: EvaluationPhotograph, arm: str, *, of_folds: bool = False) -> bool:
        """False for a champion on a photograph without labels, or one that it was trained on.

        A champion with unknown training data answers the dataset's held-out photographs, and none of the folds.
        """
        if arm not in (CHAMPION, BEST_CHAMPION):
            return True
        trained_on = self.champion_trained_on if arm == CHAMPION else self.best_trained_on
        if not subject.labelled or arm not in self.adapters:
            return False
        return not of_folds if trained_on is None else subject.name not in trained_on

    def ask(self, inquiry: Inquiry) -> EvaluationOutcome:
        """One answer; see `ask_each`."""
        return next(outcome for _, outcome in self.ask_each([inquiry]))

    def ask_each(self, inquiries: Sequence[Inquiry]) -> Iterator[tuple[Inquiry, EvaluationOutcome]]:
        """Each inquiry with its outcome as it is ready, from the cache where possible.

        The model answers several at once.

        Raises:
            MondrianError: an adapter is refused. Any other error becomes the outcome of its photograph.
        """
        asked: list[tuple[Inquiry, Question, str]] = []
        for inquiry in inquiries:
            question = self._question(inquiry)
            digest = question_digest(question, inquiry.subject.digest)
            cached = self.cache.get(self._digest(question.adapter), digest) if inquiry.arm != CANDIDATE else None
            if cached is None:
                asked.append((inquiry, question, digest))
            else:
                yield inquiry, replace(cached, photograph=inquiry.subject.name, arm=inquiry.arm, kept=True)
        for number, answer in self.model.ask_each([question for _, question, _ in asked]):
            inquiry, question, digest = asked[number]
            if isinstance(answer, MondrianError):
                raise answer
            if isinstance(answer, Exception):
                yield inquiry, failed_outcome(inquiry.subject.name, inquiry.arm, answer)
                continue
            outcome = outcome_from_answer(inquiry.subject.name, inquiry.arm, answer)
            if inquiry.arm != CANDIDATE:
                self.cache.put(self._digest(question.adapter), digest, outcome)
            yield inquiry, outcome

    def _question(self, inquiry: Inquiry) -> Question:
        settings = self.recipe.evaluate
        adapter = self.adapters.get(inquiry.arm) if inquiry.adapter is None else inquiry.adapter
        form = self._form_of(adapter)
        return Question(
            messages=self._messages(form, inquiry.comparison),
            schema=rubric_question_schema(form) if inquiry.constrained else None,
            image=inquiry.subject.image,
            adapter=adapter,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=answer_seed(settings.seed, inquiry.subject.digest),
            constrained=inquiry.constrained,
        )

    def _form_of(self, adapter: Path | None) -> AnswerForm:
        """The form in which an arm is asked: an adapter in its own, the base in that of the candidate."""
        return self.prompt.form if adapter is None else adapter_answer_form(adapter)

    def _messages(self, form: AnswerForm, comparison: PortfolioComparison | None = None) -> list[ChatMessage]:
        prompt = replace(self.prompt, form=form)
        return critique_messages(prompt) if comparison is None else comparison_messages(prompt, comparison)

    def _digest(self, folder: Path | None) -> str:
        if folder not in self.digests:
            self.digests[folder] = adapter_files_digest(folder)
        return self.digests[folder]

    def measure_divergences(
        self, subjects: Sequence[EvaluationPhotograph], outcomes: Sequence[EvaluationOutcome], done: Mapping[str, float]
    ) -> list[float]:
        """KL divergence of the candidate from the base, in nats per score of the base's answers.

        A neutral answer takes the place of one that the base didn't give.
        """
        adapter = self.adapters[CANDIDATE]
        assert adapter is not None
        answers = {outcome.photograph: outcome for outcome in outcomes if outcome.arm == BASE}
        values = []
        for subject in subjects[: self.recipe.evaluate.effect_photographs]:
            value = done.get(subject.name)
            if value is None:
                value = self.model.divergence(adapter, subject.image, _canonical_answer(answers.get(subject.name)))
                self.samples.append("divergence", {"photograph": subject.name, "nats": value})
            values.append(value)
        return values

    def measure_latency(
        self, subjects: Sequence[EvaluationPhotograph], done: Sequence[LatencyPair]
    ) -> list[LatencyPair]:
        """Timed pairs, interleaved base-candidate-candidate-base, until an interim look has decided."""
        settings, limit = self.recipe.evaluate, self.recipe.gates.overhead_ratio
        pairs = list(done)
        if latency.enough_latency_pairs(pairs, settings.latency_pairs, limit):
            return pairs
        for _ in range(WARM_UPS):
            self._pair(subjects[0], swapped=False)
        while not latency.enough_latency_pairs(pairs, settings.latency_pairs, limit):
            pair = self._pair(subjects[len(pairs) % len(subjects)], swapped=len(pairs) % 2 == 1)
            pairs.append(pair)
            self.samples.append("pair", asdict(pair))
            self.listen(
                StageProgressed(
                    "latency", len(pairs), latency.interim_looks(settings.latency_pairs)[-1], f"ratio {pair.ratio:.3f}"
                )
            )
        return pairs

    def _pair(self, subject: EvaluationPhotograph, *, swapped: bool) -> LatencyPair:
        """Time both arms on one photograph, the candidate first when `swapped`."""
        order = (CANDIDATE, BASE) if swapped else (BASE, CANDIDATE)
        tokens = self.recipe.evaluate.latency_tokens
        times: dict[str, ModelAnswer] = {}
        switches: dict[str, float] = {}
        for arm in order:
            started = time.perf_counter()
            self.model.use(self.adapters[arm])
            switches[arm] = time.perf_counter() - started
            times[arm] = self.model.ask(
                Question(
                    messages=self._messages(self.prompt.form),
                    image=subject.image,
                    adapter=self.adapters[arm],
                    max_tokens=tokens,
                    exact_tokens=tokens,
                    constrained=False,
                )
            )
        base, candidate = times[BASE], times[CANDIDATE]
        # the second pair of A-B-B-A finds its arm in use already: that isn't a switch
        switch = None if swapped else switches[CANDIDATE]
        return LatencyPair(
            base_prefill=base.prefill_seconds,
            base_decode=base.decode_seconds,
            candidate_prefill=candidate.prefill_seconds,
            candidate_decode=candidate.decode_seconds,
            switch=switch,
        )


def answer_seed(seed: int, digest: str) -> int:
    """Seed of a photograph's answer (32 bits): the same in every arm, and independent of the other photographs."""
    return int.from_bytes(hashlib.sha256(f"{seed} {digest}".encode()).digest()[:4], "big")


def _canonical_answer(outcome: EvaluationOutcome | None) -> str:
    """The answer, or a canonical one with its scores where it isn't valid, so that the score positions are found."""
    scores = {name: round_score(score) for name, score in outcome.scores.items()} if outcome else {}
    if outcome is not None and outcome.status == "valid":
        return outcome.text
    return canonical_answer(
        make_critique({**dict.fromkeys(DIMENSIONS, 5), **scores}, dict.fromkeys(DIMENSIONS, "Plain."))
    )
