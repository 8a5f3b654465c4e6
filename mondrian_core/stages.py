"""The stages of the loop, each one call: link, dataset, train, evaluate, register, promote.

A stage takes a `Context`, reads what earlier stages of the same run left as `<run folder>/<stage>.json`, does its work
through one room of the core and leaves its own summary there. So the command line, `retrain` in one process, and a
Prefect task that runs a stage in a process of its own all do the same thing, and hand on references instead of rows.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mondrian_core import rollout
from mondrian_core.decision import Keep, Promote, decide
from mondrian_core.errors import BadInput, BaseModelUnavailable, MondrianError, NothingToDo, translated
from mondrian_core.events import Finished, Listener, Noticed, Started, both, ignore
from mondrian_core.files import read_json, write_json
from mondrian_core.prompts import Voice, prompt_digest
from mondrian_core.recipes import Recipe, recipe_of
from mondrian_core.registry import Registry, State, Version
from mondrian_core.registry.answers import SAMPLES
from mondrian_core.settings import Settings, check_advisor

if TYPE_CHECKING:
    from mondrian_core.data.base_critic import BaseCritic
    from mondrian_core.data.dataset import DatasetVersion
    from mondrian_core.data.examples import Vary
    from mondrian_core.data.fit import Fit
    from mondrian_core.data.twins import Subject
    from mondrian_core.evaluation import Trained
    from mondrian_core.store import Store
    from mondrian_core.training.ranks import Ranks

PACKAGES = ("mlx", "mlx-vlm", "transformers", "datasets", "numpy", "prefect")


@dataclass(frozen=True)
class Context:
    """Everything a stage needs to know; plain values, so that it can travel to another process as JSON."""

    workspace: str
    adapters: str
    base_model: str
    advisor: str
    run: str
    recipe: Recipe
    actor: str = "person"
    dataset: str | None = None
    adapter: str | None = None

    @property
    def root(self) -> Path:
        """The workspace."""
        return Path(self.workspace)

    @property
    def run_folder(self) -> Path:
        """`runs/<run>/` of the workspace."""
        return self.root / "runs" / self.run

    @property
    def registry(self) -> Registry:
        """The registry of adapters."""
        return Registry(Path(self.adapters))

    def store(self) -> Store:
        """The workspace's database, opened for reading.

        Raises:
            NoWorkspace, NoDatabase: when there is none.
        """
        from mondrian_core.store import Store

        Settings(workspace=self.root).require_workspace()
        return Store(self.root / "mondrian.db", read_only=True)

    def store_for_writing(self) -> Store:
        """The workspace's database, opened for writing: migrated when it is older.

        Raises:
            NoWorkspace, NoDatabase: when there is none.
            DatabaseBusy: when it is locked for too long, or can't be written.
        """
        from mondrian_core.store import Store

        Settings(workspace=self.root).require_workspace()
        return Store(self.root / "mondrian.db")

    def save(self, path: Path) -> None:
        """Write the context as JSON."""
        write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `save` writes them."""
        return {**asdict(self), "recipe": self.recipe.model_dump(mode="json")}

    @classmethod
    def load(cls, path: Path) -> Context:
        """Read a context written by `save`."""
        values = read_json(path)
        return cls(**{**values, "recipe": recipe_of(values["recipe"], str(path))})


def new_context(settings: Settings, advisor: str, recipe: Recipe, *, run: str | None = None, actor: str = "person",
                dataset: str | None = None, adapter: str | None = None) -> Context:  # fmt: skip
    """A context for a new run; its name begins with the time, so that runs sort."""
    check_advisor(advisor)
    settings.require_workspace()
    name = run or f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{advisor}"
    return Context(str(settings.root), str(settings.adapters_root), settings.base, advisor, name, recipe, actor,
                   dataset, adapter)  # fmt: skip


@dataclass(frozen=True)
class _Summary:
    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LinkSummary(_Summary):
    """What was linked and why the rest was not; `table` is Markdown."""

    manifest: str
    used: int
    left_out: dict[str, int]
    table: str


@dataclass(frozen=True)
class DatasetSummary(_Summary):
    """A dataset version and its sizes per split."""

    path: str
    digest: str
    photographs: dict[str, int]
    rows: dict[str, int]
    contact_sheet: str | None = None


@dataclass(frozen=True)
class TrainSummary(_Summary):
    """A trained adapter, not yet a version; `answers` says how it answered about validation photographs, if asked.

    `preference` says what preference tuning came to; None where there was none. `trained_on` is the extent
    ("train": the dataset's training split, "all": its every photograph) and how many photographs and rows that are.
    """

    adapter: str
    curve: str
    log: str
    steps: int
    best_epoch: int
    best_loss: float
    seconds: float
    answers: dict[str, Any] | None = None
    preference: dict[str, Any] | None = None
    trained_on: dict[str, Any] | None = None


@dataclass(frozen=True)
class EvaluateSummary(_Summary):
    """The verdict of the gates; `gates` are the rows of the table."""

    report: str
    html: str
    verdict: str
    gates: list[dict[str, Any]]
    split: str


@dataclass(frozen=True)
class RegisterSummary(_Summary):
    """The version that was written and its state."""

    version: str
    path: str
    state: str


@dataclass(frozen=True)
class PromoteSummary(_Summary):
    """What became of the version: promoted, candidate or rejected, and the sentence that says why."""

    decision: str
    version: str
    sentence: str
    command: str | None = None


@dataclass(frozen=True)
class IndexSummary(_Summary):
    """What was indexed; `left_out` are lists of path and reason, `base` the fingerprint the vectors belong to."""

    photographs: int
    known: int
    embedded: int
    scored: int
    left_out: list[dict[str, str]]
    base: str


@dataclass(frozen=True)
class SynthesizeSummary(_Summary):
    """What was drafted; `waiting` counts every draft of the advisor that nobody has decided on."""

    drafted: int
    known: int
    remaining: int
    calibrated_on: int
    waiting: int
    left_out: list[dict[str, str]]


SummaryT = TypeVar("SummaryT", bound=_Summary)


def summary_of(context: Context, stage: str, kind: type[SummaryT]) -> SummaryT:
    """What an earlier stage of this run left.

    Raises:
        NothingToDo: when that stage has not run.
    """
    path = context.run_folder / f"{stage}.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise NothingToDo(
            f"The run {context.run} has no result of the stage '{stage}'.", f"Run the stage '{stage}' first."
        ) from None
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})


def _leave(context: Context, stage: str, summary: SummaryT, listen: Listener) -> SummaryT:
    write_json(context.run_folder / f"{stage}.json", summary.as_dict())
    listen(Finished(stage, summary.as_dict()))
    return summary


def link(context: Context, listen: Listener = ignore) -> LinkSummary:
    """Join profiles and analyses with their photographs; every record is used or left out with a reason."""
    from mondrian_core.data.link import link as link_records

    store = context.store()
    store.voice(context.advisor)
    listen(Started("link", detail=context.advisor))
    manifest = link_records(store, context.root, context.advisor, listen)
    path = context.run_folder / "link_manifest.json"
    write_json(path, manifest.as_dict())
    left_out: dict[str, int] = {}
    for record in manifest.left_out:
        left_out[str(record.reason)] = left_out.get(str(record.reason), 0) + 1
    return _leave(context, "link", LinkSummary(str(path), len(manifest.used), left_out, manifest.table()), listen)


def dataset(context: Context, listen: Listener = ignore) -> DatasetSummary:
    """Split, augment and write the dataset version that belongs to the linked records."""
    from mondrian_core.data.dataset import build
    from mondrian_core.data.link import LinkManifest

    linked = summary_of(context, "link", LinkSummary)
    manifest = LinkManifest.from_dict(read_json(Path(linked.manifest)))
    if not manifest.used:
        raise NothingToDo(
            f"No usable critique of '{context.advisor}' was found ({sum(linked.left_out.values())} records left out).",
            f"Run `mondrian link --advisor {context.advisor}` to see the reason for each record.",
        )
    voice = context.store().voice(context.advisor)
    listen(Started("dataset", detail=f"{linked.used} critiques"))
    with _words_of(context, listen) as words:
        built = build(manifest, voice, context.recipe.data, context.root, listen, fit=_fit_of(context, listen),
                      index=indexed_photographs(context), words=words)  # fmt: skip
    sheet = built.path / "contact_sheet.png"
    return _leave(
        context,
        "dataset",
        DatasetSummary(
            str(built.path),
            built.digest,
            dict(built.photographs),
            dict(built.rows_per_split),
            str(sheet) if sheet.exists() else None,
        ),
        listen,
    )


@contextmanager
def _words_of(context: Context, listen: Listener) -> Iterator[Vary]:
    """Who makes other wordings; what the base drafted is kept afterwards."""
    from mondrian_core.data.variations import vary

    if not context.recipe.drafts_wordings:
        yield vary
        return
    from mondrian_core.data.base_critic import BaseRewriter
    from mondrian_core.data.rewording import FILE, Rewordings
    from mondrian_core.models.base import load_base

    file = context.root / "datasets" / context.advisor / FILE
    rewordings = Rewordings(BaseRewriter(load_base(context.base_model)), file)
    try:
        yield rewordings.vary
    finally:
        rewordings.save()
    message = f"The checker took {rewordings.taken} of {rewordings.asked} wordings that the base drafted."
    listen(Noticed("dataset", message))


def _fit_of(context: Context, listen: Listener) -> Fit | None:
    """How the base model counts a row's tokens; None where there is no base model, which stops the training anyway."""
    from mondrian_core.data.fit import Fit, Length
    from mondrian_core.models.lengths import counter

    try:
        count = counter(context.base_model)
    except BaseModelUnavailable as error:
        listen(Noticed("dataset", f"Whether every row fits is left to the training: {error.problem}"))
        return None
    return Fit(lambda messages, image, answer: Length(*count(messages, image, answer)), context.recipe.train.max_tokens)


def indexed_photographs(context: Context) -> list[Subject]:
    """The photographs of the advisor's retrieval index, whichever base made it, each once."""
    from mondrian_core.data.twins import Subject
    from mondrian_core.embeddings import Embeddings

    entries = Embeddings(context.store()).of(context.advisor)
    return [Subject(each.sha256, each.looks) for each in {each.sha256: each for each in entries}.values()]


def _dataset_of(context: Context) -> DatasetVersion:
    from mondrian_core.data.dataset import load

    return load(Path(context.dataset or summary_of(context, "dataset", DatasetSummary).path))


def train(context: Context, listen: Listener = ignore, *, resume: bool = False,
          ranks: Ranks | None = None) -> TrainSummary:  # fmt: skip
    """Train a LoRA adapter; it lies in the run folder until it is registered.

    `evidence.lessons` says on what: the dataset's training split, or all of a small one when folds judge the recipe.
    With several `ranks` every process calls this, and the first one alone leaves a summary.
    """
    from mondrian_core import evidence
    from mondrian_core.models.base import load_base
    from mondrian_core.training import tensorboard
    from mondrian_core.training import train as train_adapter
    from mondrian_core.training.ranks import ALONE

    ranks = ranks or ALONE
    version = _dataset_of(context)
    taught = evidence.lessons(version, context.recipe)
    listen(Started("train", detail=taught.told))
    if ranks.first:
        evidence.note_training(context.run_folder, version, taught.extent)
    with ExitStack() as stack, translated(context.run_folder):
        if Settings().tensorboard_enabled and ranks.first:
            curves = stack.enter_context(tensorboard.following(context.run_folder / tensorboard.FOLDER))
            listen = both(listen, curves)
        base = load_base(context.base_model)
        result = train_adapter(base, taught.rows, taught.chosen_by, context.recipe.train, context.run_folder,
                               pairs=taught.pairs, resume=resume,
                               features=context.root / "runs" / "cache" / "features", listen=listen,
                               ranks=ranks)  # fmt: skip
    if ranks.first:
        evidence.note_training(context.run_folder, version, taught.extent, done=True)
    summary = TrainSummary(str(result.adapter), str(result.curve), str(result.log), result.steps, result.best_epoch,
                           result.best_loss, result.seconds,
                           asdict(result.best_answers) if result.best_answers else None,
                           asdict(result.preference) if result.preference else None, taught.as_dict())  # fmt: skip
    return _leave(context, "train", summary, listen) if ranks.first else summary


def estimate(context: Context, listen: Listener = ignore) -> dict[str, Any]:
    """What a training would take: rows, tokens, steps, and time and memory from one probed step; nothing is trained."""
    from mondrian_core import evidence
    from mondrian_core.models.base import load_base
    from mondrian_core.training.estimate import estimate as probe

    taught = evidence.lessons(_dataset_of(context), context.recipe)
    base = load_base(context.base_model)
    found = probe(base, taught.rows, taught.chosen_by, context.recipe.train, listen, taught.pairs)
    return {"trained_on": taught.told, **found.as_dict()}


def evaluate(context: Context, listen: Listener = ignore) -> EvaluateSummary:
    """Measure the adapter against base and champion on photographs it never saw, and let the gates decide.

    What it was trained on is looked up, not assumed: one that saw every photograph is judged by folds.
    """
    from mondrian_core import evidence
    from mondrian_core.evaluation import Known
    from mondrian_core.evaluation import evaluate as judge
    from mondrian_core.models import adapters
    from mondrian_core.models.base import load_base

    version = _dataset_of(context)
    folder = Path(context.adapter or summary_of(context, "train", TrainSummary).adapter)
    datasets, settings = context.root / "datasets" / context.advisor, context.recipe.evaluate
    trained = evidence.trained_on(folder, datasets, listen)
    rows, split = evidence.tested_on(version, trained)
    listen(Started("evaluate", detail=f"{len(rows)} photographs with scores: {split}"))
    base = load_base(context.base_model)
    champion = _comparable(context.registry.champion(context.advisor), base.fingerprint, folder, listen)
    tested = {row.lineage for row in rows}
    index = [row for row in version.rows("train") if row.lineage not in tested]
    known = Known(
        champion=champion,
        champion_trained=evidence.trained_on(champion, datasets, listen) if champion else None,
        problems=adapters.check(base, folder),
        trained=trained,
        index=frozenset(row.lineage for row in index),
        consult=evidence.consult_of(index) if settings.rag else None,
        folding=evidence.folding_of(version, settings.folds, context.base_model,
                                    evidence.train_recipe_of(folder, context.recipe.train, listen),
                                    context.run_folder / "folds", listen) if settings.folds else None,
        cache=context.root / "runs" / "cache",
        split=split,
    )  # fmt: skip
    more = unlabelled_photographs(context, version, max(0, settings.compliance_photographs - len(rows)), trained)
    with translated(context.run_folder):
        report = judge(base, folder, evidence.labelled(rows, version), more, context.store().voice(context.advisor),
                       context.recipe, context.run_folder, known, listen=listen)  # fmt: skip
    gates = [gate.as_dict() for gate in report.gates]
    summary = EvaluateSummary(str(context.run_folder / "comparison_report.json"),
                              str(context.run_folder / "report.html"), report.verdict, gates, split)  # fmt: skip
    return _leave(context, "evaluate", summary, listen)


def _comparable(champion: Version | None, fingerprint: str, candidate: Path, listen: Listener) -> Path | None:
    """The champion's folder when it can answer beside the candidate: same base, and not the candidate itself."""
    if champion is None or champion.path == candidate:
        return None
    if champion.manifest.get("base", {}).get("fingerprint") not in (None, fingerprint):
        listen(Noticed("evaluate", f"The champion {champion.version} belongs to another base and is not compared."))
        return None
    return champion.path


def unlabelled_photographs(context: Context, version: DatasetVersion, wanted: int,
                           trained: Trained | None = None) -> list[Any]:  # fmt: skip
    """Up to `wanted` photographs without labels for format compliance, none of them trained on, nor a twin of one.

    The workspace's own come first, in the order of their names; rendered ones fill what is missing.
    """
    from mondrian_core.evaluation.leaks import seen_by
    from mondrian_core.images import PHOTOGRAPH_SUFFIXES, open_photograph
    from mondrian_core.mini import rendered_photographs

    known = version.photograph_hashes
    found: list[Any] = []
    for path in sorted((context.root / "source").rglob("*")):
        if len(found) >= wanted:
            break
        if path.suffix.lower() not in PHOTOGRAPH_SUFFIXES:
            continue
        try:
            photograph = open_photograph(path)
        except BadInput:
            continue
        if photograph.sha256 not in known and not seen_by([(photograph.sha256, photograph.image)], trained):
            found.append(photograph.image)
    return [*found, *rendered_photographs(wanted - len(found), seed=context.recipe.evaluate.seed + 1_000_003)]


def register(context: Context, listen: Listener = ignore) -> RegisterSummary:
    """Make the adapter an immutable version with everything that is needed to repeat the run."""
    from mondrian_core.models.base import fingerprint

    listen(Started("register"))
    trained = summary_of(context, "train", TrainSummary)
    judged = summary_of(context, "evaluate", EvaluateSummary)
    built = summary_of(context, "dataset", DatasetSummary)
    champion = context.registry.champion(context.advisor)
    manifest = {
        "run": context.run,
        "base": {"name": context.base_model, "fingerprint": fingerprint(context.base_model)},
        "prompt_digest": prompt_digest(context.store().voice(context.advisor)),
        "dataset": {
            "digest": built.digest,
            "photographs": built.photographs,
            "rows": built.rows,
            "evaluated_on": judged.split,
            "trained_on": (trained.trained_on or {}).get("extent", "train"),
        },
        "recipe": {"digest": context.recipe.digest, "values": context.recipe.model_dump(mode="json")},
        "seed": context.recipe.train.seed,
        "parent": champion.version if champion else None,
        "packages": package_versions(),
        "device": {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()},
        "code_commit": code_commit(),
        "training": trained.as_dict(),
        "gate_report": {"verdict": judged.verdict, "gates": judged.gates},
        "metrics": read_json(Path(judged.report)).get("metrics", {}),
    }
    state: State = "rejected" if judged.verdict == "FAIL" else "candidate"
    version = context.registry.register(
        context.advisor, Path(trained.adapter), manifest, state, actor=context.actor,
        attachments=[Path(judged.report), Path(judged.html), Path(judged.report).with_name(SAMPLES),
                     Path(trained.curve), Path(trained.log)],
    )  # fmt: skip
    return _leave(context, "register", RegisterSummary(version.version, str(version.path), state), listen)


def promote(context: Context, listen: Listener = ignore) -> PromoteSummary:
    """Let the gates' verdict decide: promote, keep as a candidate, or leave as rejected."""
    listen(Started("promote"))
    registered = summary_of(context, "register", RegisterSummary)
    judged = summary_of(context, "evaluate", EvaluateSummary)
    champion = context.registry.champion(context.advisor)
    decision = decide(read_json(Path(judged.report)), champion.version if champion else None,
                      advisor=context.advisor, version=registered.version)  # fmt: skip
    running = rollout.active(context.registry, context.advisor)
    if isinstance(decision, Promote) and running is not None:
        sentence = f"Kept as a candidate: all gates passed, but the rollout of {running.version} is {running.place}."
        by_hand = f"mondrian adapters promote --advisor {context.advisor} --version {registered.version}"
        outcome = PromoteSummary("candidate", registered.version, sentence, by_hand)
    elif isinstance(decision, Promote):
        sentence = _carry_out(context, registered.version, champion.version if champion else None, decision.sentence)
        outcome = PromoteSummary("promoted", registered.version, sentence)
    elif isinstance(decision, Keep):
        outcome = PromoteSummary("candidate", registered.version, decision.sentence, decision.command)
    else:
        outcome = PromoteSummary("rejected", registered.version, decision.sentence)
    return _leave(context, "promote", outcome, listen)


def _carry_out(context: Context, version: str, champion: str | None, sentence: str) -> str:
    """Make it the champion, at once or for a share first; gives what was done. Its own gates go into the history."""
    if not context.recipe.promote.rollout:
        context.registry.promote(context.advisor, version, expected=champion, actor=context.actor, reason=sentence)
        return sentence
    with context.store() as store:
        plan = rollout.suitable_plan(store, context.advisor)
    begun = rollout.start(context.registry, context.advisor, version, plan, expected=champion, actor=context.actor,
                          reason=sentence)  # fmt: skip
    return f"{sentence} Its rollout begins {begun.place}."


def index(context: Context, listen: Listener = ignore) -> IndexSummary:
    """Embed the advisor's photographs and let the base score those without a critique; for retrieval alone."""
    from mondrian_core.data.index import index as bring_up_to_date

    with context.store_for_writing() as store:
        voice = store.voice(context.advisor)
        listen(Started("index", detail=context.advisor))
        critic = _base_critic(context, voice)
        done = bring_up_to_date(store, context.root, context.advisor, critic, listen)
    summary = IndexSummary(**{**asdict(done), "left_out": [asdict(each) for each in done.left_out]},
                           base=critic.fingerprint)  # fmt: skip
    return _leave(context, "index", summary, listen)


def synthesize(context: Context, listen: Listener = ignore) -> SynthesizeSummary:
    """Let the base draft critiques of photographs that have none; they wait for a person."""
    from mondrian_core.data.synthesis import synthesize as draft
    from mondrian_core.drafts import Drafts

    with context.store_for_writing() as store:
        voice = store.voice(context.advisor)
        listen(Started("synthesize", detail=context.advisor))
        done = draft(store, context.root, voice, context.recipe, _base_critic(context, voice), listen)
        waiting = len(Drafts(store).waiting(context.advisor))
    summary = SynthesizeSummary(**{**asdict(done), "left_out": [asdict(each) for each in done.left_out]},
                                waiting=waiting)  # fmt: skip
    return _leave(context, "synthesize", summary, listen)


def _base_critic(context: Context, voice: Voice) -> BaseCritic:
    from mondrian_core.data.base_critic import BaseCritic
    from mondrian_core.models.base import load_base

    return BaseCritic(load_base(context.base_model), voice, context.recipe.evaluate.max_tokens)


STAGES: Mapping[str, Callable[..., _Summary]] = {
    "link": link,
    "dataset": dataset,
    "train": train,
    "evaluate": evaluate,
    "register": register,
    "promote": promote,
}
# Not part of the loop: run on their own, by the same means.
APART: Mapping[str, Callable[..., _Summary]] = {"index": index, "synthesize": synthesize}


def check(context: Context) -> None:
    """Refuse a run that could only fail later: before it leaves a folder, and before minutes of other work.

    Raises:
        UnknownAdvisor, NoDatabase, BaseModelUnavailable: each says what to do.
        BadInput: the recipe wants a rollout and the registry is in an object store.
    """
    from mondrian_core.models.base import resolve

    if context.recipe.promote.rollout:
        context.registry.require_room_for_rollouts()
    context.store().voice(context.advisor)
    resolve(context.base_model)


def retrain(context: Context, listen: Listener = ignore) -> PromoteSummary:
    """The whole chain in this process: what the flow `retrain` does, without a server."""
    check(context)
    context.save(context.run_folder / "context.json")
    began = time.monotonic()
    for stage in STAGES.values():
        stage(context, listen)
    outcome = summary_of(context, "promote", PromoteSummary)
    listen(Finished("retrain", {"seconds": round(time.monotonic() - began, 1), **outcome.as_dict()}))
    return outcome


def with_seed(context: Context, seed: int) -> Context:
    """The same run with another seed of training."""
    train_recipe = context.recipe.train.model_copy(update={"seed": seed})
    return replace(context, recipe=context.recipe.model_copy(update={"train": train_recipe}))


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes; a missing one is left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def code_commit() -> str | None:
    """The checkout's commit with "-dirty" when files differ; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True,
                                check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")


def failure_of(error: MondrianError) -> dict[str, Any]:
    """An error as plain values, for another process to show."""
    return {"problem": error.problem, "next_step": error.next_step, "exit_status": error.exit_status}
