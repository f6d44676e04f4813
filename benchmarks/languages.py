"""Each language through kernelgate beside the stock kernel of that language through jupyter_client, in one run: start, first cell, round trip, memory.

    .venv/bin/python benchmarks/languages.py [--json FILE] [--rounds N] [--beside DIR] [LANGUAGE ...]

A start is that of a fresh kernel in a session that is there already, until it answers; some have more left to do in their first cell, so that both together count.
Ours are called over HTTP, the others by their own protocol. Times are medians. Memory is the PSS of the kernel's processes: a Python, R or Bash kernel
shares pages with the process it is forked from, and those count in part. What counts is the ratio: both columns saw the same machine at the same time. Beside stand
ipykernel, IRkernel and JJava, which come with ours; `--beside` names a folder of more kernelspecs, each in a folder named by its language (IJavascript as `javascript`).
Needs the rights to make sandboxes; starts a server of its own and leaves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager

from benchmarks.core import MiB, descendants, measure, pss
from kernelgate import languages
from tests.support.server import Api, Server
from tests.support.stream import stream, until

MEASURES = {"start": "ms", "first cell": "ms", "both": "ms", "round trip": "ms", "memory": "MiB PSS"}


def kernels_below(init: int) -> set[int]:
    """The processes of a session that are not its host's: of its two users, the host has the odd one."""
    found = set()
    for pid in descendants(init):
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            if Path(f"/proc/{pid}").stat().st_uid % 2 == 0:
                found.add(pid)
    return found


def memory_of(pids: set[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            total += pss(pid)
    return total / MiB


def kernelgate(api: Api, data_dir: Path, language: languages.Language, rounds: int) -> dict[str, float]:
    session = api.create()
    with contextlib.closing(sqlite3.connect(data_dir / "registry.sqlite")) as registry:
        ((init,),) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (session,))
    api.run(session, "1")
    starts, firsts, trips, memory = [], [], [], 0.0
    for number in range(rounds + 1):
        before = kernels_below(init)
        context = api.call("POST", f"/v1/sessions/{session}/contexts", 201, json={"language": language.name})["id"]
        with stream(api, "GET", f"/v1/sessions/{session}/events") as events:
            starting = until(events, "kernel", event="starting", context_id=context)[-1]["time"]
            start = 1000 * (until(events, "kernel", event="ready", context_id=context)[-1]["time"] - starting)
        first = measure(lambda context=context: run(api, session, context, language), 1)
        if number:  # the first one has filled the machine's caches
            starts.append(start)
            firsts += first
        if number == rounds:
            measure(lambda context=context: run(api, session, context, language), 10)
            trips = measure(lambda context=context: run(api, session, context, language), 20 * rounds)
            memory = memory_of(kernels_below(init) - before)
        api.call("DELETE", f"/v1/sessions/{session}/contexts/{context}", 204)
        api.until(lambda before=before: kernels_below(init) <= before)
    api.delete(session)
    return {
        "start": statistics.median(starts),
        "first cell": statistics.median(firsts),
        "both": statistics.median(map(sum, zip(starts, firsts, strict=True))),
        "round trip": statistics.median(trips),
        "memory": memory,
    }


def run(api: Api, session: str, context: str, language: languages.Language) -> None:
    result = api.run(session, language.probe_code, context=context)
    assert result["status"] == "ok", result["error"]


def stock_specs(known: dict[str, languages.Language], beside: Path | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Title and kernel.json of the stock kernels that are here."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for language, name, title in (("python", "python3", "ipykernel"), ("r", "ir", "IRkernel")):
        with contextlib.suppress(NoSuchKernel):
            found[language] = (title, KernelSpecManager().get_kernel_spec(name).to_dict())
    java = known["java"].resource_dir
    if java and (jar := java / "lib" / "jjava.jar").exists():
        # Since JDK 16 it does not start without the flag.
        argv = ["java", "--add-opens", "jdk.jshell/jdk.jshell=ALL-UNNAMED", "-jar", str(jar), "{connection_file}"]
        found["java"] = ("JJava", {"argv": argv, "display_name": "JJava", "language": "java", "interrupt_mode": "message"})
    for folder in sorted(beside.iterdir()) if beside else ():
        spec = json.loads((folder / "kernel.json").read_text())
        found[folder.name] = (spec["display_name"], spec)
    return found


async def stock(spec: dict[str, Any], code: str, rounds: int) -> dict[str, float]:
    starts, firsts, trips, memory = [], [], [], 0.0
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "stock"
        folder.mkdir()
        (folder / "kernel.json").write_text(json.dumps(spec))
        specs = KernelSpecManager(kernel_dirs=[directory], ensure_native_kernel=False)
        for number in range(rounds + 1):
            begun = time.perf_counter()
            manager = AsyncKernelManager(kernel_name="stock", kernel_spec_manager=specs)
            await manager.start_kernel(stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
            client = manager.client()
            client.start_channels()
            provisioner: Any = manager.provisioner
            pid = provisioner.process.pid
            try:
                await client.wait_for_ready(timeout=20)
                start = 1000 * (time.perf_counter() - begun)
                first = await execute(client, code)
                if number:
                    starts.append(start)
                    firsts.append(first)
                if number == rounds:
                    for _ in range(10):
                        await execute(client, code)
                    trips = [await execute(client, code) for _ in range(20 * rounds)]
                    memory = memory_of({pid, *descendants(pid)})
            finally:
                left = below(pid)
                client.stop_channels()
                await manager.shutdown_kernel(now=True)
                # Some leave the process that runs the code behind.
                for child in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
    return {
        "start": statistics.median(starts),
        "first cell": statistics.median(firsts),
        "both": statistics.median(map(sum, zip(starts, firsts, strict=True))),
        "round trip": statistics.median(trips),
        "memory": memory,
    }


def below(pid: int) -> list[int]:
    try:
        return descendants(pid)
    except OSError:
        return []  # it has ended


async def execute(client: Any, code: str) -> float:
    begun = time.perf_counter()
    reply = await client.execute_interactive(code, output_hook=lambda _: None, timeout=20)
    assert reply["content"]["status"] == "ok", reply["content"]
    return 1000 * (time.perf_counter() - begun)


def rows(language: str, ours: dict[str, float], peer: str, theirs: dict[str, float] | None) -> list[dict[str, Any]]:
    return [
        {
            "row": f"{language}: {name}",
            "value": round(ours[name], 2),
            "unit": unit,
            "peer": peer,
            "peer_value": round(theirs[name], 2) if theirs else None,
            "ratio": round(theirs[name] / ours[name], 2) if theirs else None,
        }
        for name, unit in MEASURES.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="writes the rows to this file as well")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="a folder of kernelspecs to compare with, each in a folder named by its language")
    parser.add_argument("language", nargs="*", help="all that are ready by default")
    arguments = parser.parse_args()
    known = languages.load()
    peers = stock_specs(known, arguments.beside)
    table = []
    print(f"{'':28}{'kernelgate':>16}{'beside':>14}{'ratio':>8}")
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(Path(directory) / "data", "sessions.pool_size=1") as server,
        server.api() as api,
    ):
        for name in arguments.language or [name for name, language in known.items() if language.ready]:
            ours = kernelgate(api, server.data_dir, known[name], arguments.rounds)
            title, spec = peers.get(name, ("no stock kernel here", None))
            theirs = None
            if spec:
                try:
                    theirs = asyncio.run(stock(spec, known[name].probe_code, arguments.rounds))
                except (RuntimeError, TimeoutError) as exc:
                    title = f"{title} does not start here: {str(exc).strip().splitlines()[0]}"
            for row in rows(name, ours, title, theirs):
                table.append(row)
                print(
                    f"{row['row']:28}{row['value']:>10} {row['unit'].split()[0]:5}{row['peer_value'] or '-':>14}{row['ratio'] or '-':>8}  {title}"
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
