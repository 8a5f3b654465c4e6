"""The tables of docs/reference/events.md: when each event is sent, and the keys of its payload."""

from __future__ import annotations

from mondrian_core.domain_events import DomainEvent
from mondrian_core.domain_events.event import EVENT_MEANINGS, EVENT_PREFIX
from mondrian_core.markdown import Markdown, markdown_table
from tests.architecture.reference.docstrings import docstring_names
from tests.architecture.reference.prose_markup import escaped_prose


def event_table() -> str:
    """When each event is sent."""
    rows = [
        (
            Markdown(f"`{EVENT_PREFIX}{each.name}`"),
            Markdown(escaped_prose(each.when)),
            Markdown(f"`{each.cause}`" if each.cause else ""),
        )
        for each in EVENT_MEANINGS
    ]
    return markdown_table(("event", "when", Markdown("label `mondrian.cause`")), rows)


def payload_table() -> str:
    """The keys of every event's payload."""
    texts = docstring_names(DomainEvent, "Attributes")
    payload = DomainEvent(name=EVENT_MEANINGS[0].name, advisor="ansel", key="", title="").payload
    rows = [
        (Markdown(f"`{key}`"), Markdown(escaped_prose(texts[key].rstrip(".").replace("None", "null"))))
        for key in payload
    ]
    return markdown_table(("key", "value"), rows)
