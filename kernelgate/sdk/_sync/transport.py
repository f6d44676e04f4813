# Generated from kernelgate/sdk/_async/transport.py by tests/tools/unasync.py: change that one.
"""Requests that get through, or say why not.

What is safe to repeat is repeated: after a connection that could not be made, was lost, or met a
server that is just restarting, for as long as `Retry` allows. A stream of events is followed across
any number of connections, and gives every event once.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._sync._runtime import open_socket, sleep
from kernelgate.sdk._retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import httpx

    from kernelgate.sdk._discovery import Endpoint
    from kernelgate.sdk.models import Json
    from kernelgate.sdk.settings import Pool, Retry, Timeout

# A question about an execution that is known to run is answered from memory: no answer to it within
# this time means a server that hangs, and not a run that takes long.
_PROBE_S = 10.0

_LOST = (errors.ConnectionProblem, errors.ServerUnavailable)


class Transport:
    """One server's address, token and connections.

    Args:
        endpoint: where the server is.
        timeout: of each request.
        retry: how long to try again.
        pool: how many connections to keep.
    """

    def __init__(self, endpoint: Endpoint, timeout: Timeout, retry: Retry, pool: Pool) -> None:
        self.endpoint: Endpoint = endpoint
        self._timeout = timeout
        self._retry = retry
        self._pool = pool
        self._http: httpx.Client | None = None
        self._is_closed = False
        # Until the server has answered once, nobody listening means that none was started: that is
        # said at once. Later it means a restart, which is waited for.
        self._has_answered = False

    def close(self) -> None:
        """Closes all connections; the server goes on with what it was asked."""
        self._is_closed = True
        if self._http is not None:
            self._http.close()

    def _client(self) -> httpx.Client:
        if self._is_closed:
            message = "the client is closed"
            raise errors.InvalidUse(message, hint="make a new Client; this one's `with` has ended")
        if self._http is None:
            import httpx  # noqa: PLC0415  (see _http)

            from kernelgate.sdk import _http  # noqa: PLC0415

            self._http = httpx.Client(**_http.client_options(self.endpoint.url, self._pool))
        return self._http

    def _headers(self, accept: str) -> tuple[str, dict[str, str]]:
        request_id = _wire.new_id()
        headers = {"accept": accept, "x-request-id": request_id}
        if self.endpoint.token:
            headers["authorization"] = f"Bearer {self.endpoint.token}"
        return request_id, headers

    def _backoff(self) -> Backoff:
        return Backoff(self._retry, jitter=os.urandom(1)[0] / 512)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: Mapping[str, Any] | None = None,
        is_safe: bool,
        any_status: bool = False,
    ) -> Json:
        """One request, repeated where that is safe and helps; its answer's JSON object.

        Args:
            method: of HTTP.
            path: behind the address.
            body: sent as JSON.
            query: parameters; None values are left out.
            is_safe: repeating it does no harm, even if the server had carried it out.
            any_status: an error status is an answer too (`/health` of a server that is not well).

        Raises:
            KernelgateError: the request was refused, failed, or did not get through.
        """
        backoff = self._backoff()
        while True:
            try:
                return self._once(method, path, body=body, query=query, any_status=any_status)
            except _LOST as error:
                never_sent = isinstance(error, errors.ServerUnreachable)
                if not (is_safe or never_sent) or not self._wait_out(backoff, error):
                    raise

    def _once(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: Mapping[str, Any] | None = None,
        read_s: float | None = None,
        any_status: bool = False,
    ) -> Json:
        from kernelgate.sdk import _http  # noqa: PLC0415  (see _http)

        client, url = self._client(), self.endpoint.url
        request_id, headers = self._headers("application/json")
        try:
            response = client.request(
                method,
                url + path,
                json=body,
                params=_wire.query(query or {}),
                headers=headers,
                timeout=_http.timeout_option(self._timeout, self._timeout.read_s if read_s is None else read_s),
            )
        except _http.HTTPX_ERRORS as error:
            # httpx tells the same story thrice in its own words; it stays reachable as __context__.
            raise _http.translate(error, url, request_id) from None
        self._has_answered = True
        status = 200 if any_status else response.status_code
        return _wire.decode(
            response.content,
            status=status,
            request_id=response.headers.get("x-request-id", request_id),
        )

    def delete(self, path: str) -> None:
        """Deletes what is at a path.

        Raises:
            NotFound: it was never there. After a lost answer its absence is what was wanted.
        """
        backoff = self._backoff()
        is_repeated = False
        while True:
            try:
                self._once("DELETE", path)
            except (errors.NotFound, errors.SessionClosed):
                if not is_repeated:
                    raise
            except _LOST as error:
                is_repeated = True
                if not self._wait_out(backoff, error):
                    raise
                continue
            return

    def _wait_out(self, backoff: Backoff, error: errors.KernelgateError) -> bool:
        """Pauses before the next try. False if there is no point in another."""
        if not self._has_answered and isinstance(error, errors.ServerUnreachable):
            return False
        pause_s = backoff.next_pause_s(time.monotonic())
        if pause_s is None:
            return False
        sleep(pause_s)
        self.endpoint = self.endpoint.read_again()
        return True

    def wait_for_result(self, path: str, body: Json) -> Json:
        """Starts an execution, or attaches to it if it was started, and waits for its end.

        However long it takes: an answer that does not come within the read timeout is asked for
        again, as long as the server answers at all.

        Args:
            path: of the session's executions.
            body: with the `id`, which makes the repeated start an attachment.
        """
        backoff = self._backoff()
        while True:
            try:
                return self._once("POST", path, body=body)
            except errors.RequestTimeout as error:
                lost: errors.KernelgateError = error
            except _LOST as error:
                lost = error
                if not self._wait_out(backoff, error):
                    raise
                continue
            try:
                self._once("GET", f"{path}/{body['id']}", read_s=_PROBE_S)
                backoff.succeeded()
            except (errors.ExecutionNotFound, errors.CommandNotFound):
                # It never got there; the next round starts it.
                if not self._wait_out(backoff, lost):
                    raise lost from None
            except _LOST as error:
                if not self._wait_out(backoff, error):
                    raise

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        body: Json | None,
        query: Mapping[str, Any],
    ) -> Generator[httpx.Response, None, None]:
        """One connection's worth of a stream of records."""
        from kernelgate.sdk import _http  # noqa: PLC0415  (see _http)

        client, url = self._client(), self.endpoint.url
        request_id, headers = self._headers("application/x-ndjson")
        try:
            with client.stream(
                method,
                url + path,
                json=body,
                params=_wire.query(query),
                headers=headers,
                timeout=_http.timeout_option(self._timeout, self._timeout.read_s),
            ) as response:
                self._has_answered = True
                request_id = response.headers.get("x-request-id", request_id)
                if response.status_code >= 400:
                    content = response.read()
                    _wire.decode(content, status=response.status_code, request_id=request_id)
                yield response
        except _http.HTTPX_ERRORS as error:
            # httpx tells the same story thrice in its own words; it stays reachable as __context__.
            raise _http.translate(error, url, request_id) from None

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> Generator[httpx.Response, None, None]:
        """One request with bytes in it, or in its answer, of any size. It is not repeated.

        Raises:
            KernelgateError: the request was refused, failed, or did not get through.
        """
        from kernelgate.sdk import _http  # noqa: PLC0415  (see _http)

        client, url = self._client(), self.endpoint.url
        request_id, own = self._headers("*/*")
        try:
            with client.stream(
                method,
                url + path,
                content=content,
                params=_wire.query(query),
                headers={**own, **(headers or {})},
                timeout=_http.timeout_option(self._timeout, self._timeout.read_s),
            ) as response:
                self._has_answered = True
                if response.status_code >= 400:
                    self.decoded(response.read(), response)
                yield response
        except _http.HTTPX_ERRORS as error:
            # httpx tells the same story thrice in its own words; it stays reachable as __context__.
            raise _http.translate(error, url, request_id) from None

    def open_socket(self, path: str, query: Mapping[str, Any]) -> Any:
        """A WebSocket, tried for as long as `Retry` allows.

        Raises:
            KernelgateError: it was refused, or did not get through.
        """
        from urllib.parse import urlencode  # noqa: PLC0415  (for few)

        from kernelgate.sdk import _sockets  # noqa: PLC0415

        backoff = self._backoff()
        while True:
            url = self.endpoint.url.replace("http", "ws", 1)
            request_id, headers = self._headers("*/*")
            try:
                options = _sockets.options(url, self._timeout.connect_s)
                opened = open_socket(f"{url}{path}?{urlencode(_wire.query(query), doseq=True)}", headers, **options)
            except _sockets.PROBLEMS as error:
                ours = _sockets.translate(error, url, request_id)
                if not isinstance(ours, _LOST) or not self._wait_out(backoff, ours):
                    raise ours from None
                continue
            self._has_answered = True
            return opened

    @staticmethod
    def decoded(answer: bytes, response: httpx.Response) -> Json:
        """An answer's JSON object. Raises KernelgateError where it is an error."""
        return _wire.decode(answer, status=response.status_code, request_id=response.headers.get("x-request-id"))

    def follow(
        self,
        path: str,
        *,
        start: Json | None = None,
        execution_id: str | None = None,
        after: int = 0,
    ) -> Generator[Json, None, None]:
        """The events of an execution until its end, or of a session until the caller leaves.

        Every event comes once and in order, whatever happens to the connection in between.

        Args:
            path: of the session's executions, or of its events.
            start: the body that starts the execution first.
            execution_id: which to follow; None for all events of the session.
            after: the number of the last event that is known already.

        Raises:
            KernelgateError: the server refused, or was away for too long.
        """
        backoff = self._backoff()
        is_started = start is None
        attached = path if execution_id is None else f"{path}/{execution_id}"
        while True:
            try:
                connection = (
                    self._open("GET", attached, body=None, query={"after": after})
                    if is_started
                    else self._open("POST", path, body=start, query={})
                )
                with connection as response:
                    is_started = True
                    records = _wire.Records()
                    for piece in response.iter_bytes():
                        for record in records.feed(piece):
                            kind = record.get("type")
                            if kind == "failure":
                                raise errors.from_wire(record.get("error") or {})
                            backoff.succeeded()
                            # Keep-alives have no number; events that are known already come when
                            # a start is repeated.
                            if record.get("seq", 0) <= after:
                                continue
                            after = record["seq"]
                            yield record
                            if kind == "end" and execution_id is not None:
                                return
                if execution_id is not None:
                    # No end was read: either it lies before `after`, or the stream was cut.
                    state = self._once("GET", attached, read_s=_PROBE_S)
                    if state.get("state") == "done" and state.get("last_seq", 0) <= after:
                        return
                message = "the stream ended early"
                raise errors.ConnectionLost(message)
            except _LOST as error:
                if not self._wait_out(backoff, error):
                    raise

    def watch(self, path: str, query: Mapping[str, Any]) -> Generator[Json, None, None]:
        """The records of a stream of which none is worth having twice: it is not followed over connections.

        Raises:
            KernelgateError: the server refused, or the stream was cut.
        """
        with self._open("GET", path, body=None, query=query) as response:
            records = _wire.Records()
            for piece in response.iter_bytes():
                for record in records.feed(piece):
                    if record.get("type") == "failure":
                        raise errors.from_wire(record.get("error") or {})
                    if "seq" in record:
                        yield record
