"""Init of a session: what it makes of the deaths of its children."""

from __future__ import annotations

import math
import os
from pathlib import Path

from kernelgate.host.init import Init


def test_all_that_are_killed_for_memory_together_are_known_as_that(tmp_path: Path) -> None:
    """The kernel may have killed, and counted, several before the first of them is seen."""
    file = tmp_path / "memory.oom_control"
    file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    init = object.__new__(Init)
    init._oom_fd, init._oom_key, init._oom_kills, init._oom_seen_at = os.open(file, os.O_RDONLY), b"oom_kill", 2, -math.inf
    try:
        assert not init._was_oom()
        file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
        assert [init._was_oom() for _ in range(3)] == [True, True, True]
        init._oom_seen_at -= 60  # a minute later
        assert not init._was_oom()
    finally:
        os.close(init._oom_fd)
