"""The A/B comparison: by assigned arm, without explicit modes; missing data is not zero."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.jobs.ab_comparison import compare_arms
from mondrian_core.settings import Settings
from mondrian_core.store import Store


def add(store: Store, arm: str | None, score: int | None, *, explicit: bool = False, fell_back: bool = False) -> None:
    job, _ = store.add_job("ansel", "x.jpg", requested_mode="lora", explicit_mode=explicit, arm=arm)
    store.claim_job(job.id)
    if score is None:
        store.fail_job(job.id, "it broke")
        return
    answer = {"dimensional_analysis": {name: {"score": score, "comment": "x"} for name in DIMENSIONS}}
    used = f"ab_test_{'base' if fell_back else arm}" if arm else "base"
    store.finish_job(
        job.id, answer=answer, model_used=used, mode="lora", details={"seconds": float(score), "fell_back": fell_back}
    )


def test_ab_comparison_by_assigned_arm(settings: Settings) -> None:
    with Store(settings.database) as store:
        for score in (2, 4):
            add(store, "base", score)
        add(store, "fine_tuned", 8)
        add(store, "fine_tuned", 6, fell_back=True)
        add(store, "fine_tuned", None)
        add(store, None, 10, explicit=True)
        base, tuned = compare_arms(store, 7)
    assert (base["n"], base["failed"], base["fell_back"], base["mean_score"]) == (2, 0, 0, 3.0)
    assert (tuned["n"], tuned["failed"], tuned["fell_back"], tuned["mean_score"]) == (3, 1, 1, 7.0)
    assert base["seconds_median"] == 2.0
    low, high = tuned["failure_rate_95"]
    assert low < 1 / 3 < high


def test_ab_comparison_ignores_old_jobs_and_is_empty_without_jobs(settings: Settings) -> None:
    with Store(settings.database) as store:
        assert compare_arms(store, 7) == []
        add(store, "base", 5)
        assert compare_arms(store, 7, now=datetime.now(UTC) + timedelta(days=8)) == []
        base, tuned = compare_arms(store, 7)
    assert base["n"] == 1
    assert base["mean_score_95"] is None, "one value has no interval"
    assert tuned["mean_score"] is None and tuned["failure_rate_95"] is None
