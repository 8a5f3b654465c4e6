"""Task that looks for drift: updates the watch, publishes its page, emits one event for each alarm."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core.domain_events import DRIFT_DETECTED, DomainEvent
from mondrian_core.drift import DriftMonitor
from mondrian_core.drift.report import (
    DriftReport,
    SignalReport,
    alarm_key,
    drift_report,
    evidence_text,
    next_drift_steps,
)
from mondrian_core.drift.signals import ALARM_EVIDENCE
from mondrian_core.errors import DatabaseBusy
from mondrian_core.markdown import escape_markdown, markdown_table
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tasks.artifact_pages import join_markdown
from tasks.events import emit_event_once
from tasks.reporting import artifact_key, publish_markdown_artifact, retry_only_on


def watched_advisors(settings: Settings, advisor: str | None) -> list[str]:
    """The advisor, or all of the workspace.

    Raises:
        NoWorkspace, NoDatabase, UnknownAdvisor: it is not there.
    """
    settings.require_workspace()
    with Store(settings.database, read_only=True) as store:
        return [store.advisor(advisor).advisor] if advisor else sorted(store.advisor_names())


@task(
    name="drift",
    retries=2,
    retry_delay_seconds=30,
    retry_condition_fn=retry_only_on(DatabaseBusy),
    timeout_seconds=1800,
    cache_policy=NO_CACHE,
)
def drift_task(settings: Settings, advisor: str) -> DriftReport:
    """Update the watch of an advisor. The event of an alarm is sent in every run while it stands, and arrives once."""
    root = settings.require_workspace()
    with Store(settings.database) as store:
        monitor = DriftMonitor(store, Registry(settings.adapters_root), root)
        report = drift_report(advisor, monitor.update(advisor))
    if report.watch is not None:
        publish_markdown_artifact(artifact_key("drift", advisor), drift_markdown(report), report.sentence)
    for alarm in report.alarms:
        emit_event_once(drift_event(report, alarm))
    return report


def drift_event(report: DriftReport, signal: SignalReport) -> DomainEvent:
    """The event of a signal with an alarm."""
    if report.watch is None or signal.alarm is None:
        raise ValueError("only a signal with an alarm has an event")
    return DomainEvent(
        name=DRIFT_DETECTED,
        advisor=report.advisor,
        key=alarm_key(report.watch, signal.alarm),
        title=f"Drift of {report.advisor} {report.watch.version}: {signal.signal.title}",
        reason=signal.sentence,
        version=report.watch.version,
        link="/drift",
        evidence=signal.as_dict(),
    )


def drift_markdown(report: DriftReport) -> str:
    """The watch as Markdown: the result first, then the signals, then what to do."""
    rows = [
        (
            each.signal.title,
            each.status.replace("_", " "),
            f"{each.band[0]:.3g} to {each.band[1]:.3g}" if each.band else "",
            "" if each.live_mean is None else f"{each.live_mean:.3g}",
            "" if each.status == "no_reference" else evidence_text(each.evidence),
        )
        for each in report.signals
    ]
    alarms = [f"**{escape_markdown(each.signal.title)}.** {escape_markdown(each.sentence)}" for each in report.alarms]
    source = report.watch.source if report.watch is not None else ""
    return join_markdown(
        f"## {escape_markdown(report.advisor)}: {escape_markdown(report.sentence)}",
        *alarms,
        markdown_table(("signal", "state", "band of the reference", "live mean", "evidence"), rows),
        f"An alarm is raised at an evidence of {ALARM_EVIDENCE:.0f}. Reference: {escape_markdown(source or 'none')}.",
        "\n".join(f"- {step}" for step in next_drift_steps(report)),
    )
