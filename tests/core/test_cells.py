"""Cells of any type: what each reader makes of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.store import stamp
from mondrian_core.store.cells import Cells, json_value, moment_text

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
def test_one_moment_in_any_spelling_is_one_text(spelled: object) -> None:
    assert moment_text(spelled) == SIX == stamp(datetime(2026, 1, 20, 18, tzinfo=UTC))


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
def test_what_names_no_moment_is_none(cell: object) -> None:
    assert moment_text(cell) is None


def test_moments_sort_as_times_and_not_as_texts() -> None:
    later, earlier = "2026-01-20 18:00:00", "2026-01-20T09:00:00"
    assert later < earlier, "as texts"
    assert (moment_text(later) or "") > (moment_text(earlier) or "")


def test_a_day_of_eight_digits_is_a_day() -> None:
    assert moment_text("20260120") == "2026-01-20T00:00:00.000000"


@given(CELL)
def test_every_reader_takes_every_cell(value: object) -> None:
    cells = Cells({"c": value})
    readers = (
        cells.text,
        cells.label,
        cells.shown,
        cells.score,
        cells.integer,
        cells.truth,
        cells.moment,
        cells.json_object,
    )
    for read in readers:
        read("c")
    for text in (cells.text("c"), cells.label("c"), cells.shown("c")):
        assert text is None or (isinstance(text, str) and "\0" not in text)
    assert cells.moment("c") is None or len(cells.moment("c") or "") == len(SIX)


def test_what_cannot_be_read_is_named_by_column() -> None:
    cells = Cells(
        {"a": b"Sch\xf6n", "b": 7, "c": "calm\0light", "d": b"\x01\x02", "e": b"Calm light", "f": 8.1, "g": 8}
    )
    assert [cells.text(name) for name in "abcd"] == [None] * 4
    assert set(cells.unreadable) == set("abcd")
    assert (cells.text("e"), cells.label("f"), cells.label("g")) == ("Calm light", "8.1", "8")
    assert cells.shown("a") == "Sch\ufffdn"


@pytest.mark.parametrize(("cell", "score"), [("8/10", 8.0), (" 7.5 ", 7.5), (8, 8), (b"9", 9.0), ("good", "good")])
def test_a_score_is_read_as_in_json(cell: object, score: object) -> None:
    assert Cells({"s": cell}).score("s") == score


@pytest.mark.parametrize("text", ["NaN", "1e999", "1" + "0" * 400, '"\\ud83d"', "[" * 100_000, "{", "[1, Infinity]"])
def test_json_that_could_not_be_written_again_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json_value(text)


def test_json_with_pairs_of_surrogates_is_read() -> None:
    assert json_value('"\\ud83c\\udf05"') == "\U0001f305"
