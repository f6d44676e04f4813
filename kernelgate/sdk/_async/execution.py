"""Executions by their id: started without waiting, looked at, followed, cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelgate.sdk import _wire
from kernelgate.sdk._async.runner import (
    AsyncRunner,
    Callbacks,
    OnError,
    OnEvent,
    OnInput,
    OnResult,
    OnText,
    body_of,
)
from kernelgate.sdk.models import Result, ResultPage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from kernelgate.sdk._async.context import AsyncContext
    from kernelgate.sdk._async.transport import AsyncTransport
    from kernelgate.sdk.artifacts import Wanted
    from kernelgate.sdk.events import Event
    from kernelgate.sdk.models import ContextInfo


class AsyncExecutions:
    """The executions of one session: `session.executions`.

    An execution outlives the connection and the program that started it, and keeps its id.
    """

    def __init__(self, transport: AsyncTransport, runner: AsyncRunner) -> None:
        self._transport = transport
        self._runner = runner
        self._path = runner.path

    async def start(
        self,
        code: str,
        language: str = "python",
        timeout_s: float | None = 60.0,
        *,
        context: AsyncContext | ContextInfo | str | None = None,
        env: Mapping[str, str] | None = None,
        execution_id: str | None = None,
        allow_stdin: bool = False,
        ansi: bool = False,
        max_output_bytes: int | None = None,
        max_result_bytes: int | None = None,
        artifacts: Wanted | None = None,
    ) -> Result:
        """Starts code and returns at once.

        Args: as for `session.code.run`.

        Returns:
            The result so far: its `id` is what `attach` and `get` take.
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
        )
        raw = await self._transport.request("POST", self._path, body=body, query={"wait": False}, is_safe=True)
        return Result.from_wire(raw)

    async def get(self, execution_id: str) -> Result:
        """The result so far.

        Raises:
            ExecutionNotFound: there is none of this id in the session.
        """
        return await self._runner.get(execution_id)

    async def list(self, *, limit: int = 100, page_token: str | None = None) -> ResultPage:
        """Executions of the session, newest first, without what they put out."""
        raw = await self._transport.request("GET", self._path, query={"limit": limit, "page_token": page_token}, is_safe=True)
        return ResultPage(
            executions=[Result.from_wire(one) for one in raw.get("executions") or ()],
            next_page_token=raw.get("next_page_token"),
        )

    async def attach(
        self,
        execution_id: str,
        *,
        after: int = 0,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_result: OnResult | None = None,
        on_error: OnError | None = None,
        on_input: OnInput | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """Waits for the end of an execution, whoever started it.

        Args:
            execution_id: of the execution.
            after: number of the last event that is known already (`result.last_seq`); callbacks
                hear of the later ones only. 0 tells everything from the start.
            on_stdout: and the others: as for `session.code.run`.

        Returns:
            The whole result, whatever `after` was.
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
        async for raw in self._transport.follow(self._path, execution_id=_wire.quoted(execution_id), after=after):
            await callbacks.heard(raw)
        return await self.get(execution_id)

    async def events(self, execution_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events of an execution, from behind `after` to its end."""
        from kernelgate.sdk import events  # noqa: PLC0415  (only for streams)

        async for raw in self._transport.follow(self._path, execution_id=_wire.quoted(execution_id), after=after):
            yield events.from_wire(raw)

    async def cancel(self, execution_id: str) -> Result:
        """Takes it out of the queue, or stops it; the result so far."""
        raw = await self._transport.request("POST", f"{self._one(execution_id)}/cancel", is_safe=True)
        return Result.from_wire(raw)

    async def send_input(self, execution_id: str, value: str) -> None:
        """Answers the line that the code waits for.

        Raises:
            Conflict: it does not wait for one.
        """
        await self._runner.send_input(execution_id, value)

    def _one(self, execution_id: str) -> str:
        return f"{self._path}/{_wire.quoted(execution_id)}"
