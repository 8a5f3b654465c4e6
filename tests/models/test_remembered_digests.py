"""A remembered digest saves reading the files again, and never stands for files that changed since."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from mondrian_core.models import remembered_digests
from mondrian_core.models.base_identity import weights_digest
from mondrian_core.models.remembered_digests import FileStats, file_stats, remembered_digest

LONG_AGO = 1_700_000_000_000_000_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDRIAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered_digests, "_SETTLED_NANOSECONDS", 0)  # these files are as old as the test
    _forget_process()


def _forget_process() -> None:
    remembered_digests._in_process.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "base"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights" * 100)
    return made


def _stored(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "digests").glob("*.json"))


def _never(facts: FileStats) -> str:
    raise AssertionError("it was hashed again")


def _facts(folder: Path) -> FileStats:
    return file_stats(folder, ("config.json", "model.safetensors"))


def test_another_process_doesnt_hash_again(folder: Path) -> None:
    digest = weights_digest(folder)
    _forget_process()
    assert remembered_digest(_facts(folder), _never) == digest


def test_a_changed_file_is_hashed_again_even_with_its_old_time(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    before = weights_digest(folder)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    with path.open("r+b") as stream:  # the same file, length and time of modification
        stream.write(data)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    assert path.stat().st_mtime_ns == LONG_AGO
    assert weights_digest(folder) != before
    _forget_process()
    assert weights_digest(folder) != before


def test_a_replaced_file_is_hashed_again(folder: Path) -> None:
    path = folder / "model.safetensors"
    before, seen = weights_digest(folder), path.stat()
    other = folder / "other"
    other.write_bytes(b"Weights" * 100)
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    other.replace(path)
    _forget_process()
    assert weights_digest(folder) != before


def test_a_file_that_may_change_within_one_tick_is_not_remembered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered_digests, "_SETTLED_NANOSECONDS", 60_000_000_000)
    weights_digest(folder)
    assert not _stored(tmp_path)


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(folder: Path, tmp_path: Path) -> None:
    def changing(facts: FileStats) -> str:
        (folder / "model.safetensors").write_bytes(b"x")
        return "0" * 64

    facts = _facts(folder)
    assert remembered_digest(facts, changing) == "0" * 64
    assert not _stored(tmp_path) and facts not in remembered_digests._in_process


def test_fresh_ignores_what_is_remembered(folder: Path, tmp_path: Path) -> None:
    right = weights_digest(folder)
    (place,) = _stored(tmp_path)
    place.write_text(json.dumps({**json.loads(place.read_text()), "sha256": "f" * 64}))
    _forget_process()
    assert weights_digest(folder) == "f" * 64  # whoever can write to the cache is believed
    assert weights_digest(folder, fresh=True) == right
    _forget_process()
    assert weights_digest(folder) == right


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 1}', '{"files": [], "sha256": "x"}', "\x00"])
def test_a_damaged_cache_costs_only_time(folder: Path, tmp_path: Path, content: str) -> None:
    right = weights_digest(folder)
    (place,) = _stored(tmp_path)
    place.write_text(content)
    _forget_process()
    assert weights_digest(folder) == right
    assert json.loads(place.read_text())["sha256"] == right


def test_a_cache_that_cannot_be_written_costs_only_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MONDRIAN_CACHE", str(tmp_path / "file"))
    assert len(weights_digest(folder)) == 64


def _hash_often(folder: Path) -> set[str]:
    found = set()
    for _ in range(20):
        _forget_process()
        found.add(weights_digest(folder, fresh=True))
        _forget_process()
        found.add(weights_digest(folder))
    return found


def test_processes_that_store_at_once_agree(folder: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_hash_often, [folder] * 4)
    assert set().union(*found) == {weights_digest(folder)}
