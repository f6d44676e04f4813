"""Hosts of idle sessions sleep: their memory is given back, and nobody can tell afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.machine import processes_of
from tests.support.server import Api, Server
from tests.support.stream import stream

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.slow]

SLEEPS_AFTER_S = 0.3


@pytest.fixture(scope="module")
def drowsy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("drowsy") / "data", f"sessions.host_sleep_s={SLEEPS_AFTER_S}", "sessions.pool_size=1") as server:
        yield server
    assert server.leftovers() == []


@pytest.fixture
def api(drowsy: Server) -> Iterator[Api]:
    with drowsy.api() as api:
        yield api


@pytest.fixture
def session(api: Api) -> Iterator[str]:
    made = api.create()
    yield made
    api.delete(made)


def asleep(server: Server, session: str) -> bool:
    found = processes_of(server, session)
    return bool(found["init"]) and not found["host"]


def fall_asleep(api: Api, server: Server, session: str) -> None:
    api.until(lambda: asleep(server, session), within_s=20)


def test_it_is_found_as_it_was(api, drowsy, session):
    api.call("PUT", f"/v1/sessions/{session}/env", json={"env": {"A": "b"}})
    other = api.call("POST", f"/v1/sessions/{session}/contexts", json={"language": "python", "name": "other"})["id"]
    api.run(session, "x = 41")
    api.run(session, "y = 1", context=other)
    api.run(session, "handle = display('first', display_id='it')", id="shower")
    before = api.call("GET", f"/v1/sessions/{session}")
    kernels = processes_of(drowsy, session)["kernels"]
    fall_asleep(api, drowsy, session)
    assert sorted(processes_of(drowsy, session)["kernels"]) == sorted(kernels)
    after = api.call("GET", f"/v1/sessions/{session}")
    assert processes_of(drowsy, session)["host"]
    assert after == before
    result = api.run(session, "import os\nhandle.update('second')\nx += 1\n(x, os.environ['A'])")
    assert (result["text"], result["execution_count"]) == ("(42, 'b')", 3)
    assert api.run(session, "y", context=other)["text"] == "1"
    (shown,) = api.call("GET", f"/v1/sessions/{session}/executions/shower")["results"]
    assert shown["text"] == "'second'"


def test_again_and_again(api, drowsy, session):
    api.run(session, "n = 0")
    for turn in range(1, 4):
        fall_asleep(api, drowsy, session)
        assert api.run(session, "n += 1; n")["text"] == str(turn)


def test_one_that_was_never_used(api, drowsy):
    made = [api.create()]
    while processes_of(drowsy, made[-1])["kernels"]:
        made.append(api.create())  # one that was not made ready before has no kernel
    session = made[-1]
    fall_asleep(api, drowsy, session)
    assert api.run(session, "6 * 7")["text"] == "42"
    fall_asleep(api, drowsy, session)
    for one in made:
        api.delete(one)


def test_what_is_said_meanwhile_wakes_it_and_is_not_lost(api, drowsy, session):
    code = "import threading, time\nrelease = threading.Event()\ndef say():\n    release.wait()\n    for n in range(3000): print('late', n)\nthreading.Thread(target=say).start()"
    api.run(session, code, id="says")
    api.run(session, f"threading.Timer({5 * SLEEPS_AFTER_S}, release.set).start()")
    fall_asleep(api, drowsy, session)
    api.until(lambda: not asleep(drowsy, session), within_s=20)
    expected = "".join(f"late {n}\n" for n in range(3000))
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}/executions/says")["logs"]["stdout"] == [expected])


def test_a_kernel_that_ends_meanwhile_is_told_of(api, drowsy, session):
    api.run(session, "x = 1")
    fall_asleep(api, drowsy, session)
    (kernel,) = processes_of(drowsy, session)["kernels"]
    os.kill(kernel, signal.SIGKILL)
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}/contexts/python")["state"] == "dead")
    death = api.call("GET", f"/v1/sessions/{session}/contexts/python")["death"]
    assert (death["reason"], death["signal"]) == ("signalled", "SIGKILL")
    result = api.run(session, "'x' in globals()")
    assert result["text"] == "False"
    assert "SIGKILL" in result["fresh_kernel"]


def test_the_host_that_was_woken_may_die(api, drowsy, session):
    api.run(session, "x = 7")
    fall_asleep(api, drowsy, session)
    assert api.run(session, "x")["text"] == "7"
    (host,) = processes_of(drowsy, session)["host"]
    os.kill(host, signal.SIGKILL)
    assert api.run(session, "x")["text"] == "7"


def test_no_request_meets_the_moment(api, drowsy):
    """Requests around the time at which the host would sleep: every one is answered, once."""
    sessions = [api.create() for _ in range(4)]

    def work(name: str, offset_s: float) -> None:
        with drowsy.api() as mine:
            for turn in range(1, 16):
                result = mine.run(name, "n = globals().get('n', 0) + 1; n")
                assert result["text"] == str(turn), result
                time.sleep(SLEEPS_AFTER_S + offset_s + turn * 0.002)

    failed: list[BaseException] = []

    def guarded(name: str, offset_s: float) -> None:
        try:
            work(name, offset_s)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=guarded, args=(name, -0.02 + 0.015 * at)) for at, name in enumerate(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for name in sessions:
        api.delete(name)


@pytest.mark.parametrize("use", ["command", "terminal", "stream", "execution", "processes", "computing"])
def test_not_while_it_is_used(api, drowsy, session, use):
    api.run(session, "1")
    if use == "command":
        api.call("POST", f"/v1/sessions/{session}/commands", json={"command": "sleep 1000", "background": True})
    elif use == "terminal":
        api.call("POST", f"/v1/sessions/{session}/terminals", json={})
    elif use == "execution":
        api.start(session, "import time; time.sleep(1000)", timeout_s=None)
    elif use == "processes":  # there might be no room for a host
        api.run(session, "import subprocess\nleft = [subprocess.Popen(['sleep', '1000']) for _ in range(20)]")
    elif use == "computing":
        api.run(
            session, "import threading\nover = False\ndef compute():\n    while not over: pass\nthreading.Thread(target=compute).start()"
        )
    if use == "stream":
        with stream(api, "GET", f"/v1/sessions/{session}/events"):
            time.sleep(3 * SLEEPS_AFTER_S)
            assert not asleep(drowsy, session)
    else:
        time.sleep(3 * SLEEPS_AFTER_S)
        assert not asleep(drowsy, session)


def test_sessions_that_nobody_has_asked_for_stay_awake(api, drowsy):
    api.until(lambda: api.http.get("/ready").json()["pool"] == 1)
    time.sleep(3 * SLEEPS_AFTER_S)
    started = api.create()
    assert processes_of(drowsy, started)["host"]
    api.delete(started)


def test_idle_time_goes_on(api, drowsy):
    session = api.create(idle_timeout_s=5)
    api.run(session, "1")
    fall_asleep(api, drowsy, session)
    assert api.call("GET", f"/v1/sessions/{session}")["state"] == "running"  # a look is no use
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}")["state"] == "closed")


def test_a_gateway_that_is_killed_meanwhile_finds_it_again(api, drowsy, session):
    api.run(session, "x = 5")
    fall_asleep(api, drowsy, session)
    drowsy.kill()
    drowsy.start()
    with drowsy.api() as again:
        assert again.run(session, "x")["text"] == "5"
