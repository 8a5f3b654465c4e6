"""The forms of the service's JSON answers. `tests/serving/http/test_http_reference.py` compares them with real answers.

A list is a list of its one item, a mapping an object, a text the keys of an object with spaces between, "" any value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Form = str | list[Any] | Mapping[str, Any]

_ADVISOR = (
    "id name bio prompt system_message photographs critiques versions active_version other_critiques own_photographs"
)
_VERSION = (
    "version state verdict look created_at parent photographs recipe run candidate_error base_error by_folds gates "
    "loosened unanswered_failure dataset damaged"
)
_WRITING = "photograph advisor entry revision state draft_seen updated_at"
_PHOTOGRAPH = "sha256 name advisors portfolio model_critiques written_critiques latest links"
_MODEL = "id object created owned_by"
_EVENT = "serial at event version before after moves_pointer actor reason forced objections"
JOB = "job"
JOB_EXAMPLES = {"job_id", "status", "critique", "links"}  # a completed job has the keys of its critique too
ANSWERS: Mapping[str, Form] = {
    "POST /analyze": JOB,
    "GET /jobs/{job_id}": JOB,
    "POST /jobs/{job_id}/cancel": JOB,
    "GET /critiques": {"total": "", "critiques": [JOB]},
    "GET /advisors": ["id name bio adapter_version"],
    "GET /advisors/{advisor}": _ADVISOR,
    "POST /advisors": _ADVISOR,
    "PATCH /advisors/{advisor}": f"{_ADVISOR} prompt_changed",
    "GET /start": {
        "advisor": "",
        "counts": "advisor photographs critiques versions active_version other_critiques own_photographs",
        "recipe": "",
        "retraining": "at_work stage stage_number done total problem command run decided interrupted share",
        "steps": ["key state text next_step title"],
        "current": "",
    },
    "GET /photographs": {"total": "", "photographs": [_PHOTOGRAPH]},
    "POST /photographs": {"advisor": "", "imported": "", "files": [""]},
    "GET /photographs/recording": "at_work",
    "GET /write": {
        "next": "photograph why url",
        "progress": "critiques deciding by_folds more_to_decide more_to_show sentence anchoring",
    },
    "GET /write/{sha256}": _WRITING,
    "PUT /write/{sha256}/entry": _WRITING,
    "PUT /write/{sha256}/state": f"{_WRITING} next",
    "GET /write/{sha256}/similar": {"compared_by": "", "photographs": [""]},
    "GET /registry": [
        "advisor name damaged champion champion_name since reason versions waiting latest rollout",
    ],
    "GET /registry/{advisor}": {
        "advisor": "",
        "champion": "",
        "versions": [_VERSION],
        "reigns": ["version since until event actor reason"],
        "history": [_EVENT],
        "problems": [""],
        "rollout": "",
        "damaged": "",
    },
    "GET /registry/{advisor}/{version}": f"advisor {_VERSION} evaluations gate_rows facts training recipe_values files "
    "has_report quarantined_because history family",
    "GET /registry/{advisor}/diff/{first}/{second}": {
        "first": "",
        "second": "",
        "differences": ["what first second"],
        "scores": "",
        "critiques": [""],
        "answers": "",
    },
    "GET /drift": [
        "advisor status sentence version watch watching_since begun_by reference requests counted repeated in_series "
        "alarm_evidence signals"
    ],
    "GET /compare": {"days": "", "arms": [""]},
    "GET /health": {
        **dict.fromkeys(("status", "workspace", "boot", "base", "base_fingerprint", "model_mode", "ab_test_split"), ""),
        "adapters": "",
        "model_process": "pid starts crashes seconds_since_last_token",
        "adapter_cache": "adapters bytes budget_bytes",
        "queue": "waiting longest working_on",
    },
    "GET /v1/models": {"object": "", "data": [_MODEL]},
    "GET /v1/models/{model}": _MODEL,
}


def shown_form(form: Form) -> str:
    """A form as one line: `{total, photographs: [{sha256, name}]}`."""
    match form:
        case list():
            return f"[{shown_form(form[0]) or '...'}]"
        case str():
            return f"{{{', '.join(form.split())}}}" if form not in ("", JOB) else form
        case _:
            inside = ((key, shown_form(value)) for key, value in form.items())
            return f"{{{', '.join(f'{key}: {text}' if text else key for key, text in inside)}}}"


def differs(form: Form, value: Any, place: str = "") -> list[str]:
    """Where an answer has other keys than its form."""
    if form == "" or value is None:
        return []
    match form, value:
        case list(), list():
            return differs(form[0], value[0], f"{place}[]") if value else []
        case str(), dict():
            return _unequal(set(form.split()), value, place) if form != JOB else _missing(JOB_EXAMPLES, value, place)
        case Mapping(), dict():
            shared = form.keys() & value.keys()
            inner = [each for key in shared for each in differs(form[key], value[key], f"{place}.{key}")]
            return _unequal(set(form), value, place) + inner
        case _:
            return [f"{place}: {type(value).__name__}"]


def _missing(keys: set[str], value: Mapping[str, Any], place: str) -> list[str]:
    return [f"{place}.{key}" for key in sorted(keys - value.keys())]


def _unequal(keys: set[str], value: Mapping[str, Any], place: str) -> list[str]:
    return [f"{place}.{key}" for key in sorted(keys ^ value.keys())]
