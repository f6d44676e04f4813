"""A node: where sessions live. This module knows this machine; nothing above it knows where a session is.

It keeps one zygote (started when there is none, outliving the gateway) and asks it for sandboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernelgate
from kernelgate import ids, languages
from kernelgate._aio import Tasks
from kernelgate.errors import SandboxUnavailable
from kernelgate.link.client import KEPT_S, Link
from kernelgate.sandbox import network
from kernelgate.sandbox.policy import Limits, Policy
from kernelgate.sessions import limits as session_limits
from kernelgate.settings import Settings

log = logging.getLogger(__name__)

#: NumPy, pandas and Matplotlib without .pyc files, on a busy machine with two cores.
_ZYGOTE_START_S = 120.0
_ZYGOTE_ANSWER_S = 30.0
#: Users of sessions, two each: a block per data directory, so that gateways on one machine do not share any.
_FIRST_UID, _UIDS_PER_DIRECTORY, _DIRECTORIES = 200_000, 20_000, 50_000
#: In a user namespace, which has mostly 65536 users in all: few blocks, above those of the system.
_FIRST_MAPPED_UID = 1000


class Node:
    """This machine. `on_end(session_id)` is called when a session's sandbox has ended while this gateway watched."""

    def __init__(self, settings: Settings, tasks: Tasks, on_end: Callable[[str], None]) -> None:
        self._settings, self._tasks, self._on_end = settings, tasks, on_end
        self._data = Path(settings.data_dir)
        self.python = _facts_of(settings.python.executable)
        self.isolated = settings.sandbox.kind == "namespaces"
        self.policy = self._policy()
        self._socket: socket.socket | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._stopping = False
        self._lock = asyncio.Lock()
        self.facts: dict[str, Any] = {}

    def _policy(self) -> Policy:
        sandbox, data = self._settings.sandbox, self._settings.data_dir
        package = str(Path(kernelgate.__file__).resolve().parent)
        paths = [
            self.python["prefix"],
            self.python["base_prefix"],
            str(Path(self.python["real"]).parent.parent),
            package,
            *sandbox.read_only_paths,
        ]
        return Policy(
            isolated=self.isolated,
            limits=session_limits.defaults(self._settings).sandbox(
                Limits(**{field.name: getattr(sandbox, field.name) for field in dataclasses.fields(Limits)})
            ),
            require_cgroups=sandbox.require_cgroups,
            read_only_paths=tuple(dict.fromkeys(path for path in paths if not path.startswith("/usr/") and path != "/usr")),
            first_uid=_first_uid(data) if self.isolated else _FIRST_UID,
            network_denied=sandbox.network_denied,
            network_resolver=sandbox.network_resolver,
            cgroup=f"kernelgate-{hashlib.sha256(data.encode()).hexdigest()[:8]}",
        )

    # -- the zygote --

    def _config(self) -> dict[str, Any]:
        forkable = sorted({language.fork for language in languages.load(self.python["prefix"]).values() if language.fork})
        config = {
            "data_dir": str(self._data), "policy": self.policy.to_json(), "preload": list(self._settings.python.preload), "forkable": forkable, "owner_uid": os.getuid(),
        }  # fmt: skip
        code = hashlib.sha256(json.dumps([config, self.python, kernelgate.__version__], sort_keys=True).encode())
        return {**config, "fingerprint": code.hexdigest()}

    async def start(self) -> None:
        """Finds the zygote that serves this data directory, or starts one.

        Raises:
            SandboxUnavailable: the sandbox cannot be made here; the message says what is missing.
        """
        async with self._lock:
            try:
                await self._start()
            except OSError as exc:  # no process, descriptor or room left
                raise SandboxUnavailable(f"the zygote cannot be started: {exc.strerror or exc}") from exc

    async def _start(self) -> None:
        if self._socket is not None:
            return
        config = self._config()
        if await self._connect():
            self.facts = await self._ask({"op": "hello"})
            if self.facts["fingerprint"] == config["fingerprint"]:
                return
            log.info("the zygote was started with other settings: a new one is started; sessions live on")
            await self._stop_zygote()
        await self._spawn(config)
        if not await self._connect():
            raise SandboxUnavailable("the zygote does not listen")
        self.facts = await self._ask({"op": "hello"})

    async def _connect(self) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        try:
            with _short(self._data / "zygote.sock") as path:
                sock.connect(path)
        except OSError:
            sock.close()
            return False
        self._socket = sock
        self._tasks.start(self._read(sock), "zygote:read")
        return True

    def _popen_zygote(self) -> subprocess.Popen[bytes]:
        """Not by asyncio, which kills what it started when its loop is closed: the zygote has to outlive the gateway."""
        paths = [str(Path(kernelgate.__file__).resolve().parent.parent)]
        program = f"import sys; sys.path += {paths!r}; from kernelgate.sandbox.zygote import main; sys.exit(main())"
        with (self._data / "zygote.log").open("w") as errors:
            return subprocess.Popen(
                [self.python["executable"], "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/", start_new_session=True,
                env={"PATH": languages.search_path(self.python["prefix"]), "LANG": "C.UTF-8", "HOME": "/tmp"},
            )  # fmt: skip

    async def _spawn(self, config: dict[str, Any]) -> None:
        started = time.monotonic()
        process = self._popen_zygote()
        assert process.stdin is not None
        assert process.stdout is not None
        self._reap_later(process)
        with process.stdin, process.stdout:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(config).encode())
                process.stdin.close()
            try:
                async with asyncio.timeout(_ZYGOTE_START_S):
                    line = await asyncio.to_thread(process.stdout.readline)
            except TimeoutError:
                process.kill()
                raise SandboxUnavailable(f"the zygote was not ready within {_ZYGOTE_START_S:g} s") from None
        said = json.loads(line) if line else {"error": "it ended: " + self._log_tail()}
        if not said.get("ready"):
            raise SandboxUnavailable(said["error"])
        log.info("zygote ready after %.1f s, pid %d", time.monotonic() - started, process.pid)

    def _reap_later(self, process: subprocess.Popen[bytes]) -> None:
        """Takes the zygote's exit status, should it end while this gateway lives."""
        loop, pidfd = asyncio.get_running_loop(), os.pidfd_open(process.pid)

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            process.wait()

        loop.add_reader(pidfd, ended)

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return (self._data / "zygote.log").read_text(errors="replace")[-1000:].strip()
        return ""

    async def _read(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(sock, 1024 * 1024):
                message = json.loads(data)
                if message.get("event") == "ended":
                    self._on_end(str(message["session_id"]))
                elif (future := self._answers.pop(message.get("id"), None)) and not future.done():
                    future.set_result(message)
        except OSError:
            pass
        finally:
            if self._socket is sock:
                if not self._stopping:
                    log.warning("the zygote is gone; sessions live on, a new one is started when it is needed")
                self._drop()
            else:
                sock.close()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(SandboxUnavailable("the zygote ended"))

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._socket is None:
            raise SandboxUnavailable("there is no zygote")
        self._number += 1
        number = self._number  # others ask while this one waits
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, json.dumps({"id": number, **message}).encode())
            async with asyncio.timeout(_ZYGOTE_ANSWER_S):
                answer: dict[str, Any] = await future
        except OSError as exc:
            raise SandboxUnavailable(f"the zygote does not answer: {exc}") from exc
        finally:
            self._answers.pop(number, None)
        if "error" in answer:
            raise SandboxUnavailable(str(answer["error"]))
        return answer

    async def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Asks the zygote; should it have died, a new one, once. Ending a session may be asked twice; what was half made when it died is ended first."""
        await self.start()
        try:
            return await self._ask(message)
        except SandboxUnavailable:
            if self._socket is not None:
                raise
        await self.start()
        if message["op"] == "make":
            await self._ask({"op": "end", "session_id": message["session_id"], "pid": 0, "start_ticks": 0, "remove": False})
        return await self._ask(message)

    # -- sessions --

    async def make(self, session_id: str, slot: int, limits: Limits, *, has_network: bool) -> tuple[int, int]:
        """A sandbox with its host in it: (pid of its init, start ticks). Raises SandboxUnavailable."""
        answer = await self._call(
            {
                "op": "make",
                "session_id": session_id,
                "slot": slot,
                "limits": limits.to_json(),
                "network": has_network,
                "config": {
                    "session_id": session_id,
                    "base_env": self.base_env(session_id),
                    "journal_bytes": self._settings.sessions.journal_bytes,
                    "host_sleep_s": self._settings.sessions.host_sleep_s,
                },
            }
        )
        return int(answer["pid"]), int(answer["start_ticks"])

    async def limit(self, session_id: str, limits: Limits) -> None:
        """Other limits for a session that is there: memory, processes and CPU. Raises SandboxUnavailable: its sandbox cannot be held to them."""
        await self._call({"op": "limit", "session_id": session_id, "limits": limits.to_json()})

    @property
    def lacking(self) -> tuple[str, ...]:
        """Of memory, processes and cpu, what no control group limits here."""
        return tuple(self.facts.get("lacking", ()))

    @property
    def mechanism(self) -> str:
        """What holds sessions to their limits: cgroup v2, cgroup v1, rlimits (of single processes), or none."""
        if not self.isolated:
            return "none"
        by_process = [name for name in ("memory", "processes") if name in self.lacking]
        if len(by_process) == 2:
            return "rlimits"
        return f"cgroup v{self.facts.get('cgroup', 0)}" + "".join(f", rlimits for {name}" for name in by_process)

    @property
    def network(self) -> str:
        """Whether sessions can have a network: none (sandbox.network), allow (for tokens that may), or what is missing for it."""
        if not self._settings.sandbox.network:
            return "none"
        if not self.isolated:
            return "unavailable: this server runs without a sandbox (sandbox.kind)"
        if packages := network.missing():
            return f"unavailable: it needs {' and '.join(packages)} (Debian), which `kernelgate setup` installs"
        if network.resolver(self.policy.network_resolver) is None:
            return "unavailable: this machine names no resolver with an IPv4 address that is not its own loopback; give one (sandbox.network_resolver)"
        return "allow"

    def warnings(self) -> list[str]:
        """What is weaker here than sessions should have it."""
        if not self.isolated:
            return ["sandbox.kind is none: sessions are not isolated from each other or from this machine"]
        found = []
        if "memory" in self.lacking:
            found.append("no control group limits memory here: limits.memory_bytes holds for each process, not for a session (RLIMIT_DATA)")
        if "processes" in self.lacking:
            found.append(
                "no control group limits processes here: they are counted by user (RLIMIT_NPROC), and what a fork bomb leaves is not found"
            )
        if "cpu" in self.lacking:
            found.append("no control group limits processor time here: limits.cpu is not in force")
        if self.network.startswith("unavailable"):
            found.append(f"sandbox.network is on, and a network is {self.network}")
        if self.policy.limits.workspace_bytes is None:
            found.append("sandbox.workspace_bytes is none: only the disk limits workspaces")
        return found

    async def end(self, session_id: str, pid: int, start_ticks: int, *, remove: bool) -> None:
        """Ends a sandbox for certain, and takes away what it had outside; its files too with `remove`."""
        await self._call({"op": "end", "session_id": session_id, "pid": pid, "start_ticks": start_ticks, "remove": remove})

    def link(self, session_id: str) -> Link:
        """To a session's host. One that may sleep soon is not asked over a connection that it may be closing."""
        sleeps_after_s = self._settings.sessions.host_sleep_s
        kept_s = KEPT_S if sleeps_after_s is None else min(KEPT_S, sleeps_after_s / 2)
        return Link(self.directory(session_id) / "link.sock", kept_s=kept_s)

    def directory(self, session_id: str) -> Path:
        return self._data / "sessions" / session_id

    def session_ids(self) -> set[str]:
        """Of all sessions that have a directory here."""
        return {path.name for path in (self._data / "sessions").iterdir() if ids.is_session_id(path.name)}

    def is_alive(self, pid: int, start_ticks: int) -> bool:
        """Whether that process still is; one that cannot be looked at, for want of a descriptor say, has not ended for that."""
        try:
            with Path(f"/proc/{pid}/stat").open("rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        except OSError:
            return True
        return int(fields[19]) == start_ticks and fields[0] != b"Z"

    def base_env(self, session_id: str) -> dict[str, str]:
        """The environment that every kernel begins with: nothing of the gateway's own."""
        home = self.policy.cwd if self.isolated else str(self.directory(session_id) / "workspace")
        tmp = "/tmp" if self.isolated else str(self.directory(session_id) / "tmp")
        return {
            "PATH": languages.search_path(self.python["prefix"]), "HOME": home, "USER": "user", "LOGNAME": "user", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TMPDIR": tmp,
            "IPYTHONDIR": f"{tmp}/.ipython", "MPLCONFIGDIR": f"{tmp}/.matplotlib", "XDG_CACHE_HOME": f"{tmp}/.cache", "JUPYTER_PLATFORM_DIRS": "1",
        }  # fmt: skip

    def spec(self, language: languages.Language, memory_bytes: int | None) -> dict[str, Any]:
        """What a host needs to start a kernel of this language in a session with so much memory."""
        argv = [
            self.python["executable"] if part in ("python", "python3") and place == 0 else part for place, part in enumerate(language.argv)
        ]
        ours = language.spec.get("metadata", {}).get("kernelgate", {})
        by_limit = (
            {}
            if memory_bytes is None
            else {name: value.replace("{memory_bytes}", str(memory_bytes)) for name, value in ours.get("limits_env", {}).items()}
        )
        return {
            "language": language.name, "argv": argv, "env": {**language.env, **by_limit}, "interrupt_mode": language.interrupt_mode, "transport": language.transport,
            "fork": language.fork, "warm_code": language.probe_code, "resource_dir": str(language.resource_dir or ""), "serial_shell": ours.get("serial_shell", True),
            "holds_output": ours.get("holds_output", False), "interpreter": ours.get("interpreter", "own"),
        }  # fmt: skip

    async def _stop_zygote(self) -> None:
        """Asks it to end and waits until it has; its sessions live on."""
        if self._socket is None:
            return
        self._stopping = True
        with contextlib.suppress(SandboxUnavailable):
            await self._ask({"op": "exit"})
        self._stopping = False
        self._drop()

    async def close(self, *, stop_zygote: bool) -> None:
        if stop_zygote:
            await self._stop_zygote()
        self._drop()


def _first_uid(data_dir: str) -> int:
    """Of the block of users that this data directory's sessions have. Raises SandboxUnavailable: this user namespace has too few."""
    mapped = 0
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = (int(field) for field in line.split())
        if inside == mapped:
            mapped += count
    first, blocks = _FIRST_UID, _DIRECTORIES
    if mapped < _FIRST_UID + _UIDS_PER_DIRECTORY * _DIRECTORIES:
        first, blocks = _FIRST_MAPPED_UID, (mapped - _FIRST_MAPPED_UID) // _UIDS_PER_DIRECTORY
    if blocks < 1:
        raise SandboxUnavailable(
            f"this user namespace has {mapped} users, and sessions need {_FIRST_MAPPED_UID + _UIDS_PER_DIRECTORY}: run as root, or in a user namespace with "
            "a range of subordinate ids (docs/security.md)"
        )
    return first + zlib.crc32(data_dir.encode()) % blocks * _UIDS_PER_DIRECTORY


class _short:  # noqa: N801 - reads as a function
    """A socket's path by way of its directory's descriptor: such paths may have 107 bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._fd = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _facts_of(executable: str) -> dict[str, str]:
    """Where an interpreter and its libraries are."""
    if executable == sys.executable:
        return {"executable": executable, "prefix": sys.prefix, "base_prefix": sys.base_prefix, "real": os.path.realpath(executable)}
    program = "import json, os, sys; print(json.dumps(dict(executable=sys.executable, prefix=sys.prefix, base_prefix=sys.base_prefix, real=os.path.realpath(sys.executable))))"
    try:
        done = subprocess.run([executable, "-c", program], capture_output=True, check=True, timeout=30)
        facts: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise SandboxUnavailable(f"the Python for sessions, {executable}, does not run: {exc}") from exc
    return facts
