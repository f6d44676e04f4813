# Generated from kernelgate/sdk/_async/code.py by tests/tools/unasync.py: change that one.
"""Running code: `session.code`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelgate.sdk import errors
from kernelgate.sdk._sync.runner import (
    Runner,
    Callbacks,
    OnDisconnect,
    OnError,
    OnEvent,
    OnInput,
    OnResult,
    OnText,
    body_of,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from kernelgate.sdk._sync.context import Context
    from kernelgate.sdk.artifacts import Wanted
    from kernelgate.sdk.events import Event
    from kernelgate.sdk.models import ContextInfo, Result


class Code:
    """Runs code in a session. Variables stay from call to call, per language or context."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(
        self,
        code: str,
        language: str = "python",
        timeout_s: float | None = 60.0,
        stream: bool | None = None,
        *,
        context: Context | ContextInfo | str | None = None,
        env: Mapping[str, str] | None = None,
        execution_id: str | None = None,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_result: OnResult | None = None,
        on_error: OnError | None = None,
        on_input: OnInput | None = None,
        on_event: OnEvent | None = None,
        ansi: bool = False,
        max_output_bytes: int | None = None,
        max_result_bytes: int | None = None,
        artifacts: Wanted | None = None,
        on_disconnect: OnDisconnect = "continue",
        stream_beta: bool | None = None,
    ) -> Result:
        """Runs code, and returns when it has ended. `run_code` and `execute` are the same.

        Code that fails gives a result with `success` False: look at it, or call
        `raise_for_error()`. A connection that breaks on the way is made again, and nothing of the
        result is lost or told twice.

        Args:
            code: in the language, several lines or one.
            language: any name or alias that `client.languages()` lists, in any case.
            timeout_s: how long the code may run, from its start; None for no limit.
            stream: tell callbacks while it runs (True; the default where there are callbacks), or
                when it has ended (False).
            context: where to run it; by default the language's own context.
            env: environment variables for this run alone.
            execution_id: an id to find it by; repeating one attaches instead of running twice. By
                default the SDK makes one.
            on_stdout: called with each piece of standard output.
            on_stderr: called with each piece of standard error.
            on_result: called with each item that is shown.
            on_error: called with what the code raised.
            on_input: called with the prompt when the code asks for a line; returns the line.
            on_event: called with every event, also those that have no callback of their own.
            ansi: keep colour codes in texts.
            max_output_bytes: of printed text to keep; what is over is cut, and `truncated` says so.
            max_result_bytes: of shown items to keep.
            artifacts: paths and globs of files, relative to where it runs: those that it makes or changes come with the result. Or `{"patterns": [...], "max_bytes": n}`: so much of
                their contents at the most (1 MiB by default).
            on_disconnect: `interrupt` stops the code if this client goes away for good.
            stream_beta: another name for `stream`.

        Raises:
            RequestRefused: the server said no, for example to an unknown language.
            ConnectionProblem: the server was away for longer than `Retry` allows; the code goes on.
        """
        callbacks = Callbacks(
            self._runner,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_result=on_result,
            on_error=on_error,
            on_input=on_input,
            on_event=on_event,
        )
        if stream is None:
            stream = bool(callbacks) if stream_beta is None else stream_beta
        if not stream and (on_input is not None or on_event is not None):
            message = "on_input and on_event are for runs that are streamed"
            raise errors.InvalidUse(message, hint="leave out stream=False")
        body = body_of(
            code,
            language,
            timeout_s,
            context=context,
            env=env,
            execution_id=execution_id,
            allow_stdin=on_input is not None,
            ansi=ansi,
            max_output_bytes=max_output_bytes,
            max_result_bytes=max_result_bytes,
            artifacts=artifacts,
            on_disconnect=on_disconnect,
        )
        return self._runner.run(body, callbacks, stream=stream)

    run_code = run
    execute = run

    def stream(
        self,
        code: str,
        language: str = "python",
        timeout_s: float | None = 60.0,
        *,
        context: Context | ContextInfo | str | None = None,
        env: Mapping[str, str] | None = None,
        execution_id: str | None = None,
        allow_stdin: bool = False,
        ansi: bool = False,
        max_output_bytes: int | None = None,
        max_result_bytes: int | None = None,
        artifacts: Wanted | None = None,
        on_disconnect: OnDisconnect = "continue",
    ) -> Generator[Event, None, None]:
        """Runs code, and gives its events one by one while they happen; the last is an `End`.

        Args: as for `run`. With `allow_stdin`, answer an `InputRequest` through
        `session.executions.send_input`.
        """
        body = body_of(
            code,
            language,
            timeout_s,
            context=context,
            env=env,
            execution_id=execution_id,
            allow_stdin=allow_stdin,
            ansi=ansi,
            max_output_bytes=max_output_bytes,
            max_result_bytes=max_result_bytes,
            artifacts=artifacts,
            on_disconnect=on_disconnect,
        )
        from kernelgate.sdk import events  # noqa: PLC0415  (only for streams)

        for raw in self._runner.start(body):
            yield events.from_wire(raw)
