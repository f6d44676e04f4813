"""The short form of `make chaos`: each kind of fault once, in an order that never changes, while a session per language works."""

from __future__ import annotations

from random import Random

import pytest

from tests.faults.chaos import Chaos
from tests.faults.faults import FAULTS

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.javascript, pytest.mark.r, pytest.mark.java, pytest.mark.slow]


def test_every_fault_once(tmp_path):
    chaos = Chaos(tmp_path, seed=1, sessions=4, creates=40, quiet=True)
    plan = list(FAULTS)
    Random(1).shuffle(plan)
    chaos.run(plan, between_s=0.1)
    assert chaos.ledger.problems == []
    assert chaos.left_behind == []
    assert chaos.kept
    assert chaos.ledger.faults == len(FAULTS)
    assert chaos.closing_line().startswith(f"chaos: faults={len(FAULTS)} sessions=")
    assert {tally.lost for tally in chaos.ledger.tallies.values()} == {0}
