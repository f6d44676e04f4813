"""Terminals: a shell on a pseudo-terminal, attached to by any number of callers, who each get what was last on it and what comes.

What a terminal shows is not in the journal: it is for eyes, and a screenful is enough. A reader that is too slow misses what lies between. The shell outlives the host; what it had
shown before does not.
"""

from __future__ import annotations

import base64
import fcntl
import os
import signal
import struct
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelgate import ids
from kernelgate.errors import CapacityExceeded, InputClosed, TerminalNotFound
from kernelgate.host.process import signal_number
from kernelgate.protocol.result import timestamp

if TYPE_CHECKING:
    from kernelgate.host.loop import Timer
    from kernelgate.host.server import Connection, Request
    from kernelgate.host.session import SessionHost

MAX_TERMINALS = 32
#: Kept of what a terminal has shown: replayed to who attaches.
REPLAY_BYTES = 64 * 1024
#: What a reader may be behind before it misses something.
_KEPT_BYTES = 4 * REPLAY_BYTES
#: Input that the program has not read.
_MAX_INPUT_BYTES = 1024 * 1024
_HANGUP_GRACE_S = 2.0
#: Terminals that have ended are shown for a while.
_KEEP_ENDED_S = 60.0
_TIOCSIG = 0x40045436
#: Signals that go to what runs in the foreground, as the keys for them would.
_FOREGROUND = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)


class Reader:
    """One who is attached: a place in what the terminal shows. A frame tells its position where that is not just behind the one before."""

    def __init__(self, terminal: Terminal, connection: Connection, at: int) -> None:
        self._terminal, self._connection, self._at = terminal, connection, at
        self._told: int | None = None

    def advance(self) -> None:
        terminal = self._terminal
        while self._connection.writable and self._at < terminal.shown:
            first = terminal.shown - len(terminal.kept)
            self._at = max(self._at, first)
            piece = bytes(terminal.kept[self._at - first : self._at - first + REPLAY_BYTES])
            header = {"output": True} if self._at == self._told else {"output": True, "position": self._at}
            self._at = self._told = self._at + len(piece)
            self._connection.write(header, piece)
        if terminal.ended and self._connection.cursor is self and self._at >= terminal.shown:
            self._terminal.readers.discard(self)
            self._connection.finish({"ok": terminal.describe(), "end": True})

    def closed(self) -> None:
        self._terminal.readers.discard(self)


class Terminal:
    """One terminal. `tag` is what a new host needs of it."""

    def __init__(self, host: SessionHost, tag: dict[str, Any]) -> None:
        self._host, self.tag = host, tag
        self.pid: int | None = None
        self.kept = bytearray()
        #: The position behind the last byte shown. It begins anew with each host, beyond what one before can have reached: no position is used twice.
        self.shown = time.monotonic_ns()
        self.ended = False
        self.exit_code: int | None = None
        self.readers: set[Reader] = set()
        self._master: int | None = None
        self._input = bytearray()
        self._timer: Timer | None = None

    def adopt(self, pid: int, master: int) -> None:
        self.pid, self._master = pid, master
        os.set_blocking(master, False)
        self._host.loop.add_reader(master, self._read)

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.tag["id"], "shell": self.tag["shell"], "cwd": self.tag["cwd"], "rows": self.tag["rows"], "cols": self.tag["cols"], "pid": self.pid,
            "state": "done" if self.ended else "running", "exit_code": self.exit_code, "attached": len(self.readers), "created_at": timestamp(self.tag["created"]),
        }  # fmt: skip

    def _read(self) -> None:
        assert self._master is not None
        try:
            data = os.read(self._master, 64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: nobody holds the other end any more
        if not data:
            self._host.loop.remove_reader(self._master)
            return
        self._host.meter.awake()
        self.kept += data
        self.shown += len(data)
        del self.kept[:-_KEPT_BYTES]
        self._tell()

    def _tell(self) -> None:
        for reader in list(self.readers):
            reader.advance()

    def attach(self, request: Request) -> None:
        after = request.fields.get("after")
        first = self.shown - (len(self.kept) if after else min(len(self.kept), REPLAY_BYTES))
        reader = Reader(self, request.connection, min(max(after or 0, first), self.shown))
        self.readers.add(reader)
        request.connection.cursor = reader
        reader.advance()

    def write(self, data: bytes) -> None:
        if self._master is None:
            raise InputClosed("this terminal has ended")
        if len(self._input) + len(data) > _MAX_INPUT_BYTES:
            raise CapacityExceeded("what runs in the terminal does not read its input")
        self._input += data
        self._write()

    def _write(self) -> None:
        if self._master is None:
            return
        try:
            while self._input:
                del self._input[: os.write(self._master, self._input[:4096])]
        except BlockingIOError:
            self._host.loop.add_writer(self._master, self._write)
            return
        except OSError:
            self._input.clear()
        self._host.loop.remove_writer(self._master)

    def resize(self, rows: int, cols: int) -> None:
        if self._master is None:
            raise InputClosed("this terminal has ended")
        self.tag["rows"], self.tag["cols"] = rows, cols
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def signal(self, number: int) -> None:
        if self._master is None or self.pid is None:
            raise InputClosed("this terminal has ended")
        if number in _FOREGROUND:
            fcntl.ioctl(self._master, _TIOCSIG, number)
        else:
            self._host.init.signal(self.pid, number)

    def kill(self) -> None:
        """Hangs up, which a shell passes on to its jobs; SIGKILL after a grace."""
        if self.pid is None or self.ended:
            return
        self._host.init.signal(self.pid, signal.SIGHUP)
        self._host.init.signal(self.pid, signal.SIGCONT)
        pid = self.pid
        self._timer = self._host.loop.call_later(_HANGUP_GRACE_S, lambda: self._host.init.signal(pid, signal.SIGKILL))

    def exited(self, status: int, _oom: bool) -> None:
        """The shell is gone, and with it the terminal."""
        if self._timer is not None:
            self._timer.cancel()
        master = self._master
        assert master is not None
        before = -1
        while before != self.shown:  # what it said last
            before = self.shown
            self._read()
        self.ended, self.exit_code = True, status if status >= 0 else 128 - status
        self._host.loop.remove_reader(master)
        self._host.loop.remove_writer(master)
        os.close(master)
        self._master = None
        self._tell()


class Terminals:
    """The terminals of a session."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self.known: dict[str, Terminal] = {}

    def recover(self, children: list[dict[str, Any]]) -> None:
        """Takes over the terminals of a host that died."""
        for child in children:
            tag = child["tag"]["terminal"]
            terminal = self.known[tag["id"]] = Terminal(self._host, tag)
            terminal.adopt(child["pid"], child["fds"][0])
            self._host.init.watch(child["pid"], self._on_exit(terminal))

    def _on_exit(self, terminal: Terminal) -> Callable[[int, bool], None]:
        def forget() -> None:
            self.known.pop(terminal.tag["id"], None)

        def exited(status: int, oom: bool) -> None:
            terminal.exited(status, oom)
            self._host.loop.call_later(_KEEP_ENDED_S, forget)

        return exited

    def _get(self, request: Request) -> Terminal:
        terminal = self.known.get(str(request.fields["terminal_id"]))
        if terminal is None:
            raise TerminalNotFound(f"there is no terminal {request.fields['terminal_id']!r} in this session")
        return terminal

    def op_terminal_create(self, request: Request) -> None:
        fields, host = request.fields, self._host
        if sum(not terminal.ended for terminal in self.known.values()) >= MAX_TERMINALS:
            raise CapacityExceeded(f"a session can have {MAX_TERMINALS} terminals; end one first")
        tag = {
            "id": ids.new_context_id(), "shell": fields["shell"], "cwd": host.resolve_cwd(fields["cwd"]), "rows": fields["rows"], "cols": fields["cols"],
            "created": time.time(),
        }  # fmt: skip
        terminal = Terminal(host, tag)

        def spawned(pid: int, fds: list[int]) -> None:
            if pid <= 0:
                request.fail(CapacityExceeded(f"the shell could not be started: {os.strerror(-pid)}"))
                return
            self.known[tag["id"]] = terminal
            terminal.adopt(pid, fds[0])
            request.reply(terminal.describe())

        env = {**host.config["base_env"], "TERM": "xterm-256color", **host.env, **fields["env"]}
        spawn = {
            "fork": None, "argv": [fields["shell"]], "env": env, "cwd": tag["cwd"], "connection_file": "", "stdio": "pty", "size": [fields["rows"], fields["cols"]],
            "tag": {"terminal": tag},
        }  # fmt: skip
        host.init.spawn(spawn, spawned, self._on_exit(terminal))

    def op_terminals(self, request: Request) -> None:
        request.reply({"terminals": [terminal.describe() for terminal in self.known.values()]})

    def op_terminal(self, request: Request) -> None:
        request.reply(self._get(request).describe())

    def op_terminal_attach(self, request: Request) -> None:
        """Answers with what was last shown and what comes, until the terminal's end."""
        self._get(request).attach(request)

    def op_terminal_input(self, request: Request) -> None:
        data = request.body or base64.b64decode(request.fields.get("data") or "")
        self._get(request).write(data)
        request.reply({})

    def op_terminal_resize(self, request: Request) -> None:
        terminal = self._get(request)
        terminal.resize(request.fields["rows"], request.fields["cols"])
        request.reply(terminal.describe())

    def op_terminal_signal(self, request: Request) -> None:
        self._get(request).signal(signal_number(request.fields["signal"]))
        request.reply({})

    def op_terminal_kill(self, request: Request) -> None:
        self._get(request).kill()
        request.reply({})
