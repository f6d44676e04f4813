"""New session to first result, execute round trip, memory of a session: kernelgate beside a stock ipykernel through jupyter_client, in one run.

    .venv/bin/python benchmarks/core.py [--json FILE] [--rounds N]

Times are medians, with the 99th percentile beside; memory is PSS, so that pages shared between processes are counted once. What counts is the ratio: both columns saw
the same machine at the same time. Needs the rights to make sandboxes; starts a server of its own and leaves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jupyter_client.manager import AsyncKernelManager

from tests.support.server import Api, Server

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


def pss(pid: int) -> int:
    """Bytes of memory that a process has, shared pages in proportion."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no PSS")


def descendants(pid: int) -> list[int]:
    found = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def first_result(api: Api, made: list[str]) -> None:
    session = api.create()
    made.append(session)
    assert api.run(session, "1")["text"] == "1"


def kernelgate(rounds: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(Path(directory) / "data", "sessions.pool_size=4") as server,
        server.api() as api,
    ):
        api.until(lambda: api.http.get("/ready").json()["pool"] == 4)
        made: list[str] = []
        measure(lambda: first_result(api, made), 2, 1)
        pooled = measure(lambda: first_result(api, made), rounds, 0.5)
        for session in made:
            api.delete(session)
        session = api.create()
        measure(lambda: api.run(session, "pass"), 20)
        trivial = measure(lambda: api.run(session, "pass"), 10 * rounds)
        sessions = [session] + [api.create() for _ in range(19)]
        for one in sessions:
            api.run(one, "1")
        import sqlite3  # noqa: PLC0415

        with sqlite3.connect(server.data_dir / "registry.sqlite") as registry:
            inits = [pid for (pid,) in registry.execute("SELECT pid FROM sessions WHERE state = 'running'")]
        registry.close()
        parts = {"init": 0, "host": 0, "kernel": 0}
        for init in inits:
            parts["init"] += pss(init)
            for child in descendants(init):
                uid = int(
                    next(line for line in Path(f"/proc/{child}/status").read_text().splitlines() if line.startswith("Uid:")).split()[1]
                )
                parts["host" if uid % 2 else "kernel"] += pss(child)
        memory = {name: value / len(inits) for name, value in parts.items()}
        with Server(Path(directory) / "cold", "sessions.pool_size=0") as cold, cold.api() as cold_api:
            measure(lambda: first_result(cold_api, made), 1)
            forked = measure(lambda: first_result(cold_api, made), rounds)
    return {"pooled": pooled, "forked": forked, "trivial": trivial, "memory": memory}


async def _stock(rounds: int) -> dict[str, Any]:
    firsts, trivial, memory = [], [], 0.0
    for number in range(max(5, rounds // 4)):
        begun = time.perf_counter()
        manager = AsyncKernelManager(kernel_name="python3")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        await client.execute_interactive("1", output_hook=lambda _: None)
        firsts.append(1000 * (time.perf_counter() - begun))
        if number == 0:
            for _ in range(20):
                await client.execute_interactive("pass", output_hook=lambda _: None)
            for _ in range(10 * rounds):
                begun = time.perf_counter()
                await client.execute_interactive("pass", output_hook=lambda _: None)
                trivial.append(1000 * (time.perf_counter() - begun))
            provisioner: Any = manager.provisioner
            memory = pss(provisioner.process.pid)
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
    return {"first": sorted(firsts), "trivial": sorted(trivial), "memory": memory}


def rows(ours: dict[str, Any], stock: dict[str, Any]) -> list[dict[str, Any]]:
    def row(name: str, value: float, unit: str, peer: str, peer_value: float) -> dict[str, Any]:
        return {
            "row": name,
            "value": round(value, 2),
            "unit": unit,
            "peer": peer,
            "peer_value": round(peer_value, 2),
            "ratio": round(peer_value / value, 2),
        }

    def p99(times: list[float]) -> float:
        return times[min(len(times) - 1, int(len(times) * 0.99))]

    start, execute = "jupyter_client: start a stock ipykernel, execute", "jupyter_client (AsyncKernelClient), stock ipykernel"
    return [
        row("new session to first result, pool, p50", statistics.median(ours["pooled"]), "ms", start, statistics.median(stock["first"])),
        row("new session to first result, pool, p99", p99(ours["pooled"]), "ms", start, p99(stock["first"])),
        row("new session to first result, no pool, p50", statistics.median(ours["forked"]), "ms", start, statistics.median(stock["first"])),
        row("trivial execute over HTTP, p50", statistics.median(ours["trivial"]), "ms", execute, statistics.median(stock["trivial"])),
        row("trivial execute over HTTP, p99", p99(ours["trivial"]), "ms", execute, p99(stock["trivial"])),
        row(
            "memory of a session (init, host, kernel)",
            sum(ours["memory"].values()) / MiB,
            "MiB PSS",
            "one stock ipykernel, nothing imported",
            stock["memory"] / MiB,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="writes the rows to this file as well")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    ours = kernelgate(arguments.rounds)
    stock = asyncio.run(_stock(arguments.rounds))
    table = rows(ours, stock)
    print(f"{'':46}{'kernelgate':>16}{'beside':>14}{'ratio':>8}")
    for row in table:
        print(f"{row['row']:46}{row['value']:>10} {row['unit'].split()[0]:5}{row['peer_value']:>14}{row['ratio']:>8}  {row['peer']}")
    print("memory by process, MiB PSS:", {name: round(value / MiB, 1) for name, value in ours["memory"].items()})
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
