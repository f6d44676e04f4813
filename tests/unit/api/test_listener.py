from __future__ import annotations

import contextlib
import os
import resource
import socket

import pytest

from kernelgate.api.listener import Listener, take_all_descriptors


@pytest.fixture
def listener():
    bound = socket.create_server(("127.0.0.1", 0))
    made = Listener(bound)
    yield made
    made.close()


@pytest.fixture
def limit():
    """Sets how many descriptors this process may have; as it was, afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _highest():
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def _answer(client):
    with client, contextlib.suppress(ConnectionResetError):
        return client.recv(4096)


def test_there_is_room(listener):
    client = socket.create_connection(listener.getsockname())
    connection, _ = listener.accept()
    connection.sendall(b"x")
    assert _answer(client) == b"x"
    connection.close()
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("left", ["a part that is kept", "none"])
def test_there_is_no_room_and_the_caller_hears_of_it(listener, limit, left):
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    highest = _highest()
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < highest:  # no number below it is free
        held.append(os.open(os.devnull, os.O_RDONLY))
    limit(_highest() + (3 if left == "a part that is kept" else 1))
    for _ in clients:
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
    with pytest.raises(BlockingIOError):
        listener.accept()
    for fd in held:
        os.close(fd)
    for client in clients:
        answer = _answer(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"capacity_exceeded"' in answer
        assert b"Connection: close" in answer


def test_a_process_takes_what_it_may(limit):
    limit(512)
    take_all_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
