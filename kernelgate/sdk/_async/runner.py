"""One execution from its start to its end: what `code`, `executions` and `notebooks` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kernelgate.sdk import _wire
from kernelgate.sdk._async._runtime import call
from kernelgate.sdk.artifacts import wanted
from kernelgate.sdk.models import ExecutionError, Json, Result, ResultItem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from kernelgate.sdk._async.context import AsyncContext
    from kernelgate.sdk._async.transport import AsyncTransport
    from kernelgate.sdk.artifacts import Wanted
    from kernelgate.sdk.events import Event
    from kernelgate.sdk.models import ContextInfo

OnDisconnect: TypeAlias = Literal["continue", "interrupt"]

# What a callback returns is awaited by the asynchronous client, if it can be.
OnText: TypeAlias = "Callable[[str], Any]"
OnResult: TypeAlias = "Callable[[ResultItem], Any]"
OnError: TypeAlias = "Callable[[ExecutionError], Any]"
OnInput: TypeAlias = "Callable[[str], Any]"
OnEvent: TypeAlias = "Callable[[Event], Any]"


def body_of(
    code: str,
    language: str,
    timeout_s: float | None,
    *,
    context: AsyncContext | ContextInfo | str | None = None,
    env: Mapping[str, str] | None = None,
    execution_id: str | None = None,
    allow_stdin: bool = False,
    ansi: bool = False,
    max_output_bytes: int | None = None,
    max_result_bytes: int | None = None,
    artifacts: Wanted | None = None,
    on_disconnect: OnDisconnect = "continue",
) -> Json:
    """The body that starts an execution."""
    body: Json = {
        "code": code,
        "id": _wire.new_id("x-") if execution_id is None else execution_id,
        "timeout_s": timeout_s,
    }
    if context is not None:
        body["context"] = context if isinstance(context, str) else context.id
    # A context has its language. Only one that was asked for besides is sent, for the server to
    # refuse: "python" cannot be told from the default.
    if context is None or language != "python":
        body["language"] = language
    optional = {
        "env": dict(env) if env else None,
        "allow_stdin": allow_stdin or None,
        "ansi": ansi or None,
        "max_output_bytes": max_output_bytes,
        "max_result_bytes": max_result_bytes,
        "artifacts": wanted(artifacts),
        "on_disconnect": None if on_disconnect == "continue" else on_disconnect,
    }
    body.update({name: value for name, value in optional.items() if value is not None})
    return body


class Callbacks:
    """What a caller wants to hear of while code runs, and the answer to its questions."""

    def __init__(
        self,
        runner: AsyncRunner,
        *,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_result: OnResult | None = None,
        on_error: OnError | None = None,
        on_input: OnInput | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self._runner = runner
        self._on_stdout = on_stdout
        self._on_stderr = on_stderr
        self._on_result = on_result
        self._on_error = on_error
        self._on_input = on_input
        self._on_event = on_event

    def __bool__(self) -> bool:
        return any(value is not None for name, value in vars(self).items() if name[:4] == "_on_")

    async def heard(self, raw: Json) -> None:
        """Tells whom it concerns of an event."""
        if self._on_event is not None:
            from kernelgate.sdk import events  # noqa: PLC0415  (only for streams)

            await call(self._on_event, events.from_wire(raw))
        kind = raw.get("type")
        if kind == "stdout" and self._on_stdout is not None:
            await call(self._on_stdout, raw["text"])
        elif kind == "stderr" and self._on_stderr is not None:
            await call(self._on_stderr, raw["text"])
        elif kind == "result" and self._on_result is not None:
            await call(self._on_result, ResultItem.from_wire(raw["result"]))
        elif kind == "error" and self._on_error is not None:
            await call(self._on_error, ExecutionError.from_wire(raw["error"]))
        elif kind == "input_request" and self._on_input is not None:
            value = await call(self._on_input, raw.get("prompt") or "")
            await self._runner.send_input(raw["execution_id"], str(value))

    async def told_at_end(self, result: Result) -> None:
        """Tells all of it at once, for who asked not to have it streamed."""
        for on_text, pieces in (
            (self._on_stdout, result.logs.stdout),
            (self._on_stderr, result.logs.stderr),
        ):
            for text in pieces if on_text is not None else ():
                await call(on_text, text)  # type: ignore[arg-type]
        for item in result.results if self._on_result is not None else ():
            await call(self._on_result, item)  # type: ignore[arg-type]
        if result.error is not None and self._on_error is not None:
            await call(self._on_error, result.error)


class AsyncRunner:
    """Starts executions of one session, and follows them."""

    def __init__(self, transport: AsyncTransport, session_id: str) -> None:
        self._transport = transport
        self.path: str = f"/v1/sessions/{_wire.quoted(session_id)}/executions"

    async def get(self, execution_id: str) -> Result:
        """The result so far."""
        path = f"{self.path}/{_wire.quoted(execution_id)}"
        return Result.from_wire(await self._transport.request("GET", path, is_safe=True))

    async def run(self, body: Json, callbacks: Callbacks, *, stream: bool) -> Result:
        """Starts what `body` says and waits for its end."""
        if not stream:
            result = Result.from_wire(await self._transport.wait_for_result(self.path, body))
            await callbacks.told_at_end(result)
            return result
        async for raw in self.start(body):
            await callbacks.heard(raw)
        # The server keeps the result anyway, with display updates, cleared output and cuts applied:
        # asking for it keeps streamed and unstreamed results the same by construction.
        return await self.get(body["id"])

    def start(self, body: Json) -> AsyncGenerator[Json, None]:
        """Starts what `body` says, and gives its events as sent."""
        execution_id = _wire.quoted(body["id"])
        return self._transport.follow(self.path, start=body, execution_id=execution_id)

    def follow(self, execution_id: str, after: int) -> AsyncGenerator[Json, None]:
        """The events of an execution from behind `after`, as sent."""
        return self._transport.follow(self.path, execution_id=_wire.quoted(execution_id), after=after)

    async def send_input(self, execution_id: str, value: str) -> None:
        """Answers the line that the code waits for."""
        path = f"{self.path}/{_wire.quoted(execution_id)}/stdin"
        # A line that was sent twice would answer the next question too.
        await self._transport.request("POST", path, body={"value": value}, is_safe=False)
