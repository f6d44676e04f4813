"""The history of a session that has ended: gone for good, or only now."""

from __future__ import annotations

import pytest

from kernelgate.errors import SessionClosed, StorageUnavailable
from kernelgate.sessions.history import History


def test_one_that_was_removed_is_gone(tmp_path):
    with pytest.raises(SessionClosed):
        History(tmp_path / "removed").has("e")


def test_one_that_cannot_be_opened_may_be_tried_again(tmp_path):
    """A gateway without a descriptor left said that it was gone."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "events.jsonl").symlink_to(tmp_path / "elsewhere")  # never followed
    with pytest.raises(StorageUnavailable):
        History(tmp_path).has("e")
