"""kernelgate beside what a user would pick instead, in one run on one machine.

    python -m benchmarks --peers PYTHON [--json FILE] [--only WORD ...] [--sessions N] [--rounds N]

`make bench` makes the peers' environment and runs all of it. What counts is the ratio: both columns saw the same machine, one right after the other. Times are
milliseconds from the call to the answer, over connections that are kept; the clients cost the same few hundred microseconds on both sides. Memory is PSS, so that pages
shared between processes are counted once. Needs the rights to make sandboxes; starts servers of its own on 127.0.0.1 and leaves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.languages import stock_specs
from benchmarks.measure import AsyncHttp, Http, MiB, descendants, measure, p50, p99, processor_s, pss, rss
from benchmarks.peers import Door, Floor, KernelGateway, Remote
from kernelgate import languages
from kernelgate.host.meter import INTERVAL_S
from tests.support.server import AS_SHIPPED, Server

EXECUTE_S = 5.0
PRINTED = 100_000_000
PRINT = f"import sys\nfor _ in range({PRINTED // 1_000_000}): _ = sys.stdout.write('x' * 999_999 + '\\n')"
LIBRARIES = "import numpy, pandas, matplotlib"
#: All that a live session takes, what the system needs for it included.
SESSION_KIB = 22 * 1024
UNFLUSHED = "import time\nprint('x')\ntime.sleep(0.4)"


@dataclass
class Row:
    """One line of the table. `ratio` is above 1 where kernelgate is better; None where there is no peer."""

    row: str
    value: float
    unit: str
    target: str | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


class Bench:
    """The measurements; each method is one group of rows and stands alone."""

    def __init__(self, directory: Path, peers: Path | None, rounds: int, sessions: int) -> None:
        self.directory, self.peers, self.rounds, self.sessions = directory, peers, rounds, sessions
        self.rows: list[Row] = []
        self._number = 0

    def add(self, row: str, value: float, unit: str, target: str | None = None, peer: tuple[str, float] | None = None) -> None:
        more_is_better = unit in ("1/s", "MB/s", "sessions")
        ratio = None if peer is None or not value or not peer[1] else (value / peer[1] if more_is_better else peer[1] / value)
        made = Row(row, round(value, 2), unit, target, peer and peer[0], peer and peer[1], None if ratio is None else round(ratio, 2))
        made.peer_value = None if made.peer_value is None else round(made.peer_value, 2)
        self.rows.append(made)
        show(made)

    def server(self, *settings: str) -> Server:
        self._number += 1
        return Server(self.directory / f"data{self._number}", AS_SHIPPED, *settings)

    async def gateway(self) -> KernelGateway | None:
        if self.peers is None:
            return None
        self._number += 1
        directory = self.directory / f"peer{self._number}"
        directory.mkdir()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        specs = {name: spec for name, (_, spec) in stock_specs(languages.load(), None).items() if name != "python"}
        return await KernelGateway(self.peers, directory, port, specs).ready()

    async def beside(self, work: Callable[[KernelGateway], Awaitable[Any]]) -> Any:
        """What the peer makes of it; None where there is none."""
        gateway = await self.gateway()
        if gateway is None:
            return None
        try:
            return await work(gateway)
        finally:
            gateway.stop()

    def beside_now(self, work: Callable[[KernelGateway], Awaitable[Any]]) -> Any:
        return asyncio.run(self.beside(work))

    # -- starting --

    def first_results(self) -> None:
        """A new session to its first result: from the pool, and with the pool empty."""

        async def peer(gateway: KernelGateway) -> list[float]:
            times = []
            for _ in range(max(5, self.rounds // 4)):
                begun = time.perf_counter()
                kernel = await gateway.create()
                await kernel.execute("1")
                times.append(1000 * (time.perf_counter() - begun))
                await kernel.close()
            return times

        theirs = self.beside_now(peer)
        title = "kernel_gateway: start, first execute"
        beside = None if theirs is None else (title, p50(theirs))
        with self.server("sessions.pool_size=4") as server, closing(Http(server.url, server.token)) as client:
            self._until_pooled(client, 4)
            times, made = [], []

            def first() -> None:
                made.append(client.create())
                assert client.run(made[-1], "1")["text"] == "1"

            measure(first, 2, 1)
            times = measure(first, self.rounds, 0.6)
        self.add("new Python session to first result, pool, p50", p50(times), "ms", "<= 10", beside)
        self.add(
            "new Python session to first result, pool, p99", p99(times), "ms", "<= 40", None if theirs is None else (title, p99(theirs))
        )
        with self.server("sessions.pool_size=0") as server, closing(Http(server.url, server.token)) as client:
            measure(lambda: client.run(client.create(), "1"), 2)
            forked = measure(lambda: client.run(client.create(), "1"), self.rounds)
        self.add("new Python session to first result, no pool, p50", p50(forked), "ms", "<= 60", beside)

    @staticmethod
    def _until_pooled(client: Http, size: int) -> None:
        while client.call("GET", "/ready")["pool"] < size:
            time.sleep(0.05)

    def languages(self) -> None:
        """The same for the other languages: kernels in the pool are warmed once the language has been used."""
        known = languages.load()
        specs = stock_specs(known, None)
        for name, target in (("javascript", "<= 15"), ("r", "<= 25"), ("java", "<= 120")):
            if not known[name].ready:
                continue
            code = known[name].probe_code

            async def peer(gateway: KernelGateway, name: str = name, code: str = code) -> float:
                times = []
                for _ in range(4):
                    begun = time.perf_counter()
                    kernel = await gateway.create(name)
                    await kernel.execute(code)
                    times.append(1000 * (time.perf_counter() - begun))
                    await kernel.close()
                return p50(times)

            theirs = self.beside_now(peer) if name in specs else None
            with self.server("sessions.pool_size=2") as server, closing(Http(server.url, server.token)) as client:
                client.run(client.create(), code, language=name)
                times = []
                for _ in range(max(6, self.rounds // 3)):
                    time.sleep(3 if name == "java" else 1.5)  # for the pool to be full of warm ones again
                    self._until_pooled(client, 2)
                    times += measure(lambda name=name, code=code: client.run(client.create(), code, language=name), 1)  # type: ignore[misc]
            beside = None if theirs is None else (f"kernel_gateway with {specs[name][0]}", theirs)
            self.add(f"new {known[name].display_name} session to first result, pool, p50", p50(times), "ms", target, beside)

    # -- executing --

    def trivial(self) -> None:
        """A cell that does nothing, again and again."""

        async def floor() -> list[float]:
            kernel = await Floor().start()
            times = [await _timed(kernel.execute("pass")) for _ in range(10 * self.rounds + 20)][20:]
            await kernel.stop()
            return times

        async def peer(gateway: KernelGateway) -> list[float]:
            kernel = await gateway.create()
            return [await _timed(kernel.execute("pass")) for _ in range(2 * self.rounds + 5)][5:]

        with self.server() as server, closing(Http(server.url, server.token)) as client:
            session = client.create()
            measure(lambda: client.run(session, "pass"), 20)
            spent = _Spent(server)
            ours = measure(lambda: client.run(session, "pass"), 10 * self.rounds)
            used = spent.each(10 * self.rounds)
        straight, theirs = asyncio.run(floor()), self.beside_now(peer)
        self.add("trivial execute, HTTP, p50", p50(ours), "ms", "<= 3, below jupyter_client", (Floor.title, p50(straight)))
        self.add("trivial execute, HTTP, p99", p99(ours), "ms", None, (Floor.title, p99(straight)))
        if theirs:
            self.add("trivial execute, HTTP, p50", p50(ours), "ms", "<= 3", ("kernel_gateway, WebSocket", p50(theirs)))

        self.add(f"processor time of an execute ({used})", spent.total, "ms")

    def throughput(self) -> None:
        """Trivial executes of 50 sessions at once through one gateway."""
        count = 50

        async def ours(server: Server) -> tuple[float, str, float]:
            callers = [await AsyncHttp(server.url, server.token).connect() for _ in range(count)]
            paths = [f"/v1/sessions/{(await caller.call('POST', '/v1/sessions', {}))['id']}/executions" for caller in callers]
            for caller, path in zip(callers, paths, strict=True):
                await caller.call("POST", path, {"code": "pass"})
            works = [partial(caller.call, "POST", path, {"code": "pass"}) for caller, path in zip(callers, paths, strict=True)]
            spent = _Spent(server)
            rate = await _rate(works)
            used = spent.each(rate * EXECUTE_S)
            for caller in callers:
                caller.close()
            return rate, used, spent.total

        async def peer(gateway: KernelGateway) -> float:
            kernels = [await gateway.create() for _ in range(count)]
            for kernel in kernels:
                await kernel.execute("pass")
            return await _rate([partial(kernel.execute, "pass") for kernel in kernels])

        with self.server("sessions.pool_size=0") as server:
            value, used, total = asyncio.run(ours(server))
        theirs = self.beside_now(peer)
        self.add("executes a second, 50 sessions", value, "1/s", ">= 700, 2x", None if theirs is None else ("kernel_gateway", theirs))
        self.add(f"processor time of one of them ({used})", total, "ms")

    def churn(self) -> None:
        """Sessions made, used once and deleted, by four callers."""

        async def ours(url: str, token: str) -> float:
            callers = [await AsyncHttp(url, token).connect() for _ in range(4)]

            async def life(caller: AsyncHttp) -> None:
                session = (await caller.call("POST", "/v1/sessions", {}))["id"]
                await caller.call("POST", f"/v1/sessions/{session}/executions", {"code": "1"})
                await caller.call("DELETE", f"/v1/sessions/{session}")

            return await _rate([partial(life, caller) for caller in callers], 2 * EXECUTE_S)

        async def peer(gateway: KernelGateway) -> float:
            async def life() -> None:
                kernel = await gateway.create()
                await kernel.execute("1")
                await kernel.close()

            return await _rate([life] * 4, 2 * EXECUTE_S)

        with self.server() as server:
            value = asyncio.run(ours(server.url, server.token))
        theirs = self.beside_now(peer)
        self.add("new sessions a second, sustained", value, "1/s", ">= 20", None if theirs is None else ("kernel_gateway", theirs))

    def output(self) -> None:
        """How soon an unflushed print is seen, and how fast much of it comes."""

        async def peer(gateway: KernelGateway) -> tuple[float, float, float, int]:
            kernel = await gateway.create()
            await kernel.execute("pass")
            firsts = []
            for _ in range(8):
                firsts.append(await _timed(kernel.execute(UNFLUSHED, until="stream")))
                await kernel.execute("pass")
            before = rss(gateway.process.pid)
            with _Peak(gateway.process.pid) as peak:
                begun = time.perf_counter()
                size = int(await kernel.execute(PRINT))
                seconds = time.perf_counter() - begun
            return p50(firsts), size / 1e6 / seconds, (peak.most - before) / MiB, size

        limits = ("executions.ceiling_output_bytes=1000000000",)
        with self.server(*limits) as server, closing(Http(server.url, server.token)) as client:
            session = client.create()
            client.run(session, "pass")
            path = f"/v1/sessions/{session}/executions"
            firsts = []
            for _ in range(8):
                begun = time.perf_counter()
                with client.stream(path, {"code": UNFLUSHED}) as events:
                    firsts += [1000 * (time.perf_counter() - begun) for line in events if b'"type":"stdout"' in line]
            before = rss(server.pid)
            with _Peak(server.pid) as peak:
                begun, size = time.perf_counter(), 0
                with client.stream(path, {"code": PRINT, "max_output_bytes": 2 * PRINTED}) as events:
                    while data := events.read1(1 << 20):
                        size += data.count(b"x")
                seconds = time.perf_counter() - begun
            assert size >= 0.99 * PRINTED, size
            grown = (peak.most - before) / MiB
        theirs = self.beside_now(peer)
        title = "kernel_gateway, limits off"
        self.add("first byte of an unflushed print", p50(firsts), "ms", "<= 30", theirs and (title, theirs[0]))
        self.add(
            "100 MB of stdout to a client",
            size / 1e6 / seconds,
            "MB/s",
            ">= 60",
            theirs and (f"{title}, {theirs[3] / 1e6:.0f} MB came", theirs[1]),
        )
        self.add("gateway's growth meanwhile", max(grown, 0.01), "MiB", "<= 32", theirs and (title, theirs[2]))

    def imports(self) -> None:
        """The usual libraries in a new session, and the restart of a kernel."""

        async def peer(gateway: KernelGateway) -> float:
            kernel = await gateway.create()
            restarts = [await _timed(kernel.restart()) for _ in range(5)]
            return p50(restarts)

        async def floor() -> float:
            times = []
            for _ in range(3):
                kernel = await Floor().start()
                await kernel.execute("pass")
                times.append(await _timed(kernel.execute(LIBRARIES)))
                await kernel.stop()
            return p50(times)

        with self.server() as server, closing(Http(server.url, server.token)) as client:
            times = []
            for _ in range(max(5, self.rounds // 4)):
                session = client.create()
                client.run(session, "pass")
                times.append(1000 * client.run(session, LIBRARIES)["execution_time"])
                client.delete(session)
            session = client.create()
            client.run(session, "pass")
            restarts = measure(lambda: client.call("POST", f"/v1/sessions/{session}/contexts/python/restart", {}), max(5, self.rounds // 4))
        cold, theirs = asyncio.run(floor()), self.beside_now(peer)
        self.add(f"`{LIBRARIES}` in a new session", p50(times), "ms", "<= 5", ("a new stock ipykernel", cold))
        self.add("restart of a Python kernel", p50(restarts), "ms", "<= 60", None if theirs is None else ("kernel_gateway", theirs))

    # -- holding --

    def jupyter(self) -> None:
        """The notebook door beside its model: one protocol and one client, so what differs is the server."""

        async def work(kernel: Remote) -> tuple[float, float, float]:
            await kernel.execute("1")
            cells = [await _timed(kernel.execute("1")) for _ in range(4 * self.rounds)]
            printed = await _timed(kernel.execute("for number in range(5000): print(number, flush=True)"))
            large = await _timed(kernel.execute("for _ in range(200): print('x' * 100_000)"))
            await kernel.close()
            return p50(cells), 5_000_000 / printed, 20_000 / large

        async def peer(gateway: KernelGateway) -> tuple[float, float, float]:
            return await work(await gateway.create())

        theirs = self.beside_now(peer) or ()
        with self.server("sessions.pool_size=1") as server:
            ours = asyncio.run(self._at_the_door(server, work))
        names = (("notebook door: a cell, p50", "ms"), ("notebook door: flushed prints", "1/s"), ("notebook door: text", "MB/s"))
        for place, (name, unit) in enumerate(names):
            self.add(name, ours[place], unit, peer=(KernelGateway.title, theirs[place]) if theirs else None)

    @staticmethod
    async def _at_the_door(server: Server, work: Callable[[Remote], Awaitable[Any]]) -> Any:
        door = Door(f"{server.url}/t/{server.token}")
        return await work(await door.create())

    def memory(self) -> None:
        """What a live session takes, once a cell has run; how many are held, and what they cost while nothing happens."""

        async def floor() -> float:
            kernel = await Floor().start()
            await kernel.execute("1")
            used = pss(kernel.pid)
            await kernel.stop()
            return used / MiB

        stock = asyncio.run(floor())
        limit = f"sessions.max_sessions={self.sessions + 10}"
        with self.server("sessions.pool_size=0", limit) as server, closing(Http(server.url, server.token)) as client:
            made: list[str] = []
            while len(made) < self.sessions:
                made.append(client.create())
                client.run(made[-1], "1")
                if len(made) in (20, 100, 1000):
                    self._add_memory("a live Python session", server, len(made), stock)
            share = self._idle_share(server)
            times, answering = self._ask_all(client, made)
        self.add("live Python sessions held, each answering", answering, "sessions", "1000")
        self.add("an execute in each of them, p50", p50(times), "ms")
        self.add(f"{self.sessions} idle sessions", share, "% of a core", "< 2 (1000)")
        count = min(self.sessions, 100)
        with (
            self.server("sessions.pool_size=0", limit, "sessions.host_sleep_s=10") as server,
            closing(Http(server.url, server.token)) as client,
        ):
            made = [client.create() for _ in range(count)]
            self._ask_all(client, made)
            time.sleep(2 * INTERVAL_S + 2)  # each host looks once more at what its session used, and sleeps then
            self._add_memory("one that is idle, with sessions.host_sleep_s = 10", server, count, stock)
            times, _ = self._ask_all(client, made)
        self.add("first execute after that, p50", p50(times), "ms")

    @staticmethod
    def _idle_share(server: Server) -> float:
        """Of a core, in percent: what a server and its sessions take while nothing happens."""
        time.sleep(5)
        pids = [pid for kind in processes(server).values() for pid in kind]
        before, begun = processor_s(pids), time.monotonic()
        time.sleep(10)
        return 100 * (processor_s(pids) - before) / (time.monotonic() - begun)

    @staticmethod
    def _ask_all(client: Http, sessions: list[str]) -> tuple[list[float], int]:
        """How long a cell took in each, and how many gave the right answer."""
        answers: list[str] = []
        times = [time_ms for name in sessions for time_ms in measure(lambda name=name: answers.append(client.run(name, "1")["text"]), 1)]  # type: ignore[misc]
        return times, answers.count("1")

    def _add_memory(self, what: str, server: Server, count: int, stock: float) -> None:
        used = {kind: sum(map(pss, pids)) / MiB for kind, pids in processes(server).items()}
        parts = ", ".join(f"{name} {value / count:.1f}" for name, value in used.items())
        self.add(
            f"memory of {what}, one of {count} ({parts})",
            sum(used.values()) / count,
            "MiB PSS",
            "<= 20",
            ("one stock ipykernel", stock),
        )


def held_here() -> int:
    """How many live sessions this machine has memory for, up to 1000."""
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return min(1000, int(facts["MemAvailable"].split()[0]) // SESSION_KIB)


def inits(server: Server) -> list[int]:
    with closing(sqlite3.connect(server.data_dir / "registry.sqlite")) as registry:
        return [pid for (pid,) in registry.execute("SELECT pid FROM sessions WHERE state = 'running'")]


def processes(server: Server) -> dict[str, list[int]]:
    """Those of a server and its sessions, by what they are."""
    found: dict[str, list[int]] = {"init": inits(server), "host": [], "kernel": [], "gateway": [server.pid]}
    for init in found["init"]:
        for pid in descendants(init):
            # Of a session's two users the host has the odd one.
            found["host" if Path(f"/proc/{pid}").stat().st_uid % 2 else "kernel"].append(pid)
    return found


class _Spent:
    """Processor time from here on, of a server, its sessions and this process as their client."""

    def __init__(self, server: Server) -> None:
        self._pids = {**processes(server), "client": [os.getpid()]}
        self._before = {kind: processor_s(pids) for kind, pids in self._pids.items()}
        self.total = 0.0

    def each(self, count: float) -> str:
        """Milliseconds that each of so many took, by kind; together in `total`."""
        spent = {kind: 1000 * (processor_s(pids) - self._before[kind]) / count for kind, pids in self._pids.items()}
        self.total = sum(spent.values())
        return ", ".join(f"{kind} {value:.2f}" for kind, value in spent.items())


class _Peak(threading.Thread):
    """The most memory that a process has while this is open."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._over = pid, threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._over.wait(0.01):
            self.most = max(self.most, rss(self._pid))

    def __enter__(self) -> _Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


async def _timed(work: Awaitable[Any]) -> float:
    begun = time.perf_counter()
    await work
    return 1000 * (time.perf_counter() - begun)


async def _rate(works: Sequence[Callable[[], Awaitable[Any]]], seconds: float = EXECUTE_S) -> float:
    """How often they are done in a second, all at once and each again and again."""
    until = time.monotonic() + seconds

    async def again(work: Callable[[], Awaitable[Any]]) -> int:
        done = 0
        while time.monotonic() < until:
            await work()
            done += 1
        return done

    begun = time.monotonic()
    return sum(await asyncio.gather(*(again(work) for work in works))) / (time.monotonic() - begun)


GROUPS: dict[str, Callable[[Bench], None]] = {
    "start": Bench.first_results,
    "languages": Bench.languages,
    "execute": Bench.trivial,
    "throughput": Bench.throughput,
    "churn": Bench.churn,
    "output": Bench.output,
    "imports": Bench.imports,
    "memory": Bench.memory,
    "jupyter": Bench.jupyter,
}


def show(row: Row) -> None:
    beside = f"{row.peer_value:>10}  {f'{row.ratio:g}x':>8}  {row.peer}" if row.peer else ""
    print(f"{row.row:<62}{row.value:>9} {row.unit:<12}{row.target or '':<28}{beside}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peers", type=Path, help="the Python of an environment with jupyter_kernel_gateway; without it only jupyter_client stands beside"
    )
    parser.add_argument("--json", type=Path, help="writes the rows to this file as well")
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument(
        "--sessions", type=int, default=held_here(), help="how many live sessions to hold; by default 1000, or what there is memory for"
    )
    arguments = parser.parse_args()
    if arguments.peers is not None:
        subprocess.run([arguments.peers, "-c", "import kernel_gateway"], check=True)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): times are worth less than ratios.")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), arguments.peers and arguments.peers.absolute(), arguments.rounds, arguments.sessions)
        for name in arguments.only:
            GROUPS[name](bench)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in bench.rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
