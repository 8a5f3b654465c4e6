"""Runs one job, from its row to its stored critique; used by the service and by `mondrian analyze`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from mondrian_core.drift import DISTANCE_KEY, PortfolioDistances
from mondrian_core.errors import (
    BadAdapter,
    BadInput,
    BadPhotograph,
    BaseModelUnavailable,
    ModelProcessDied,
    MondrianError,
    NoDatabase,
    NoWorkspace,
)
from mondrian_core.exif import exif_description
from mondrian_core.files import file_sha256, path_as_spelled_on_disk, write_atomic
from mondrian_core.images import downscale_to_fit
from mondrian_core.pixel_files import PixelFile, PixelFileCache
from mondrian_core.prompts import AdvisorPrompt, prompt_digest
from mondrian_core.retrieval.nearest_neighbors import ReferencePhotograph, path_below_source, portfolio_from_profiles
from mondrian_core.rollout import FAULT_KEY, Fault
from mondrian_core.rubric import AnswerForm
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.critique.answer_options import DETAILS_KEY, answer_options_from_details
from mondrian_core.serving.critique.fallback_chain import (
    ChainExhausted,
    FallbackHop,
    StrategyOutcome,
    run_fallback_chain,
)
from mondrian_core.serving.critique.own_form import OwnFormAnswer, own_form_strategies
from mondrian_core.serving.critique.routing import Arm, model_used_label, parse_mode
from mondrian_core.serving.critique.strategies import (
    AnalysisContext,
    AnswerCutOff,
    AnswerT,
    LoraStrategy,
    OnStrategyProgress,
    Strategy,
    StrategyAnswer,
    ignore_strategy_progress,
)
from mondrian_core.serving.engine.interface import Canceled, Engine
from mondrian_core.serving.jobs.crop_record import CROPS_KEY, record_crop_search
from mondrian_core.serving.jobs.image_decoding import open_downscaled
from mondrian_core.settings import AnalysisMode
from mondrian_core.store import Job, Store
from mondrian_core.store.embeddings import EmbeddingStore

if TYPE_CHECKING:
    from PIL import Image

MAX_ATTEMPTS = 2  # starts of a job with the same strategy, counted over restarts of the service
CUT_OFF_KEY = "cut_off"  # of a failed job's details: the text up to the length that the caller allowed
PINNED_REASON = "the model process crashed too often with an adapter; the base answers for a while"


@dataclass(kw_only=True)
class JobRunner:
    """Makes critiques for jobs and stores them.

    Attributes:
        root: the workspace.
        engine: the model; one thread at a time.
        embed: compare photographs by the embeddings of `mondrian index` too (EMBEDDINGS_ENABLED).
        exif: include the camera settings, never place or time, in the prompt (EXIF_ENABLED).
        pixel_files: how images reach an engine in another process; None gives the engine the image itself.
    """

    store: Store
    root: Path
    engine: Engine
    adapters: ActiveAdapters
    strategies: Mapping[AnalysisMode, Strategy[StrategyAnswer]]
    embed: bool = False
    exif: bool = False
    pixel_files: PixelFileCache | None = None
    _distances: PortfolioDistances = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._distances = PortfolioDistances(self.store)

    def run(
        self,
        job: Job,
        image: Image.Image | None = None,
        on_progress: OnStrategyProgress = ignore_strategy_progress,
        leaving: Callable[[], bool] = lambda: False,
    ) -> Job:
        """Critique the photograph of a claimed job; returns the updated row: completed, failed or canceled.

        Args:
            job: the row.
            image: the decoded photograph; None: it is read from the job's file.
            on_progress: called with the progress of strategies.
            leaving: true while the service stops: then a failed job is queued again instead.
        """
        began = time.perf_counter()
        try:
            if answer_options_from_details(job.details).schema is not None:
                own, facts = self._outcome(job, image, on_progress, own_form_strategies())
                return self._store_own_form(job, own, facts, time.perf_counter() - began)
            outcome, facts = self._outcome(job, image, on_progress, self.strategies)
            cropping = facts.get(CROPS_KEY, {}).get("seconds", 0.0)
            return self._store_answer(job, outcome, facts, time.perf_counter() - began - cropping)
        except Canceled:
            return self.store.cancel_job(job.id)
        except MondrianError as error:
            return self.store.release_job(job.id) if leaving() else self._store_failure(job, error)
        except Exception as error:
            self._store_failure(job, error)
            raise

    def _store_failure(self, job: Job, error: Exception) -> Job:
        """Store why a job failed and whose fault it is; only an unexplained failure counts against its arm."""
        hops = error.hops if isinstance(error, ChainExhausted) else ()
        details = {**_kept_details(job, hops), "hops": [hop.as_dict() for hop in hops]}
        if isinstance(error, AnswerCutOff):
            details |= {"passes": [error.reply.facts], CUT_OFF_KEY: error.reply.text}
        fault = fault_from_error(error)
        failed = None
        if fault is not None:
            details[FAULT_KEY] = fault
        elif job.arm:
            failed = model_used_label(cast("Arm | None", job.arm), job.arm == "fine_tuned")
        if isinstance(error, ChainExhausted) and error.shared_death:
            self._forgive(hops)
        reason = str(error) if isinstance(error, MondrianError) else f"{type(error).__name__}: {error}"
        return self.store.fail_job(job.id, reason, model_used=failed, details=details)

    def _forgive(self, hops: Sequence[FallbackHop]) -> None:
        """The model process died on this photograph with the base too: don't blame the adapter for its deaths."""
        deaths = sum(hop.crashed and hop.strategy == LoraStrategy.name for hop in hops)
        forgive = getattr(self.engine, "forgive", None)
        if deaths and forgive is not None:
            forgive(deaths)

    def _outcome(
        self,
        job: Job,
        image: Image.Image | None,
        on_progress: OnStrategyProgress,
        strategies: Mapping[AnalysisMode, Strategy[AnswerT]],
    ) -> tuple[StrategyOutcome[AnswerT], dict[str, Any]]:
        advisor_prompt = self.store.advisor(job.advisor or "")
        requested = parse_mode(job.requested_mode or "baseline")
        photograph = self._stored_image(job) if image is None else downscale_to_fit(image)
        context = replace(
            self.context(advisor_prompt, photograph, requested, job),
            camera=self._camera_of(job),
            timed="rollout" in job.details,
            options=answer_options_from_details(job.details),
        )
        if context.options.version is not None:  # no other model may answer for the one that was named
            strategies = {requested: strategies[requested]}
        skip = max(0, job.attempts - MAX_ATTEMPTS)
        outcome = run_fallback_chain(strategies, requested, context, self.engine, on_progress=on_progress, skip=skip)
        facts: dict[str, Any] = {
            "prompt_sha256": prompt_digest(replace(advisor_prompt, form=_answer_form(outcome.answer))),
            "pixels": list(photograph.size),
        }
        if context.camera:
            facts["camera"] = context.camera
        answer = outcome.answer
        if context.options.crops and isinstance(answer, StrategyAnswer):
            answered = answer.strategy, answer.adapter
            facts[CROPS_KEY] = record_crop_search(self.engine, context, answered, self.pixel_files, on_progress)
        return outcome, facts

    def _camera_of(self, job: Job) -> str | None:
        return exif_description(photograph_path(self.root, job.filename or "")) if self.exif else None

    def context(
        self, advisor_prompt: AdvisorPrompt, image: Image.Image | PixelFile, requested: AnalysisMode, job: Job
    ) -> AnalysisContext:
        """What the strategies of the requested fallback chain may use."""
        if requested == "baseline":
            return AnalysisContext(advisor_prompt=advisor_prompt, image=image)
        adapter, why = self._adapter_of(job) if requested == "lora" else (None, "it was not requested")
        portfolio = portfolio_from_profiles(
            self.store.profiles(advisor_prompt.advisor), self._key_of, lambda file: file_sha256(Path(file))
        )

        def same(reference: ReferencePhotograph) -> bool:
            return self._is_photograph_of(job, reference.path)

        return AnalysisContext(
            advisor_prompt=advisor_prompt,
            image=image,
            adapter=adapter,
            why_no_adapter=why,
            portfolio=portfolio,
            is_same_photograph=same,
            embeddings=self._embeddings(advisor_prompt.advisor),
            embed=adapter is not None and self._has_index(advisor_prompt.advisor),
        )

    def _has_index(self, advisor: str) -> bool:
        base = getattr(self.engine, "fingerprint", None)
        return base is not None and self._distances.has_index(advisor, base)

    def _portfolio_distance(self, job: Job, answer: StrategyAnswer) -> dict[str, float]:
        """The photograph's distance to the portfolio for the drift watch; the photograph is encoded anyway."""
        base, embedding = getattr(self.engine, "fingerprint", None), answer.replies[0].embedding
        if base is None or not embedding:
            return {}
        distance = self._distances.distance(job.advisor or "", base, job.photograph_sha256, embedding)
        return {} if distance is None else {DISTANCE_KEY: round(distance, 5)}

    def _key_of(self, path: str) -> str | None:
        """The file of a path in the database, links resolved, as a key of references and embeddings."""
        file = source_file(self.root, path)
        return str(file) if file is not None else None

    def _embeddings(self, advisor: str) -> dict[str, Sequence[float]]:
        """Embeddings of the portfolio by file, from the loaded base."""
        base = getattr(self.engine, "fingerprint", None)
        if not self.embed or base is None:
            return {}
        entries = EmbeddingStore(self.store).find(advisor, base)
        return {key: entry.vector for entry in entries if (key := self._key_of(entry.image_path)) is not None}

    def _is_photograph_of(self, job: Job, path: str) -> bool:
        """True when a path in the database, perhaps from another machine, is this job's photograph."""
        file = source_file(self.root, path)
        return file is not None and file_sha256(file) == job.photograph_sha256

    def _adapter_of(self, job: Job) -> tuple[ServedAdapter | None, str]:
        if getattr(self.engine, "pinned", False):
            return None, PINNED_REASON
        try:
            return self._find_adapter(job)
        except ModelProcessDied:
            return self._find_adapter(job)
        except BadInput as error:  # such as a version that was removed from the registry
            return None, error.problem

    def _find_adapter(self, job: Job) -> tuple[ServedAdapter | None, str]:
        advisor, mark = job.advisor or "", job.details.get("rollout")
        named = answer_options_from_details(job.details).version
        if named is not None:
            return self.adapters.version(advisor, named)
        active = self.adapters.for_advisor(advisor)
        if not mark or mark["candidate"] or not mark["version"]:
            return active
        return self.adapters.version(advisor, mark["version"])

    def _stored_image(self, job: Job) -> Image.Image | PixelFile:
        """The photograph as decoded when the job was accepted; after a restart it is decoded again."""
        stored = self.pixel_files.get(job.photograph_sha256 or "") if self.pixel_files else None
        if stored is not None:
            return stored
        photograph = open_downscaled(photograph_path(self.root, job.filename or ""))
        return self.pixel_files.put(photograph.sha256, photograph.image) if self.pixel_files else photograph.image

    def _store_own_form(
        self, job: Job, outcome: StrategyOutcome[OwnFormAnswer], facts: dict[str, Any], seconds: float
    ) -> Job:
        answer = outcome.answer
        details = {
            **facts,
            **_kept_details(job, outcome.hops),
            "hops": [hop.as_dict() for hop in outcome.hops],
            "fell_back": outcome.fell_back,
            "passes": [answer.reply.facts],
            "seconds": round(seconds, 4),
        }
        return self.store.finish_job(
            job.id,
            answer=json.loads(answer.reply.text),
            mode=answer.strategy,
            model_used=model_used_label(cast("Arm | None", job.arm), answer.adapter is not None),
            adapter_version=answer.adapter.version if answer.adapter else None,
            llm_outputs=json.dumps({"replies": [answer.reply.text]}),
            details=details,
        )

    def _store_answer(
        self, job: Job, outcome: StrategyOutcome[StrategyAnswer], facts: dict[str, Any], seconds: float
    ) -> Job:
        answer = outcome.answer
        name = f"analysis-{job.advisor}-{job.id}.md"
        text = json.dumps(answer.critique.as_dict(), indent=2)
        write_atomic(self.root / "analysis_md" / name, f"```json\n{text}\n```\n")
        details = {
            **facts,
            **_kept_details(job, outcome.hops),
            "hops": [hop.as_dict() for hop in outcome.hops],
            "fell_back": outcome.fell_back,
            "repairs": list(answer.repairs),
            "passes": [reply.facts for reply in answer.replies],
            "written_scores": dict(answer.written.scores),
            "expected_scores": {name: round(value, 3) for name, value in answer.reply.expected_scores.items()},
            "compared_with": [dict(facts) for facts in answer.compared_with],
            **self._portfolio_distance(job, answer),
            "seconds": round(seconds, 4),
        }
        return self.store.finish_job(
            job.id,
            answer=answer.critique.as_dict(),
            mode=answer.strategy,
            model_used=model_used_label(cast("Arm | None", job.arm), answer.adapter is not None),
            adapter_version=answer.adapter.version if answer.adapter else None,
            analysis_markdown=name,
            llm_outputs=json.dumps(llm_outputs(answer)),
            details=details,
        )


def llm_outputs(answer: StrategyAnswer) -> dict[str, Any]:
    """`jobs.llm_outputs`: the generated text, with the score where the older project's queries expect it."""
    critique = answer.critique
    grade = re.match(r"\s*\d+(\.\d+)?", critique.overall_grade)
    return {
        "overall_score": float(grade.group()) if grade else round(critique.mean, 1),
        "overall_grade": critique.overall_grade,
        "replies": [reply.text for reply in answer.replies],
    }


def fault_from_error(error: Exception) -> Fault | None:
    """Whose fault a failure is; None when it may be the fault of the arm that the job was assigned to."""
    if isinstance(error, ChainExhausted):
        return "shared" if error.shared else None
    of_service = isinstance(error, BadAdapter | BaseModelUnavailable | NoDatabase | NoWorkspace)
    return "request" if isinstance(error, BadInput) and not of_service else "service"


def _kept_details(job: Job, hops: Sequence[FallbackHop]) -> dict[str, Any]:
    """What stays in a job's details: its rollout, what was asked of the answer, and deaths of the model process."""
    deaths = sum(hop.crashed and hop.strategy == job.requested_mode for hop in hops)
    mark = {name: job.details[name] for name in ("rollout", DETAILS_KEY) if name in job.details}
    return {**mark, **({"crashed": deaths} if deaths else {})}


def photograph_path(root: Path, filename: str) -> Path:
    """The file of a job's photograph: under source/ of the workspace, or an absolute path named by a person.

    Raises:
        BadPhotograph: a relative name that leads out of the workspace.
    """
    path = Path(filename)
    if path.is_absolute():
        return path
    return path_inside_workspace(root, Path("source") / path)


def path_inside_workspace(root: Path, path: Path) -> Path:
    """A path that a request names under the workspace, symbolic links resolved.

    Raises:
        BadPhotograph: it leads out of the workspace, whether or not a file exists there.
    """
    try:
        whole = path_as_spelled_on_disk(root, path.parts).resolve()
    except (OSError, ValueError, RuntimeError):
        whole = None
    if whole is None or not whole.is_relative_to(root.resolve()):
        raise BadPhotograph(str(path), "missing", "it is not in the workspace")
    return whole


def _answer_form(answer: object) -> AnswerForm:
    """The form in which a critique was asked for; the first one for an answer in a caller's own form."""
    adapter = answer.adapter if isinstance(answer, StrategyAnswer) else None
    return adapter.answer_form if adapter else AnswerForm.COMMENTS


def source_file(root: Path, path: str) -> Path | None:
    """The file below source/ that a path in the database, perhaps from another machine, refers to; else None.

    Links are followed, as in `mondrian link`: the portfolio may be on another disk.
    """
    parts = PurePosixPath(path_below_source(path)).parts
    if ".." in parts or parts[:1] == ("/",):
        return None
    try:
        file = path_as_spelled_on_disk(root / "source", parts).resolve()
        return file if file.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def job_filename(root: Path, path: Path) -> str:
    """The name of a photograph in the jobs table: relative to source/ if it is there, else absolute."""
    whole, source = path.resolve(), (root / "source").resolve()
    return whole.relative_to(source).as_posix() if whole.is_relative_to(source) else str(whole)
