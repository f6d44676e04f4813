"""ZeroMQ's wire: frames in pieces of any size, what is too large, and what is no ZMTP. That libzmq understands it is shown in `tests/unit/host/test_peer.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate import zmtp

HELLO = zmtp.hello(b"ROUTER")


def ready(**options):
    decoder = zmtp.Decoder(**options)
    assert decoder.feed(HELLO) == []
    assert decoder.ready
    return decoder


@given(
    st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=5), max_size=8),
    st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=20),
)
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages, cuts):
    wire = HELLO + b"".join(map(zmtp.encode, messages))
    decoder, found, at, turn = zmtp.Decoder(), [], 0, 0
    while at < len(wire):
        size = cuts[turn % len(cuts)]
        found += decoder.feed(wire[at : at + size])
        at, turn = at + size, turn + 1
    assert found == messages


def test_lengths_of_one_byte_and_of_eight():
    assert zmtp.encode([b"x" * 255])[:2] == b"\x00\xff"
    assert zmtp.encode([b"x" * 256])[:9] == b"\x02" + (256).to_bytes(8, "big")
    assert zmtp.encode([b"a", b"b"]) == b"\x01\x01a\x00\x01b"


def test_not_ready_before_the_peer_says_so():
    decoder = zmtp.Decoder()
    decoder.feed(HELLO[: zmtp.GREETING_BYTES])
    assert not decoder.ready
    decoder.feed(HELLO[zmtp.GREETING_BYTES :])
    assert decoder.ready


def test_what_is_too_large_is_skipped_and_the_rest_is_read():
    decoder = ready(max_bytes=1000)
    assert decoder.feed(zmtp.encode([b"a", b"x" * 1001, b"b"]) + zmtp.encode([b"next"])) == [[b"next"]]
    # All frames of a message count together; and nothing of what is skipped is kept.
    assert decoder.feed(zmtp.encode([b"x" * 600, b"y" * 600])) == []
    large = zmtp.encode([b"z" * 5000, b"more"])
    found = [message for at in range(0, len(large), 100) for message in decoder.feed(large[at : at + 100])]
    assert (found, decoder.skipped) == ([], 3)
    assert decoder._have == 0
    assert decoder.feed(zmtp.encode([b"x" * 1000])) == [[b"x" * 1000]]


def test_as_many_frames_as_anyone_may_want_and_no_more():
    decoder = ready()
    assert decoder.feed(zmtp.encode([b""] * (zmtp.MAX_FRAMES + 1)) + zmtp.encode([b"next"])) == [[b"next"]]
    assert decoder.skipped == 1


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request".ljust(64),
        b"\xff" + bytes(8) + b"\x7f\x01".ljust(55, b"\0"),
        zmtp.hello(b"DEALER")[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
    ],
)
def test_what_is_no_zmtp_3(greeting):
    with pytest.raises(zmtp.WireError):
        zmtp.Decoder().feed(greeting)


def test_a_refusal_and_an_endless_command():
    with pytest.raises(zmtp.WireError, match="not today"):
        ready().feed(b"\x04\x10\x05ERROR\x09not today")
    with pytest.raises(zmtp.WireError):
        ready().feed(b"\x06" + (1 << 40).to_bytes(8, "big"))
    assert ready().feed(b"\x04\x05\x04PING" + zmtp.encode([b"x"])) == [[b"x"]]
