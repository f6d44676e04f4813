"""How the front of a kernel finds out that a cell wants a line, and what it tells an interpreter that is busy."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from kernelgate.kernels import bash, front


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


def test_a_bash_that_minds_no_interrupt_does_not_fill_the_pipe_of_its_commands():
    """It would block the front, which then hears neither a shutdown nor SIGTERM."""
    reader, writer = os.pipe()
    child = subprocess.Popen(["sh", "-c", "trap '' INT; while :; do sleep 60; done"], stdin=reader)
    one = object.__new__(bash.BashKernel)
    one.child, one.commands, one.sequence, one.before = child.pid, writer, 7, set()
    try:
        for _ in range(3):
            one.signal_child(0.1)
        os.set_blocking(reader, False)
        assert os.read(reader, 1000) == b"__kg_end 7 130\n"
    finally:
        for pid in [child.pid, *front.descendants(child.pid)]:
            os.kill(pid, signal.SIGKILL)
        child.wait()
        os.close(reader)
        os.close(writer)
