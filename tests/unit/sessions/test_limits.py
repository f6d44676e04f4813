"""Limits of a session: defaults, what is asked for, ceilings."""

from __future__ import annotations

import pytest

from kernelgate import settings
from kernelgate.errors import InvalidRequest
from kernelgate.sandbox import policy
from kernelgate.sessions import limits
from kernelgate.sessions.registry import Registry, Row


def load(**flags):
    return settings.load(environ={}, flags={name.replace("__", "."): value for name, value in flags.items()})


def test_the_defaults_are_the_settings():
    found = limits.defaults(load(sandbox__memory_bytes=10**9, executions__max_timeout_s=7))
    assert (found.memory_bytes, found.wall_time_s, found.cpu_time_s) == (10**9, 7, None)
    sandbox = found.sandbox(policy.Limits(tmp_bytes=5))
    assert (sandbox.memory_bytes, sandbox.tmp_bytes) == (10**9, 5)


def test_up_to_the_ceiling():
    chosen = load(ceilings__memory_bytes=8 << 30, ceilings__cpu_time_s=100, sandbox__cpu=1)
    found = limits.asked_for({"memory_bytes": 8 << 30, "cpu": 0.5, "processes": 64}, chosen)
    assert (found.memory_bytes, found.cpu, found.processes) == (8 << 30, 0.5, 64)
    for name, value, ceiling in (("memory_bytes", (8 << 30) + 1, 8 << 30), ("cpu", 2, 1), ("cpu", None, 1), ("processes", 513, 512)):
        with pytest.raises(InvalidRequest) as refused:
            limits.asked_for({name: value}, chosen)
        assert refused.value.code == "limit_too_high"
        assert refused.value.details == {"field": f"limits.{name}", "ceiling": ceiling}


def test_a_ceiling_is_never_below_the_default():
    assert limits.asked_for({"memory_bytes": 4 << 30}, load(ceilings__memory_bytes=1 << 30)).memory_bytes == 4 << 30


def test_without_a_limit_there_is_no_ceiling():
    assert limits.asked_for({"cpu": 64.0, "cpu_time_s": None}, load()).cpu == 64


def test_a_tokens_ceiling_lowers_the_servers_and_the_default():
    chosen, token = load(ceilings__memory_bytes=8 << 30), {"memory_bytes": 1 << 30, "cpu": 2.0, "processes": 10_000}
    found = limits.asked_for({}, chosen, token=token)
    # Of 10 000 processes only the server's 512 are left: its settings may have changed since the token was made.
    assert (found.memory_bytes, found.cpu, found.processes) == (1 << 30, 2, 512)
    assert limits.asked_for({"memory_bytes": 1 << 29}, chosen, token=token).memory_bytes == 1 << 29
    for name, value, ceiling in (("memory_bytes", (1 << 30) + 1, 1 << 30), ("cpu", None, 2), ("processes", 513, 512)):
        with pytest.raises(InvalidRequest) as refused:
            limits.asked_for({name: value}, chosen, token=token)
        assert (refused.value.code, refused.value.details) == ("limit_too_high", {"field": f"limits.{name}", "ceiling": ceiling})


def test_a_tokens_ceiling_that_nothing_keeps_is_refused():
    with pytest.raises(InvalidRequest) as refused:
        limits.asked_for({}, load(), ("cpu",), {"cpu": 2.0})
    assert (refused.value.code, refused.value.details) == ("limit_unavailable", {"field": "limits.cpu"})


def test_a_small_workspace_has_fewer_files():
    assert limits.asked_for({"workspace_bytes": 16 << 20}, load()).workspace_inodes == 4096


def test_without_a_sandbox_only_those_of_executions():
    chosen = load(sandbox__kind="none")
    assert limits.asked_for({"wall_time_s": 5.0}, chosen).wall_time_s == 5
    assert limits.defaults(chosen).memory_bytes is None
    with pytest.raises(InvalidRequest) as refused:
        limits.asked_for({"processes": 64}, chosen)
    assert refused.value.code == "limit_unavailable"


def test_the_registry_keeps_them(tmp_path):
    registry = Registry(tmp_path / "registry.sqlite")
    registry.save(Row("s1", "t", "running", 1, 2, 3, 4.0, 5.0, isolated=True, limits={"cpu": 0.5}))
    registry.close()
    registry = Registry(tmp_path / "registry.sqlite")
    found = registry.get("s1")
    assert found is not None
    assert found.limits == {"cpu": 0.5}
    registry.close()
