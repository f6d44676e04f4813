"""Where no control group can be used: never silently, and only where a setting allows it; limits are then those of single processes."""

from __future__ import annotations

import contextlib

import pytest

from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

MiB = 1024 * 1024
#: A machine without them, for what is started after it: its mount namespace has nothing where they are.
WITHOUT = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh")


def test_by_default_the_service_does_not_start(tmp_path):
    server = Server(tmp_path / "data", "sessions.pool_size=0", "python.preload=").spawn(*WITHOUT)
    assert server.process is not None
    assert server.process.wait(60) == 1
    assert server.process.stdout is not None
    server.process.stdout.close()
    said = server.log.read_text()
    assert "no control group" in said
    assert "sandbox.require_cgroups = false" in said


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("without") / "data",
        "sessions.pool_size=1",
        "python.preload=",
        "sandbox.require_cgroups=false",
        "sandbox.processes=48",
    )
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: server.process and server.stop())
        server.spawn(*WITHOUT).wait_until_ready()
        assert server.process is not None
        assert server.process.stdout is not None
        server.greeting = [server.process.stdout.readline() for _ in range(8)]
        yield server
    assert server.leftovers() == []


def test_it_says_so_everywhere(without):
    with without.api() as api:
        health = api.call("GET", "/health")
    assert health["sandbox"] == {"kind": "namespaces", "isolated": True, "cgroup_version": 0, "limits_by": "rlimits", "network": "none"}
    assert [warning.partition(" ")[0] for warning in health["warnings"]] == ["no", "no", "no"]
    said = "".join(without.greeting)
    assert "limits by: rlimits" in said
    assert "RLIMIT_DATA" in said


def test_memory_and_processes_of_single_processes(without):
    with without.api() as api:
        session = api.create(limits={"memory_bytes": 400 * MiB, "processes": 40})
        result = api.run(session, "kept = 1\nx = bytearray(10**9)")
        assert (result["status"], result["error"]["name"], result["limit"]) == ("error", "MemoryError", "memory")
        # What is only mapped does not count, as with RLIMIT_AS it would.
        mapped = "import mmap; len(mmap.mmap(-1, 1 << 33, flags=mmap.MAP_SHARED | mmap.MAP_NORESERVE if hasattr(mmap, 'MAP_NORESERVE') else mmap.MAP_SHARED, prot=mmap.PROT_READ)), kept"
        assert api.run(session, mapped)["text"] == f"({1 << 33}, 1)"
        bomb = "import os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            time.sleep(1000)\n        n += 1\nexcept BlockingIOError:\n    print(n < 40)"
        assert api.run(session, bomb)["text"] == "True\n"
        refused = api.call("POST", "/v1/sessions", 400, json={"limits": {"cpu": 0.5}})["error"]
        assert (refused["code"], refused["details"]) == ("limit_unavailable", {"field": "limits.cpu"})
        api.delete(session)
