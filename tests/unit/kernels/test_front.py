"""How the front of a kernel finds out that a cell wants a line."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from kernelgate.kernels import front


@pytest.mark.skipif(not front.READ_SYSCALL, reason="not known on this machine")
def test_who_has_not_taken_what_was_written_wants_no_more():
    """A reader that is being woken looks asleep; asked for a second line, the caller would answer the wrong question."""
    reader, writer = os.pipe()
    one = object.__new__(front.Front)
    child = subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.DEVNULL)
    try:
        one.child, one.stdin_r, one.stdin_w = child.pid, reader, writer
        until = time.monotonic() + 10
        while not one.is_stdin_wanted():
            assert time.monotonic() < until
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        os.write(writer, b"a line\n")
        assert not one.is_stdin_wanted()
        os.kill(child.pid, signal.SIGCONT)
        while not one.is_stdin_wanted():
            assert time.monotonic() < until
            time.sleep(0.001)
    finally:
        child.kill()
        child.wait()
        os.close(reader)
        os.close(writer)
