"""Atomic writing: a reader sees the old file or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondrian_core.errors import DiskFull
from mondrian_core.files import read_json, replace_atomic, sha256_of, write_atomic, write_json


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.binary(max_size=3000))
def test_bytes_arrive_whole(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_atomic(path, data)
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "ä")
    assert (tmp_path / "a.txt").read_bytes() == "ä".encode()


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"version": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text('{"vers')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_atomic(path, fail)
    assert read_json(path) == {"version": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["manifest.json"]


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"version": 1})

    def fill(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))

    with pytest.raises(DiskFull):
        replace_atomic(path, fill)
    assert read_json(path) == {"version": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_device_is_said() -> None:
    def fill(temporary: Path) -> None:
        Path("/dev/full").write_bytes(b"x" * 10_000)

    with pytest.raises(DiskFull):
        replace_atomic(Path(os.environ.get("TMPDIR", "/tmp")) / "mondrian-full", fill)


def test_json_is_the_same_text_for_the_same_values(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    first = sha256_of(tmp_path / "a.json")
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    assert sha256_of(tmp_path / "a.json") == first
    assert (tmp_path / "a.json").read_text().startswith('{\n  "b": 1,')


def test_the_hash_of_a_file_longer_than_a_block(tmp_path: Path) -> None:
    import hashlib

    data = bytes(range(256)) * 9000
    (tmp_path / "big").write_bytes(data)
    assert sha256_of(tmp_path / "big") == hashlib.sha256(data).hexdigest()
