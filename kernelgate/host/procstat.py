"""The processes of a session, seen from inside: what `/proc` shows to the session's own user, and to nobody else.

Run by init as the session's user, like a kernel: the host is another user and sees nothing (hidepid). It answers in JSON lines on its standard output:

    list     every process that init or one of its descendants started; with a pattern, those whose command line matches it
    kill     sends a signal to one process or to those that match, and SIGKILL after a grace
    monitor  one line for each interval, until its standard input ends or the process has gone
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sys
import time
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Of a command line, so much is told.
_MAX_COMMAND = 4096
#: A process is started within milliseconds; on a machine that is busy, later.
_START_S = 5.0
#: By pid: the context's id, and whether the interpreter is a process of its own, which is the first that the kernel started.
Kernels = dict[str, tuple[str, bool]]


def processes(kernels: Kernels, commands: list[int]) -> dict[int, dict[str, Any]]:
    """Descendants of this process' parent, which is init, by pid; without this process and others of the host's own.

    `kernels` names the kernels, by pid. `commands` are processes of commands: one that is just being started is waited for, as it is not the session's yet.
    """
    give_up_at = time.monotonic() + _START_S
    while True:
        found, shown = _look(kernels)
        forked = found[os.getpid()]["command"]
        starting = [pid for pid in commands if pid not in found or found[pid]["command"] == forked or _is_between(found[pid])]
        if not any(_is_there(pid) for pid in starting) or time.monotonic() > give_up_at:
            return shown
        time.sleep(0.002)


def _is_between(process: dict[str, Any]) -> bool:
    """Whether it is just becoming another program: there is no memory, and no command line, of the old one or the new one."""
    return process["memory_bytes"] == 0 and process["state"] not in "ZX"


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is root's still
    return True


def _look(kernels: Kernels) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """All processes that this one sees, and those of the session."""
    found = {}
    with open("/proc/uptime") as file:
        uptime_s = float(file.read().split()[0])
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[int(name)] = _process(int(name), uptime_s)
    root, me = os.getppid(), os.getpid()
    below = {root}
    while more := {pid for pid, process in found.items() if process["ppid"] in below} - below:
        below |= more
    labels = {pid: context for pid, (context, _) in kernels.items()}
    for kernel, (context, has_child) in kernels.items():
        children = [process for process in found.values() if has_child and str(process["ppid"]) == kernel]
        if children:
            labels[str(min(children, key=lambda process: (process["started"], process["pid"]))["pid"])] = context
    forked = found[me]["command"]
    shown = {}
    for pid, process in found.items():
        if pid not in below or pid in (root, me):
            continue
        label = labels.get(str(pid))
        if process["command"] == forked:
            # It was forked from init, or from a kernel that was: its command line is not its own.
            if label is None and process["ppid"] == root:
                continue
            process = {**process, "command": f"[{process['name']}]"}
        shown[pid] = {**process, "kernel": label}
    return found, shown


def _process(pid: int, uptime_s: float) -> dict[str, Any]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        head, _, rest = file.read().rpartition(b")")
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(_MAX_COMMAND).rstrip(b"\0").split(b"\0")
    fields = rest.split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    age_s = max(uptime_s - int(fields[19]) / _TICKS, 1 / _TICKS)
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    return {
        "pid": pid, "ppid": int(fields[1]), "name": name, "command": b" ".join(words).decode("utf-8", "replace") or f"[{name}]", "state": chr(fields[0][0]),
        "cpu_s": cpu_s, "cpu_percent": round(100 * cpu_s / age_s, 1), "memory_bytes": int(fields[21]) * _PAGE_BYTES, "threads": int(fields[17]),
        "started": round(time.time() - age_s, 2),
    }  # fmt: skip


def listed(pattern: str | None, kernels: Kernels, commands: list[int]) -> dict[str, Any]:
    found = processes(kernels, commands)
    if pattern is not None:
        wanted = re.compile(pattern)
        found = {pid: process for pid, process in found.items() if wanted.search(process["command"])}
    return {"processes": [found[pid] for pid in sorted(found)]}


def kill(pids: list[int], number: int, grace_s: float | None) -> dict[str, Any]:
    """Signals these; those that are there after the grace get SIGKILL. Told are those that got the first, and those that needed the second."""
    handles: dict[int, int] = {}
    for pid in pids:
        # By descriptor: a pid may be another's by the time the grace is over.
        with contextlib.suppress(OSError):
            handles[pid] = os.pidfd_open(pid)
    hit = []
    for pid, handle in handles.items():
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(handle, number)
            hit.append(pid)
    forced = []
    if grace_s is not None:
        deadline = time.monotonic() + grace_s
        left = {handle: pid for pid, handle in handles.items() if pid in hit}
        while left and (wait_s := deadline - time.monotonic()) > 0:
            for handle in select.select(list(left), [], [], wait_s)[0]:
                del left[handle]
        for handle, pid in left.items():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                forced.append(pid)
    return {"signalled": sorted(hit), "forced": sorted(forced)}


def monitor(pid: int, interval_s: float, kernels: Kernels, commands: list[int]) -> None:
    """Says how a process does, until nobody listens or it has ended."""
    before: tuple[float, float] | None = None
    while (process := processes(kernels, commands).get(pid)) is not None and process["state"] != "Z":
        now = time.monotonic()
        if before is not None:
            process["cpu_percent"] = round(100 * (process["cpu_s"] - before[1]) / (now - before[0]), 1)
        before = (now, process["cpu_s"])
        _say(process)
        if select.select([0], [], [], interval_s)[0]:
            return
    _say({"ended": True})


def _say(value: dict[str, Any]) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


def run(request_text: str) -> None:
    """The process' body; its request comes where a kernel has its connection file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    request: dict[str, Any] = json.loads(request_text)
    kernels: Kernels = request["kernels"]
    commands: list[int] = request["commands"]
    try:
        match request["do"]:
            case "list":
                _say(listed(request["pattern"], kernels, commands))
            case "kill":
                shown = processes(kernels, commands)
                if request["pid"] is not None:
                    pids = [request["pid"]] if request["pid"] in shown else []
                else:
                    # A pattern means programs that were started, and have not ended: a kernel is ended by its own calls.
                    pids = [
                        process["pid"]
                        for process in listed(request["pattern"], kernels, commands)["processes"]
                        if process["kernel"] is None and process["state"] != "Z"
                    ]
                _say(kill(pids, request["signal"], request["grace_s"]))
            case "monitor":
                monitor(request["pid"], request["interval_s"], kernels, commands)
            case other:
                raise ValueError(other)
    except re.error as exc:
        _say({"error": f"pattern: {exc}"})
    except BrokenPipeError:
        pass
    sys.stdout.flush()
