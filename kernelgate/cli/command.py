"""`kernelgate exec` and `kernelgate shell`: programs in a session, as if they ran here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kernelgate.cli import _server
from kernelgate.cli._parser import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TextIO

    from kernelgate.sdk import Session

_OUT_OF_TIME = 124


def main(options: argparse.Namespace) -> int:
    """Runs the command, or line after line; the exit code of the last."""
    with _server.session(options) as session:
        return _exec(session, options) if options.command == "exec" else _shell(session)


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
    """A line at a time, each with the directory and the variables of the one before; until the input's end, or `exit`."""
    code = 0
    with session.shell.create() as shell:
        while True:
            try:
                line = input("$ " if sys.stdin.isatty() else "")
            except EOFError:
                return code
            if line.strip() in ("exit", "logout"):
                return code
            if line.strip():
                result = shell.run(line, timeout_s=None, on_stdout=_to(sys.stdout), on_stderr=_to(sys.stderr))
                code = 1 if result.exit_code is None else result.exit_code


def _to(stream: TextIO) -> Callable[[str], None]:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write
