"""A gateway that is killed or stopped, a host that dies, a kernel that is deleted or culled: what frontends see of it."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.jupyter.conftest import start
from tests.support.frontend import Frontend, kind, state, text
from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

SLOW = "import time\nfor number in range(200):\n    print(number, flush=True)\n    time.sleep(0.01)\nnumber"
SLOW_TEXT = "".join(f"{number}\n" for number in range(200))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One whose sessions outlive its stop, until it is to end."""
    made = Server(tmp_path_factory.mktemp("return") / "data", "sessions.pool_size=1", "sessions.idle_timeout_s=1", embedded=False)
    with made:
        yield made
        made.stop()
        made.embedded(True).start()
    assert made.leftovers() == []


def returned(server, first: Frontend, kernel: str) -> Frontend:
    """The same client on a new socket, as soon as there is one."""
    return Frontend(server, kernel, session=first.session)


def test_a_gateway_killed_with_kill_9_loses_no_message(server, api):
    made = start(api)
    first, other = Frontend(server, made), Frontend(server, made, v1=False)
    first.run("kept = 41")
    asked = first.execute(SLOW)
    for client in (first, other):
        client.wait(lambda message: message["header"]["msg_type"] == "stream" and message["content"]["text"].startswith("20"))
    server.kill()
    for client in (first, other):
        client.close_code()
    server.start()
    for old in (first, other):
        with returned(server, old, made) as new:
            if old is first:
                new.finish(asked)
            else:
                new.wait(lambda message: state(message) == "idle" and message["parent_header"].get("msg_id") == asked)
            seen = [message["header"]["msg_id"] for message in old.of(asked)]
            rest = [message for message in new.of(asked) if message["header"]["msg_id"] not in seen]
            assert text(old.of(asked) + rest) == SLOW_TEXT
            (result,) = [m for m in new.run("kept + 1") if kind(m) == "iopub:execute_result"]
            assert result["content"]["data"]["text/plain"] == "42"
        old.close()
    api.call("DELETE", f"/api/kernels/{made}", 204)


def test_a_host_that_dies_is_not_noticed(server, api):
    made = start(api)
    session = api.call("GET", "/v1/sessions?label=made_by=jupyter")["sessions"][-1]["id"]
    with Frontend(server, made) as one:
        one.run("kept = 41")
        asked = one.execute(SLOW)
        one.wait(lambda message: message["header"]["msg_type"] == "stream" and message["content"]["text"].startswith("20"))
        os.kill(host_of(server, session), signal.SIGKILL)
        one.finish(asked)
        printed = [int(line) for line in text(one.of(asked)).split()]
        assert printed == sorted(set(printed))  # what came in the moment of the death may be missing, and nothing comes twice
        assert printed[-1] == 199
        (result,) = [m for m in one.run("kept + 1") if kind(m) == "iopub:execute_result"]
        assert result["content"]["data"]["text/plain"] == "42"
    api.call("DELETE", f"/api/kernels/{made}", 204)


def test_a_drain_closes_so_that_frontends_come_back(server, api):
    made = start(api)
    first = Frontend(server, made)
    first.run("kept = 1")
    os.kill(server.pid, signal.SIGTERM)
    assert first.close_code() == 1012
    server.stop()
    server.start()
    with returned(server, first, made) as second:
        assert [m["content"]["status"] for m in second.run("kept") if m["channel"] == "shell"] == ["ok"]
    first.close()
    api.call("DELETE", f"/api/kernels/{made}", 204)


def test_a_deleted_kernel_is_announced_and_its_sockets_closed_for_good(server, api):
    made = start(api)
    with Frontend(server, made) as one, Frontend(server, made) as other:
        one.run("1")
        api.call("DELETE", f"/api/kernels/{made}", 204)
        for client in (one, other):
            client.wait(lambda message: state(message) == "dead")
            assert client.close_code() == 1000


def test_a_clients_shutdown_request_is_a_delete_at_once(server, api):
    made = start(api)
    with Frontend(server, made) as one:
        asked = one.send("shutdown_request", {"restart": False}, channel="control")
        assert one.reply(asked)["content"] == {"status": "ok", "restart": False}
        assert one.close_code() == 1000
    assert api.http.get(f"/api/kernels/{made}").status_code == 404


def test_a_kernel_with_a_client_is_not_culled_and_one_without_is(server, api):
    """`sessions.idle_timeout_s` is 1 here."""
    made = start(api)
    with Frontend(server, made) as one:
        one.run("import time; time.sleep(1.7)")
        assert [m["content"]["status"] for m in one.run("1") if m["channel"] == "shell"] == ["ok"]
    api.until(lambda: api.http.get(f"/api/kernels/{made}").status_code == 404)
    assert made not in [model["id"] for model in api.call("GET", "/api/kernels")]


def test_one_session_has_two_doors(server, api):
    session = api.create(idle_timeout_s=None)
    assert api.run(session, "shared = [1]")["success"]
    (model,) = [model for model in api.call("GET", "/api/kernels") if model["id"].replace("-", "").startswith(session)]
    with Frontend(server, model["id"]) as one:
        assert [m["content"]["data"]["text/plain"] for m in one.run("shared.append(2); shared") if kind(m) == "iopub:execute_result"] == [
            "[1, 2]"
        ]
        # What the native API runs is seen by the frontend, and the other way round; both wait in one queue.
        native = api.run(session, "shared.append(3); print(shared)")
        assert native["logs"]["stdout"] == ["[1, 2, 3]\n"]
        one.wait(lambda message: message["header"]["msg_type"] == "stream" and message["content"]["text"] == "[1, 2, 3]\n")
        asked = one.execute("import time; time.sleep(0.5)")
        one.wait(lambda message: kind(message) == "iopub:execute_input" and message["parent_header"]["msg_id"] == asked)
        waiting = api.start(session, "shared")
        assert api.call("GET", f"/v1/sessions/{session}/executions/{waiting}")["queue_position"] == 1
        one.finish(asked)
        assert api.wait(session, waiting)["success"]
        assert len(api.call("GET", f"/v1/sessions/{session}/executions")["executions"]) == 5
        api.call("POST", f"/v1/sessions/{session}/contexts/python/restart")
        one.wait(lambda message: state(message) == "starting")
    api.delete(session)


def host_of(server: Server, session: str) -> int:
    """The session's host: the process of the first of the two users that the session has."""
    with sqlite3.connect(server.data_dir / "registry.sqlite") as registry:
        (init,) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (session,)).fetchone()
    registry.close()
    for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        # A process that may not be dumped belongs to root in /proc; its status tells the truth.
        uid = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")).split()[1]
        if int(uid) % 2:
            return int(pid)
    raise AssertionError("the session has no host")
