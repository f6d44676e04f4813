"""Churn for half an hour, and whether memory, descriptors and disk stay flat: `make soak`.

    python -m tests.faults.soak [--minutes 30] [--seed N]

Sessions come and go, and a few stay; in all of them contexts and executions come and go. Every few seconds it is counted what the service holds; it ends with status 1 where, after
a warm-up of a fifth of the time, anything has grown beyond its bound: the median of the last fifth is held against that of the second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.cells import LANGUAGES, Cell
from tests.faults.machine import processes_of
from tests.support.server import Api, Server

MiB = 1 << 20
#: By how much each may grow after the warm-up. A host remembers the ids of what it let go of, 100,000 of them at the most.
BOUNDS = {
    "gateway MiB": 12.0,
    "zygote MiB": 6.0,
    "host MiB": 8.0,
    "gateway fds": 24.0,
    "zygote fds": 4.0,
    "host fds": 8.0,
    "disk MiB": 24.0,
    "sessions": 2.0,
    "groups": 4.0,
}
SETTINGS = ("sessions.pool_size=2", "sessions.journal_bytes=1048576", "sessions.retention_s=30")
#: Sessions that stay, and callers who make and delete one after the other.
STAYING, CHURNING = 3, 3
_SAMPLES = 150
_BREATH_S = 0.05


@dataclass
class Sample:
    at_s: float
    values: dict[str, float]


class Soak:
    def __init__(self, server: Server, *, seed: int) -> None:
        self._server, self._seed = server, seed
        self._stop = threading.Event()
        self.executions = self.sessions = self.contexts = 0
        self.failures: list[str] = []
        self.samples: list[Sample] = []
        self._staying: list[str] = []

    def run(self, minutes: float) -> None:
        with self._server.api() as api:
            self._staying = [api.create(idle_timeout_s=None) for _ in range(STAYING)]
            threads = [threading.Thread(target=self._stay, args=(number, session)) for number, session in enumerate(self._staying)]
            threads += [threading.Thread(target=self._churn, args=(number,)) for number in range(CHURNING)]
            for thread in threads:
                thread.start()
            begun, every_s = time.monotonic(), minutes * 60 / _SAMPLES
            print(" ".join(f"{name:>12}" for name in ("seconds", *BOUNDS, "executions")), flush=True)
            for number in range(1, _SAMPLES + 1):
                time.sleep(max(0.0, begun + number * every_s - time.monotonic()))
                sample = Sample(time.monotonic() - begun, self._count(api))
                self.samples.append(sample)
                if number % 10 == 0:
                    row = (sample.at_s, *sample.values.values(), self.executions)
                    print(" ".join(f"{value:>12.1f}" for value in row), flush=True)
            self._stop.set()
            for thread in threads:
                thread.join(120)
                if thread.is_alive():
                    self.failures.append("a caller has not ended")
            for session in self._staying:
                api.delete(session)

    # -- work --

    def _guarded(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except Exception as exc:
                self.failures.append(f"{type(exc).__name__}: {str(exc)[:300]}")
                return

    def _stay(self, number: int, session: str) -> None:
        chance = Random(self._seed + number)
        with self._server.api() as api:
            self._guarded(lambda: self._some_work(api, session, chance, chance.choice(LANGUAGES)))

    def _churn(self, number: int) -> None:
        chance = Random(self._seed + 100 + number)

        def one() -> None:
            session = api.create(labels={"soak": str(number)})
            self.sessions += 1
            for _ in range(chance.randrange(1, 4)):
                self._some_work(api, session, chance, chance.choice(("python", "python", "python", "javascript", "r")))
            api.delete(session)

        with self._server.api() as api:
            self._guarded(one)

    def _some_work(self, api: Api, session: str, chance: Random, language: str) -> None:
        """A few executions and a command, in the default context or in one that comes and goes."""
        context = None
        if chance.random() < 0.2:
            context = api.call("POST", f"/v1/sessions/{session}/contexts", json={"language": language})["id"]
            self.contexts += 1
        for _ in range(chance.randrange(1, 6)):
            self.executions += 1
            cell = Cell(f"s{self.executions}-{chance.randrange(1 << 40)}", language, chance.randrange(1, 100), chance.randrange(1, 100), 0)
            result = api.run(session, cell.code, id=cell.name, **({"context": context} if context else {"language": language}))
            assert "".join(result["logs"]["stdout"]) == cell.output, result
            api.events(session, cell.name, after=result["last_seq"] - 2)
            time.sleep(_BREATH_S)
        if chance.random() < 0.2:
            api.call("POST", f"/v1/sessions/{session}/commands", json={"command": "rm -rf ran; echo over"})
        if context:
            api.call("DELETE", f"/v1/sessions/{session}/contexts/{context}")

    # -- what is held --

    def _count(self, api: Api) -> dict[str, float]:
        zygote = self._server.zygote_pid() or 0
        hosts = [pid for session in self._staying for pid in processes_of(self._server, session)["host"]]
        sessions = api.call("GET", "/v1/sessions?limit=1000")["sessions"]
        counted = (
            _pss(self._server.pid), _pss(zygote), max(map(_pss, hosts)), _descriptors(self._server.pid), _descriptors(zygote), max(map(_descriptors, hosts)),
            _disk(self._server.data_dir), float(len(sessions)), float(sum(len(list(path.glob("*/"))) for path in self._server.cgroups())),
        )  # fmt: skip
        return dict(zip(BOUNDS, counted, strict=True))

    def growth(self) -> dict[str, tuple[float, float]]:
        """Of each thing that is counted, the medians of the second and of the last fifth."""
        fifth = len(self.samples) // 5

        def median(name: str, some: list[Sample]) -> float:
            return statistics.median(sample.values[name] for sample in some)

        return {name: (median(name, self.samples[fifth : 2 * fifth]), median(name, self.samples[-fifth:])) for name in BOUNDS}


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _descriptors(pid: int) -> float:
    return float(len(os.listdir(f"/proc/{pid}/fd")))


def _disk(directory: Path) -> float:
    """In use, whatever the sizes of sparse files say."""
    blocks = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                blocks += os.lstat(os.path.join(path, name)).st_blocks
            except FileNotFoundError:
                continue  # a session that was deleted just now
    return blocks * 512 / MiB


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="a setting of the server besides, SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernelgate-soak-") as directory:
        server = Server(Path(directory) / "data", *SETTINGS, *arguments.set)
        with server:
            soak = Soak(server, seed=arguments.seed)
            soak.run(arguments.minutes)
        left = server.leftovers()
    grown = False
    print(f"\n{'':12} {'warm':>10} {'at the end':>10} {'bound':>10}")
    for name, (before, after) in soak.growth().items():
        grown |= after - before > BOUNDS[name]
        print(
            f"{name:12} {before:10.1f} {after:10.1f} {'+' + format(BOUNDS[name], '.1f'):>10}{'  GROWN' if after - before > BOUNDS[name] else ''}"
        )
    for text in [*soak.failures, *(f"left behind: {text}" for text in left)]:
        print(f"PROBLEM {text}")
    print(
        f"soak: minutes={arguments.minutes:g} sessions={soak.sessions} contexts={soak.contexts} executions={soak.executions} "
        f"failures={len(soak.failures)} left_behind={len(left)} grown={int(grown)}"
    )
    return int(grown or bool(soak.failures or left))


if __name__ == "__main__":
    sys.exit(main())
