"""What a session uses, now and before."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_what_a_session_uses(api, own):
    first = api.call("GET", f"/v1/sessions/{own}/metrics")
    code = """
import os, socket, subprocess, threading, time
until = time.process_time() + 0.3
while time.process_time() < until: pass
kept = bytearray(b"x") * (64 << 20)
open("/tmp/file", "wb").write(bytes(5 << 20)); open("/dev/shm/file", "wb").write(bytes(3 << 20))
open("made", "wb").write(bytes(7 << 20)); os.link("made", "again")
subprocess.run(["python3", "-c", "import time\\nwhile time.process_time() < 0.3: pass"], check=True)
child = subprocess.Popen(["sleep", "1000"])
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
    threading.Thread(target=one.sendall, args=(bytes(1 << 20),)).start()
    assert len(other.recv(1 << 20, socket.MSG_WAITALL)) == 1 << 20
"""
    assert api.run(own, code)["error"] is None
    second = api.call("GET", f"/v1/sessions/{own}/metrics")
    before, now = first["now"], second["now"]
    assert now["cpu_s"] - before["cpu_s"] > 0.5  # its own, and its child's which is gone
    assert now["cpu_percent"] > 0
    assert now["processes"] > before["processes"]
    assert now["threads"] >= now["processes"]
    assert now["memory_bytes"] - before["memory_bytes"] > 60 << 20
    assert now["tmp_bytes"] - before["tmp_bytes"] >= 5 << 20
    assert now["shm_bytes"] - before["shm_bytes"] >= 3 << 20
    assert 7 << 20 <= second["workspace"]["bytes"] < 8 << 20
    assert (second["workspace"]["entries"], second["workspace"]["truncated"]) == (first["workspace"]["entries"] + 2, False)
    assert now["network"]["loopback_bytes"] - before["network"]["loopback_bytes"] > 1 << 20
    assert (now["network"]["received_bytes"], now["network"]["sent_bytes"]) == (0, 0)
    assert second["interval_s"] == 10
    assert second["memory_source"] in ("cgroup", "processes")
    api.run(own, "child.kill(); child.wait(); del kept; os.remove('/tmp/file')")
    third = api.call("GET", f"/v1/sessions/{own}/metrics")["now"]
    assert third["processes"] < now["processes"]
    assert third["cpu_s"] >= now["cpu_s"]
    assert third["tmp_bytes"] < now["tmp_bytes"]


def test_of_a_session_that_has_ended(api):
    session = api.create()
    api.delete(session)
    assert api.call("GET", f"/v1/sessions/{session}/metrics", 404)["error"]["code"] == "session_not_found"
