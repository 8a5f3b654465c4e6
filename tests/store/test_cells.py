"""Cell readers, for cells of any type."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.store import utc_timestamp
from mondrian_core.store.cells import Cells, normalized_timestamp, parse_json_value

SIX = "2026-01-20T18:00:00.000000"
CELL = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary()


@pytest.mark.parametrize(
    "spelled",
    [
        "2026-01-20T18:00:00",
        "2026-01-20 18:00:00",
        "2026-01-20 18:00:00.000",
        "2026-01-20T18:00:00Z",
        "2026-01-20T18:00Z",
        "2026-01-20T19:00:00+01:00",
        "2026-01-20 13:00:00 -0500",
        "2026-01-20 18:00:00 UTC",
        "2026/01/20 18:00:00",
        "Tue, 20 Jan 2026 18:00:00 GMT",
        "  2026-01-20 18:00:00 ",
        b"2026-01-20 18:00:00",
        "20260120T180000",
        1768932000,
        1768932000.0,
        "1768932000",
        "1768932000.0",
        1768932000000,
        "1768932000000",
        1768932000000000,
        1768932000000000000,
        2461061.25,
    ],
)
def test_timestamps_are_normalized(spelled: object) -> None:
    assert normalized_timestamp(spelled) == SIX == utc_timestamp(datetime(2026, 1, 20, 18, tzinfo=UTC))


@pytest.mark.parametrize(
    "cell",
    [
        None,
        "",
        "yesterday",
        "20.01.2026",
        7,
        -1,
        1e300,
        math.inf,
        math.nan,
        b"\xff\xfe",
        "9" * 400,
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-13-40",
        True,
    ],
)
def test_invalid_timestamp_is_none(cell: object) -> None:
    assert normalized_timestamp(cell) is None


def test_timestamps_sort_chronologically() -> None:
    later, earlier = "2026-01-20 18:00:00", "2026-01-20T09:00:00"
    assert later < earlier, "as texts"
    assert (normalized_timestamp(later) or "") > (normalized_timestamp(earlier) or "")


def test_compact_date_is_parsed() -> None:
    assert normalized_timestamp("20260120") == "2026-01-20T00:00:00.000000"


@given(CELL)
def test_cell_readers_accept_any_sqlite_value(value: object) -> None:
    cells = Cells({"c": value})
    readers = (
        cells.text,
        cells.label,
        cells.display_text,
        cells.score,
        cells.integer,
        cells.boolean,
        cells.timestamp,
        cells.json_object,
    )
    for read in readers:
        read("c")
    for text in (cells.text("c"), cells.label("c"), cells.display_text("c")):
        assert text is None or (isinstance(text, str) and "\0" not in text)
    assert cells.timestamp("c") is None or len(cells.timestamp("c") or "") == len(SIX)


def test_unreadable_cell_error_names_column() -> None:
    cells = Cells(
        {"a": b"Sch\xf6n", "b": 7, "c": "calm\0light", "d": b"\x01\x02", "e": b"Calm light", "f": 8.1, "g": 8}
    )
    assert [cells.text(name) for name in "abcd"] == [None] * 4
    assert set(cells.unreadable) == set("abcd")
    assert (cells.text("e"), cells.label("f"), cells.label("g")) == ("Calm light", "8.1", "8")
    assert cells.display_text("a") == "Sch\ufffdn"


@pytest.mark.parametrize(("cell", "score"), [("8/10", 8.0), (" 7.5 ", 7.5), (8, 8), (b"9", 9.0), ("good", "good")])
def test_score_cell_accepts_json_number_formats(cell: object, score: object) -> None:
    assert Cells({"s": cell}).score("s") == score


@pytest.mark.parametrize("text", ["NaN", "1e999", "1" + "0" * 400, '"\\ud83d"', "[" * 100_000, "{", "[1, Infinity]"])
def test_json_that_cannot_be_written_back_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json_value(text)


def test_json_with_pairs_of_surrogates_is_read() -> None:
    assert parse_json_value('"\\ud83c\\udf05"') == "\U0001f305"
