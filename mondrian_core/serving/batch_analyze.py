"""`mondrian analyze` and `mondrian watch`: critique photographs in this process with the service's strategies."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from mondrian_core.critique_parsing import ParsedCritique, parse_critique_lenient
from mondrian_core.errors import BadInput, BadPhotograph
from mondrian_core.events import (
    EventListener,
    StageFinished,
    StageNotice,
    StageProgressed,
    StageStarted,
    ignore_events,
)
from mondrian_core.exif import camera_facts, time_taken
from mondrian_core.images import OpenedPhotograph, open_photograph
from mondrian_core.registry import Registry
from mondrian_core.rubric import Critique
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.serving.critique.adapter_source import find_adapter_source
from mondrian_core.serving.critique.answer_options import DETAILS_KEY, AnswerOptions
from mondrian_core.serving.critique.crop_search import MOST_PASSES
from mondrian_core.serving.critique.routing import MODES, parse_mode
from mondrian_core.serving.critique.strategies import all_strategies
from mondrian_core.serving.engine.interface import Engine
from mondrian_core.serving.engine.shared_engine import SharedEngine
from mondrian_core.serving.jobs.advisor_groups import requested_advisors
from mondrian_core.serving.jobs.job_claims import claim_new_job
from mondrian_core.serving.jobs.job_runner import JobRunner, job_filename
from mondrian_core.serving.named_photographs import find_photographs
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store import COMPLETED, Job, Store
from mondrian_core.xmp import SidecarCritique, SidecarOptions, write_sidecar

ALL_MODES = "all"  # every mode, so the base and the adapter side by side


@dataclass(frozen=True, kw_only=True)
class AnalysisResult:
    """The result for one photograph and mode. `critique` is None when it failed; `error` says why.

    Attributes:
        path: of the photograph.
        camera: see `exif.camera_facts`; never a place.
        taken_at: by the camera's clock, as ISO 8601 without offset.
        sidecar: the XMP sidecar that holds the critique; `sidecar_error` says why it doesn't.
        details: of the job.
    """

    path: Path
    advisor: str
    requested_mode: str
    critique: Critique | None = None
    error: str | None = None
    job: str | None = None
    mode: str | None = None
    model_used: str | None = None
    adapter_version: str | None = None
    camera: Mapping[str, str] = field(default_factory=dict)
    taken_at: str | None = None
    sidecar: Path | None = None
    sidecar_error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """ "adapter v0003" or "base model"."""
        return f"adapter {self.adapter_version}" if self.adapter_version else "base model"

    @property
    def answered_by(self) -> str:
        """What answered: "lora: adapter v0003", or "lora, answered by baseline: base model"."""
        if self.mode is None:
            return f"{self.requested_mode}: no answer"
        way = "" if self.mode == self.requested_mode else f", answered by {self.mode}"
        return f"{self.requested_mode}{way}: {self.model}"

    def title_among(self, group: Sequence[AnalysisResult]) -> str:
        """`answered_by`, after the advisor where the photograph's results are by several."""
        several = len({each.advisor for each in group}) > 1
        return f"{self.advisor}, {self.answered_by}" if several else self.answered_by

    @property
    def seconds(self) -> float | None:
        """How long it took, reading the photograph aside."""
        return self.details.get("seconds")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": printable_path(self.path),
            "advisor": self.advisor,
            "job": self.job,
            "requested_mode": self.requested_mode,
            "mode": self.mode,
            "model_used": self.model_used,
            "adapter_version": self.adapter_version,
            "camera": dict(self.camera),
            "taken_at": self.taken_at,
            "sidecar": str(self.sidecar) if self.sidecar else None,
            "sidecar_error": self.sidecar_error,
            "critique": self.critique.as_dict() if self.critique else None,
            "error": self.error,
            "details": self.details,
        }


OnAnalysisResult = Callable[[AnalysisResult], object]


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """What `mondrian analyze` is asked for.

    Attributes:
        paths: photographs and folders of photographs.
        advisor: ID of an advisor; `analyze_photographs` also takes several, separated by commas, or "all".
        mode: baseline, rag, lora, or "all": each photograph in all three, one after the other.
        lora_path: an adapter instead of the promoted one (see `find_adapter_source`).
        sidecars: how to write each critique into an XMP sidecar; None for no sidecars.
        crops: look for a crop that the model scores higher.
    """

    paths: Sequence[Path]
    advisor: str
    mode: str
    lora_path: str | None = None
    sidecars: SidecarOptions | None = None
    crops: bool = False

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes to ask, one after the other.

        Raises:
            BadInput: an unknown mode.
        """
        return MODES if self.mode == ALL_MODES else (parse_mode(self.mode),)


def analyze_photographs(
    settings: Settings,
    request: BatchRequest,
    listen: EventListener = ignore_events,
    *,
    engine: Engine | None = None,
    on_result: OnAnalysisResult = lambda result: None,
) -> list[AnalysisResult]:
    """Critique photographs in this process, several at once if that is faster; each becomes a row of the jobs table.

    A photograph that can't be used, or whose critique fails, gives a result with its error; the others continue.

    Args:
        settings: workspace, registry and base model.
        request: photographs, advisor and mode.
        listen: receives start, progress and end.
        engine: the model; None loads the base model of the settings.
        on_result: called with the results in the order of the photographs, so that an interruption loses none.

    Raises:
        NoWorkspace, NoDatabase, UnknownAdvisor, BaseModelUnavailable: exit status 2.
        BadInput: a folder without photographs, or an unknown mode.
    """
    photographs, requests = find_photographs(request.paths), _requests_by_advisor(settings, request)
    total = len(photographs) * len(requests) * len(request.modes)
    results: list[AnalysisResult] = []
    if request.crops:
        listen(StageNotice("analyze", f"looking for crops: up to {MOST_PASSES} more passes for each critique"))

    def finish(found: Sequence[AnalysisResult]) -> None:
        for result in found:
            results.append(result)
            on_result(result)
            listen(StageProgressed("analyze", len(results), total, f"{result.path.name} ({result.requested_mode})"))

    with open_job_runner(settings, request.lora_path, listen, engine) as job_runner:
        numbered = _analyze_all(job_runner, photographs, requests)
        with closing(numbered):  # an interruption anywhere ends the work of all threads
            for found in _in_order(numbered):
                finish(found)
    listen(StageFinished("analyze", {"photographs": len(photographs), "critiques": len(results)}))
    return results


def _analyze_all(
    job_runner: JobRunner, photographs: Sequence[Path], requests: Sequence[BatchRequest]
) -> Generator[tuple[int, list[AnalysisResult]]]:
    """(number of the photograph, its results) as they are ready: the first alone, then several at once if that pays."""
    shared = cast(SharedEngine, job_runner.engine)

    def analyze(path: Path) -> list[AnalysisResult]:
        return list(_analyze_in_modes(job_runner, path, requests))

    number = 0
    while number < len(photographs):
        left = photographs[number:]
        rows = shared.rows_at_once(len(left)) if len(left) > 1 else 1
        if rows > 1:
            for place, found in shared.run_all([partial(analyze, path) for path in left], rows):
                yield number + place, found
            return
        yield number, analyze(left[0])
        number += 1


def _in_order(numbered: Iterable[tuple[int, list[AnalysisResult]]]) -> Iterator[list[AnalysisResult]]:
    """The results by number; after an interruption also those that waited for earlier ones."""
    early: dict[int, list[AnalysisResult]] = {}
    following = 0
    try:
        for number, found in numbered:
            early[number] = found
            while following in early:
                yield early.pop(following)
                following += 1
    except (Exception, KeyboardInterrupt):
        for number in sorted(early):
            yield early[number]
        raise


@contextmanager
def open_analyzer(
    settings: Settings, request: BatchRequest, listen: EventListener = ignore_events, engine: Engine | None = None
) -> Iterator[Callable[[Path], Iterator[AnalysisResult]]]:
    """Load the model; the value critiques one photograph in every mode of the request, whose `paths` don't matter.

    Raises:
        NoWorkspace, NoDatabase, UnknownAdvisor, BaseModelUnavailable: exit status 2.
        BadInput: an unknown mode.
    """
    validate_advisor_id(request.advisor)
    _ = request.modes  # before the model is loaded
    settings.require_workspace()
    with Store(settings.database, read_only=True) as store:
        store.advisor(request.advisor)
    with open_job_runner(settings, request.lora_path, listen, engine) as job_runner:
        yield lambda path: _analyze_in_modes(job_runner, path, [request])


@contextmanager
def open_job_runner(
    settings: Settings,
    lora_path: str | None = None,
    listen: EventListener = ignore_events,
    engine: Engine | None = None,
) -> Iterator[JobRunner]:
    """Open the database and load the model (None: the base model of the settings) into this process.

    Raises:
        NoWorkspace, NoDatabase, BaseModelUnavailable: exit status 2.
    """
    root = settings.require_workspace()
    with Store(settings.database) as store:
        registry = Registry(settings.adapters_root, listen=listen)
        source = find_adapter_source(
            lora_path or (str(settings.lora_adapter_dir) if settings.lora_adapter_dir else None), registry
        )
        listen(StageStarted("analyze", None, f"loading {settings.base}"))
        shared = SharedEngine(engine or _local_engine(settings, listen))
        yield JobRunner(
            store=store,
            root=root,
            engine=shared,
            adapters=ActiveAdapters(registry, source, shared.check, listen),
            strategies=all_strategies(),
            embed=settings.embeddings_enabled,
            exif=settings.exif_enabled,
        )


def _local_engine(settings: Settings, listen: EventListener) -> Engine:
    from mondrian_core.models.base_download import fetch_base
    from mondrian_core.serving.engine.local_engine import LocalEngine

    fetch_base(settings.base, listen)
    return LocalEngine(settings.base, adapter_cache_bytes=settings.adapter_cache_bytes)


def _requests_by_advisor(settings: Settings, request: BatchRequest) -> list[BatchRequest]:
    """The request for each of its advisors, checked before the model is loaded.

    Raises:
        UnknownAdvisor: there is no such advisor.
        BadInput: several advisors can't share a photograph's sidecar or a named adapter.
    """
    _ = request.modes
    settings.require_workspace()
    with Store(settings.database, read_only=True) as store:
        advisors = requested_advisors(store, request.advisor)
    if len(advisors) > 1 and (request.sidecars is not None or request.lora_path):
        what = "A photograph's sidecar holds one critique" if request.sidecars else "An adapter belongs to one advisor"
        raise BadInput(f"{what}, and {len(advisors)} advisors were named.", "Name one with --advisor.")
    return [replace(request, advisor=advisor) for advisor in advisors]


def _analyze_in_modes(job_runner: JobRunner, path: Path, requests: Sequence[BatchRequest]) -> Iterator[AnalysisResult]:
    """Decode the photograph once, and critique it for every request in every mode."""
    asked = [(request, mode) for request in requests for mode in request.modes]
    try:
        str(path).encode()  # a name that isn't UTF-8 can't be stored in the database
        photograph = open_photograph(path)
    except (BadPhotograph, UnicodeEncodeError) as error:
        for request, mode in asked:
            yield AnalysisResult(
                path=path, advisor=request.advisor, requested_mode=mode, error=_photograph_error(path, error)
            )
        return
    for request, mode in asked:
        yield with_sidecar(_analyze_one(job_runner, path, photograph, request, mode), request.sidecars)


def _photograph_error(path: Path, error: Exception) -> str:
    if isinstance(error, BadPhotograph):
        return str(error)
    return f"The name {printable_path(path)} is not valid UTF-8. Rename the file, and run the command again."


def printable_path(path: Path) -> str:
    """The path with bytes that are not UTF-8 replaced, for a terminal."""
    return str(path).encode(errors="replace").decode()


def with_sidecar(result: AnalysisResult, options: SidecarOptions | None) -> AnalysisResult:
    """Write the critique into the photograph's sidecar, if it is wanted; a sidecar that refuses doesn't stop a batch.

    Raises:
        DiskFull: no space is left.
    """
    if options is None or result.critique is None:
        return result
    made = SidecarCritique(advisor=result.advisor, model=result.model, critique=result.critique)
    try:
        return replace(result, sidecar=write_sidecar(result.path, made, options))
    except BadInput as error:
        return replace(result, sidecar_error=str(error))


def _analyze_one(
    job_runner: JobRunner, path: Path, photograph: OpenedPhotograph, request: BatchRequest, mode: str
) -> AnalysisResult:
    options = AnswerOptions(crops=request.crops).as_details()
    with claim_new_job(
        job_runner.store,
        request.advisor,
        job_filename(job_runner.root, path),
        requested_mode=mode,
        explicit_mode=True,
        photograph_sha256=photograph.sha256,
        details={DETAILS_KEY: options} if options else {},
    ) as job:
        try:
            finished = job_runner.run(job, photograph.image)
        except BaseException:
            job_runner.store.fail_job(job.id, "The command was interrupted.")
            raise
    return analysis_result_from_job(path, finished)


def analysis_result_from_job(path: Path, job: Job) -> AnalysisResult:
    """A row of the jobs table as a result."""
    critique = critique_from_job(job)
    return AnalysisResult(
        path=path,
        advisor=job.advisor or "",
        requested_mode=job.requested_mode or "",
        critique=critique,
        error=job.error,
        job=job.id,
        mode=job.mode,
        model_used=job.model_used,
        adapter_version=job.adapter_version,
        camera=camera_facts(path),
        taken_at=time_taken(path),
        details=job.details,
    )


def critique_from_job(job: Job) -> Critique | None:
    """The critique of a completed job; None for any other job."""
    if job.status != COMPLETED or job.answer is None:
        return None
    reading: ParsedCritique = parse_critique_lenient(json.dumps(job.answer))
    return reading.critique
