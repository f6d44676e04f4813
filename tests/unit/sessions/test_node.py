"""Users of sessions: a block for each data directory, within what the user namespace has."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelgate.errors import SandboxUnavailable
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
