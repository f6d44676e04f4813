from __future__ import annotations

from dataclasses import replace

from kernelgate.sessions.registry import Row
from kernelgate.sessions.session import Session, describe

ROW = Row("s1", "t1", "running", 1, 100, 5, 1000.0, 1000.0, True)


def session(**fields):
    return Session(replace(ROW, **fields), None, "/workspace", 2000.0)


def test_when_it_ends_if_nothing_happens():
    assert session().expires_at() is None
    assert session(idle_timeout_s=10.0).expires_at() == 2010.0
    assert session(lifetime_s=10.0).expires_at() == 1010.0
    assert session(lifetime_s=5000.0, idle_timeout_s=10.0).expires_at() == 2010.0


def test_requests_under_way_keep_it_busy():
    one = session()
    with one:
        assert one.busy == 1
        with one:
            assert one.busy == 2
    assert one.busy == 0
    assert one.last_activity_at > 2000.0


def test_the_far_future_can_be_written():
    made = describe(replace(ROW, lifetime_s=1e9), cwd="/", expires_at=1e9 + 1.8e9)
    assert made["expires_at"].startswith("205")


def test_a_clock_that_jumps_makes_nobody_older_or_idle():
    one = session(idle_timeout_s=10.0, lifetime_s=5000.0)
    one.clock_jumped(86400.0)
    assert one.expires_at() == 2010.0 + 86400.0
    one.clock_jumped(-2 * 86400.0)
    assert one.expires_at() == 2010.0 - 86400.0
    aged = session(lifetime_s=10.0)
    aged.clock_jumped(3600.0)
    assert aged.expires_at() == 1010.0 + 3600.0
