"""Answers about versions, runs, drift and the service itself, and those in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.serving.http.api_examples.sample_values import (
    CANDIDATE,
    CHAMPION,
    JOB_ID,
    OTHER_RUN,
    RUN,
    SHA256,
    ByKey,
)

_VERSION = {
    "version": CHAMPION,
    "state": "champion",
    "verdict": "PASS",
    "look": 3,
    "created_at": "2026-11-23T03:41:14+00:00",
    "parent": "v0002",
    "photographs": 16,
    "recipe": "small-set",
    "run": RUN,
    "candidate_error": 0.61,
    "base_error": 2.35,
    "by_folds": False,
    "gates": [],
    "loosened": "",
    "unanswered_failure": False,
    "dataset": "5f2a90c1d7e3",
    "damaged": "",
}
_EVENT = {
    "serial": 9,
    "at": "2026-11-23T03:41:15.390+00:00",
    "event": "promote",
    "version": CHAMPION,
    "before": "v0002",
    "after": CHAMPION,
    "moves_pointer": True,
    "actor": "flow:retrain",
    "reason": "every gate passed",
    "forced": False,
    "objections": [],
}
_RUN = {
    "name": RUN,
    "advisor": "ansel",
    "state": "complete",
    "last_stage": "promote",
    "recipe": "small-set",
    "started_at": "2026-11-23T03:00:00",
    "training_seconds": 1260.0,
    "photographs": 32,
    "rows": 96,
    "dataset": "5f2a90c1d7e3",
    "steps": 120,
    "seed": 3,
    "best_epoch": 4,
    "verdict": "PASS",
    "decision": "promoted",
    "sentence": "Every gate passed.",
    "version": CHAMPION,
    "candidate_error": 0.61,
    "base_error": 2.35,
    "by_folds": False,
    "settings": {},
    "evaluates": False,
    "has_report": True,
    "has_log": True,
    "pruned": False,
    "damaged": [],
    "resume_command": "",
}
_ROW = {"what": "train.rank", "values": [8, 16]}
_MODEL = {"id": "ansel", "object": "model", "created": 1795963514, "owned_by": "mondrian"}
_SIGNAL = {
    "signal": "composition",
    "title": "Composition",
    "unit": "points",
    "status": "steady",
    "sentence": "",
    "reference": 40,
    "band": [6.1, 7.4],
    "reference_mean": 6.8,
    "live_mean": 6.9,
    "live": 120,
    "evidence": 0.7,
    "detectable": 0.6,
    "alarm": None,
    "meaning": "The scores of Composition are not distributed as in the evaluation of this version.",
    "action": "Look at the latest critiques.",
}
_CHAT_ANSWER = {
    "id": f"chatcmpl-{JOB_ID}",
    "object": "chat.completion",
    "created": 1795963526,
    "model": f"ansel@{CHAMPION}",
    "system_fingerprint": "5d1c0c7be2f0",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"dimensional_analysis": ...}', "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 905, "completion_tokens": 182, "total_tokens": 1087},
    "mondrian": {
        "job_id": JOB_ID,
        "mode": "lora",
        "adapter_version": CHAMPION,
        "fallbacks": [],
        "ignored": [],
        "links": {"self": f"/jobs/{JOB_ID}"},
    },
}
_STATE = {"damaged": "", "rollout": None}
REGISTRY_ANSWERS: Mapping[str, Any] = {
    "GET /registry": [
        {
            "advisor": "ansel",
            "name": "Ansel Adams",
            "champion": _VERSION,
            "champion_name": CHAMPION,
            "since": "2026-11-23T03:41:15.390+00:00",
            "reason": "every gate passed",
            "versions": 4,
            "waiting": [CANDIDATE],
            "latest": _VERSION,
            **_STATE,
        }
    ],
    "GET /registry/{advisor}": {
        "advisor": "ansel",
        "champion": CHAMPION,
        "versions": [_VERSION],
        "reigns": [
            {
                "version": CHAMPION,
                "since": "2026-11-23T03:41:15.390+00:00",
                "until": None,
                "event": "promote",
                "actor": "flow:retrain",
                "reason": "every gate passed",
            }
        ],
        "history": [_EVENT],
        "problems": [""],
        **_STATE,
    },
    "GET /registry/{advisor}/{version}": {
        "advisor": "ansel",
        **_VERSION,
        "evaluations": [],
        "gate_rows": [],
        "facts": ByKey({"Base model": "mini", "Run": RUN}),
        "training": {},
        "recipe_values": {},
        "files": [
            {"name": "adapters.safetensors", "bytes": 1_904_176, "sha256": SHA256, "state": "verified"},
        ],
        "has_report": True,
        "quarantined_because": "",
        "history": [_EVENT],
        "family": {
            "version": CHAMPION,
            "state": "champion",
            "verdict": "PASS",
            "created_at": "2026-11-23T03:41:14+00:00",
            "children": [],
        },
    },
    "GET /registry/{advisor}/diff/{first}/{second}": {
        "first": CHAMPION,
        "second": CANDIDATE,
        "differences": [{"what": "state", "first": "champion", "second": "candidate"}],
        "scores": {},
        "critiques": [],
        "answers": ByKey({CHAMPION: True, CANDIDATE: True}),
    },
    "GET /runs": [_RUN],
    "GET /runs/{run}": _RUN,
    "GET /runs/compare": {"runs": [RUN, OTHER_RUN], "settings": [_ROW], "figures": [_ROW]},
    "GET /drift": [
        {
            "advisor": "ansel",
            "status": "steady",
            "sentence": "Live answers look like the evaluation.",
            "version": CHAMPION,
            "watch": 1,
            "watching_since": "2026-11-23T03:41:15.390000",
            "begun_by": "evaluation",
            "reference": RUN,
            "requests": 120,
            "counted": 118,
            "repeated": 2,
            "in_series": 0,
            "alarm_evidence": 240.0,
            "signals": [_SIGNAL],
        }
    ],
    "GET /compare": {"days": 7, "arms": []},
    "GET /health": {
        "status": "ok",
        "workspace": "workspace-a84b5988",
        "boot": "b8289a4359e2",
        "base": "mini",
        "base_fingerprint": "5d1c0c7be2f0",
        "model_mode": "fine_tuned",
        "ab_test_split": None,
        "adapters": ByKey({"ansel": CHAMPION}),
        "model_process": {"pid": 15308, "starts": 1, "crashes": 0, "seconds_since_last_token": None},
        "adapter_cache": {"adapters": 1, "bytes": 1_904_176, "budget_bytes": 536_870_912},
        "queue": {"waiting": 0, "longest": 32, "working_on": None},
    },
    "GET /v1/models": {"object": "list", "data": [_MODEL]},
    "GET /v1/models/{model}": _MODEL,
    "POST /v1/chat/completions": _CHAT_ANSWER,
}
