"""A caller per session that never gives up and believes nothing: runs cells one after the other and holds what comes against what must."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.faults.cells import Cell, Verdict, judge
from tests.faults.machine import runs_of
from tests.support.server import Api, Server

#: No sign of life of an accepted request, or no answer to one, for so long is a broken promise.
PATIENCE_S = 120.0
#: Asked again after: what a caller is told when something is wrong for a moment.
MOMENTARY = (429, 503, 507)


@dataclass
class Spell:
    """One injection of a fault, from `start` to `end` (monotonic; infinite while it lasts)."""

    kind: str
    start: float
    end: float = float("inf")


@dataclass
class Tally:
    """What was seen of one kind of fault."""

    times: int = 0
    sessions: set[str] = field(default_factory=set)
    bytes: int = 0
    lost: int = 0


class Ledger:
    """What was promised and what came, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spells: list[Spell] = []
        self.tallies: dict[str, Tally] = {}
        self.sessions = self.bytes = self.executions = 0
        self.lost_sessions = self.lost_bytes = self.double_runs = self.marked_bytes = self.unanswered = 0
        self.problems: list[str] = []

    @contextmanager
    def spell(self, kind: str) -> Iterator[None]:
        """While a fault is being injected."""
        made = Spell(kind, time.monotonic())
        with self._lock:
            self._spells.append(made)
            self.tallies.setdefault(kind, Tally()).times += 1
        try:
            yield
        finally:
            made.end = time.monotonic()

    def checked(self, session: str, since: float, seen: Verdict) -> None:
        """An execution that was begun at `since` has ended: it counts to every fault that fell into its time."""
        now = time.monotonic()
        with self._lock:
            self.executions += 1
            self.bytes += seen.bytes
            self.lost_bytes += seen.lost
            self.marked_bytes += seen.marked
            for kind in {spell.kind for spell in self._spells if spell.start < now and spell.end > since}:
                tally = self.tallies[kind]
                tally.sessions.add(session)
                tally.bytes += seen.bytes
                tally.lost += seen.lost

    def problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + amount)

    @property
    def faults(self) -> int:
        return sum(tally.times for tally in self.tallies.values())


class Refused(Exception):
    """An answer that says no for good: `status`, `code` and `message`."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text[:300]}")
        self.status = response.status_code
        self.code = response.json()["error"]["code"]


#: Each thread's client: making one costs more than most requests.
_clients = threading.local()
_made: list[Api] = []


def hang_up() -> None:
    """Closes every thread's client."""
    while _made:
        _made.pop().http.close()


def patient(server: Server, what: Callable[[Api], Any], *, within_s: float = PATIENCE_S) -> Any:
    """Does it until it succeeds, over new connections where one failed: servers come and go. Raises Refused, and TimeoutError."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if getattr(_clients, "of", None) != (server.url, server.token):
                _clients.of, _clients.api = (server.url, server.token), server.api(verify=False)
                _made.append(_clients.api)
            return what(_clients.api)
        except httpx.TransportError as exc:
            last: object = exc
            _clients.api.http.close()
            _made.remove(_clients.api)
            _clients.of = None
        except Refused as exc:
            if exc.status not in MOMENTARY:
                raise
            last = exc
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer in {within_s:g} s; the last one: {last}")
        time.sleep(0.05)  # nothing tells callers when the next server is there


def answered(response: httpx.Response) -> Any:
    """The JSON of a good answer. Raises Refused; an answer that is not in our words fails."""
    if response.is_success:
        return response.json() if response.content else None
    if response.status_code == 500 or "error" not in response.json():
        raise AssertionError(f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:500]}")
    raise Refused(response)


def create(server: Server, label: str, body: dict[str, Any]) -> str:
    """A session with the label `request`; one whose answer was lost is found again by it."""

    def once(api: Api) -> str:
        if found := answered(api.http.get(f"/v1/sessions?state=running&label=request={label}"))["sessions"]:
            return str(found[0]["id"])
        return str(answered(api.http.post("/v1/sessions", json=body))["id"])

    made: str = patient(server, once)
    return made


class Held:
    """A session, and what was done to it."""

    def __init__(self, name: str, session: str, language: str) -> None:
        self.name, self.id, self.language = name, session, language
        self.host_killed = self.kernel_killed = self.init_killed = False
        self.over = False
        self.ended: list[tuple[Cell, str]] = []
        self.runs = Counter[str]()  # as they were when its init was killed


class Caller:
    """One session after the other (a new one where one is killed), each with cells in one language, until told to stop."""

    def __init__(self, server: Server, ledger: Ledger, name: str, language: str, seed: int) -> None:
        self._server, self._ledger, self._name, self._language = server, ledger, name, language
        self._chance = Random(seed)
        self._number = 0
        self._stop = threading.Event()
        self.held: Held | None = None
        self.rounds = 0
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                held = self._open()
                while not self._stop.is_set() and self._round(held):
                    self.rounds += 1
                self._close(held)
        except Exception as exc:
            if isinstance(exc, TimeoutError):
                self._ledger.add("unanswered")
            self._ledger.problem(f"{self._name} gave up: {type(exc).__name__}: {exc}")

    def _open(self) -> Held:
        self._number += 1
        label = f"{self._name}-{self._number}"
        session = create(self._server, label, {"labels": {"request": label}, "idle_timeout_s": 3600, "lifetime_s": 86400})
        self._ledger.add("sessions")
        self.held = Held(self._name, session, self._language)
        return self.held

    # -- one cell --

    def _round(self, held: Held) -> bool:
        """Runs one cell and judges it. False where the session is gone."""
        self._number += 1
        cell = Cell.any(f"{self._name}-{self._number}", self._language, self._chance)
        since = time.monotonic()
        try:
            self._begin(held, cell)
            events = self._follow(held, cell)
        except Refused as exc:
            if exc.code == "session_closed" and held.init_killed:
                return False
            self._ledger.add("lost_sessions" if exc.code in ("session_closed", "session_not_found") else "unanswered")
            self._ledger.problem(f"{held.id} ({self._language}): {cell.name} was refused: {exc}")
            return False
        if not events:  # its session ended under it
            return False
        seen = judge(cell, events, gaps=held.host_killed, deaths=held.kernel_killed)
        for problem in seen.problems:
            self._ledger.problem(f"{held.id} {cell.name} ({self._language}): {problem}")
        self._ledger.checked(held.id, since, seen)
        held.ended.append((cell, seen.status))
        return True

    def _begin(self, held: Held, cell: Cell) -> None:
        body = {"code": cell.code, "language": cell.language, "id": cell.name, "timeout_s": 300}
        path = f"/v1/sessions/{held.id}/executions?wait=false"
        patient(self._server, lambda api: answered(api.http.post(path, json=body)))

    def _follow(self, held: Held, cell: Cell) -> list[dict[str, Any]]:
        """All events of an execution, over as many connections as it takes; none where its session was killed meanwhile."""
        events: list[dict[str, Any]] = []
        patient(self._server, lambda api: self._read_on(api, held, cell, events))
        return events if events and events[-1]["type"] == "end" else []

    def _read_on(self, api: Api, held: Held, cell: Cell, events: list[dict[str, Any]]) -> None:
        path = f"/v1/sessions/{held.id}/executions/{cell.name}?after={events[-1]['seq'] if events else 0}"
        with api.http.stream("GET", path, headers={"Accept": "application/x-ndjson"}) as response:
            if response.status_code != 200:
                response.read()
                answered(response)
            for line in response.iter_lines():
                event = json.loads(line)
                if event["type"] == "failure":
                    if event["error"]["code"] == "session_closed" and held.init_killed:
                        return
                    raise httpx.ReadError(f"the stream failed: {event['error']}")
                if event["type"] != "keepalive":
                    events.append(event)
                    if event["type"] == "end":
                        return
        if held.init_killed:
            return  # the history of a lost session ends where its last record does
        raise httpx.ReadError("the stream ended early")

    # -- the end of a session --

    def _close(self, held: Held) -> None:
        """Looks once more at all that was answered, on disk too, and deletes the session."""
        held.over = True
        path = f"/v1/sessions/{held.id}"
        session = patient(self._server, lambda api: answered(api.http.get(path)))
        if session["state"] != ("lost" if held.init_killed else "running"):
            self._ledger.add("lost_sessions")
            self._ledger.problem(f"{held.id} is {session['state']}: {session['reason']}")
        elif held.init_killed and not session["reason"]:
            self._ledger.problem(f"{held.id} is lost without a reason")
        for cell, status in held.ended[-20:]:
            result = patient(self._server, lambda api, name=cell.name: answered(api.http.get(f"{path}/executions/{name}")))
            if result["status"] != status or (status == "ok" and not held.host_killed and "".join(result["logs"]["stdout"]) != cell.output):
                self._ledger.problem(f"{held.id}: {cell.name} is another thing now: {result['status']}, it was {status}")
        self._count_runs(held)
        self._delete(held)

    def _count_runs(self, held: Held) -> None:
        runs = held.runs if held.init_killed else runs_of(self._server, held.id)
        for name, times in runs.items():
            if times > 1:
                self._ledger.add("double_runs")
                self._ledger.problem(f"{held.id}: {name} ran {times} times")
        for cell, status in () if held.init_killed else held.ended:
            if status == "ok" and runs[cell.name] == 0:
                self._ledger.problem(f"{held.id}: {cell.name} ended as ok and left no trace")

    def _delete(self, held: Held) -> None:
        """Again where the answer did not come; that it is gone already is then the answer."""

        def delete(api: Api) -> None:
            try:
                answered(api.http.delete(f"/v1/sessions/{held.id}"))
            except Refused as exc:
                if exc.status != 404:
                    raise

        patient(self._server, delete)
