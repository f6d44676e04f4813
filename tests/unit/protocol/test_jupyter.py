from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from kernelgate.errors import RemoteProtocolError
from kernelgate.protocol.jupyter import DELIMITER, Wire

KEY = "0123456789abcdef"


def test_what_the_library_reads_and_writes():
    wire, session = Wire(KEY, "kg-1"), Session(key=KEY.encode())
    frames = wire.encode("execute_request", {"code": "x = 'ü'"}, msg_id=wire.new_id("e1"), metadata={"a": 1}, parent_header={"msg_id": "p"})
    identities, rest = session.feed_identities(frames)
    message = session.deserialize(rest)
    assert (identities, message["msg_type"], message["content"]) == ([], "execute_request", {"code": "x = 'ü'"})
    assert (message["metadata"], message["parent_header"]["msg_id"], message["header"]["session"]) == ({"a": 1}, "p", "kg-1")
    theirs = session.msg("stream", {"name": "stdout", "text": "ü"}, parent={"header": {"msg_id": "kg-1:e1:1", "session": "kg-1"}})
    decoded = wire.decode([b"identity", *session.serialize(theirs, ident=b"topic"), b"buffer"])
    assert (decoded.msg_type, decoded.parent_id, decoded.content, decoded.buffers) == (
        "stream",
        "kg-1:e1:1",
        {"name": "stdout", "text": "ü"},
        [b"buffer"],
    )


def test_ids_are_unique_and_name_their_execution():
    wire = Wire(KEY, "kg-1")
    made = [wire.new_id("a:b") for _ in range(100)]
    assert len(set(made)) == 100
    assert all(one.startswith("kg-1:a:b:") for one in made)


def parts(**changes):
    whole = {"header": {"msg_type": "status", "msg_id": "m"}, "parent": {"msg_id": "p"}, "metadata": {}, "content": {"a": 1}} | changes
    return [json.dumps(value).encode() if not isinstance(value, bytes) else value for value in whole.values()]


def signed(frames, key=KEY):
    return [DELIMITER, Wire(key, "x")._sign(frames), *frames]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"x"],
        [DELIMITER],
        [DELIMITER, b"", b"{}", b"{}", b"{}"],
        signed(parts(), key="other"),
        [DELIMITER, b"", *parts()],
        [DELIMITER, b"0" * 64, *parts()],
        signed(parts(header=b"{")),
        signed(parts(header=b"[]")),
        signed(parts(header={})),
        signed(parts(header={"msg_type": 5})),
        signed(parts(content=b"null")),
        signed(parts(content=b"[" * 100_000)),
        signed(parts(metadata=b"\xff")),
    ],
)
def test_what_is_no_message(frames):
    with pytest.raises(RemoteProtocolError):
        Wire(KEY, "kg").decode(frames)


def test_fields_that_kernels_leave_out_become_empty():
    for changes in ({"parent": None}, {"parent": []}, {"parent": {"msg_id": 5}}, {"parent": {}}):
        assert Wire(KEY, "kg").decode(signed(parts(**changes))).parent_id == ""
    message = Wire(KEY, "kg").decode(signed(parts(metadata=None, header={"msg_type": "x"})))
    assert (message.metadata, message.msg_id) == ({}, "")


def test_without_a_key_nothing_is_signed():
    wire = Wire("", "kg")
    frames = wire.encode("x", {}, msg_id="1")
    assert frames[1] == b""
    assert wire.decode(frames).msg_type == "x"


@given(st.integers(0, 3), st.integers(0, 200), st.integers(1, 255))
def test_any_changed_byte_is_noticed(part, place, change):
    frames = signed(parts())
    changed = bytearray(frames[2 + part])
    changed[place % len(changed)] ^= change
    frames[2 + part] = bytes(changed)
    with pytest.raises(RemoteProtocolError):
        Wire(KEY, "kg").decode(frames)


@given(st.dictionaries(st.text(alphabet=st.characters()), st.text(alphabet=st.characters()), max_size=3))
def test_any_text_can_be_sent(content):
    decoded = Wire(KEY, "kg").decode(Wire(KEY, "kg").encode("x", content, msg_id="1"))
    assert len(decoded.content) <= len(content)
