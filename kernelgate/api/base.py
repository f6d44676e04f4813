"""What every handler begins with: request id, Host and Origin, token, body within its limit, errors of one shape."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http.client
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from tornado import httputil, iostream, web

from kernelgate import ids
from kernelgate._aio import Tasks
from kernelgate.api.errors import status_of
from kernelgate.api.metrics import Metrics
from kernelgate.errors import (
    AuthenticationError,
    BodyTooLarge,
    Draining,
    HostUnavailable,
    InvalidRequest,
    KernelError,
    KernelgateError,
    PermissionDenied,
    SessionClosed,
)
from kernelgate.sessions.keeper import Keeper
from kernelgate.sessions.registry import Registry, Token
from kernelgate.sessions.session import Session
from kernelgate.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Of a body that is too large, so much is read and thrown away, so that its sender gets to read the answer; beyond, the connection is closed.
_READ_AWAY_BYTES = 256 * 1024 * 1024
_TOKEN_CACHE_S = 2.0
#: Parts of paths (api/routes.py).
_PATH_NAMES = ("session_id", "context", "execution_id", "command_id", "shell_id", "terminal_id")


@dataclass
class Services:
    """What handlers need, made once by `app.py`."""

    settings: Settings
    registry: Registry
    keeper: Keeper
    metrics: Metrics
    tasks: Tasks = field(default_factory=Tasks)
    draining: bool = False
    channels: set[Any] = field(default_factory=set)
    port: int = 0
    tokens: dict[str, tuple[float, Token]] = field(default_factory=dict)

    def token(self, secret: str) -> Token | None:
        """The token with this secret; remembered for two seconds, so that a revoked one stops soon."""
        now = time.monotonic()
        for known, (read_at, remembered) in self.tokens.items():
            if hmac.compare_digest(known.encode(), secret.encode("utf-8", "replace")):
                if now - read_at < _TOKEN_CACHE_S:
                    return remembered
                break
        token = self.registry.token(secret)
        if token is not None:
            if len(self.tokens) > 64:
                self.tokens.clear()
            self.tokens[secret] = (now, token)
        else:
            self.tokens.pop(secret, None)
        return token


def error_body(code: str, message: str, request_id: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message, "request_id": request_id}
    if details:
        error["details"] = details
    return {"error": error}


def retrying_host(operation: Callable[[], Awaitable[T]], services: Services, session: Session) -> Awaitable[T]:
    """Does what asks a session's host; where the host does not answer, finds out whether the session still is, and tries once more.

    A host that died is started again by its init within a moment; everything asked of it is safe to ask twice, executions by their id.
    """

    async def attempt() -> T:
        try:
            return await operation()
        except HostUnavailable:
            await asyncio.sleep(0.2)
            services.keeper.check(session)
            return await operation()

    return attempt()


class Guarded:
    """Checks shared by HTTP and WebSocket handlers."""

    request: httputil.HTTPServerRequest
    services: Services
    request_id: str
    #: The one that was asked for, once it was found.
    _session: Session | None = None

    def told(self, error: KernelgateError) -> KernelgateError:
        """What to tell the caller of a failure: that a host does not answer is said only of a session that still is."""
        if isinstance(error, HostUnavailable) and self._session is not None:
            try:
                self.services.keeper.check(self._session)
            except SessionClosed as gone:
                return gone
        return error

    def check_host(self) -> None:
        """A web page must not reach a server on this machine by a name of its own that it lets point here (DNS rebinding)."""
        name = httputil.split_host_and_port(self.request.host.lower())[0].strip("[]")
        server = self.services.settings.server
        if name in ("localhost", server.host.lower(), *(host.lower() for host in server.allowed_hosts)):
            return
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return  # an address is not a name that anyone can point elsewhere
        raise PermissionDenied(f"this server does not answer for the host {name!r}; add it to server.allowed_hosts", host=name)

    def check_origin_allowed(self) -> None:
        origin = self.request.headers.get("Origin")
        if origin is None:
            return
        allowed = self.services.settings.server.allowed_origins
        if "*" in allowed or origin in allowed or urlsplit(origin).netloc.lower() == self.request.host.lower():
            return
        raise PermissionDenied(f"pages of {origin!r} may not call this server; add it to server.allowed_origins", origin=origin)

    def authenticate(self, *, query: bool = False) -> Token:
        """The caller's token, from the Authorization header, or with `query` also from `?token=` (WebSockets of browsers can send no header)."""
        scheme, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        secret = secret.strip()
        if scheme.lower() not in ("bearer", "token") or not secret:
            values = self.request.query_arguments.get("token") if query else None
            if not values:
                raise AuthenticationError("a token is needed: send the header `Authorization: Bearer TOKEN` (see `kernelgate token`)")
            secret = values[0].decode("utf-8", "replace")
        token = self.services.token(secret)
        if token is None:
            raise AuthenticationError("this token is not known here, or was revoked (see `kernelgate token`)")
        return token

    def take_request_id(self) -> str:
        wanted = self.request.headers.get("X-Request-Id", "")
        return wanted if ids.is_caller_id(wanted) else ids.new_request_id()


@web.stream_request_body
class BaseHandler(Guarded, web.RequestHandler):
    """Of every HTTP handler. `authenticated` false is for the few that anybody may call."""

    authenticated = True
    token: Token

    def initialize(self, services: Services) -> None:
        self.services = services
        self._body = bytearray()
        self._left_out = 0
        self._gone: list[Callable[[], None]] = []
        self.client_gone = False

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        # A part of the path that is not UTF-8 names nothing; Tornado would answer it before reading the request.
        return value.decode("utf-8", "replace") if name in _PATH_NAMES else super().decode_argument(value, name)

    def set_default_headers(self) -> None:
        self.set_header("Server", "kernelgate")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        self.request_id = self.take_request_id()
        self.set_header("X-Request-Id", self.request_id)
        try:
            self.admit()
        except (KernelgateError, web.HTTPError) as exc:
            self._refuse(exc)
        limit = self.body_limit()
        length = self.request.headers.get("Content-Length") or "0"
        if not (length.isascii() and length.isdigit() and len(length) <= 18):
            raise InvalidRequest("Content-Length: a number of bytes is expected")
        if int(length) > limit:
            self._left_out = 1
            if int(length) > _READ_AWAY_BYTES:
                raise BodyTooLarge(self._too_large())

    def body_limit(self) -> int:
        """In bytes, for this request."""
        return self.services.settings.server.max_body_bytes

    def admit(self) -> None:
        """Raises where this request may not be made at all."""
        self.check_host()
        self.check_origin_allowed()
        self._allow_origin()
        if self.authenticated and self.request.method != "OPTIONS":
            self.token = self.authenticate()
        if self.services.draining:
            raise Draining("this server is stopping; try again in a moment")

    def _refuse(self, reason: Exception) -> None:
        """Answers so, but only when the body has been read and thrown away: who is still sending reads no answer, and Tornado closes a connection whose request it did not read to the end."""

        def refuse(*_: Any, **__: Any) -> None:
            raise reason

        self._left_out = 1
        setattr(self, str(self.request.method).lower(), refuse)

    def _too_large(self) -> str:
        limit, ours = self.body_limit(), self.services.settings.server.max_body_bytes
        cure = "(server.max_body_bytes); send less, or put large data into a file" if limit == ours else "(sessions.max_upload_bytes)"
        return f"the body may have {limit} bytes {cure}"

    def _allow_origin(self) -> None:
        origin = self.request.headers.get("Origin")
        if origin is not None:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Vary", "Origin")
            self.set_header("Access-Control-Expose-Headers", "X-Request-Id, Location")

    def options(self, *_: str, **__: str) -> None:
        """CORS preflight."""
        self.set_header("Access-Control-Allow-Methods", "GET, POST, PATCH, PUT, DELETE")
        self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Last-Event-ID, X-Request-Id")
        self.set_header("Access-Control-Max-Age", "600")
        self.set_status(204)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if not self._left_out and len(self._body) + len(chunk) <= self.services.settings.server.max_body_bytes:
            self._body += chunk
            return None
        self._left_out += len(chunk)
        self._body.clear()
        if self._left_out > _READ_AWAY_BYTES:
            raise BodyTooLarge(self._too_large())
        return None

    def body(self, kind: type[T]) -> T:
        """The body as a model. Raises InvalidRequest (or BodyTooLarge) with what to change."""
        if self._left_out:
            raise BodyTooLarge(self._too_large())
        try:
            self._body.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"the body is not UTF-8 (byte {exc.start})", code="invalid_utf8") from exc
        return decode(bytes(self._body) or b"{}", kind)

    # -- clients that leave --

    def on_connection_close(self) -> None:
        # Tornado does not cancel a handler whose client went away; whoever must know registers with `when_gone`.
        self.client_gone = True
        for callback in self._gone:
            callback()

    def when_gone(self, callback: Callable[[], None]) -> None:
        self._gone.append(callback)

    # -- answers --

    def send(self, value: Any, status: int = 200) -> None:
        self.send_bytes(json.dumps(value, separators=(",", ":")).encode(), status)

    def send_bytes(self, data: bytes, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(data)

    def session(self, session_id: str) -> Session:
        """The live session that is asked for. Raises SessionNotFound, SessionClosed."""
        self._session = self.services.keeper.get(self.token.id, session_id)
        return self._session

    # -- errors --

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, KernelgateError):
            value = self.told(value)
        if isinstance(value, KernelgateError) and (status_of(value) < 500 or isinstance(value, KernelError)):
            return  # a kernel that cannot start or answer is the caller's affair, and the message may have what it printed
        if isinstance(value, web.HTTPError) and value.status_code < 500:
            return
        if isinstance(value, iostream.StreamClosedError):
            return
        if isinstance(value, KernelgateError) and status_of(value) != 500:
            log.warning("request refused: %s", value.detail, extra={"request_id": self.request_id})
            return
        log.error(
            "request failed: %s", type(value).__name__, exc_info=(typ, value, tb), extra={"request_id": getattr(self, "request_id", None)}
        )

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        if self._headers_written and not self._finished:
            # It has begun, so that it can only break off; Tornado would end it as if it were whole.
            self.detach().close()
            return
        super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.finish(self._error(status_code, error))

    def _error(self, status_code: int, error: BaseException | None) -> dict[str, Any]:
        request_id = getattr(self, "request_id", None) or ids.new_request_id()
        self.set_header("X-Request-Id", request_id)
        if isinstance(error, Draining) or not self.request._body_future.done():  # noqa: SLF001 - Tornado closes the connection of a request that it has not read, and does not say so
            self.set_header("Connection", "close")
        if isinstance(error, KernelgateError):
            error = self.told(error)
            status_code = status_of(error)
            self.set_status(status_code)
            if status_code == 401:
                self.set_header("WWW-Authenticate", "Bearer")
            if status_code in (429, 503):
                self.set_header("Retry-After", "1")
            return error_body(error.code, error.detail, request_id, error.details)
        if status_code == 405:
            return error_body("method_not_allowed", f"{self.request.method} cannot be used here", request_id)
        if status_code == 404:
            return error_body("not_found", f"there is nothing at {self.request.path}; the API is described at /v1/openapi.json", request_id)
        if status_code < 500:
            return error_body("invalid_request", http.client.responses.get(status_code, "invalid request"), request_id)
        return error_body("internal_error", "kernelgate failed; its log has the details under this request id", request_id)

    def on_finish(self) -> None:
        self.services.metrics.request(self.request.method or "", type(self).__name__, self.get_status(), self.request.request_time())


def decode(data: bytes, kind: type[T]) -> T:
    """JSON as a model. Raises InvalidRequest with the place and what is expected there."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(_plain(str(exc))) from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}", code="invalid_json") from exc


def _plain(text: str) -> str:
    """msgspec's words, made a caller's: `Expected `int`, got `str` - at `$.timeout_s`."""
    what, _, where = text.partition(" - at ")
    return f"{where.strip('`').removeprefix('$.').removeprefix('$') or 'the body'}: {what[0].lower()}{what[1:]}"


class NotFoundHandler(BaseHandler):
    """Paths that do not exist answer in the same shape, and only to those with a token."""

    def admit(self) -> None:
        super().admit()
        raise web.HTTPError(404)
