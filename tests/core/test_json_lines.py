"""JSON Lines: a torn last line is ignored when reading and removed before appending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.json_lines import (
    append_json_line,
    append_line_durably,
    complete_lines,
    cut_incomplete_line,
    read_json_lines,
)
from mondrian_core.samples_file import SamplesFile

RECORDS = [{"kind": "answer", "arm": "candidate", "text": "Half \ud83d of it.\n"}, {"kind": "label", "value": 2.5}]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    for record in RECORDS:
        append_json_line(path, record)
    return path


def test_appended_records_come_back(log: Path) -> None:
    assert list(read_json_lines(log)) == RECORDS
    assert list(read_json_lines(log.with_name("missing.jsonl"))) == []


def test_every_cut_leaves_the_complete_records(log: Path) -> None:
    data = log.read_bytes()
    for size in range(len(data) + 1):
        log.write_bytes(data[:size])
        assert list(read_json_lines(log)) == RECORDS[: data[:size].count(b"\n")]
        cut_incomplete_line(log)
        append_json_line(log, {"after": size})
        assert list(read_json_lines(log)) == [*RECORDS[: data[:size].count(b"\n")], {"after": size}]


def test_damaged_lines_are_skipped(log: Path) -> None:
    with log.open("ab") as stream:
        stream.write(b'{"half": \n\xff\xfe\n7\n[]\n\n{"kind": "label", "value": 3}\n')
    assert [record.get("value") for record in read_json_lines(log)] == [None, 2.5, 3]


def test_durable_append_replaces_an_incomplete_line(log: Path) -> None:
    size = log.stat().st_size
    with log.open("ab") as stream:
        stream.write(b'{"torn')
    append_line_durably(log, json.dumps({"serial": 1}), size)
    assert list(read_json_lines(log)) == [*RECORDS, {"serial": 1}]
    append_line_durably(log.with_name("new.jsonl"), "{}", 0)
    assert complete_lines(log.with_name("new.jsonl")) == [b"{}"]


def test_samples_file_selects_records_by_kind(log: Path) -> None:
    with log.open("ab") as stream:
        stream.write(b'{"no": "kind"}\n{"kind": "answer", "arm": "base"}\n')
    samples = SamplesFile(log)
    assert len(list(samples.records())) == 3
    assert list(samples.candidate_answers()) == RECORDS[:1]
    assert list(samples.labels()) == RECORDS[1:]


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "any.jsonl"
    path.write_bytes(data)
    assert all(isinstance(record, dict) for record in read_json_lines(path))
