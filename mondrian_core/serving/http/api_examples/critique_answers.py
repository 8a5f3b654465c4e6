"""Answers with critiques by the service, and with files of critiques."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mondrian_core.serving.http.api_examples.sample_values import (
    ANALYSIS,
    BY_DIMENSION,
    CHAMPION,
    GROUP_ID,
    JOB_ID,
    SHA256,
    TIME,
    ByKey,
)

_CRITIQUE = {
    "dimensional_analysis": ByKey(ANALYSIS),
    "overall_grade": "7.9",
    "strengths?": [""],
    "priority_improvements?": [""],
    "advisor_notes?": "",
}
_PASS = {
    "finish_reason": "stop",
    "tokens": 182,
    "prompt_tokens": 905,
    "image_tokens": 768,
    "prefill_seconds": 0.61,
    "decode_seconds": 1.12,
    "switch_seconds": 0.0,
    "boot": "15308",
    "drafted": 60,
    "accepted": 44,
}
JOB: dict[str, Any] = {
    "job_id": JOB_ID,
    "status": "completed",
    "group": None,
    "advisor": "ansel",
    "photograph": "river-fcc837cf.jpg",
    "photograph_sha256": SHA256,
    "requested_mode": "lora",
    "explicit_mode": False,
    "mode": "lora",
    "arm": None,
    "model_used": "fine_tuned",
    "adapter_version": CHAMPION,
    "critique": _CRITIQUE,
    "written_scores": BY_DIMENSION,
    "expected_scores": BY_DIMENSION,
    "compared_with": [],
    "crops": None,
    "fallbacks": [],
    "seconds": 1.74,
    "passes": [_PASS],
    "rating": 4,
    "judgements": ByKey(
        {
            "lighting": {
                "useful": True,
                "text": "Wait until the sun stands low.",
                "regions": [[0.0, 0.0, 1.0, 0.42]],
                "judged_at": TIME,
            }
        }
    ),
    "corrected_at": None,
    "error": None,
    "fault": None,
    "created_at": "2026-11-29T14:45:22.127300",
    "started_at": "2026-11-29T14:45:22.201674",
    "completed_at": TIME,
    "dimensional_analysis?": ByKey(ANALYSIS),
    "overall_grade?": "7.9",
    "strengths?": [""],
    "priority_improvements?": [""],
    "advisor_notes?": "",
    "links": {
        "self": f"/jobs/{JOB_ID}",
        "events": f"/jobs/{JOB_ID}/events",
        "photograph": f"/jobs/{JOB_ID}/photograph",
    },
}
_GROUP = {
    "group_id": GROUP_ID,
    "status": "completed",
    "photograph": "river-fcc837cf.jpg",
    "photograph_sha256": SHA256,
    "advisors": ["ansel", "dorothea"],
    "jobs": [JOB],
    "links": {"self": f"/groups/{GROUP_ID}", "photograph": f"/jobs/{JOB_ID}/photograph"},
}
_IMPORTED = {
    "saved": True,
    "counts": ByKey({"new": 12, "changed": 1, "same": 0, "skipped": 0, "conflict": 0, "refused": 0}),
    "notices": [],
    "signature": "a9a5811ea84bfc4ec18762ae22c0112369c3f15602389dbc653d7b0ddb5d60a1",
    "rows": [
        {
            "file": "critiques.csv",
            "row": "row 2",
            "outcome": "new",
            "photograph": "source/river.jpg",
            "advisor": "ansel",
            "reason": "",
        }
    ],
    "rows_total": 13,
    "bad": 0,
    "to_write": 13,
}
CRITIQUE_ANSWERS: Mapping[str, Any] = {
    "POST /analyze": JOB,
    "GET /jobs/{job_id}": JOB,
    "POST /jobs/{job_id}/cancel": JOB,
    "POST /jobs/{job_id}/rating": JOB,
    "POST /jobs/{job_id}/recommendations/{dimension}/judgement": JOB,
    "POST /jobs/{job_id}/crop/decision": JOB,
    "POST /jobs/{job_id}/correction": JOB,
    "GET /history": [
        {
            "job_id": JOB_ID,
            "photograph": "river-fcc837cf.jpg",
            "at": TIME,
            "scores": BY_DIMENSION,
            "mean": 7.9,
            "adapter_version": CHAMPION,
        }
    ],
    "GET /critiques": {"total": 1, "critiques": [JOB]},
    "GET /groups/{group_id}": _GROUP,
    "POST /groups/{group_id}/cancel": _GROUP,
    "POST /critiques/import": _IMPORTED,
}
