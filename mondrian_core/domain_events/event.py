"""The domain events: their names, their one payload, and the IDs that make them idempotent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mondrian_core.errors import BadInput
from mondrian_core.settings import validate_advisor_id

ADAPTER_PROMOTED = "adapter.promoted"
ADAPTER_REJECTED = "adapter.rejected"
ADAPTER_ROLLED_BACK = "adapter.rolled_back"
SERVICE_DEGRADED = "service.degraded"
DATA_GROWN = "data.grown"
DRIFT_DETECTED = "drift.detected"

EVENT_PREFIX = "mondrian."  # of the names in Prefect
RESOURCE_PREFIX = "mondrian.advisor."
MAX_TEXT = 4000  # characters of a title or reason; Prefect drops events above 1.5 MB
# Namespace of the event IDs. Another value would make every event that was sent before a new one.
ID_NAMESPACE = uuid.UUID("5f0c0f2e-7a0e-5a39-9a55-0b0d4b1f6c11")


@dataclass(frozen=True)
class EventMeaning:
    """When an event is sent; `cause` is its label `mondrian.cause`, "" for an event without one."""

    name: str
    when: str
    cause: str = ""


EVENT_MEANINGS = (  # the table in docs/reference/events.md
    EventMeaning(
        ADAPTER_PROMOTED, "a version became champion, by a retraining, a person, or at the start of a rollout"
    ),
    EventMeaning(ADAPTER_REJECTED, "a version failed a gate, or a person rejected it"),
    EventMeaning(ADAPTER_ROLLED_BACK, "the champion before came back, or a damaged champion was put in quarantine"),
    EventMeaning(SERVICE_DEGRADED, "too many answers of the champion fail", "adapter"),
    EventMeaning(
        SERVICE_DEGRADED, "5 of the last 10 requests of a day failed by disk, database or base model", "service"
    ),
    EventMeaning(
        DATA_GROWN,
        "10 more critiques than in the champion's dataset; again at 20, 30, ... (`MONDRIAN_GROWTH_STEP`)",
    ),
    EventMeaning(DRIFT_DETECTED, "live scores or photographs left the band of the evaluation"),
)
EVENT_NAMES = tuple(dict.fromkeys(meaning.name for meaning in EVENT_MEANINGS))


@dataclass(frozen=True, kw_only=True)
class DomainEvent:
    """One event about one advisor. Every event has the same payload, so that one automation can follow any of them.

    Attributes:
        name: one of `EVENT_NAMES`, without Prefect's prefix.
        advisor: the advisor's ID.
        key: identifies what happened; the same name, advisor and key are the same event, however often it is sent.
        title: a sentence for a notification's first line.
        reason: why, as text.
        version: the adapter that the event is about; None: none, or the base alone.
        run: the retraining behind it, the name of its folder under runs/.
        verdict: PASS, FAIL, INCONCLUSIVE, or None.
        link: where to read more: an address, or a path on the service.
        cause: what a degraded service suffers from, "adapter" or "service"; also a label for triggers.
        evidence: figures and facts, as plain JSON values.
        occurred: when; the clock's time now unless given.
    """

    name: str
    advisor: str
    key: str
    title: str
    reason: str = ""
    version: str | None = None
    run: str | None = None
    verdict: str | None = None
    link: str | None = None
    cause: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    occurred: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        """Check name and advisor.

        Raises:
            BadInput: no event has that name, or the advisor's ID is not valid.
        """
        if self.name not in EVENT_NAMES:
            raise BadInput(f"There is no event '{self.name}'.", f"The events are {', '.join(EVENT_NAMES)}.")
        validate_advisor_id(self.advisor)

    @property
    def id(self) -> uuid.UUID:
        """UUIDv5 of name, advisor and key: sending it again changes nothing."""
        return uuid.uuid5(ID_NAMESPACE, f"{self.name}\n{self.advisor}\n{self.key}")

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of every event; keys without a value are null."""
        return {
            "advisor": self.advisor,
            "title": self.title[:MAX_TEXT],
            "reason": self.reason[:MAX_TEXT],
            "version": self.version,
            "run": self.run,
            "verdict": self.verdict,
            "link": self.link,
            "cause": self.cause,
            "evidence": dict(self.evidence),
        }

    def as_prefect(self) -> dict[str, Any]:
        """The body of one event in Prefect's API."""
        facts = {"version": self.version, "run": self.run, "verdict": self.verdict, "cause": self.cause}
        return {
            "id": str(self.id),
            "occurred": self.occurred.astimezone(UTC).isoformat(),
            "event": EVENT_PREFIX + self.name,
            "resource": {
                "prefect.resource.id": RESOURCE_PREFIX + self.advisor,
                "prefect.resource.name": self.advisor,
                **{f"mondrian.{name}": value for name, value in facts.items() if value},
            },
            "payload": self.payload,
        }
