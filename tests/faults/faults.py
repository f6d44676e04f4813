"""The faults, one method each. One that returns has been injected, and what it promises by itself was kept; what it does to others, their callers find out."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.caller import Caller, Held, Ledger, Refused, answered, create, patient
from tests.faults.cells import Cell
from tests.faults.machine import READ_ONLY, ChaosServer, few_processes, full_disk, processes_of, runs_of, stopped
from tests.support.server import Api

#: What each is, in the words of the table. The first ones hit the gateway and are injected one after the other.
GATEWAY_FAULTS = {
    "gateway_killed": "kill -9 of the gateway",
    "gateway_killed_at_start": "kill -9 of the gateway while it starts",
    "drained": "SIGTERM: drain, then a new gateway",
    "upgraded": "upgrade: a new gateway on the same port while the old one drains",
    "zygote_killed": "kill -9 of the zygote",
    "disk_full": "no room for the data directory",
    "read_only": "gateway started over a read-only data directory",
    "registry_corrupt": "registry destroyed",
    "clock_jumped": "wall clock two days forward, one back",
    "processes_full": "no process left for gateway and zygote",
    "descriptors_out": "no descriptor left for the gateway",
    "creates_cancelled": "creates whose callers leave half-way",
}
SESSION_FAULTS = {
    "kernel_killed": "kill -9 of a kernel",
    "host_killed": "kill -9 of a session host",
    "init_killed": "kill -9 of a session's init",
    "journal_torn": "torn tail of a journal",
    "out_of_memory": "out of memory in a session",
    "caller_vanished": "caller vanishes mid-stream",
    "caller_slow": "caller reads a byte at a time",
    "connections": "500 connections of one caller",
    "every_after": "caller reconnects with every possible `after`",
    "same_id": "two callers, one execution id",
    "deleted_while_running": "delete during execute",
    "restarted_twice": "restart during restart",
}
FAULTS = GATEWAY_FAULTS | SESSION_FAULTS

_HOLD_S = 1.5


class Faults:
    """Injects. Raises where a promise is broken that only the fault itself can see."""

    def __init__(self, server: ChaosServer, callers: list[Caller], ledger: Ledger, chance: Random, *, creates: int = 250) -> None:
        self._server, self._callers, self._ledger, self._chance, self._creates = server, callers, ledger, chance, creates
        self._numbers = iter(range(1, 1 << 30))

    # -- the gateway --

    def gateway_killed(self) -> None:
        self._server.kill()
        self._server.start()

    def gateway_killed_at_start(self) -> None:
        self._server.kill()
        self._server.spawn()
        time.sleep(self._chance.uniform(0, 1.0))
        self._server.kill()
        self._server.start()

    def drained(self) -> None:
        status = self._server.stop()
        self._server.start()
        assert status == 0, f"the drained gateway ended with {status}"

    def upgraded(self) -> None:
        old = self._server.process
        assert old is not None
        old.send_signal(signal.SIGTERM)
        self._server.start()
        assert old.wait(60) == 0
        assert old.stdout is not None
        old.stdout.close()

    def zygote_killed(self) -> None:
        if zygote := self._server.zygote_pid():
            os.kill(zygote, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while self._server.zygote_pid() in (None, zygote):
            assert time.monotonic() < deadline, "no new zygote was started"
            with self._own():  # needs a new one, once the pool is empty
                pass

    def disk_full(self) -> None:
        with full_disk(self._server.data_dir), self._server.api() as api:
            self._asked_until(time.monotonic() + _HOLD_S, lambda: api.http.post("/v1/sessions", json=self._body()[1]))
            api.call("GET", "/health")

    def read_only(self) -> None:
        """A gateway that cannot write says so and ends; the next one finds everything."""
        self._server.kill()
        said_before = self._server.log.stat().st_size
        self._server.spawn(*READ_ONLY, str(self._server.data_dir))
        assert self._server.process is not None
        status = self._server._reap()
        said = self._server.log.read_bytes()[said_before:].decode()
        self._server.start()
        assert status == 1, f"over a read-only data directory it ended with {status}"
        assert str(self._server.data_dir) in said, said
        assert "read-only" in said.lower(), said
        assert "Traceback" not in said, said

    def registry_corrupt(self) -> None:
        self._server.kill()
        path = self._server.data_dir / "registry.sqlite"
        match self._chance.choice(("garbage", "cut", "pages", "gone", "log lost")):
            case "garbage":
                path.write_bytes(self._chance.randbytes(20_000))
            case "cut":
                os.truncate(path, path.stat().st_size // 2 + 100)
            case "pages":
                with path.open("r+b") as file:
                    file.seek(4096)
                    file.write(self._chance.randbytes(max(0, path.stat().st_size - 4096)))
            case "gone":
                path.unlink()
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
        self._server.start()

    def clock_jumped(self) -> None:
        with self._own() as idle:
            for offset_s in (2 * 86400.0, -86400.0, 0.0):
                self._server.clock.jump(offset_s)
                time.sleep(_HOLD_S)  # a turn of the gateway's look at idle sessions, and more
            state = patient(self._server, lambda api: answered(api.http.get(f"/v1/sessions/{idle}")))["state"]
            assert state == "running", f"a session that was idle for a moment is {state}"

    def processes_full(self) -> None:
        """Where none can be made, creates are refused with a reason (those beyond the pool); the rest goes on."""
        pids = [self._server.pid, *([zygote] if (zygote := self._server.zygote_pid()) else [])]
        made: list[str] = []
        with few_processes(pids) as possible:
            deadline = time.monotonic() + 60
            while possible:
                _, body = self._body()
                try:
                    with self._server.api() as api:
                        made.append(answered(api.http.post("/v1/sessions", json=body))["id"])
                except Refused as exc:
                    if exc.code == "sandbox_unavailable":
                        break
                    raise
                assert time.monotonic() < deadline, f"{len(made)} sessions were made without a process"
            patient(self._server, lambda api: answered(api.http.get("/health")))
        for session in made:
            self._delete(session)

    def descriptors_out(self) -> None:
        """What comes while there is none is answered with a reason, or later; nothing is left to wait for good."""
        pid = self._server.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 4, before[1]))
        connections = []
        try:
            connections = [self._connect() for _ in range(50)]
            time.sleep(_HOLD_S)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            for connection in connections:
                connection.close()
        patient(self._server, lambda api: answered(api.http.get("/v1/sessions?limit=1")))

    def creates_cancelled(self) -> None:
        """Sessions that nobody has heard of are gone again: at once, but for the few whose answer was on its way already when their caller left."""
        label = f"cancelled-{next(self._numbers)}"
        body = json.dumps({"labels": {"request": label}, "idle_timeout_s": 4}).encode()
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._server.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        left = self._creates
        while left > 0:
            some = [self._connect() for _ in range(min(left, 50))]
            left -= len(some)
            for connection in some:
                connection.sendall(head.encode() + body)
            for connection in some:
                time.sleep(self._chance.uniform(0, 0.004))
                connection.close()
        path = f"/v1/sessions?limit=1000&label=request={label}"
        deadline = time.monotonic() + 60
        while running := [one for one in self._listed(path) if one["state"] == "running"]:
            assert time.monotonic() < deadline, f"{len(running)} sessions that nobody has heard of stay"
            time.sleep(0.1)
        culled = self._listed(path)
        assert len(culled) <= self._creates / 10, f"of {self._creates} cancelled creates {len(culled)} became sessions"
        for one in culled:
            self._delete(one["id"])

    def _listed(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = patient(self._server, lambda api: answered(api.http.get(path)))["sessions"]
        return found

    # -- a session --

    def kernel_killed(self) -> None:
        held, pids = self._victim("kernels")
        held.kernel_killed = True
        for pid in pids["kernels"]:
            _kill(pid)

    def host_killed(self) -> None:
        held, pids = self._victim("host")
        held.host_killed = True
        _kill(pids["host"][0])

    def init_killed(self) -> None:
        held, pids = self._victim("init")
        held.runs = runs_of(self._server, held.id)
        held.init_killed = True
        _kill(pids["init"][0])

    def journal_torn(self) -> None:
        """A host that was killed in the middle of a line: the next one finds half of it."""
        held, pids = self._victim("host")
        held.host_killed = True
        path = self._server.data_dir / "sessions" / held.id / "journal" / "events.jsonl"
        with stopped(pids["init"][0]):
            _kill(pids["host"][0])
            torn = b'{"seq":99999999,"execution_id":"' + b"x" * self._chance.randrange(1, 5000)
            with path.open("ab", buffering=0) as file:
                try:
                    file.write(torn)
                except OSError as exc:  # the disk is full in that moment, and what tore was less than a byte
                    if exc.errno != errno.ENOSPC:
                        raise

    def out_of_memory(self) -> None:
        with self._own() as session:
            result = self._run(session, "kept = b'x' * (1 << 30)")
            assert result["status"] == "kernel_died", result
            assert result["death"]["reason"] == "out_of_memory", result
            again = self._run(session, "6 * 7")
            assert again["text"] == "42", again

    def caller_vanished(self) -> None:
        with self._own() as session:
            cell = self._cell()
            self._half_way(session, cell)
            self._whole(session, cell)

    def caller_slow(self) -> None:
        with self._own() as session:
            cell = Cell(f"slow-{next(self._numbers)}", "python", 3000, 100, 0)
            with contextlib.suppress(httpx.TransportError, OSError), self._server.api() as api:
                path = f"/v1/sessions/{session}/executions"
                with api.http.stream("POST", path, json=self._post(cell), headers={"Accept": "application/x-ndjson"}) as response:
                    source = response.iter_raw(1)
                    for _ in range(4):
                        next(source)
                        time.sleep(0.5)
            self._whole(session, cell)

    def connections(self) -> None:
        opened = []
        try:
            for number in range(500):
                with contextlib.suppress(OSError):  # the gateway may be away
                    opened.append(self._connect())
                    if number % 2:
                        opened[-1].sendall(b"GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nX-Half")
            assert patient(self._server, lambda api: answered(api.http.get("/health")))
            with self._own() as session:
                assert self._run(session, "6 * 7")["text"] == "42"
        finally:
            for connection in opened:
                connection.close()

    def every_after(self) -> None:
        with self._own() as session:
            cell = Cell(f"after-{next(self._numbers)}", "python", 60, 10, 0.02)
            self._begin(session, cell)
            whole = self._events(session, cell, 0)
            for after in range(whole[-1]["seq"] + 2):
                part = self._events(session, cell, after)
                assert part == [event for event in whole if event["seq"] > after], f"after {after}: {part}"

    def same_id(self) -> None:
        with self._own() as session:
            cell = self._cell()
            results: list[Any] = []
            self._beside(*[lambda: results.append(self._run(session, cell.code, id=cell.name)) for _ in range(2)])
            assert len(results) == 2
            assert {"".join(result["logs"]["stdout"]) for result in results} == {cell.output}
            assert results[0]["execution_count"] == results[1]["execution_count"]
            with pytest.raises(Refused, match="execution_conflict"):
                self._run(session, "something else", id=cell.name)
            assert runs_of(self._server, session) == {cell.name: 1}

    def deleted_while_running(self) -> None:
        with self._own() as session:
            self._begin(session, Cell("long", "python", 1000, 1, 1.0))
            said: list[str] = []

            def wait() -> None:
                try:
                    said.append(
                        patient(self._server, lambda api: answered(api.http.get(f"/v1/sessions/{session}/executions/long?wait=true")))[
                            "state"
                        ]
                    )
                except Refused as exc:
                    said.append(exc.code)

            self._beside(wait, lambda: self._delete(session))
            assert said[0] in ("session_closed", "session_not_found"), said

    def restarted_twice(self) -> None:
        with self._own() as session:
            assert self._run(session, "kept = 1")["success"]
            path = f"/v1/sessions/{session}/contexts/python/restart"
            said: list[Any] = []
            self._beside(
                *[lambda: said.append(patient(self._server, lambda api: answered(api.http.post(path, json={})))) for _ in range(3)]
            )
            assert len(said) == 3
            assert self._run(session, "'kept' in dir()")["text"] == "False"

    # -- the end --

    def sessions_left(self) -> list[str]:
        """Sessions that no caller deleted: there is none."""
        with self._server.api() as api:
            return [f"session {one['id']} {one['labels']}" for one in api.call("GET", "/v1/sessions?limit=1000")["sessions"]]

    # -- means --

    def _victim(self, process: str) -> tuple[Held, dict[str, list[int]]]:
        """A caller's session in which such a process is running now."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            held = self._chance.choice(self._callers).held
            if held is not None and not held.over and not held.init_killed and held.ended:
                with contextlib.suppress(sqlite3.Error, OSError):
                    pids = processes_of(self._server, held.id)
                    if pids[process] and pids["host"]:
                        return held, pids
            time.sleep(0.02)
        raise TimeoutError(f"no session with a living {process} in 60 s")

    def _body(self) -> tuple[str, dict[str, Any]]:
        label = f"f{os.getpid()}-{next(self._numbers)}"
        return label, {"labels": {"request": label}, "idle_timeout_s": 3600}

    @contextlib.contextmanager
    def _own(self) -> Iterator[str]:
        """A session of the fault's own."""
        session = create(self._server, *self._body())
        self._ledger.add("sessions")
        try:
            yield session
        finally:
            self._delete(session)

    def _delete(self, session: str) -> None:
        try:
            patient(self._server, lambda api: answered(api.http.delete(f"/v1/sessions/{session}")))
        except Refused as exc:
            if exc.status != 404:
                raise

    def _cell(self) -> Cell:
        return Cell.any(f"own-{next(self._numbers)}", "python", self._chance)

    def _post(self, cell: Cell) -> dict[str, Any]:
        return {"code": cell.code, "id": cell.name, "timeout_s": 300}

    def _begin(self, session: str, cell: Cell) -> None:
        patient(self._server, lambda api: answered(api.http.post(f"/v1/sessions/{session}/executions?wait=false", json=self._post(cell))))

    def _run(self, session: str, code: str, **body: Any) -> dict[str, Any]:
        body.setdefault("id", f"run-{next(self._numbers)}")
        path = f"/v1/sessions/{session}/executions"
        result: dict[str, Any] = patient(self._server, lambda api: answered(api.http.post(path, json={"code": code, **body})))
        return result

    def _whole(self, session: str, cell: Cell) -> None:
        """Runs it where it has not run yet, waits for its end, and its output is all there."""
        result = self._run(session, cell.code, id=cell.name, timeout_s=300)
        assert result["status"] == "ok", result
        assert "".join(result["logs"]["stdout"]) == cell.output
        self._ledger.add("bytes", len(cell.output))

    def _events(self, session: str, cell: Cell, after: int) -> list[dict[str, Any]]:
        def read(api: Api) -> list[dict[str, Any]]:
            response = api.http.get(
                f"/v1/sessions/{session}/executions/{cell.name}?after={after}", headers={"Accept": "application/x-ndjson"}
            )
            if response.status_code != 200:
                answered(response)
            events = [event for line in response.text.splitlines() if (event := json.loads(line))["type"] != "keepalive"]
            if events and events[-1]["type"] == "failure":
                raise httpx.ReadError("the stream failed")
            return events

        found: list[dict[str, Any]] = patient(self._server, read)
        return found

    def _half_way(self, session: str, cell: Cell) -> None:
        """Asks for a stream and is gone after its first bytes."""
        body = json.dumps(self._post(cell)).encode()
        head = (
            f"POST /v1/sessions/{session}/executions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._server.token}\r\n"
            f"Accept: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError), self._connect() as connection:
            connection.sendall(head.encode() + body)
            connection.recv(self._chance.randrange(1, 2000))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _connect(self) -> socket.socket:
        where = urlsplit(self._server.url)
        return socket.create_connection((where.hostname or "", where.port or 0), timeout=30)

    def _asked_until(self, deadline: float, ask: Callable[[], httpx.Response]) -> list[str]:
        """Creates again and again, deletes what was made; the codes of the refusals."""
        refused = []
        while time.monotonic() < deadline:
            try:
                made = answered(ask())
            except Refused as exc:
                refused.append(exc.code)
                time.sleep(0.02)
            else:
                self._delete(made["id"])
        return refused

    def _beside(self, *work: Callable[[], None]) -> None:
        """Does all of it at once. Raises what the first of them that failed raised."""
        failures: list[BaseException] = []

        def guarded(one: Callable[[], None]) -> None:
            try:
                one()
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=guarded, args=(one,), daemon=True) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
            assert not thread.is_alive(), "no answer in 180 s"
        if failures:
            raise failures[0]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
