"""What machines exchange through the shared folder: complete or invisible, and one attempt that counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mondrian_core.errors import BadInput
from mondrian_core.settings import Settings
from mondrian_core.shared_training import (
    AttemptSign,
    SharedTraining,
    TrainingRequest,
    TrainingSuperseded,
    read_shared_id,
    require_shared_folder,
)

REQUEST = TrainingRequest("ansel", "20261128-a", "d" * 64, "b" * 64)


@pytest.fixture
def training(tmp_path: Path) -> SharedTraining:
    found = SharedTraining(tmp_path / "shared", REQUEST.name)
    found.publish_request(REQUEST)
    return found


def test_a_request_is_read_back(training: SharedTraining, tmp_path: Path) -> None:
    assert training.read_request() == REQUEST
    with pytest.raises(BadInput, match="MONDRIAN_SHARED"):
        SharedTraining(tmp_path, "another").read_request()


def test_only_one_of_many_machines_gets_an_attempt(training: SharedTraining) -> None:
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda number: training.begin_attempt(f"m{number}"), range(24)))
    assert sorted(attempt.number for attempt in attempts) == list(range(1, 25))


def test_a_holder_that_wakes_up_stops(training: SharedTraining) -> None:
    asleep = training.begin_attempt("first")
    asleep.renew()
    successor = training.begin_attempt("second")
    successor.renew()
    with pytest.raises(TrainingSuperseded, match="2"):
        asleep.renew()
    assert training.sign() == AttemptSign(2, "second", 1)


def test_signs_of_life_grow(training: SharedTraining) -> None:
    assert training.sign() == AttemptSign()
    attempt = training.begin_attempt("first")
    assert training.sign() == AttemptSign(1)
    seen = []
    for _ in range(2):
        attempt.renew()
        seen.append(training.sign())
    assert seen == [AttemptSign(1, "first", 1), AttemptSign(1, "first", 2)]


def test_the_shared_folder_is_known_by_its_identity(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no mondrian-shared"):
        read_shared_id(tmp_path)
    identity = read_shared_id(tmp_path, create=True)
    assert read_shared_id(tmp_path) == read_shared_id(tmp_path, create=True) == identity


def test_trainings_are_handed_out_through_a_folder_only(tmp_path: Path) -> None:
    assert Settings(shared=tmp_path).shared_folder == tmp_path
    assert Settings(shared="s3://bucket/x").shared_folder is None
    assert Settings().shared_folder is None


@pytest.mark.parametrize(
    ("given", "problem"), [(None, "none is set"), (Path("s3://bucket/x"), "folder only"), (Path("/no/such"), "exist")]
)
def test_what_is_not_a_shared_folder_is_refused(given: Path | None, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        require_shared_folder(given)
