"""Forks of a process whose memory was laid out for it copy few pages of it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, sys
# Holes of every size everywhere, as after many imports.
kept = [bytes(size) for size in range(1, 3000, 7) for _ in range(60)]
numbers = [float(number) for number in range(50_000)]
del kept[::2], numbers[::2]
if sys.argv[1] == "settled":
    from kernelgate.sandbox import heap
    heap.settle()
read, write = os.pipe()
def private_kib():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
if os.fork() == 0:
    before = private_kib()
    made = [(float(number), bytes(number % 2000)) for number in range(2000)]
    os.write(write, str(private_kib() - before).encode())
    os._exit(0)
os.wait()
print(os.read(read, 100).decode())
"""


def copied_kib(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True).stdout)


def test_what_a_fork_makes_lies_together():
    # 2.1 MB are made; among the holes they touch all of what lies between them.
    assert copied_kib("settled") < 0.7 * copied_kib("as it is")
