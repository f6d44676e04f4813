"""Sessions: made, found, listed, changed, kept alive, ended."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import threading
from datetime import datetime

import httpx
import pytest

from tests.faults.test_killed import processes_of

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

FIELDS = {
    "id", "state", "reason", "created_at", "last_activity_at", "ended_at", "idle_timeout_s", "lifetime_s", "expires_at", "labels", "limits", "network", "env_names", "cwd", "executing", "contexts",
}  # fmt: skip


def seconds(text):
    assert text.endswith("Z")
    return datetime.fromisoformat(text).timestamp()


def test_a_new_session_says_all_about_itself(api):
    response = api.http.post("/v1/sessions", json={"labels": {"team": "blue"}, "env": {"COLOUR": "teal"}})
    made = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/sessions/{made['id']}"
    assert made.keys() == FIELDS
    assert (made["state"], made["reason"], made["ended_at"], made["cwd"], made["executing"]) == ("running", None, None, "/workspace", 0)
    assert (made["idle_timeout_s"], made["lifetime_s"], made["labels"], made["env_names"]) == (600, None, {"team": "blue"}, ["COLOUR"])
    assert seconds(made["expires_at"]) - seconds(made["last_activity_at"]) == pytest.approx(600, abs=0.01)
    assert "teal" not in response.text
    found = api.call("GET", f"/v1/sessions/{made['id']}")
    assert {**found, "contexts": [], "last_activity_at": 0, "expires_at": 0} == {
        **made,
        "contexts": [],
        "last_activity_at": 0,
        "expires_at": 0,
    }
    api.delete(made["id"])


def test_no_body_is_a_session_with_defaults(api):
    made = api.call("POST", "/v1/sessions", 201)
    assert (made["labels"], made["env_names"]) == ({}, [])
    api.delete(made["id"])


def test_its_environment_is_in_every_kernel_and_a_contexts_own_goes_first(api):
    session = api.create(env={"COLOUR": "teal", "SIZE": "7"}, languages=["Py"])
    show = "import os, subprocess; print(os.environ['COLOUR'], subprocess.check_output('echo $SIZE', shell=True, text=True).strip())"
    assert api.run(session, show)["logs"]["stdout"] == ["teal 7\n"]
    context = api.call("POST", f"/v1/sessions/{session}/contexts", 201, json={"language": "python", "env": {"SIZE": "9"}})["id"]
    assert api.run(session, show, context=context)["logs"]["stdout"] == ["teal 9\n"]
    api.delete(session)


def test_a_kernel_sees_nothing_of_the_gateways_environment(api, session):
    names = api.run(session, "import os; sorted(os.environ)")["text"]
    assert "KERNELGATE" not in names
    assert "PYTEST" not in names


def test_languages_are_warmed_when_asked_for(api):
    session = api.create(languages=["PYTHON3"])
    contexts = api.call("GET", f"/v1/sessions/{session}")["contexts"]
    assert [(context["id"], context["is_default"]) for context in contexts] == [("python", True)]
    api.delete(session)


@pytest.mark.bash
def test_contexts_that_nobody_asked_for_are_not_shown(api, server):
    """A language that was used lately has its kernel ready in other sessions: whose callers see it when they use it."""
    api.delete(api.create(languages=["bash"]))

    def with_a_kernel_nobody_asked_for():
        made = api.create()
        known = {process["context_id"] for process in api.call("GET", f"/v1/sessions/{made}/processes")["processes"]}
        return made if {"python", "bash"} <= known else api.delete(made)

    def shown():
        listed, in_session = (
            api.call("GET", f"/v1/sessions/{session}/contexts")["contexts"],
            api.call("GET", f"/v1/sessions/{session}")["contexts"],
        )
        for context in (*listed, *in_session):
            del context["state"]  # a kernel may become ready in between
        assert in_session == listed
        return [context["id"] for context in listed]

    def kill_host():
        os.kill(processes_of(server, session)["host"], signal.SIGKILL)
        api.until(lambda: api.http.get(f"/v1/sessions/{session}/contexts").is_success)

    session = api.until(with_a_kernel_nobody_asked_for, every_s=0.5)  # slower than the pool is filled
    assert shown() == []
    assert "it has: none" in api.call("GET", f"/v1/sessions/{session}/contexts/other", 404)["error"]["message"]
    api.run(session, "kept=1", language="bash")
    (context,) = api.call("GET", f"/v1/sessions/{session}/contexts")["contexts"]
    assert (context["id"], context["generation"], context["execution_count"]) == ("bash", 1, 1)
    assert context["created_at"] >= api.call("GET", f"/v1/sessions/{session}")["created_at"]
    # A new host knows it, too.
    kill_host()
    assert shown() == ["bash"]
    assert api.run(session, "echo $kept", language="bash")["logs"]["stdout"] == ["1\n"]
    assert shown() == ["bash"]
    assert api.call("GET", f"/v1/sessions/{session}/contexts/python")["generation"] == 1
    assert shown() == ["bash", "python"]
    kill_host()
    assert sorted(shown()) == ["bash", "python"]
    api.delete(session)


def test_listing_by_label_state_and_page(server):
    # A token of its own: the list is then this test's alone.
    with server.api(server.new_token("lister")) as api:
        made = [api.create(labels={"n": str(number), "even": str(number % 2 == 0)}) for number in range(5)]
        everything = api.call("GET", "/v1/sessions")
        assert [one["id"] for one in everything["sessions"]] == made
        assert everything["next_page_token"] is None
        assert [one["id"] for one in api.call("GET", "/v1/sessions?label=even=True")["sessions"]] == made[::2]
        assert [one["id"] for one in api.call("GET", "/v1/sessions?label=even=True&label=n=2")["sessions"]] == [made[2]]
        assert api.call("GET", "/v1/sessions?label=n=")["sessions"] == []
        assert api.call("GET", "/v1/sessions", params={"label": "n' OR 1=1 --=x"})["sessions"] == []
        assert len(api.call("GET", "/v1/sessions?state=running")["sessions"]) == 5
        assert api.call("GET", "/v1/sessions?state=lost")["sessions"] == []
        pages, token = [], None
        while token is not None or not pages:
            page = api.call("GET", "/v1/sessions", params={"limit": 2, **({"page_token": token} if token else {})})
            pages.append([one["id"] for one in page["sessions"]])
            token = page["next_page_token"]
        assert pages == [made[:2], made[2:4], made[4:]]
        # A page is a place in time: what is deleted meanwhile is left out, nothing is shown twice.
        first = api.call("GET", "/v1/sessions?limit=2")
        api.delete(made[1])
        assert [
            one["id"] for one in api.call("GET", "/v1/sessions", params={"limit": 10, "page_token": first["next_page_token"]})["sessions"]
        ] == made[2:]
        for session in (made[0], *made[2:]):
            api.delete(session)
        assert api.call("GET", "/v1/sessions")["sessions"] == []


def test_a_page_that_is_exactly_full_is_the_last(server):
    with server.api(server.new_token("pager")) as api:
        made = [api.create() for _ in range(2)]
        assert api.call("GET", "/v1/sessions?limit=2")["next_page_token"] is None
        for session in made:
            api.delete(session)


def test_update_changes_what_is_named_and_nothing_else(api):
    session = api.create(labels={"a": "1", "b": "2"}, idle_timeout_s=100)
    path = f"/v1/sessions/{session}"
    assert api.call("PATCH", path, json={})["labels"] == {"a": "1", "b": "2"}
    changed = api.call("PATCH", path, json={"labels": {"c": "3"}})
    assert (changed["labels"], changed["idle_timeout_s"], changed["lifetime_s"]) == ({"c": "3"}, 100, None)
    changed = api.call("PATCH", path, json={"idle_timeout_s": None, "lifetime_s": 5000.5})
    assert (changed["labels"], changed["idle_timeout_s"], changed["lifetime_s"]) == ({"c": "3"}, None, 5000.5)
    assert seconds(changed["expires_at"]) - seconds(changed["created_at"]) == pytest.approx(5000.5, abs=0.01)
    changed = api.call("PATCH", path, json={"labels": {}, "lifetime_s": None})
    assert (changed["labels"], changed["lifetime_s"], changed["expires_at"]) == ({}, None, None)
    assert api.call("GET", path)["labels"] == {}
    api.delete(session)


def test_keepalive_starts_the_idle_clock_again(api):
    session = api.create()
    before = api.call("GET", f"/v1/sessions/{session}")
    after = api.call("POST", f"/v1/sessions/{session}/keepalive")
    assert seconds(after["last_activity_at"]) > seconds(before["last_activity_at"])
    assert seconds(after["expires_at"]) > seconds(before["expires_at"])
    # Looking is no use of it.
    assert api.call("GET", f"/v1/sessions/{session}")["last_activity_at"] == after["last_activity_at"]
    api.delete(session)


def test_deleted_is_gone(api):
    session = api.create()
    execution = api.run(session, "x = 1")["id"]
    api.delete(session)
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/keepalive"), ("POST", "/interrupt"), ("GET", "/contexts"), ("GET", "/executions"), ("GET", f"/executions/{execution}"),
        ("GET", "/events"), ("GET", "/contexts/python"), ("POST", "/contexts/python/restart"), ("POST", f"/executions/{execution}/cancel"),
    ):  # fmt: skip
        error = api.call(method, f"/v1/sessions/{session}{path}", 404)["error"]
        assert error["code"] == "session_not_found", (method, path)
    assert api.call("POST", f"/v1/sessions/{session}/executions", 404, json={"code": "1"})["error"]["code"] == "session_not_found"


def test_deleting_ends_what_runs_and_answers_who_waits(api, server):
    session = api.create()
    answers = []

    def wait():
        with server.api() as other:
            answers.append(
                other.http.post(f"/v1/sessions/{session}/executions", json={"code": "import time; time.sleep(100)", "id": "sleeper"})
            )

    waiter = threading.Thread(target=wait)
    waiter.start()
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}")["executing"] == 1)
    api.delete(session)
    waiter.join(30)
    assert not waiter.is_alive()
    # Whoever gets there first answers: the host with the kernel's death, or the gateway with the session's.
    (answer,) = answers
    assert (answer.status_code, answer.json().get("status") or answer.json()["error"]["code"]) in [
        (200, "kernel_died"),
        (410, "session_closed"),
    ]


def test_deleting_answers_who_is_in_the_middle(api, server):
    """An upload half sent, and streams without an end: all are told that the session has ended, none that its host is at fault."""
    session = api.create()
    base = f"/v1/sessions/{session}"
    api.call("POST", f"{base}/commands", 201, json={"command": "sleep 100", "background": True, "id": "sleeper"})
    pid = api.call("GET", f"{base}/processes")["processes"][0]["pid"]
    api.call("PUT", f"{base}/files/content", 201, params={"path": "log"}, content=b"")
    address = httpx.URL(server.url)
    with (
        socket.create_connection((address.host, address.port), 30) as upload,
        api.http.stream("GET", f"{base}/files/watch") as watch,
        api.http.stream("GET", f"{base}/processes/{pid}/stats", params={"interval_s": 0.5}) as stats,
    ):
        upload.sendall(
            f"PUT {base}/files/content?path=log&mode=append HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {server.token}\r\nContent-Length: 200000\r\n\r\n".encode()
            + bytes(100_000)
        )
        lines = [stream.iter_lines() for stream in (watch, stats)]
        assert [json.loads(next(one))["type"] for one in lines] == ["watching", "stats"]
        api.until(lambda: api.call("GET", f"{base}/files/stat", params={"path": "log"})["size"])  # its beginning has reached the host
        api.delete(session)
        upload.sendall(bytes(100_000))
        head, _, body = b"".join(iter(lambda: upload.recv(65536), b"")).partition(b"\r\n\r\n")
        assert (head.split()[1], json.loads(body)["error"]["code"]) == (b"410", "session_closed")
        for one in lines:
            *_, last = one
            assert json.loads(last)["error"]["code"] == "session_closed"


def test_sessions_share_nothing_and_run_at_once(api, own):
    other = api.create()
    # The first one runs until the second one has had its turn: neither waits for the other.
    looping = api.start(own, "open('mark', 'w').close(); x = 'mine'\nimport time\nwhile True: time.sleep(0.01)")
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/executions/{looping}")["state"] == "running")
    result = api.run(other, "import os; print('x' in globals(), os.path.exists('mark'), os.getcwd())")
    assert result["logs"]["stdout"] == ["False False /workspace\n"]
    assert api.call("GET", f"/v1/sessions/{own}/executions/{looping}")["state"] == "running"
    assert api.call("POST", f"/v1/sessions/{own}/interrupt") == {"interrupted": [looping]}
    assert api.wait(own, looping)["status"] == "interrupted"
    api.delete(other)


def test_many_made_at_once(api, server):
    made, failed = [], []

    def make():
        try:
            with server.api() as other:
                made.append(other.create())
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(made)) == 6
    for session in made:
        assert api.run(session, "40 + 2")["text"] == "42"
        api.delete(session)


def test_as_many_as_there_may_be(tight, tight_api):
    made = []
    while (response := tight_api.http.post("/v1/sessions")).status_code == 201:
        made.append(response.json()["id"])
        assert len(made) <= 6
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "capacity_exceeded"
    assert "sessions.max_sessions" in response.json()["error"]["message"]
    assert response.headers["Retry-After"]
    assert len(made) >= 5  # one may be in the making for the pool
    tight_api.delete(made.pop())
    made.append(tight_api.create())
    for session in made:
        tight_api.delete(session)


def test_kernels_of_one_zygote_share_no_secret_and_import_nothing_when_they_start(api):
    """Importing psutil alone, as Jupyter does to find an address that is in the connection file anyway, copied 8 MiB of pages into each kernel."""
    told = [
        api.run(
            session,
            "import random, sys, numpy; get_ipython().kernel.session.session, random.random(), numpy.random.rand(), 'psutil' in sys.modules",
        )["text"]
        for session in (api.create(), api.create())
    ]
    first, second = (ast.literal_eval(text.replace("np.float64", "")) for text in told)
    assert all(one != other for one, other in zip(first[:3], second[:3], strict=True))
    assert not first[3]
    assert not second[3]
