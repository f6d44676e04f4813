"""What the benchmarks share: times and how they are summed up, memory, processor time, and a client that costs little beside what it measures."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MiB = 1024 * 1024


def measure(work: Callable[[], Any], rounds: int, pause_s: float = 0) -> list[float]:
    """Milliseconds of each round, sorted. `pause_s` lets a pool fill again in between."""
    times = []
    for _ in range(rounds):
        time.sleep(pause_s)
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    return sorted(times)


def p50(times: Iterable[float]) -> float:
    return statistics.median(times)


def p99(times: Iterable[float]) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def pss(pid: int) -> int:
    """Bytes of memory that a process has, shared pages in proportion."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no PSS")


def rss(pid: int) -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def processor_s(pids: Iterable[int]) -> float:
    """Seconds of processor time that the threads of these processes have had."""
    total = 0
    for pid in pids:
        try:
            total += sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return total / 1e9


def descendants(pid: int) -> list[int]:
    found = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


class Http:
    """One kept connection with blocking calls."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        response = self._connection.getresponse()
        data = response.read()
        assert response.status < 300 or path == "/ready", f"{method} {path}: {response.status} {data[:300]!r}"
        return json.loads(data) if data else None

    def stream(self, path: str, body: Any) -> http.client.HTTPResponse:
        """The answer as it comes, one event a line; read it to its end."""
        self._connection.request("POST", path, json.dumps(body), {**self._headers, "Accept": "application/x-ndjson"})
        response = self._connection.getresponse()
        assert response.status < 300, f"POST {path}: {response.status} {response.read()[:300]!r}"
        return response

    def create(self, **body: Any) -> str:
        made: str = self.call("POST", "/v1/sessions", body)["id"]
        return made

    def run(self, session: str, code: str, **body: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.call("POST", f"/v1/sessions/{session}/executions", {"code": code, **body})
        assert result["status"] == "ok", result["error"]
        return result

    def delete(self, session: str) -> None:
        self.call("DELETE", f"/v1/sessions/{session}")

    def close(self) -> None:
        self._connection.close()


class AsyncHttp:
    """The same for many callers at once: one kept connection each."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._address = (parts.hostname, parts.port)
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"

    async def connect(self) -> AsyncHttp:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        answer = await self._reader.readexactly(size)
        assert head[9:10] == b"2", f"{method} {path}: {head[:100]!r} {answer[:300]!r}"
        return json.loads(answer) if answer else None

    def close(self) -> None:
        self._writer.close()
