"""The fault suite's long form: `make chaos`. Sessions in four languages run cells whose output is known, while everything around them is broken at random.

    python -m tests.faults.chaos [--seed N] [--sessions 20] [--kills 100] [--rounds N] [--only FAULT,FAULT] [--data-dir DIR]

It prints the faults as they are injected, a table, and one line that says what was lost. Needs root (mounts, cgroups). The short form is in test_chaos.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.faults.caller import Caller, Ledger, hang_up
from tests.faults.cells import LANGUAGES
from tests.faults.faults import FAULTS, GATEWAY_FAULTS, Faults
from tests.faults.machine import ChaosServer, ended_by_force, memory_disk

SETTINGS = (
    "sessions.pool_size=2",
    "sandbox.memory_bytes=805306368",  # of which a fault takes more
    "sandbox.processes=200",
    "server.drain_s=20",
)


class Chaos:
    """A server on a small disk in memory, its callers, and the faults."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        sessions: int,
        creates: int = 250,
        size_mib: int = 1024,
        quiet: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        self.seed, self.quiet = seed, quiet
        self.chance = Random(seed)
        self.directory = directory
        self.data = directory / "data"
        self.size_mib = size_mib
        self.ledger = Ledger()
        self.server = ChaosServer(self.data, *SETTINGS, *settings, embedded=False)
        self.callers = [
            Caller(self.server, self.ledger, f"c{number}", LANGUAGES[number % len(LANGUAGES)], seed * 1000 + number)
            for number in range(sessions)
        ]
        self.faults = Faults(self.server, self.callers, self.ledger, Random(seed + 1), creates=creates)
        self._started = time.monotonic()
        self.left_behind: list[str] = []

    def say(self, text: str) -> None:
        if not self.quiet:
            print(f"{time.monotonic() - self._started:7.1f}  {text}", flush=True)

    def inject(self, kind: str, times: int = 1) -> None:
        """One fault; that it could not be injected, or broke a promise by itself, is a problem too."""
        for _ in range(times):
            problems = len(self.ledger.problems)
            self.say(kind)
            try:
                with self.ledger.spell(kind):
                    getattr(self.faults, kind)()
            except Exception as exc:
                self.ledger.problem(f"{kind}: {type(exc).__name__}: {exc}")
            for problem in self.ledger.problems[problems:]:
                self.say(f"  PROBLEM {problem}")

    def run(self, plan: list[str], *, between_s: float) -> None:
        """Injects the plan in order, two things at a time: what hits the gateway, and what hits a session or is a caller's doing."""
        with memory_disk(self.data, self.size_mib), self.server, ended_by_force(self.server):
            for caller in self.callers:
                caller.start()
            self._until_all_have_run(1)
            halves = (
                [kind for kind in plan if kind in GATEWAY_FAULTS],
                [kind for kind in plan if kind not in GATEWAY_FAULTS],
            )
            threads = [
                threading.Thread(target=self._inject_all, args=(half, between_s, Random(self.seed + 2 + number)))
                for number, half in enumerate(halves)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._until_all_have_run(1)
            for caller in self.callers:
                caller.stop()
            for caller in self.callers:
                caller.thread.join(300)
                if caller.thread.is_alive():
                    self.ledger.add("unanswered")
                    self.ledger.problem(f"{caller.thread.name} has not ended")
            hang_up()
            self.left_behind = self.faults.sessions_left()
            self.server.stop()
            self.server.embedded(True).start()
            self.server.stop()
            self.left_behind += [*self.server.leftovers(), *self.server.files_left()]
            self.left_behind = [text for text in self.left_behind if not text.startswith(f"tmpfs {self.data} ")]

    def _inject_all(self, plan: list[str], between_s: float, chance: Random) -> None:
        for kind in plan:
            time.sleep(chance.uniform(0, 2 * between_s))
            self.inject(kind)

    def _until_all_have_run(self, cells: int) -> None:
        """Until each caller has run so many cells more."""
        wanted = {caller: caller.rounds + cells for caller in self.callers}
        while any(caller.rounds < wanted[caller] and caller.thread.is_alive() for caller in self.callers):
            time.sleep(0.1)

    # -- what is said --

    def table(self) -> str:
        rows = [("fault", "times", "sessions", "bytes checked", "lost")]
        rows += [
            (FAULTS[kind], f"{tally.times}", f"{len(tally.sessions)}", f"{tally.bytes}", f"{tally.lost}")
            for kind, tally in sorted(self.ledger.tallies.items(), key=lambda item: list(FAULTS).index(item[0]))
        ]
        return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ("---",) * 5, *rows[1:]])

    def closing_line(self) -> str:
        ledger = self.ledger
        return (
            f"chaos: faults={ledger.faults} sessions={ledger.sessions} bytes={ledger.bytes} lost_sessions={ledger.lost_sessions} "
            f"lost_bytes={ledger.lost_bytes} double_runs={ledger.double_runs} left_behind={len(self.left_behind)}"
        )

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        ledger = self.ledger
        return not (
            ledger.lost_sessions or ledger.lost_bytes or ledger.double_runs or self.left_behind or ledger.unanswered or ledger.problems
        )


def plan_of(chance: Random, *, kills: int, rounds: int, only: list[str]) -> list[str]:
    """The gateway's kills, and each other fault `rounds` times, shuffled."""
    kinds = only or list(FAULTS)
    plan = [kind for kind in kinds for _ in range(kills if kind == "gateway_killed" else rounds)]
    chance.shuffle(plan)
    return plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the run again that printed it")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--kills", type=int, default=100, help="how often the gateway is killed")
    parser.add_argument("--rounds", type=int, default=4, help="how often every other fault is injected")
    parser.add_argument("--between-s", type=float, default=1.0, help="seconds between two faults, on average")
    parser.add_argument("--set", action="append", default=[], help="a setting of the server besides, SECTION.KEY=VALUE")
    parser.add_argument("--only", default="", help=f"these faults alone: {', '.join(FAULTS)}")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    seed = arguments.seed if arguments.seed is not None else Random().randrange(1_000_000)
    print(f"seed {seed}, {arguments.sessions} sessions", flush=True)
    with tempfile.TemporaryDirectory(prefix="kernelgate-chaos-") as directory:
        chaos = Chaos(Path(directory), seed=seed, sessions=arguments.sessions, settings=arguments.set)
        plan = plan_of(chaos.chance, kills=arguments.kills, rounds=arguments.rounds, only=only)
        started = time.monotonic()
        chaos.run(plan, between_s=arguments.between_s)
        took_s = time.monotonic() - started
        if not chaos.kept:
            print("\n--- the last of the server's log", chaos.server.log.read_text()[-4000:], sep="\n")
    ledger = chaos.ledger
    print(f"\n{chaos.table()}\n")
    print(
        f"{ledger.executions} executions in {took_s:.0f} s; {ledger.marked_bytes} bytes missing where a `gap` says so; {ledger.unanswered} unanswered"
    )
    for text in [*ledger.problems, *(f"left behind: {text}" for text in chaos.left_behind)]:
        print(f"PROBLEM {text}")
    print(chaos.closing_line())
    return 0 if chaos.kept else 1


if __name__ == "__main__":
    sys.exit(main())
