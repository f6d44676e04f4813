"""JSON by msgspec where it can, and by the standard library where it cannot: nobody must see which."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernelgate.protocol import jsontext


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 2**70, 0.1, 1e300, "", 'é\u2028\x00"\\', "\ud800", ["a", {"b": [1, None]}], {"é": {"": []}}],
)
def test_what_is_written_is_read(value: Any) -> None:
    text = jsontext.dump(value)
    assert b"\n" not in text
    assert jsontext.load(text) == json.loads(text) == value


@pytest.mark.parametrize(
    "text", [b"1e400", b"-Infinity", b'"\\ud800"', b'"\xed\xa0\x80"', b'[1, "\\ud83d\\ude00"]', bytearray(b'{"a": 1, "a": 2}')]
)
def test_what_the_standard_library_reads_is_read(text: bytes) -> None:
    assert jsontext.load(text) == json.loads(text.decode("utf-8", "surrogatepass"))


def test_numbers_that_are_none_are_null() -> None:
    assert jsontext.dump([float("nan"), float("inf")]) == b"[null,null]"


@pytest.mark.parametrize("text", [b"", b"{", b"'a'", b'"\xff"', b'"a\nb"', b"1 2", b"1" * 5000])
def test_what_is_no_json_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which one says the library
        jsontext.load(text)


def test_what_is_too_deep_is_an_error() -> None:
    with pytest.raises(RecursionError):
        jsontext.load(b"[" * 100_000 + b"]" * 100_000)
