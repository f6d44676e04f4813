"""The history of what a session uses: written while something happens, and not while nothing does."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from kernelgate.host import meter
from kernelgate.host.loop import Loop


class Session:
    """What a meter needs of a session's host: a loop, and somebody who measures. `busy`: its processes use a whole core."""

    def __init__(self):
        self.loop, self.jobs, self.asked, self.busy = Loop(), [], 0, False
        self.config = {"isolated": False}
        self.init = self
        self.commands = SimpleNamespace(running=int)
        self.files = SimpleNamespace(ask=lambda fields, answer: answer("what is no answer"))

    def ask_usage(self, answer):
        self.asked += 1
        cpu_s = time.monotonic() if self.busy else 0.0
        answer({"cpu_s": cpu_s, "processes": 1, "threads": 1, "memory_bytes": 1, "memory_limit_bytes": None, "memory_source": "processes"})

    def run_until_asked(self, times):
        while self.asked < times:
            self.run_for(0.01)

    def run_for(self, seconds):
        self.loop._stopped = False
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run()


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr(meter, "INTERVAL_S", 0.01)
    return Session()


def test_an_idle_session_is_left_alone(session):
    measured = meter.Meter(session)
    session.run_for(0.05)
    assert session.asked == 0
    measured.awake()
    measured.awake()
    session.run_until_asked(1)
    session.run_for(0.05)
    assert session.asked == 1  # nothing more happened


def test_while_something_runs_there_is_an_entry_each_interval(session):
    measured = meter.Meter(session)
    session.jobs.append("one")
    measured.awake()
    session.run_until_asked(5)
    session.jobs.clear()
    session.run_until_asked(session.asked + 1)
    entries = session.asked
    session.run_for(0.05)
    assert session.asked == entries
    told = []
    measured.op_metrics(SimpleNamespace(reply=told.append))
    assert len(told[0]["history"]) == entries
    assert told[0]["workspace"] is None
    assert {"time", "cpu_s", "cpu_percent", "memory_bytes", "processes", "threads", "tmp_bytes", "shm_bytes", "network"} == told[0][
        "now"
    ].keys()


def test_a_process_that_is_busy_is_not_idle_though_nobody_waits_for_it(session):
    measured = meter.Meter(session)
    session.busy = True
    measured.awake()
    session.run_until_asked(5)
    session.busy = False
    session.run_until_asked(session.asked + 1)
    asked = session.asked
    session.run_for(0.05)
    assert session.asked == asked


def test_no_more_than_sixty_entries_are_kept(session):
    measured = meter.Meter(session)
    session.jobs.append("one")
    measured.awake()
    session.run_until_asked(70)
    told = []
    measured.op_metrics(SimpleNamespace(reply=told.append))
    assert len(told[0]["history"]) == 60
