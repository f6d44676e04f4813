"""kill -9 of each process, at moments that are not chosen kindly: what must survive does, and what cannot says so."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server, alive

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.slow]

LINES = 120
CELL = f"""
import time
counter += 1
for number in range({LINES}):
    print(f"{{counter}}:{{number}}")
    time.sleep(0.004)
counter
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("faults") / "data", "sessions.pool_size=1") as made:
        yield made
    assert made.leftovers() == []


class Caller:
    """A caller that never gives up: starts an execution under an id of its own, follows it over as many connections as it takes, and remembers every event."""

    def __init__(self, server: Server, session: str, execution: str, code: str) -> None:
        self._server, self._session, self._execution, self._code = server, session, execution, code
        self.events: list[dict] = []
        self.connections = 0
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._until(self._start)
            self._until(self._follow)
        except BaseException as exc:
            self.failure = exc

    def _until(self, step) -> None:
        deadline = time.monotonic() + 60
        while True:
            self.connections += 1
            try:
                if step():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "no answer in 60 s"
            time.sleep(0.02)  # the server is being started again; nothing tells its callers when

    def _start(self) -> bool:
        with self._server.api() as api:
            response = api.http.post(
                f"/v1/sessions/{self._session}/executions?wait=false", json={"code": self._code, "id": self._execution}
            )
        assert response.status_code in (202, 503), response.text
        return response.status_code == 202

    def _follow(self) -> bool:
        after = self.events[-1]["seq"] if self.events else 0
        with (
            self._server.api() as api,
            api.http.stream(
                "GET",
                f"/v1/sessions/{self._session}/executions/{self._execution}?after={after}",
                headers={"Accept": "application/x-ndjson"},
            ) as response,
        ):
            if response.status_code == 503:
                return False
            assert response.status_code == 200, response.read()
            rest = ""
            for text in response.iter_text():
                *lines, rest = (rest + text).split("\n")
                for line in lines:
                    event = json.loads(line)
                    if "seq" in event:
                        self.events.append(event)
                        if event["type"] == "end":
                            return True
        return False

    def join(self) -> list[dict]:
        self.thread.join(90)
        assert not self.thread.is_alive()
        if self.failure:
            raise self.failure
        return self.events


def test_the_gateway_killed_at_random_moments_loses_nothing(server):
    """Twenty kills while two sessions print: every byte once and in order, every id run once, variables kept."""
    chance = random.Random(20)
    with server.api() as api:
        sessions = [api.create(), api.create()]
        for session in sessions:
            assert api.run(session, "counter = 0")["success"]
    connections = 0
    for turn in range(1, 21):
        callers = [Caller(server, session, f"turn-{turn}", CELL) for session in sessions]
        time.sleep(chance.uniform(0, 0.8))
        server.kill()
        server.start()
        for caller in callers:
            events = caller.join()
            connections += caller.connections
            numbers = [event["seq"] for event in events]
            assert numbers == sorted(set(numbers))
            assert "".join(event["text"] for event in events if event["type"] == "stdout") == "".join(
                f"{turn}:{number}\n" for number in range(LINES)
            )
            assert [event["result"]["text"] for event in events if event["type"] == "result"] == [str(turn)]
            assert (events[0]["type"], events[-1]["type"], events[-1]["status"]) == ("queued", "end", "ok")
            assert not any(event["type"] == "gap" for event in events)
    assert connections > 80  # start and follow, and again for what was cut
    with server.api() as api:
        for session in sessions:
            assert api.run(session, "counter")["text"] == "20"
            # What was answered before is the same now, and asking again with an id runs nothing.
            again = api.run(session, CELL, id="turn-7")
            assert (again["text"], again["execution_count"]) == ("7", 8)
            assert api.run(session, "counter")["text"] == "20"
            api.delete(session)


def test_a_request_that_waits_for_json_is_found_again(server):
    with server.api() as api:
        session = api.create()

        def wait_in_vain() -> None:
            with pytest.raises(httpx.TransportError):
                api.run(session, "import time; time.sleep(1); 'done'", id="waited")

        waiting = threading.Thread(target=wait_in_vain)
        waiting.start()
        with server.api() as other:
            other.until(lambda: other.http.get(f"/v1/sessions/{session}/executions/waited").status_code == 200)
        server.kill()
        waiting.join(30)
        server.start()
    with server.api() as api:
        assert api.run(session, "import time; time.sleep(1); 'done'", id="waited")["text"] == "'done'"
        assert len(api.call("GET", f"/v1/sessions/{session}/executions")["executions"]) == 1
        api.delete(session)


def test_the_zygote_killed_leaves_sessions_and_a_new_one_is_made(server):
    with server.api() as api:
        session = api.create()
        api.run(session, "kept = 1")
        zygote = server.zygote_pid()
        os.kill(zygote, signal.SIGKILL)
        api.until(lambda: not alive(zygote) or server.zygote_pid() != zygote)
        assert api.run(session, "kept + 1")["text"] == "2"
        others = [api.create() for _ in range(3)]  # more than the pool holds
        for other in others:
            assert api.run(other, "6 * 7")["text"] == "42"
        assert server.zygote_pid() not in (None, zygote)
        for one in [session, *others]:
            api.delete(one)


def processes_of(server: Server, session: str) -> dict[str, int]:
    """The pids, as this machine numbers them, of a session's init, host and (only) kernel."""
    with contextlib.closing(sqlite3.connect(server.data_dir / "registry.sqlite")) as registry:
        ((init,),) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (session,))
    found = {"init": init}
    for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        # A process that may not be dumped belongs to root in /proc; its status tells the truth.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a command that has ended meanwhile
            uid = int(next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")).split()[1])
            found["host" if uid % 2 else "kernel"] = int(pid)
    return found


def test_the_host_killed_while_a_cell_runs(server):
    """Kernels and variables live on, the reply in flight arrives, the place where output may be missing is marked."""
    with server.api() as api:
        session = api.create()
        api.run(session, "kept = 'yes'")
        pids = processes_of(server, session)
        execution = api.start(session, "import time\nfor i in range(20):\n    print(i)\n    time.sleep(0.05)\nkept")
        queued = api.start(session, "kept + ' and queued'")
        api.until(lambda: api.call("GET", f"/v1/sessions/{session}/executions/{execution}")["logs"]["stdout"])
        os.kill(pids["host"], signal.SIGKILL)
        result = api.wait(session, execution)
        assert (result["status"], result["text"]) == ("ok", "'yes'")
        assert api.wait(session, queued)["text"] == "'yes and queued'"
        events = api.events(session, execution)
        assert [event["type"] for event in events].count("gap") == 1
        printed = [int(line) for line in "".join(result["logs"]["stdout"]).split()]
        assert printed == sorted(set(printed))
        assert printed[0] == 0
        assert printed[-1] == 19
        assert api.run(session, "kept")["text"] == "'yes'"
        api.delete(session)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "print('out', flush=True)\nimport time; time.sleep(0.5)\nopen('done', 'w').close()"),
        pytest.param(
            "javascript",
            "console.log('out'); await new Promise(go => setTimeout(go, 500)); require('fs').writeFileSync('done', '')",
            marks=pytest.mark.javascript,
        ),
    ],
)
def test_what_ends_while_there_is_no_host_has_ended(tmp_path, language, code):
    """Its reply, and that the kernel is idle again, went to nobody. JavaScript's kernel answers while cells run, so that an answer says nothing of them: the execution was waited for until its time was over."""
    # A server of its own: one on which JavaScript was used has its kernels ready in other sessions, where other tests look for Python's.
    with Server(tmp_path / "data", "sessions.pool_size=0") as server, server.api() as api:
        session = api.create()
        api.run(session, "1", language=language)
        pids = processes_of(server, session)
        execution = api.start(session, code, language=language)
        api.until(lambda: api.call("GET", f"/v1/sessions/{session}/executions/{execution}")["logs"]["stdout"])
        os.kill(pids["init"], signal.SIGSTOP)  # it would start another at once
        try:
            os.kill(pids["host"], signal.SIGKILL)
            api.until(lambda: Path(f"/proc/{pids['init']}/root/workspace/done").exists())
        finally:
            os.kill(pids["init"], signal.SIGCONT)
        result = api.wait(session, execution)
        assert (result["state"], result["logs"]["stdout"]) == ("done", ["out\n"])
        assert api.run(session, "6 * 7", language=language)["text"] == "42"
        api.delete(session)


def test_the_host_killed_while_nothing_runs(server):
    with server.api() as api:
        session = api.create()
        api.run(session, "kept = 1", id="before")
        pids = processes_of(server, session)
        os.kill(pids["host"], signal.SIGKILL)
        assert api.run(session, "kept + 1")["text"] == "2"
        assert api.run(session, "kept = 1", id="before")["execution_count"] == 1
        assert api.run(session, "raise SystemExit")["success"] is False
        api.delete(session)


def test_init_killed_is_that_session_alone(server):
    """The session is lost with its reason; its history stays readable; its neighbour does not notice."""
    with server.api() as api:
        session, neighbour = api.create(), api.create()
        api.run(session, "print('remembered'); 6 * 7", id="before")
        api.run(neighbour, "kept = 1")
        pids = processes_of(server, session)
        os.kill(pids["init"], signal.SIGKILL)
        lost = api.until(lambda: (found := api.call("GET", f"/v1/sessions/{session}"))["state"] == "lost" and found)
        assert "unexpectedly" in lost["reason"]
        refused = api.call("POST", f"/v1/sessions/{session}/executions", 410, json={"code": "1"})
        assert refused["error"]["code"] == "session_closed"
        before = api.call("GET", f"/v1/sessions/{session}/executions/before")
        assert (before["text"], before["logs"]["stdout"]) == ("42", ["remembered\n"])
        assert [event["type"] for event in api.events(session, "before")][-1] == "end"
        assert api.run(neighbour, "kept")["text"] == "1"
        api.delete(session)
        api.delete(neighbour)
        api.call("GET", f"/v1/sessions/{session}", 404)


def test_a_kernel_killed_is_announced_and_replaced(server):
    with server.api() as api:
        session = api.create()
        pids = processes_of(server, session)
        execution = api.start(session, "import time; print('going', flush=True); time.sleep(60)")
        api.until(lambda: api.call("GET", f"/v1/sessions/{session}/executions/{execution}")["logs"]["stdout"])
        os.kill(pids["kernel"], signal.SIGKILL)
        result = api.wait(session, execution)
        assert (result["status"], result["death"]["reason"], result["death"]["signal"]) == ("kernel_died", "signalled", "SIGKILL")
        assert result["logs"]["stdout"] == ["going\n"]
        after = api.run(session, "6 * 7")
        assert after["text"] == "42"
        assert "SIGKILL" in after["fresh_kernel"]
        api.delete(session)


#: Prints its numbers, whoever listens, and goes on when the file `go` is there.
COUNTING = "for i in $(seq 1 300); do echo $i; sleep 0.002; done; while [ ! -e go ]; do sleep 0.01; done; echo over; exit 3"


def test_a_command_outlives_gateway_and_host(server):
    """Killed while it prints and while it waits: every line once with the gateway's death, its end and exit status with the host's too."""
    with server.api() as api:
        session = api.create()
        path = f"/v1/sessions/{session}/commands"
        for name, background in (("json", False), ("background", True)):
            api.call("POST", f"{path}?wait=false", 202, json={"command": COUNTING, "id": name, "background": background, "timeout_s": 60})
        server.kill()
        server.start()
    with server.api() as api:
        api.until(lambda: all(api.call("GET", f"{path}/{name}")["stdout"].endswith("\n300\n") for name in ("json", "background")))
        server.kill()
        server.start()
    with server.api() as api:
        lines = "".join(f"{number}\n" for number in range(1, 301))
        assert [api.call("GET", f"{path}/{name}")["stdout"] for name in ("json", "background")] == [lines, lines]
        host = processes_of(server, session)["host"]
        os.kill(host, signal.SIGKILL)
        again = api.call("POST", f"{path}?wait=false", 202, json={"command": COUNTING, "id": "json", "timeout_s": 60})
        assert (again["state"], again["stdout"]) == ("running", lines)
        api.call("POST", path, json={"command": "touch go"})
        for name in ("json", "background"):
            ended = api.call("GET", f"{path}/{name}?wait=true")
            assert (ended["stdout"], ended["exit_code"], ended["status"]) == (lines + "over\n", 3, "error")
            events = api.http.get(f"{path}/{name}", headers={"Accept": "application/x-ndjson"}).text.splitlines()
            assert [json.loads(line)["type"] for line in events].count("gap") == 1
        api.delete(session)


def test_the_host_killed_as_a_command_ends(server):
    """Whenever it dies, a command ends with its own exit status or as lost, once, and its time limit still holds."""
    chance = random.Random(7)
    with server.api() as api:
        session = api.create()
        path = f"/v1/sessions/{session}/commands"
        for turn in range(6):
            api.call("POST", f"{path}?wait=false", 202, json={"command": "echo said; exit 5", "id": f"turn-{turn}"})
            time.sleep(chance.uniform(0, 0.02))
            os.kill(processes_of(server, session)["host"], signal.SIGKILL)
            ended = api.call("GET", f"{path}/turn-{turn}?wait=true")
            if ended["status"] != "lost":
                assert (ended["exit_code"], ended["status"]) == (5, "error")
                gap = "gap" in api.http.get(f"{path}/turn-{turn}", headers={"Accept": "application/x-ndjson"}).text
                assert ended["stdout"] == "said\n" or gap
        api.call("POST", f"{path}?wait=false", 202, json={"command": "echo on; sleep 300", "id": "long", "timeout_s": 2})
        api.until(lambda: api.call("GET", f"{path}/long")["stdout"])
        os.kill(processes_of(server, session)["host"], signal.SIGKILL)
        assert api.call("GET", f"{path}/long?wait=true")["timed_out"] is True
        api.delete(session)
