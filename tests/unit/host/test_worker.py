"""A worker's conversation, and its globs, without a sandbox around it."""

import os
import re
import socket
import threading

import pytest

from kernelgate.errors import FILE_ERRORS, RemoteProtocolError
from kernelgate.host import filework, worker
from kernelgate.link import frame


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("*.py", ["a.py", ".py"], ["a.pyc", "d/a.py"]),
        ("**/*.py", ["a.py", "d/a.py", "d/e/a.py"], ["a.txt"]),
        ("d/**", ["d/a", "d/e/a"], ["e/d/a", "d"]),
        ("a?c", ["abc", "a.c"], ["a/c", "ac"]),
        ("[!a-c]x", ["dx"], ["ax", "/x"]),
        ("[^]x", ["^x"], ["ax"]),
        ("{a,b*}.txt", ["a.txt", "bcd.txt"], ["c.txt"]),
        ("a{", ["a{"], ["a"]),
        ("a,b", ["a,b"], ["a"]),
        ("(.+)", ["(.+)"], ["abc"]),
    ],
)
def test_globs(pattern, fits, does_not):
    regex = re.compile(filework.glob_to_regex(pattern), re.DOTALL)
    assert [name for name in fits if not regex.fullmatch(name)] == []
    assert [name for name in does_not if regex.fullmatch(name)] == []


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """Asks a worker that runs in a thread: the frames of its answer."""
    monkeypatch.chdir(tmp_path)
    ours, theirs = socket.socketpair()

    def serve():
        port = worker.Port(theirs)
        try:
            while True:
                worker.serve(port, port.receive()[0], filework.OPERATIONS)
        except worker.Gone:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    decoder = frame.Decoder()

    def ask(*pieces, **request):
        ours.sendall(
            frame.encode(request)
            + b"".join(frame.encode({"more": True}, piece) for piece in pieces)
            + (frame.encode({"end": True}) if pieces else b"")
        )
        found = []
        while not found or not found[-1][0].get("end"):
            found += decoder.feed(ours.recv(65536))
        return found

    yield ask
    ours.close()
    thread.join()
    theirs.close()


def test_a_conversation(talk, tmp_path):
    options = {"path": "a/f", "mode": "overwrite", "parents": True, "permissions": None}
    assert talk(b"12", b"345", do="write", **options)[-1][0] == {"ok": {}, "end": True}
    assert (tmp_path / "a" / "f").read_bytes() == b"12345"
    head, data, end = talk(do="read", path="a/f", start=1, stop=3, suffix=None, if_range=None)
    assert (head[0]["ok"]["start"], head[0]["ok"]["length"], data, end[0]) == (1, 2, ({"data": True}, b"23"), {"ok": {}, "end": True})
    ((answer, _),) = talk(do="stat", path="none", follow=True)
    assert answer["error"]["code"] == "file_not_found"
    assert os.listdir(tmp_path) == ["a"]


def test_every_code_is_one_that_the_gateway_knows():
    assert set(worker.CODES.values()) <= FILE_ERRORS.keys()


def test_a_frame_that_is_too_large_is_refused():
    decoder = frame.Decoder(100)
    assert decoder.feed(frame.encode({}, b"x" * 90)) == [({}, b"x" * 90)]
    with pytest.raises(RemoteProtocolError):
        decoder.feed(frame.encode({}, b"x" * 200)[:8])
