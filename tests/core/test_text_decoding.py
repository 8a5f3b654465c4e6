"""Analyses in other encodings are decoded exactly or rejected."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.text_decoding import UnknownEncodingError, decode_text

GERMAN, FRENCH, SPANISH = "Schönes Licht über dem Café.", "L’été – déjà vu, “créée” à l’œil…", "¡Qué luz! ¿Sí? mañana"


@pytest.mark.parametrize("text", [GERMAN, FRENCH, SPANISH, "3 × 4, 20 °C, ½ stop", "Ångström — Größe «là» »so«"])
def test_windows_1252_text_is_decoded(text: str) -> None:
    assert decode_text(text.encode("cp1252")) == (text, "decoded_windows_1252")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_decoded_with_and_without_byte_order_mark(encoding: str) -> None:
    text = '```json\n{"comment": "光线 ö"}\n```'
    assert decode_text(text.encode(encoding)) == (text, "decoded_utf_16")
    assert decode_text(b"\xfe\xff" + text.encode("utf-16-be")) == (text, "decoded_utf_16")


def test_byte_order_mark_is_removed() -> None:
    assert decode_text(GERMAN.encode("utf-8-sig")) == (GERMAN, None)


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
def test_other_encodings_are_rejected(text: str, encoding: str) -> None:
    with pytest.raises(UnknownEncodingError):
        decode_text(text.encode(encoding))


@given(st.text(st.characters(codec="utf-8")))
def test_valid_utf8_is_decoded_as_utf8(text: str) -> None:
    data = text.encode()
    if not text.startswith("\ufeff") and "\0" not in text:
        assert decode_text(data) == (text, None)


@given(st.binary(max_size=60))
def test_decoder_accepts_or_rejects_any_bytes(data: bytes) -> None:
    with contextlib.suppress(UnknownEncodingError):
        decode_text(data)


def test_damaged_utf_8_is_not_decoded_as_windows_1252() -> None:
    with pytest.raises(UnknownEncodingError, match="damaged"):
        decode_text("Schönes Licht.".encode() + b"\xff")
