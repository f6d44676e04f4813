"""SIGTERM: what is under way is answered, new requests are refused with a reason, sessions live on."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading

import pytest
from tornado import websocket

from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.slow]


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "data", "sessions.pool_size=0", embedded=False) as made:
        yield made
        # The end of a test: an embedded server takes the sessions with it.
        if made.process.poll() is None:
            made.stop()
        made.embedded(True).start()
    assert made.leftovers() == []


def test_what_is_under_way_is_answered_and_sessions_live_on(server):
    with server.api() as api:
        session = api.create()
        api.run(session, "kept = 1")
        results = []
        waiting = threading.Thread(target=lambda: results.append(api.run(session, "import time; time.sleep(1.5); 'done'")))
        waiting.start()
        with server.api() as other:
            other.until(lambda: other.call("GET", f"/v1/sessions/{session}")["executing"])
            server.process.send_signal(signal.SIGTERM)
            # This connection was there before; on it the server can still say why it refuses.
            refused = other.until(lambda: (answer := other.http.get(f"/v1/sessions/{session}")).status_code == 503 and answer)
            assert refused.json()["error"]["code"] == "draining"
        waiting.join(30)
        assert results[0]["text"] == "'done'"
        assert server._reap() == 0
    server.start()
    with server.api() as api:
        assert api.run(session, "kept + 1")["text"] == "2"
        api.delete(session)


def test_a_channel_is_closed_with_a_code_on_which_clients_come_back(server):
    with server.api() as api:
        session = api.create()

    async def hold() -> int:
        url = server.url.replace("http", "ws") + f"/v1/sessions/{session}/channel?token={server.token}"
        connection = await websocket.websocket_connect(url)
        await connection.write_message(
            json.dumps({"id": "1", "op": "execute", "code": "import time; time.sleep(2); 'found again'", "execution_id": "held"})
        )
        assert json.loads(await connection.read_message())["reply"]["id"] == "held"
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while await connection.read_message() is not None:
                pass
        connection.close()
        return connection.close_code

    assert asyncio.run(hold()) == 1012
    assert server._reap() == 0
    server.start()
    with server.api() as api:
        assert api.wait(session, "held")["text"] == "'found again'"
        api.delete(session)


def test_the_stop_command_leaves_sessions_or_nothing(server):
    def stop(*flags: str) -> str:
        command = [sys.executable, "-m", "kernelgate", "stop", "--data-dir", str(server.data_dir), *flags]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with server.api() as api:
        session = api.create()
        api.run(session, "kept = 1")
    assert stop() == "stopped\n"
    assert server._reap() == 0
    assert stop() == "no server was running\n"
    server.start()
    with server.api() as api:
        assert api.run(session, "kept")["text"] == "1"
    assert stop("--sessions") == "stopped; 1 session ended\n"
    assert server._reap() == 0
    assert server.leftovers() == []


def test_an_upgrade_on_the_same_port(server):
    """The new gateway serves while the old one answers what it has begun; what is deleted there does not come back by the other."""
    with server.api() as api:
        session, gone = api.create(), api.create()
        results = []
        code = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n'done'"
        with server.api() as held:
            waiting = threading.Thread(target=lambda: results.append(held.run(session, code)))
            waiting.start()
            api.until(lambda: api.call("GET", f"/v1/sessions/{session}")["executing"])
            old = server.process
            old.send_signal(signal.SIGTERM)
            server.start()
            refused = api.http.get("/v1/sessions")  # on a connection to the old one
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert refused.headers["Connection"] == "close"
            assert api.call("GET", "/health")["pid"] == server.pid
            api.delete(gone)
            assert old.poll() is None
            api.call("POST", f"/v1/sessions/{session}/commands", json={"command": "touch go"})
            waiting.join(30)
        assert results[0]["text"] == "'done'"
        assert old.wait(30) == 0
        old.stdout.close()
        api.call("GET", f"/v1/sessions/{gone}", 404)
        assert api.run(session, "6 * 7")["text"] == "42"
        api.delete(session)
