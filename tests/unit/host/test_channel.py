"""Messages between init and host: small ones and large ones, with descriptors, over a socket with the smallest buffer there is."""

from __future__ import annotations

import os
import socket

import pytest

from kernelgate.host import channel


@pytest.mark.parametrize("size", [10, 40_000, 150_000])
def test_a_message_of_any_size_arrives_with_its_descriptors(size):
    ours, theirs = channel.pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 80_000)
    read, write = os.pipe()
    with ours, theirs:
        channel.send(ours, {"op": "x", "text": "é" * size}, (write,))
        message, fds = channel.receive(theirs)
        assert message == {"op": "x", "text": "é" * size}
        (copy,) = fds
        os.write(copy, b"here")
        assert os.read(read, 10) == b"here"
        for fd in (copy, read, write):
            os.close(fd)
        ours.close()
        assert channel.receive(theirs) == (None, [])


def test_what_is_no_message_is_an_error_and_leaves_no_descriptor():
    ours, theirs = channel.pair()
    read, write = os.pipe()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(ours, [b"\0"], [read])
        with pytest.raises(OSError, match="seek"):
            channel.receive(theirs)
        assert len(os.listdir("/proc/self/fd")) == before
    os.close(read)
    os.close(write)
