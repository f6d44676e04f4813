from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.errors import RemoteProtocolError
from kernelgate.protocol import frontend

HEADER = b'{"msg_id":"1","msg_type":"status"}'
texts = st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8), max_size=4)
buffers = st.lists(st.binary(max_size=40), max_size=4)
channels = st.sampled_from(["shell", "control", "stdin", "iopub"])


@given(channels, st.lists(st.binary(max_size=30), min_size=4, max_size=9))
def test_v1_comes_back_as_it_was(channel, parts):
    assert frontend.decode(frontend.encode(channel, parts)) == (channel, parts)


@given(channels, texts, texts, texts, buffers)
def test_legacy_comes_back_as_it_was(channel, parent, metadata, content, extra):
    parts = [HEADER, *(json.dumps(one).encode() for one in (parent, metadata, content)), *extra]
    made = frontend.to_legacy(channel, parts)
    assert isinstance(made, bytes) == bool(extra)
    found, back = frontend.from_legacy(made)
    assert found == channel
    assert [json.loads(part) for part in back[:4]] == [json.loads(part) for part in parts[:4]]
    assert back[4:] == extra


def test_legacy_has_id_and_type_beside_the_header_too():
    made = json.loads(frontend.to_legacy("iopub", [HEADER, b"{}", b"{}", b'{"a":1}']))
    assert (made["msg_id"], made["msg_type"], made["channel"], made["content"], made["buffers"]) == ("1", "status", "iopub", {"a": 1}, [])


def test_a_legacy_message_without_a_channel_is_for_the_shell():
    assert frontend.from_legacy('{"header":{}}')[0] == "shell"


@given(st.binary(max_size=200))
def test_nonsense_raises_and_nothing_else(data):
    for decode in (frontend.decode, frontend.from_legacy):
        try:
            _, parts = decode(data)
        except RemoteProtocolError:
            continue
        assert len(parts) >= 4


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_v1_frame_cut_short_raises(cut):
    whole = frontend.encode("shell", [HEADER, b"{}", b"{}", b"{}"])
    with pytest.raises(RemoteProtocolError):
        frontend.decode(whole[: min(cut, len(whole) - 1)])


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"header":1}', "[" * 100_000])
def test_legacy_text_that_is_no_message_raises(text):
    with pytest.raises(RemoteProtocolError):
        frontend.from_legacy(text)


@pytest.mark.parametrize(
    "parts", [[b"{}", b"{}", b"{}", b"{}"], [HEADER, b"[]", b"{}", b"{}"], [HEADER, b"{}", b"", b"{}"], [HEADER, b"{}", b"{}", b"{"]]
)
def test_parts_that_are_no_message_raise(parts):
    with pytest.raises(RemoteProtocolError):
        frontend.check(parts)


def test_half_a_surrogate_goes_through():
    _, parts = frontend.from_legacy('{"header":{"msg_id":"1","msg_type":"t"},"content":{"code":"\\ud800"}}')
    assert frontend.check(parts) == ("1", "t")
    assert json.loads(parts[3]) == {"code": "\ud800"}


def test_parts_that_are_one_have_id_and_type():
    assert frontend.check([HEADER, b"{}", b"{}", b"{}"]) == ("1", "status")
