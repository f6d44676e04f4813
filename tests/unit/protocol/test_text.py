from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.protocol.text import settle, strip_ansi, utf8_bytes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain\ntext\n", "plain\ntext\n"),
        ("10%\r20%\r100%\n", "100%\n"),
        ("100%\rok", "ok0%"),
        ("first\rsecond\nthird\r\n", "second\nthird\n"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("\rstart", "start"),
        ("end\r", "end"),
        ("\r\r\r", ""),
        ("abc\b\bX", "aXc"),
        ("\b\b", ""),
        ("a\b\b\bb", "b"),
        ("downloading\r\x1b[Kdone\n", "done\n"),
        ("abcdef\r\x1b[2Kxy", "xy"),
        ("abcdef\x1b[2K\rxy", "xy"),
        ("abcdef\x1b[1K\rx", "x     "),
        ("ab\x1b[2Kc\r", "  c"),
        ("ü\rö", "ö"),
    ],
)
def test_what_stays_on_the_screen(text, shown):
    assert settle(text) == shown


@given(st.text(alphabet="ab\r\b\n\x1b[K2"))
def test_settling_never_makes_more_lines_nor_fails_and_is_final(text):
    shown = settle(text)
    assert shown.count("\n") == text.count("\n")
    if "\x1b" not in shown:
        assert settle(shown) == shown


@given(st.text(alphabet=st.characters(exclude_characters="\r\b")))
def test_text_without_movement_stays(text):
    assert settle(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;5;196mx\x1b[0;39m", "x"),
        ("\x1b]8;;https://example.org\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\x", "x"),
        ("\x1b[?25lx\x1b[?25h", "x"),
        ("a\x1bMb", "ab"),
        ("\x1b[1", "\x1b[1"),
        ("[31m", "[31m"),
    ],
)
def test_escape_sequences_go(text, plain):
    assert strip_ansi(text) == plain


@given(st.text())
def test_bytes_of_text(text):
    assert utf8_bytes(text) == len(text.encode("utf-8", "replace"))


def test_bytes_of_a_half_surrogate_are_those_of_what_replaces_it():
    assert utf8_bytes("a\ud800") == 2
