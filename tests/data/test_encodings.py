"""Analyses in other encodings: read as they were written, or refused; never with other letters."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.data.encodings import UnknownEncoding, decoded

GERMAN, FRENCH, SPANISH = "Schönes Licht über dem Café.", "L’été – déjà vu, “créée” à l’œil…", "¡Qué luz! ¿Sí? mañana"


@pytest.mark.parametrize("text", [GERMAN, FRENCH, SPANISH, "3 × 4, 20 °C, ½ stop", "Ångström — Größe «là» »so«"])
def test_western_text_of_windows(text: str) -> None:
    assert decoded(text.encode("cp1252")) == (text, "decoded_windows_1252")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_with_and_without_a_mark(encoding: str) -> None:
    text = '```json\n{"comment": "光线 ö"}\n```'
    assert decoded(text.encode(encoding)) == (text, "decoded_utf_16")
    assert decoded(b"\xfe\xff" + text.encode("utf-16-be")) == (text, "decoded_utf_16")


def test_a_byte_order_mark_is_no_character() -> None:
    assert decoded(GERMAN.encode("utf-8-sig")) == (GERMAN, None)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Schönes Licht", "mac_roman"),
        ("été", "mac_roman"),
        ("Мягкий свет", "cp1251"),
        ("Мягкий свет", "koi8-r"),
        ("光线柔和而有层次。", "gbk"),
        ("光は柔らかい", "shift_jis"),
        ("부드러운 빛", "euc-kr"),
        ("Příliš žluťoučký", "cp1250"),
        ("łąka", "iso8859-2"),
        ("Ισορροπία", "cp1253"),
        ("İyi ışık güneş", "cp1254"),
        ("café", "cp437"),
        ("Größe", "cp850"),
    ],
)
def test_other_encodings_are_refused(text: str, encoding: str) -> None:
    with pytest.raises(UnknownEncoding):
        decoded(text.encode(encoding))


@given(st.text(st.characters(codec="utf-8")))
def test_whatever_is_utf_8_is_read_as_that(text: str) -> None:
    data = text.encode()
    if not text.startswith("\ufeff") and "\0" not in text:
        assert decoded(data) == (text, None)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(UnknownEncoding):
        decoded(data)


def test_utf_8_with_a_damaged_byte_is_not_taken_for_something_else() -> None:
    with pytest.raises(UnknownEncoding, match="damaged"):
        decoded("Schönes Licht.".encode() + b"\xff")
