"""Atomic writing: a reader sees the old file or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondrian_core.errors import DiskFull
from mondrian_core.files import file_sha256, read_json, replace_atomic, require_free_space, write_atomic, write_json


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.binary(max_size=3000))
def test_write_atomic_writes_all_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_atomic(path, data)
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "ä")
    assert (tmp_path / "a.txt").read_bytes() == "ä".encode()


def test_failed_atomic_write_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"version": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text('{"vers')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_atomic(path, fail)
    assert read_json(path) == {"version": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["manifest.json"]


def test_disk_full_is_reported_and_old_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"version": 1})

    def fill(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))

    with pytest.raises(DiskFull):
        replace_atomic(path, fill)
    assert read_json(path) == {"version": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_disk_full_is_reported() -> None:
    def fill(temporary: Path) -> None:
        Path("/dev/full").write_bytes(b"x" * 10_000)

    with pytest.raises(DiskFull):
        replace_atomic(Path(os.environ.get("TMPDIR", "/tmp")) / "mondrian-full", fill)


def test_write_json_is_deterministic(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    first = file_sha256(tmp_path / "a.json")
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    assert file_sha256(tmp_path / "a.json") == first
    assert (tmp_path / "a.json").read_text().startswith('{\n  "b": 1,')


def test_file_hash_covers_several_blocks(tmp_path: Path) -> None:
    import hashlib

    data = bytes(range(256)) * 9000
    (tmp_path / "big").write_bytes(data)
    assert file_sha256(tmp_path / "big") == hashlib.sha256(data).hexdigest()


def test_require_free_space_rejects_full_disk(tmp_path: Path) -> None:
    require_free_space(tmp_path)
    with pytest.raises(DiskFull, match="disk is full"):
        require_free_space(tmp_path, least=1 << 62)
