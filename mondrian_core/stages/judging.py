"""The stage that evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadInput, translated
from mondrian_core.events import Listener, Noticed, Started, ignore
from mondrian_core.registry import ChampionReference, Version
from mondrian_core.stages.context import Context
from mondrian_core.stages.exclusive import on_accelerator
from mondrian_core.stages.learning import dataset_of
from mondrian_core.stages.summaries import EvaluateSummary, TrainSummary, leave, summary_of

if TYPE_CHECKING:
    from mondrian_core.data.dataset import DatasetVersion
    from mondrian_core.evaluation import Trained
    from mondrian_core.models.base import Base


@on_accelerator()
def evaluate(context: Context, listen: Listener = ignore) -> EvaluateSummary:
    """Measure the adapter against base and champion on photographs it never saw, and let the gates decide.

    What it was trained on is looked up, not assumed: one that saw every photograph is judged by folds. The evaluation
    of a registered version goes into the registry's history.
    """
    from mondrian_core import evidence
    from mondrian_core.evaluation import Known
    from mondrian_core.evaluation import evaluate as judge
    from mondrian_core.models import adapters
    from mondrian_core.models.base import load_base

    version = dataset_of(context)
    folder = Path(context.adapter or summary_of(context, "train", TrainSummary).adapter)
    datasets, settings = context.root / "datasets" / context.advisor, context.recipe.evaluate
    trained = evidence.trained_on(folder, datasets, listen)
    rows, split = evidence.tested_on(version, trained)
    listen(Started("evaluate", detail=f"{len(rows)} photographs with scores: {split}"))
    base = load_base(context.base_model)
    live = context.registry.champion(context.advisor)
    compared_with = (live.reference if live else ChampionReference()).as_dict()
    champion = _comparable(live, base, folder, listen)
    tested = {row.lineage for row in rows}
    index = [row for row in version.rows("train") if row.lineage not in tested]
    known = Known(
        champion=champion,
        champion_trained=evidence.trained_on(champion, datasets, listen) if champion else None,
        problems=(*adapters.check(base, folder), *base.identity.differences(_trained_base(context))),
        trained=trained,
        index=frozenset(row.lineage for row in index),
        consult=evidence.consult_of(index) if settings.rag else None,
        folding=evidence.folding_of(
            version,
            settings.folds,
            context.base_model,
            evidence.train_recipe_of(folder, context.recipe.train, listen),
            context.run_folder / "folds",
            listen,
        )
        if settings.folds
        else None,
        cache=context.root / "runs" / "cache",
        split=split,
        compared_with=compared_with,
    )
    more = unlabelled_photographs(context, version, max(0, settings.compliance_photographs - len(rows)), trained)
    with translated(context.run_folder):
        report = judge(
            base,
            folder,
            evidence.labelled(rows, version),
            more,
            context.store().voice(context.advisor),
            context.recipe,
            context.run_folder,
            known,
            listen=listen,
        )
    gates = [gate.as_dict() for gate in report.gates]
    summary = EvaluateSummary(
        report=str(context.run_folder / "comparison_report.json"),
        html=str(context.run_folder / "report.html"),
        verdict=report.verdict,
        gates=gates,
        split=split,
        compared_with=compared_with,
    )
    leave(context, "evaluate", summary, listen)
    if (registered := context.registry.version_at(context.advisor, folder)) is not None:
        context.registry.record_evaluation(
            context.advisor, registered.version, summary.gate_report, actor=context.actor
        )
    return summary


def _trained_base(context: Context) -> dict[str, Any] | None:
    """The base that this run's adapter was trained on; that of a version is in its manifest."""
    return None if context.adapter else summary_of(context, "train", TrainSummary).base


def _comparable(champion: Version | None, base: Base, candidate: Path, listen: Listener) -> Path | None:
    """The champion's folder when it can answer beside the candidate: same base, and not the candidate itself."""
    if champion is None or champion.path == candidate:
        return None
    if differences := base.identity.differences(champion.manifest.get("base")):
        listen(
            Noticed(
                "evaluate",
                f"The champion {champion.version} belongs to another base and is not compared: "
                f"{'; '.join(differences)}.",
            )
        )
        return None
    return champion.path


def unlabelled_photographs(
    context: Context, version: DatasetVersion, wanted: int, trained: Trained | None = None
) -> list[Any]:
    """Up to `wanted` photographs without labels for format compliance, none of them trained on, nor a twin of one.

    The workspace's own come first, in the order of their names; rendered ones fill what is missing.
    """
    from mondrian_core.evaluation.leaks import seen_by
    from mondrian_core.images import PHOTOGRAPH_SUFFIXES, bounded, open_photograph
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
            found.append(bounded(photograph.image))
    return [*found, *rendered_photographs(wanted - len(found), seed=context.recipe.evaluate.seed + 1_000_003)]
