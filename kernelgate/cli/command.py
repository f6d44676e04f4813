"""`kernelgate exec` and `kernelgate shell`: programs in a session, as if they ran here."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from contextlib import suppress
from typing import TYPE_CHECKING

from kernelgate.cli import _server
from kernelgate.cli._parser import UsageError
from kernelgate.sdk.errors import KernelgateError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TextIO

    from kernelgate.sdk import Screen, Session

_OUT_OF_TIME = 124


def main(options: argparse.Namespace) -> int:
    """Runs the command, or line after line; the exit code of the last."""
    with _server.session(options) as session:
        if options.command == "exec":
            return _exec(session, options)
        return _terminal(session) if sys.stdin.isatty() and sys.stdout.isatty() else _shell(session)


def _exec(session: Session, options: argparse.Namespace) -> int:
    words = options.words
    if not words:
        message = "say what to run: kernelgate exec -- ls -l"
        raise UsageError(message)
    stdin = None if sys.stdin.isatty() else sys.stdin.buffer.read()
    # One word is for the shell of the session; several are a program and its arguments, already split by the caller's shell.
    process = session.command.start(
        words[0] if len(words) == 1 else words,
        timeout_s=options.timeout,
        cwd=options.cwd,
        env=dict(options.env),
        stdin=stdin or None,
        stdin_open=False,
    )
    try:
        result = process.wait(on_stdout=_to(sys.stdout), on_stderr=_to(sys.stderr))
    except KeyboardInterrupt:
        process.kill()
        raise
    if result.timed_out:
        print(f"kernelgate exec: {result.error_message}", file=sys.stderr)
        return _OUT_OF_TIME
    return 1 if result.exit_code is None else result.exit_code


def _shell(session: Session) -> int:
    """Lines that are piped in, each with the directory and the variables of the one before; until their end, or `exit`."""
    code = 0
    with session.shell.create() as shell:
        while True:
            try:
                line = input()
            except EOFError:
                return code
            if line.strip() in ("exit", "logout"):
                return code
            if line.strip():
                result = shell.run(line, timeout_s=None, on_stdout=_to(sys.stdout), on_stderr=_to(sys.stderr))
                code = 1 if result.exit_code is None else result.exit_code


def _terminal(session: Session) -> int:
    """A shell on a terminal of the session's, shown on this one; its exit code."""
    rows, cols = _size()
    terminal = session.pty.create(rows=rows, cols=cols)
    wake_read, wake_write = os.pipe()
    before, on_resize = termios.tcgetattr(sys.stdin), signal.getsignal(signal.SIGWINCH)
    try:
        with terminal.attach() as screen:
            keyboard = threading.Thread(target=_keys, args=(screen, wake_read), name="kernelgate-keyboard", daemon=True)
            tty.setraw(sys.stdin)
            signal.signal(signal.SIGWINCH, lambda *_: os.write(wake_write, b"size"))
            keyboard.start()
            try:
                for data in screen.output():
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
            finally:
                signal.signal(signal.SIGWINCH, on_resize)
                os.close(wake_write)  # which ends the other thread
                keyboard.join()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        os.close(wake_read)
        with suppress(KernelgateError):  # what went wrong before is what is told
            terminal.kill()
    return 1 if screen.exit_code is None else screen.exit_code


def _keys(screen: Screen, wake: int) -> None:
    """What is typed here goes there, and what size this terminal has; until `wake` has ended."""
    with suppress(KernelgateError):  # who shows what comes back says so
        while True:
            ready = select.select([sys.stdin, wake], [], [])[0]
            if wake in ready:
                if not os.read(wake, 64):
                    return
                screen.resize(*_size())
            elif keys := os.read(sys.stdin.fileno(), 4096):
                screen.write(keys)


def _size() -> tuple[int, int]:
    """Rows and columns of this terminal."""
    size = os.get_terminal_size(sys.stdout.fileno())
    return max(1, size.lines), max(1, size.columns)


def _to(stream: TextIO) -> Callable[[str], None]:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write
