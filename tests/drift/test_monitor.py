"""The drift watch on a real database: what it finds, what doesn't count, how it resumes and starts again."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from mondrian_core.cli import main
from mondrian_core.drift import EVALUATION, DriftMonitor
from mondrian_core.drift.report import alarm_key, drift_report, next_drift_steps
from mondrian_core.drift.signals import ALARM_EVIDENCE, DISTANCE, LENGTH, REFUSED, REPAIRED
from mondrian_core.drift.watch import DriftState, state_as_dict
from mondrian_core.errors import BadInput
from mondrian_core.registry import Registry
from mondrian_core.statistics.conformal_martingale import FIRST_STAKE, STAKE_PER_VALUE
from mondrian_core.store import Store
from mondrian_core.store.drift_watches import DriftStore
from mondrian_core.store.embeddings import Embedding, EmbeddingStore
from tests.drift.conftest import PROMOTED, TOKENS, DriftWorkspace, drawn_scores


def state_of(monitor: DriftMonitor) -> DriftState:
    watch = monitor.update("ansel")
    assert watch is not None
    return watch.state


def test_nothing_is_watched_before_a_promotion(workspace: DriftWorkspace) -> None:
    report = drift_report("ansel", workspace.monitor.update("ansel"))
    assert report.status == "nothing_promoted"
    assert "mondrian retrain --advisor ansel" in next_drift_steps(report)[0]


def test_shift_of_one_point_is_found_within_a_hundred_requests(workspace: DriftWorkspace) -> None:
    workspace.promote(60)
    workspace.add_jobs(150, seed=1)
    quiet = workspace.monitor.update("ansel")
    assert quiet is not None
    assert not quiet.state.alarms
    workspace.add_jobs(100, seed=2, shift={"lighting": -1.0})
    watch = workspace.monitor.update("ansel")
    assert watch is not None
    assert set(watch.state.alarms) == {"lighting"}
    alarm = watch.state.alarms["lighting"]
    assert 150 < alarm.counted <= 250
    assert alarm.evidence >= ALARM_EVIDENCE
    assert watch.new_alarms == (alarm,)
    again = workspace.monitor.update("ansel")
    assert again is not None
    assert again.new_alarms == (), "an alarm is new once"
    assert again.state.alarms == watch.state.alarms
    assert alarm_key(again, alarm) == alarm_key(watch, alarm)
    report = drift_report("ansel", watch)
    assert report.status == "alarm"
    assert "Lighting" in report.sentence
    assert any("--accept" in step for step in next_drift_steps(report))


@pytest.mark.parametrize(
    ("signal", "facts"),
    [(REPAIRED, {"passes": 2}), (LENGTH, {"tokens": TOKENS}), (REFUSED, {"scores": None})],
)
def test_other_signals_are_found(workspace: DriftWorkspace, signal: str, facts: dict[str, object]) -> None:
    workspace.promote(60)
    rng = np.random.default_rng(3)
    for _ in range(80):
        options = {"tokens": int(rng.normal(TOKENS, 4)), **facts}
        failed = "scores" in options
        options.pop("scores", None)
        workspace.add_job(None if failed else drawn_scores(rng), **options)
    assert set(state_of(workspace.monitor).alarms) == {signal}


def test_distant_photographs_are_found_and_near_ones_are_not(workspace: DriftWorkspace) -> None:
    rng = np.random.default_rng(4)
    index = EmbeddingStore(workspace.store)
    for number in range(40):
        vector = np.concatenate([[1.0], rng.normal(0, 0.1, 15)])
        index.save(
            Embedding(
                advisor="ansel",
                sha256=f"index-{number}",
                image_path=f"source/{number}.jpg",
                base="f" * 64,
                perceptual_hashes=(number, number),
                vector=tuple(vector / np.linalg.norm(vector)),
            )
        )
    workspace.promote(30)
    for _ in range(60):
        workspace.add_job(drawn_scores(rng), distance=0.0)
    assert not state_of(workspace.monitor).alarms
    for _ in range(60):
        workspace.add_job(drawn_scores(rng), distance=0.4)
    assert set(state_of(workspace.monitor).alarms) == {DISTANCE}


def test_what_does_not_count(workspace: DriftWorkspace) -> None:
    version = workspace.promote(30)
    scores = drawn_scores(np.random.default_rng(5))
    workspace.add_job(scores, sha256="same")
    workspace.add_job(scores, sha256="same")
    burst = PROMOTED + timedelta(days=20)
    for number in range(5):
        workspace.add_job(scores, filename=f"trip/{number}.jpg", at=burst + timedelta(minutes=number * 8))
    workspace.add_job(scores, filename="trip/8.jpg", at=burst + timedelta(days=2))
    workspace.add_job(scores, filename="trip/9.jpg", at=burst + timedelta(days=4))
    for minutes in (0, 9, 18, 29):  # uploads: the last one comes after a pause
        workspace.add_job(scores, at=burst + timedelta(days=5, minutes=minutes))
    state = state_of(workspace.monitor)
    assert (state.requests, state.counted, state.repeated, state.in_series) == (13, 5, 1, 7)
    workspace.add_job(scores, version="v0009")
    workspace.add_job(scores, details={"rollout": {"shadow": True, "version": version}})
    workspace.add_job(scores, details={"answer_options": {"schema": {}}})
    workspace.add_job(scores, at=PROMOTED - timedelta(days=1))
    workspace.add_job(None, details={"rollout": {"version": "v0009"}})
    assert state_of(workspace.monitor).requests == 13


def test_updates_in_pieces_equal_one_update_and_a_new_computation(workspace: DriftWorkspace) -> None:
    workspace.promote(30)
    for part in range(4):
        workspace.add_jobs(40, seed=10 + part, shift={"lighting": 0.8})
        with Store(workspace.settings.database) as other:  # a restart
            DriftMonitor(other, Registry(workspace.settings.adapters_root)).update("ansel")
    pieces = state_as_dict(state_of(workspace.monitor))
    with Store(workspace.settings.database, read_only=True) as reading:
        assert state_as_dict(state_of(DriftMonitor(reading, workspace.registry))) == pieces
    with workspace.store.transaction() as connection:
        connection.execute("DELETE FROM drift_watches")
    assert state_as_dict(state_of(workspace.monitor)) == pieces


def test_jobs_are_read_up_to_the_first_that_is_at_work(workspace: DriftWorkspace) -> None:
    workspace.promote(30)
    workspace.add_jobs(3, seed=1)
    waiting, _ = workspace.store.add_job("ansel", "w.jpg", requested_mode="lora", job_id="waiting")
    workspace.add_jobs(2, seed=2)
    assert state_of(workspace.monitor).requests == 3
    workspace.store.fail_job(waiting.id, "no answer")
    assert state_of(workspace.monitor).requests == 6


def test_slower_writer_does_not_take_the_watch_back(workspace: DriftWorkspace) -> None:
    workspace.promote(30)
    workspace.add_jobs(3, seed=1)
    workspace.monitor.update("ansel")
    watches = DriftStore(workspace.store)
    stored = watches.present("ansel")
    assert stored is not None
    workspace.add_jobs(3, seed=2)
    later = state_of(workspace.monitor)
    watches.save_state(stored)
    assert state_as_dict(state_of(workspace.monitor)) == state_as_dict(later)


def test_watch_starts_again_with_a_champion_and_keeps_the_rest_of_the_years_capital(workspace: DriftWorkspace) -> None:
    workspace.promote(30)
    workspace.add_jobs(150, seed=1, shift={"lighting": 2.0})
    first = workspace.monitor.update("ansel")
    assert first is not None
    assert "lighting" in first.state.alarms
    workspace.promote(30, seed=1)
    second = workspace.monitor.update("ansel")
    assert second is not None
    assert (second.number, second.version, second.begun_by) == (2, "v0002", EVALUATION)
    assert not second.state.alarms
    assert second.state.counted == 0
    capital = second.state.martingale.evidence
    assert np.all(capital <= 1.0)
    assert np.allclose(capital, np.minimum(first.state.martingale.evidence, 1.0))


def test_person_accepts_the_latest_answers(workspace: DriftWorkspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.promote(30)
    workspace.add_jobs(9, seed=1)
    with pytest.raises(BadInput, match="9 answers of v0001 count"):
        workspace.monitor.accept("ansel", "person:ann")
    workspace.add_jobs(150, seed=1, shift={"lighting": -2.0})
    words = ["drift", "--advisor", "ansel", "--json", "--workspace", str(workspace.settings.root)]
    words += ["--adapters", str(workspace.settings.adapters_root)]
    assert main(words) == 1
    (before,) = json.loads(capsys.readouterr().out)
    assert before["status"] == "alarm"
    assert main([*words, "--accept"]) == 0
    (after,) = json.loads(capsys.readouterr().out)
    assert (after["watch"], after["requests"], after["begun_by"][:18]) == (2, 0, "accepted by person")
    lighting = next(each for each in after["signals"] if each["signal"] == "lighting")
    assert lighting["reference_mean"] == pytest.approx(4.0, abs=0.3)
    assert main([word for word in words if word != "--json"]) == 0
    assert "No drift of v0001" in capsys.readouterr().out


def test_small_reference_is_inconclusive_and_none_is_said(workspace: DriftWorkspace) -> None:
    workspace.promote(10)
    report = drift_report("ansel", workspace.monitor.update("ansel"))
    assert report.status == "inconclusive"
    coarse = [each for each in report.signals if each.status == "inconclusive"]
    assert coarse
    assert all(each.detectable is not None and each.detectable > 1.0 for each in coarse)
    assert "could be missed" in report.sentence
    workspace.promote(0, seed=1)
    none = drift_report("ansel", workspace.monitor.update("ansel"))
    assert {each.status for each in none.signals} == {"no_reference"}
    assert "mondrian evaluate --advisor ansel --adapter v0002" in next_drift_steps(none)[0]


def test_damaged_row_is_computed_again(workspace: DriftWorkspace) -> None:
    workspace.promote(30)
    workspace.add_jobs(20, seed=1)
    whole = state_as_dict(state_of(workspace.monitor))
    for broken in ("{", '{"bag": []}'):
        with workspace.store.transaction() as connection:
            connection.execute("UPDATE drift_watches SET state = ?", (broken,))
        found = state_as_dict(state_of(workspace.monitor))
        assert replace_year(found) == replace_year(whole)


def replace_year(values: dict[str, object]) -> dict[str, object]:
    return {**values, "year_began": ""}


def test_new_year_has_new_capital(workspace: DriftWorkspace) -> None:
    workspace.promote(30)
    workspace.add_jobs(30, seed=1)
    rng = np.random.default_rng(6)
    workspace.add_job(drawn_scores(rng), at=PROMOTED + timedelta(days=366))
    state = state_of(workspace.monitor)
    assert state.year_began.startswith("2027-01-02")
    assert state.martingale.reserve[:8] == pytest.approx(np.full(8, (1 - FIRST_STAKE) * (1 - STAKE_PER_VALUE)))
    assert state.counted == 31
