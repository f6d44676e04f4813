"""Users of sessions: a block for each data directory, within what the user namespace has. Processes that are still there."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from kernelgate.errors import SandboxUnavailable
from kernelgate.sandbox.zygote import start_ticks
from kernelgate.sessions import node


def first_uid(monkeypatch, tmp_path, text):
    (tmp_path / "uid_map").write_text(text)
    monkeypatch.setattr(node, "Path", lambda path: tmp_path / "uid_map" if path == "/proc/self/uid_map" else Path(path))
    return node._first_uid("/some/data")


def test_of_the_whole_machine(monkeypatch, tmp_path):
    assert first_uid(monkeypatch, tmp_path, "         0          0 4294967295\n") >= 200_000


def test_of_a_user_namespace_with_a_range(monkeypatch, tmp_path):
    first = first_uid(monkeypatch, tmp_path, "         0       1001          1\n         1     100000      65536\n")
    assert first in (1000, 21_000, 41_000)


def test_a_namespace_of_one_user_is_too_small(monkeypatch, tmp_path):
    with pytest.raises(SandboxUnavailable, match="has 1 users"):
        first_uid(monkeypatch, tmp_path, "         0       1001          1\n")


def test_a_process_that_cannot_be_looked_at_has_not_ended():
    """Else the first request to a session whose host is busy while the gateway has no descriptor left loses it."""
    here = node.Node.is_alive
    ticks = start_ticks(os.getpid())
    assert here(None, os.getpid(), ticks)
    assert not here(None, os.getpid(), ticks + 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        without = here(None, os.getpid(), ticks)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert without
    child = subprocess.Popen(["true"])
    child.wait()
    assert not here(None, child.pid, ticks)
