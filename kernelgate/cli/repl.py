"""`kernelgate repl`: a prompt in a live session.

Ctrl-C belongs to the code while it runs, and to the line while one is typed; Ctrl-D leaves. Enter runs
what the kernel calls complete, and goes on to another line otherwise; Alt-Enter always does the latter.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import Completer, Completion, ThreadedCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, merge_key_bindings
from prompt_toolkit.lexers import PygmentsLexer

from kernelgate import __version__
from kernelgate.cli import _pictures, _server
from kernelgate.cli._parser import UsageError, explain
from kernelgate.cli._terminal import EventPrinter, Screen, duration
from kernelgate.cli.run import LANGUAGES, interrupts
from kernelgate.sdk.errors import KernelgateError, SessionClosed, SessionNotFound
from kernelgate.sdk.events import Event, InputRequest, Queued

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyPressEvent
    from prompt_toolkit.lexers import Lexer

    from kernelgate.sdk import Client, Language, Session

# How long a cell may take before its time is worth telling.
_LONG_S = 2.0

# Shorter than any sensible idle limit; a person who thinks for an hour comes back to their variables.
_KEEP_ALIVE_S = 60.0


def main(options: argparse.Namespace) -> int:
    """Prompts until Ctrl-D."""
    if not sys.stdin.isatty():
        message = "it needs a terminal; `kernelgate run -` takes code from standard input"
        raise UsageError(message)
    with _server.client(options, embed=options.session is None) as client:
        language = _language(client, options.language or "python")
        if options.session is not None:
            _converse(client.sessions.get(options.session), language, options)
        else:
            with client.sessions.create(env=dict(options.env), languages=[language.name]) as session:
                _converse(session, language, options)
    return 0


def _language(client: Client, name: str) -> Language:
    languages = client.languages()
    for language in languages:
        if name.lower() in {language.name.lower(), *(alias.lower() for alias in language.aliases)}:
            if language.is_ready:
                return language
            message = f"{language.name} is not installed; get it with: {language.install}"
            raise UsageError(message)
    message = f"there is no language {name!r}; there are {', '.join(one.name for one in languages)}"
    raise UsageError(message)


def _converse(session: Session, language: Language, options: argparse.Namespace) -> None:
    name = language.name
    screen = Screen()
    pictures = _pictures.for_terminal(options.output_dir, name, save=options.save)
    prompts: PromptSession[str] = PromptSession(
        history=_history(name),
        lexer=_lexer(name),
        completer=ThreadedCompleter(KernelCompleter(session, name)),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        multiline=True,
        prompt_continuation=lambda width, _number, _wrapped: "... ".rjust(width),
        key_bindings=merge_key_bindings([_keys(session, name), _late_answers()]),
    )
    asked: PromptSession[str] = PromptSession(key_bindings=_late_answers())
    print(f"kernelgate {__version__}: {language.display_name} ({language.version}), session {session.id}")
    print("Ctrl-C interrupts, Tab completes, Alt-Enter breaks the line, Ctrl-D leaves")
    with _kept_alive(session):
        while True:
            try:
                code = prompts.prompt(f"{name}> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if not code.strip():
                continue
            try:
                _run(session, code, name, screen, EventPrinter(screen, pictures), asked, options)
            except (SessionClosed, SessionNotFound) as error:
                screen.err_line(explain(error))
                return
            except KernelgateError as error:
                screen.err_line(explain(error))
            except KeyboardInterrupt:
                screen.note("no longer waiting for it; what comes next waits until it has ended")


def _run(
    session: Session,
    code: str,
    language: str,
    screen: Screen,
    printer: EventPrinter,
    asked: PromptSession[str],
    options: argparse.Namespace,
) -> None:
    begun_at = time.monotonic()
    stream = session.code.stream(code, language, None, env=dict(options.env), allow_stdin=True, ansi=True)
    screen.begin("running")
    try:
        with interrupts(session) as interruption:
            for event in stream:
                if isinstance(event, Queued):
                    interruption.execution_id = event.execution_id or ""
                if isinstance(event, InputRequest):
                    screen.end()
                    _answer(session, event, asked)
                    screen.begin("running")
                else:
                    printer.show(event)
    finally:
        screen.end()
    screen.finish_line()
    elapsed_s = time.monotonic() - begun_at
    if elapsed_s >= _LONG_S:
        screen.note(duration(elapsed_s))


def _answer(session: Session, event: Event, asked: PromptSession[str]) -> None:
    assert isinstance(event, InputRequest)
    execution_id = event.execution_id or ""
    try:
        value = asked.prompt(event.prompt, is_password=event.password)
    except (KeyboardInterrupt, EOFError):
        # Neither can be sent as an answer: both say that there will be none.
        session.executions.cancel(execution_id)
        return
    session.executions.send_input(execution_id, value)


class KernelCompleter(Completer):
    """Completes by asking the kernel, which knows the variables."""

    def __init__(self, session: Session, context_id: str) -> None:
        self._session = session
        self._context_id = context_id

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What could stand at the cursor."""
        del complete_event
        try:
            found = self._session.contexts.complete(self._context_id, document.text, document.cursor_position)
        except KernelgateError:
            # A kernel that is starting or busy has nothing to offer; the prompt is not the place to say so.
            return
        kinds = {one.get("text"): one.get("type") for one in found.metadata.get("_jupyter_types_experimental") or ()}
        for match in found.matches:
            yield Completion(match, found.cursor_start - document.cursor_position, display_meta=kinds.get(match) or "")


def wants_another_line(status: str, text_before: str, text_after: str) -> bool:
    """Whether Enter breaks the line in place of running the cell.

    Args:
        status: what the kernel said of the whole text.
        text_before: left of the cursor.
        text_after: right of it.
    """
    if text_after.strip():
        # In the middle of something: an editor's Enter.
        return True
    if status == "incomplete":
        # Two empty lines in a row mean that the kernel is wrong, or that the error is wanted.
        return not text_before.endswith("\n\n")
    if status == "unknown":
        # A kernel without an opinion: several lines end with an empty one, as at any simple prompt.
        return "\n" in text_before and not text_before.endswith("\n")
    return False


def _late_answers() -> KeyBindings:
    """Swallows what a terminal says of its attributes (DA1: `ESC [ ? NUMBERS c`): one behind a slow line answers when nobody waits for it any more."""
    keys = KeyBindings()
    answering = False

    @keys.add("escape", "[", "?", eager=True)
    def begin(_: KeyPressEvent) -> None:
        nonlocal answering
        answering = True

    @keys.add("<any>", filter=Condition(lambda: answering), eager=True)
    def go_on(event: KeyPressEvent) -> None:
        nonlocal answering
        key = event.key_sequence[0]
        answering = key.data.isdigit() or key.data == ";"
        if not answering and key.data != "c":
            event.key_processor.feed(key, first=True)

    return keys


def _keys(session: Session, context_id: str) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    async def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        before, after = buffer.document.text_before_cursor, buffer.document.text_after_cursor
        if not buffer.text.strip():
            buffer.validate_and_handle()
            return
        status, indent = "unknown", ""
        with suppress(KernelgateError):
            status, indent = await asyncio.to_thread(session.contexts.is_complete, context_id, buffer.text)
        if buffer.document.text_before_cursor != before:
            # Keys that were typed while the kernel was asked: the answer is about another text.
            return
        if wants_another_line(status, before, after):
            buffer.insert_text(f"\n{indent}")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def alt_enter(event: KeyPressEvent) -> None:
        event.current_buffer.newline()

    return keys


def _lexer(language: str) -> Lexer:
    # By a file's name, as pygments knows more languages by suffix than by our names for them.
    suffix = next((suffix for suffix, name in LANGUAGES.items() if name == language), ".txt")
    return PygmentsLexer.from_filename(f"cell{suffix}")


def _history(language: str) -> History:
    # Where the XDG rules put what a program remembers and a person may lose.
    state = os.environ.get("XDG_STATE_HOME")  # noqa: TID251  (the desktop's, not a setting of ours)
    directory = (Path(state) if state else Path.home() / ".local" / "state") / "kernelgate"
    file = directory / f"history-{language}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # What is typed at a prompt may be secret.
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))


@contextmanager
def _kept_alive(session: Session) -> Iterator[None]:
    """A session whose prompt is open is in use, however long nothing is typed."""
    left = threading.Event()

    def keep() -> None:
        while not left.wait(_KEEP_ALIVE_S):
            # The next cell says what is wrong, if it still is.
            with suppress(KernelgateError):
                session.keep_alive()

    keeper = threading.Thread(target=keep, name="kernelgate-keep-alive", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        left.set()
        keeper.join()
