"""`kernelgate run`: one piece of code, its output while it comes, and its outcome as the exit code."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kernelgate.cli import _pictures, _server
from kernelgate.cli._parser import UsageError
from kernelgate.cli._terminal import EventPrinter, Screen
from kernelgate.sdk.errors import KernelgateError
from kernelgate.sdk.events import InputRequest, Queued

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kernelgate.sdk import Session
    from kernelgate.sdk.events import Event

LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".r": "r",
    ".java": "java",
    ".jsh": "java",
    ".sh": "bash",
    ".bash": "bash",
}

# How an execution ended, as an exit code; what is not here is a failure like any other.
_EXIT_CODES = {"ok": 0, "timeout": 124, "interrupted": 130, "cancelled": 130}


def main(options: argparse.Namespace) -> int:
    """Runs what the command line says; its exit code."""
    if options.file is not None and Path(options.file).suffix == ".ipynb":
        return _notebook(options)
    code, language, stem = _read(options)
    with _server.session(options) as session:
        return _run(session, code, language, stem, options)


def _read(options: argparse.Namespace) -> tuple[str, str, str]:
    """The code, its language, and what pictures' names begin with."""
    if options.code is not None:
        return options.code, options.language or "python", "picture"
    if options.file == "-":
        return sys.stdin.read(), options.language or "python", "picture"
    file = Path(options.file)
    language = options.language or LANGUAGES.get(file.suffix.lower())
    if language is None:
        message = f"the language of {file} cannot be told from its name: say it with -l"
        raise UsageError(message)
    try:
        return file.read_text(encoding="utf-8"), language, file.stem
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise UsageError(message) from error
    except UnicodeDecodeError as error:
        message = f"{file} is not UTF-8 text"
        raise UsageError(message) from error


def _run(session: Session, code: str, language: str, stem: str, options: argparse.Namespace) -> int:
    screen = Screen()
    pictures = _pictures.for_terminal(options.output_dir, stem, save=options.save)
    printer = EventPrinter(screen, pictures)
    stream = session.code.stream(
        code,
        language,
        options.timeout,
        env=dict(options.env),
        # Standard input that was the code has nothing left to answer with.
        allow_stdin=options.file != "-" and not options.json,
        ansi=screen.is_terminal and not options.json,
        on_disconnect="interrupt",
    )
    execution_id = ""
    screen.begin("starting")
    with interrupts(session) as interruption:
        try:
            for event in stream:
                if isinstance(event, Queued):
                    execution_id = event.execution_id or ""
                    interruption.execution_id = execution_id
                if not options.json:
                    printer.show(event)
                if isinstance(event, InputRequest):
                    _answer(session, screen, event)
                if event.type == "end" and options.json:
                    printer.ended = event  # type: ignore[assignment]
        finally:
            screen.end()
    if options.json:
        json.dump(session.executions.get(execution_id).to_dict(), sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
    status = printer.ended.status if printer.ended is not None else "lost"
    return _EXIT_CODES.get(status, 1)


def _answer(session: Session, screen: Screen, event: Event) -> None:
    """Answers a question of the code's from standard input."""
    assert isinstance(event, InputRequest)
    execution_id = event.execution_id or ""
    if event.password and sys.stdin.isatty():
        from getpass import getpass  # noqa: PLC0415  (for few)

        session.executions.send_input(execution_id, getpass(event.prompt))
        return
    screen.out(event.prompt)
    line = sys.stdin.readline()
    if not line:
        # There is no end of input in the protocol, and an empty line would be asked for again by
        # the loops that wait for one.
        screen.note("standard input has ended, and the code asks for a line: stopped")
        session.executions.cancel(execution_id)
        return
    session.executions.send_input(execution_id, line.removesuffix("\n"))


class Interruption:
    """What Ctrl-C is for at the moment."""

    def __init__(self) -> None:
        self.execution_id = ""
        self.count = 0


@contextmanager
def interrupts(session: Session) -> Iterator[Interruption]:
    """Ctrl-C stops the code, and its output is read to the end. A second one leaves at once.

    The request is made beside the stream that is being read, so it has a thread of its own: a signal
    handler must not block, and raising out of it would lose the stream.
    """
    state = Interruption()

    def stop() -> None:
        with suppress(KernelgateError):
            if state.execution_id:
                session.executions.cancel(state.execution_id)

    def handle(_number: int, _frame: object) -> None:
        state.count += 1
        if state.count > 1 or not state.execution_id:
            raise KeyboardInterrupt
        threading.Thread(target=stop, name="kernelgate-interrupt", daemon=True).start()

    before = signal.signal(signal.SIGINT, handle)
    try:
        with _no_caret():
            yield state
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _no_caret() -> Iterator[None]:
    """The terminal does not write ^C into what the code prints; it echoes the rest as before."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # noqa: PLC0415  (only where there is a terminal)

    local = 3
    before = termios.tcgetattr(sys.stdin)
    now = termios.tcgetattr(sys.stdin)
    now[local] &= ~termios.ECHOCTL
    termios.tcsetattr(sys.stdin, termios.TCSANOW, now)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _notebook(options: argparse.Namespace) -> int:
    from kernelgate.cli import notebook  # noqa: PLC0415  (for notebooks)

    return notebook.run_printed(options)
