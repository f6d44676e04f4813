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
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import KernelManager

from benchmarks.measure import MiB, descendants, measure, pss
from kernelgate import languages
from tests.support.server import AS_SHIPPED, Api, Server
from tests.support.stream import stream, until

MEASURES = {"start": "ms", "first cell": "ms", "both": "ms", "round trip": "ms", "memory": "MiB PSS"}
#: Round trips in one go; then it is the other's turn, so that what the machine is doing besides does the same to both.
BURST = 20


def below(pid: int) -> list[int]:
    """The processes below one, while they come and go."""
    while Path(f"/proc/{pid}").exists():
        with contextlib.suppress(OSError):
            return descendants(pid)
    return []


def memory_of(pids: Iterable[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            total += pss(pid)
    return total / MiB


class Ours:
    """A context of a session: a kernel of kernelgate's."""

    title = "kernelgate"

    def __init__(self, api: Api, data_dir: Path, language: languages.Language) -> None:
        self._api, self._language = api, language
        self._session = api.create()
        with contextlib.closing(sqlite3.connect(data_dir / "registry.sqlite")) as registry:
            ((self._init,),) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (self._session,))
        api.run(self._session, "1")
        self._before: set[int] = set()
        self._context = ""

    def _kernels(self) -> set[int]:
        """The processes of the session that are not its host's: of its two users, the host has the odd one."""
        found = set()
        for pid in below(self._init):
            with contextlib.suppress(OSError):  # one that has ended meanwhile
                if Path(f"/proc/{pid}").stat().st_uid % 2 == 0:
                    found.add(pid)
        return found

    def start(self) -> float:
        self._before = self._kernels()
        path = f"/v1/sessions/{self._session}"
        self._context = self._api.call("POST", f"{path}/contexts", 201, json={"language": self._language.name})["id"]
        with stream(self._api, "GET", f"{path}/events") as events:
            starting = until(events, "kernel", event="starting", context_id=self._context)[-1]["time"]
            ready: float = until(events, "kernel", event="ready", context_id=self._context)[-1]["time"]
        return float(1000 * (ready - starting))

    def execute(self) -> None:
        result = self._api.run(self._session, self._language.probe_code, context=self._context)
        assert result["status"] == "ok", result["error"]

    def memory(self) -> float:
        return memory_of(self._kernels() - self._before)

    def stop(self) -> None:
        self._api.call("DELETE", f"/v1/sessions/{self._session}/contexts/{self._context}", 204)
        self._api.until(lambda: self._kernels() <= self._before)

    def close(self) -> None:
        self._api.delete(self._session)


class Stock:
    """A kernel started and called by jupyter_client."""

    def __init__(self, directory: Path, title: str, spec: dict[str, Any], code: str) -> None:
        self.title, self._code = title, code
        folder = directory / spec["language"].lower()
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(spec))
        self._name = folder.name
        self._specs = KernelSpecManager(kernel_dirs=[str(directory)], ensure_native_kernel=False)

    def start(self) -> float:
        begun = time.perf_counter()
        self._manager = KernelManager(kernel_name=self._name, kernel_spec_manager=self._specs)
        self._manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        provisioner: Any = self._manager.provisioner
        self._pid: int = provisioner.process.pid
        try:
            self._client.wait_for_ready(timeout=60)
        except RuntimeError:
            self.stop()
            raise
        return 1000 * (time.perf_counter() - begun)

    def execute(self) -> None:
        reply = self._client.execute_interactive(self._code, output_hook=lambda _: None, timeout=60)
        assert reply["content"]["status"] == "ok", reply["content"]

    def memory(self) -> float:
        return memory_of([self._pid, *below(self._pid)])

    def stop(self) -> None:
        left = below(self._pid)
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        # Some leave the process that runs the code behind.
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        pass


def compare(kernels: list[Ours | Stock], rounds: int) -> list[dict[str, float]]:
    """Each measure of each, turn by turn."""
    times: list[dict[str, list[float]]] = [{name: [] for name in MEASURES} for _ in kernels]
    for number in range(rounds + 1):
        for kernel, found in zip(kernels, times, strict=True):
            start, (first,) = kernel.start(), measure(kernel.execute, 1)
            if number:  # the first one has filled the machine's caches
                found["start"].append(start)
                found["first cell"].append(first)
                found["both"].append(start + first)
            if number < rounds:
                kernel.stop()
    for _ in range(rounds + 1):
        for kernel, found in zip(kernels, times, strict=True):
            found["round trip"] += measure(kernel.execute, BURST)
    for kernel, found in zip(kernels, times, strict=True):
        found["memory"].append(kernel.memory())
        kernel.stop()
    return [{name: statistics.median(values) for name, values in found.items()} for found in times]


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
        Server(Path(directory) / "data", AS_SHIPPED, "sessions.pool_size=1") as server,
        server.api() as api,
    ):
        for name in arguments.language or [name for name, language in known.items() if language.ready]:
            title, spec = peers.get(name, ("no stock kernel here", None))
            own = Ours(api, server.data_dir, known[name])
            kernels: list[Ours | Stock] = [own]
            if spec:
                beside = Stock(Path(directory) / "kernels", title, spec, known[name].probe_code)
                try:
                    beside.start()
                except RuntimeError as exc:
                    title = f"{title} does not start here: {str(exc).strip().splitlines()[0]}"
                else:
                    beside.stop()
                    kernels.append(beside)
            ours, *theirs = compare(kernels, arguments.rounds)
            own.close()
            for row in rows(name, ours, title, theirs[0] if theirs else None):
                table.append(row)
                print(
                    f"{row['row']:28}{row['value']:>10} {row['unit'].split()[0]:5}{row['peer_value'] or '-':>14}{row['ratio'] or '-':>8}  {title}"
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
