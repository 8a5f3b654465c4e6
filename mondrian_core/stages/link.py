"""The link stage: match critiques with photographs and give a reason for every record that is left out."""

from __future__ import annotations

from mondrian_core.advisors import count_for_advisor
from mondrian_core.events import EventListener, StageStarted, ignore_events
from mondrian_core.files import write_json
from mondrian_core.next_steps import next_step_for, quoted_command
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import LinkSummary, write_stage_summary


def link_stage(context: StageContext, listen: EventListener = ignore_events) -> LinkSummary:
    """Match profiles and analyses with their photographs; every record is used or excluded with a reason."""
    from mondrian_core.data.linking.link import link_critiques

    store = context.store()
    store.advisor(context.advisor)
    listen(StageStarted("link", detail=context.advisor))
    manifest = link_critiques(store, context.root, context.advisor, listen)
    path = context.run_folder / "link_manifest.json"
    write_json(path, manifest.as_dict())
    left_out: dict[str, int] = {}
    for record in manifest.left_out:
        left_out[str(record.reason)] = left_out.get(str(record.reason), 0) + 1
    return write_stage_summary(
        context, "link", LinkSummary(str(path), len(manifest.used), left_out, manifest.table()), listen
    )


def step_without_usable_critiques(context: StageContext) -> str:
    """What to do when link uses no record: import or write critiques, or look at why those that exist are excluded."""
    with context.store() as store:
        counts = count_for_advisor(store, context.registry, context.advisor)
    if counts.critiques == 0:
        return next_step_for(counts)
    return f"See the reason for each record: {quoted_command('link', '--advisor', context.advisor)}."
