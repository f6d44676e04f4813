from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.errors import RemoteProtocolError
from kernelgate.link import frame

FRAMES = [({"op": "hello"}, b""), ({"ok": {"text": "ü \ud800 \u2028"}, "end": True}, b"body\x00\xff"), ({}, b"x" * 70_000)]


def test_a_row_of_frames_split_at_every_byte():
    data = b"".join(frame.encode(*one) for one in FRAMES[:2])
    for cut in range(len(data) + 1):
        decoder = frame.Decoder()
        assert decoder.feed(data[:cut]) + decoder.feed(data[cut:]) == FRAMES[:2]


@given(
    st.lists(st.tuples(st.dictionaries(st.text(), st.integers() | st.text()), st.binary(max_size=300)), max_size=5),
    st.lists(st.integers(1, 50)),
)
def test_any_frames_in_any_pieces(frames, sizes):
    data = b"".join(frame.encode(*one) for one in frames)
    decoder, got, at = frame.Decoder(), [], 0
    for size in [*sizes, len(data)]:
        got += decoder.feed(data[at : at + size])
        at += size
    assert got == frames


def test_byte_by_byte():
    decoder, got = frame.Decoder(), []
    for byte in b"".join(frame.encode(*one) for one in FRAMES):
        got += decoder.feed(bytes([byte]))
    assert got == FRAMES


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", frame.MAX_HEADER_BYTES + 1, 0),
        struct.pack(">II", 2, frame.MAX_BODY_BYTES + 1),
        struct.pack(">II", 1, 0) + b"{",
        struct.pack(">II", 2, 0) + b"[]",
        struct.pack(">II", 4, 0) + b"null",
        struct.pack(">II", 2, 0) + b"\xff\xfe",
        struct.pack(">II", 0, 0),
        struct.pack(">II", 100_000, 0) + b"[" * 100_000,
    ],
)
def test_what_is_no_frame(data):
    with pytest.raises(RemoteProtocolError):
        frame.Decoder().feed(data)


def test_half_a_frame_is_waited_for():
    decoder = frame.Decoder()
    assert decoder.feed(frame.encode({"a": 1}, b"xyz")[:-1]) == []
    assert decoder.feed(b"z") == [({"a": 1}, b"xyz")]


def test_headers_are_plain_json():
    data = frame.encode({"a": "ü"}, b"b")
    head, body = frame.lengths(data)
    assert json.loads(data[frame.PREFIX_BYTES : frame.PREFIX_BYTES + head]) == {"a": "ü"}
    assert data[-body:] == b"b"
