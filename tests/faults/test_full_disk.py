"""A full disk: what cannot be written down is refused and does not happen; what runs waits, and nothing of it is lost."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.faults.machine import full_disk, memory_disk, processes_of
from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.slow]

#: More than the last page of a file has room for.
LONG = "#" + "x" * 20_000


@pytest.fixture
def server(tmp_path):
    data = tmp_path / "data"
    with memory_disk(data, 256), Server(data, "sessions.pool_size=0") as made:
        yield made


def test_what_cannot_be_written_is_refused_and_what_runs_waits(server):
    with server.api() as api:
        session = api.create()
        assert api.run(session, "kept = 0")["success"]
        path = f"/v1/sessions/{session}"
        results = []
        with server.api() as held:
            code = "import time\nfor number in range(100):\n    print(number, 'x' * 1000)\n    time.sleep(0.01)"
            waiting = threading.Thread(target=lambda: results.append(held.run(session, code, id="waiting")))
            waiting.start()
            api.until(lambda: api.http.get(f"{path}/executions/waiting").status_code == 200)
            with full_disk(server.data_dir):
                for _ in range(2):  # the second is not told that the id is known
                    refused = api.call("POST", f"{path}/executions", 507, json={"code": "kept += 1" + LONG, "id": "refused"})
                    assert refused["error"]["code"] == "no_space"
                refused = api.call("POST", f"{path}/commands", 507, json={"command": "touch ran " + LONG})
                assert refused["error"]["code"] == "no_space"
                assert api.http.post("/v1/sessions", json={}).status_code in (503, 507)
                assert api.call("GET", "/health")["status"] == "ok"
            waiting.join(60)
        assert "".join(results[0]["logs"]["stdout"]) == "".join(f"{number} {'x' * 1000}\n" for number in range(100))
        assert api.run(session, "import os; (kept, os.path.exists('ran'))")["text"] == "(0, False)"
        assert api.run(session, "kept += 1" + LONG, id="refused")["success"]
        assert api.run(session, "kept")["text"] == "1"
        api.delete(session)
        api.delete(api.create())


def test_a_session_that_is_lost_is_shown_as_lost_before_that_can_be_written(server):
    """It was shown as running, and as being deleted, until there was room."""
    with server.api() as api:
        session = api.create()
        (init,) = processes_of(server, session)["init"]

        def lost():
            found = api.call("GET", f"/v1/sessions/{session}")
            return found["state"] == "lost" and found["reason"] == "its sandbox ended unexpectedly" and found["ended_at"]

        with full_disk(server.data_dir):
            os.kill(init, signal.SIGKILL)
            api.until(lost)
            refused = api.call("POST", f"/v1/sessions/{session}/executions", 410, json={"code": "1"})
            assert "its sandbox ended unexpectedly" in refused["error"]["message"]
            assert [one["state"] for one in api.call("GET", "/v1/sessions")["sessions"]] == ["lost"]
            assert processes_of(server, session)["init"]  # the registry has not heard of it
        api.until(lambda: not processes_of(server, session)["init"])
        assert lost()
        api.delete(session)
        assert api.call("GET", "/v1/sessions")["sessions"] == []
