"""The conditions of an evaluation: base, prompt, EXIF switch and answer format; and what differs from those in force.

A verdict is about an adapter under its conditions. Promoted under others, the version would serve unmeasured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from mondrian_core.errors import UnknownAdvisor
from mondrian_core.models.base_identity import BaseIdentity, load_base_identity
from mondrian_core.models.base_model import local_base_path
from mondrian_core.prompts import prompt_digest
from mondrian_core.rubric import AnswerForm, critique_json_schema
from mondrian_core.settings import Settings
from mondrian_core.store import Store


@dataclass(frozen=True, kw_only=True)
class EvaluationConditions:
    """What the answers of a version depend on besides its files.

    Attributes:
        base: the base model, as in a manifest (`BaseIdentity.record`); it includes chat template and image processor.
        prompt: digest of the advisor's prompt.
        exif: camera settings are part of the prompt (EXIF_ENABLED).
        answer_schema: digest of the schema that answers follow.
    """

    base: Mapping[str, Any] | None
    prompt: str | None
    exif: bool
    answer_schema: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a gate report."""
        return asdict(self)


@dataclass(frozen=True)
class ConditionDifferences:
    """How the conditions of an evaluation differ from those in force, one clause each.

    Attributes:
        changed: the evaluation doesn't hold for what would be served.
        unknown: what the evaluation doesn't record, or can't measure.
    """

    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def answer_schema_digest(form: AnswerForm = AnswerForm.COMMENTS) -> str:
    """SHA-256 of the schema that answers in this form follow, hexadecimal."""
    return hashlib.sha256(json.dumps(critique_json_schema(form), sort_keys=True).encode()).hexdigest()


def conditions_in_force(
    settings: Settings, advisor: str, form: AnswerForm = AnswerForm.COMMENTS
) -> EvaluationConditions:
    """The conditions under which this machine would serve an advisor's adapter that answers in this form.

    The base is None when it isn't on this machine, the prompt when the workspace has no such advisor. Neither could be
    served from here then, so neither is compared.
    """
    folder = local_base_path(settings.base)
    base = load_base_identity(folder).record(settings.base) if folder is not None else None
    return EvaluationConditions(
        base=base,
        prompt=_advisor_prompt_digest(settings, advisor, form),
        exif=settings.exif_enabled,
        answer_schema=answer_schema_digest(form),
    )


def _advisor_prompt_digest(settings: Settings, advisor: str, form: AnswerForm) -> str | None:
    if not settings.database.is_file():
        return None
    try:
        with closing(Store(settings.database, read_only=True)) as store:
            return prompt_digest(replace(store.advisor(advisor), form=form))
    except UnknownAdvisor:
        return None


def condition_differences(recorded: Mapping[str, Any] | None, now: EvaluationConditions) -> ConditionDifferences:
    """What separates an evaluation from the conditions in force.

    Args:
        recorded: what `EvaluationConditions.as_dict` gave at the evaluation; older releases recorded less.
        now: the conditions in force.
    """
    recorded = recorded or {}
    changed: list[str] = []
    unknown: list[str] = []
    if now.base is not None:
        base = recorded.get("base") or {}
        identity = BaseIdentity(now.base["weights"], now.base["settings"], now.base["templates"])
        changed += identity.differences(base, "evaluated")
        unknown += [] if base.get("fingerprint") else ["its evaluation doesn't record the base model"]
    if now.prompt is not None and recorded.get("prompt") is None:
        unknown.append("its evaluation doesn't record the advisor's prompt")
    elif now.prompt not in (None, recorded.get("prompt")):
        changed.append("the advisor's prompt has changed since its evaluation")
    if recorded.get("answer_schema") is None:
        unknown.append("its evaluation doesn't record the answer format")
    elif recorded["answer_schema"] != now.answer_schema:
        changed.append("the answer format (JSON schema) has changed since its evaluation")
    switch = bool(recorded.get("exif"))  # no release without the record added camera settings
    if switch != now.exif:
        changed.append(f"EXIF_ENABLED was {_on(switch)} at its evaluation and is {_on(now.exif)} now")
    elif now.exif:
        unknown.append("EXIF_ENABLED is on, and no evaluation measures camera settings in the prompt")
    return ConditionDifferences(tuple(changed), tuple(unknown))


def _on(switch: bool) -> str:
    return "on" if switch else "off"
