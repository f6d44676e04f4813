"""Everything the SDK raises: one tree, and in it the server's own codes.

::

    KernelgateError
      InvalidUse                   the SDK was called in a way that cannot work
      ConnectionProblem            nothing wrong with the request: it or its answer did not get through
        ServerNotFound             no address is known
        ServerUnreachable          nobody listens there
        ConnectionLost             the connection broke, and did not come back in time
        RequestTimeout             no answer in time
      RequestRefused               the server understood, and said no: change the request
        InvalidRequest
          UnknownLanguage, LanguageNotInstalled
          RequestTooLarge
        AuthenticationFailed
        PermissionDenied
          FilePermissionDenied
        NotFound
          SessionNotFound, ContextNotFound, ExecutionNotFound, FileNotFound, CommandNotFound
        Conflict
          SessionClosed, FileConflict
        CapacityExceeded
        NoSpace
      ServerFault                  kernelgate failed: report it with its request id
        ServerUnavailable, KernelUnavailable
        UnexpectedAnswer
      CodeFailed                   by `raise_for_error()` only: a failed result as an exception
        CodeRaised, CodeTimedOut, CodeInterrupted, CodeCancelled, KernelDied, ExecutionLost

What the user's code does wrong is a result, never an exception, unless `raise_for_error()` is called.
Every error says what happened, whose fault that is, which request it was, and what to try next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernelgate.sdk.models import Result

__all__ = [
    "AuthenticationFailed",
    "CapacityExceeded",
    "CodeCancelled",
    "CodeFailed",
    "CodeInterrupted",
    "CodeRaised",
    "CodeTimedOut",
    "CommandNotFound",
    "Conflict",
    "ConnectionLost",
    "ConnectionProblem",
    "ContextNotFound",
    "ExecutionLost",
    "ExecutionNotFound",
    "Fault",
    "FileConflict",
    "FileNotFound",
    "FilePermissionDenied",
    "InvalidRequest",
    "InvalidUse",
    "KernelDied",
    "KernelUnavailable",
    "KernelgateError",
    "LanguageNotInstalled",
    "NoSpace",
    "NotFound",
    "PermissionDenied",
    "RequestRefused",
    "RequestTimeout",
    "RequestTooLarge",
    "ServerFault",
    "ServerNotFound",
    "ServerUnavailable",
    "ServerUnreachable",
    "SessionClosed",
    "SessionNotFound",
    "UnexpectedAnswer",
    "UnknownLanguage",
]

Fault = Literal["the call", "the connection", "the request", "the server", "the code"]


class KernelgateError(Exception):
    """Whatever goes wrong between the caller and a result.

    Attributes:
        code: a stable word to branch on; the server's own where the server refused.
        message: what happened.
        fault: whose it is.
        hint: what to try next.
        request_id: what to look for in the server's log, None where no request was made.
        status: the HTTP status, None where there was no answer.
        details: what the server added, as it sent it.
    """

    code: str = "error"
    fault: Fault = "the server"
    hint: str = ""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = type(self).hint if hint is None else hint
        self.request_id = request_id
        self.status = status
        self.details: Mapping[str, Any] = details or {}

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        said = self.message.rstrip(".")
        text = f"{said} [{self.code}{request}]. At fault: {self.fault}."
        return f"{text} Next: {self.hint}." if self.hint else text

    def __reduce__(self) -> tuple[Callable[..., KernelgateError], tuple[Any, ...]]:
        # An exception's default pickling calls the class with `args` alone, and would lose the rest
        # on its way out of a worker process.
        return (_restore, (type(self), self.args, dict(self.__dict__)))


def _restore(cls: type[KernelgateError], args: tuple[Any, ...], state: dict[str, Any]) -> KernelgateError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidUse(KernelgateError):
    """The SDK was called in a way that cannot work; no request was made."""

    code = "invalid_use"
    fault: Fault = "the call"


class ConnectionProblem(KernelgateError):
    """The request or its answer did not get through. Trying again may help."""

    code = "connection_problem"
    fault: Fault = "the connection"


class ServerNotFound(ConnectionProblem):
    """No address was given, and no server of this machine has left its own."""

    code = "server_not_found"
    hint = "start a server with `kernelgate serve`, or say where one is: Client(url=..., token=...) or KERNELGATE_URL and KERNELGATE_TOKEN"


class ServerUnreachable(ConnectionProblem):
    """Nothing answers at the address; the request was not sent."""

    code = "server_unreachable"
    hint = "start the server with `kernelgate serve`, or check the address"


class ConnectionLost(ConnectionProblem):
    """The connection broke before the answer was complete, and retrying did not help in time."""

    code = "connection_lost"
    hint = (
        "look whether the server still runs (`kernelgate serve` starts it); what was started goes "
        "on without the connection, and session.executions.attach(ID) reads on"
    )


class RequestTimeout(ConnectionProblem):
    """The server took the request, and did not answer within the client's timeout."""

    code = "request_timeout"
    hint = "give the client more time with Client(timeout=...), or look at the server's load"


class RequestRefused(KernelgateError):
    """The server understood, and refused. The same request would be refused again."""

    code = "refused"
    fault: Fault = "the request"


class InvalidRequest(RequestRefused):
    """Something in the request is not acceptable; the message says what to change."""

    code = "invalid_request"
    hint = "change the request as the message says"


class UnknownLanguage(InvalidRequest):
    """There is no such language here."""

    code = "unsupported_language"
    hint = "choose one of client.languages(), or of `kernelgate languages`"


class LanguageNotInstalled(InvalidRequest):
    """The language is supported, and its kernel is not installed on the server."""

    code = "language_not_installed"
    hint = "install it on the server with the command that `kernelgate languages` shows"


class RequestTooLarge(InvalidRequest):
    """The request's body is larger than the server takes."""

    code = "body_too_large"
    hint = "send less at once: split the code, or let it read a file"


class AuthenticationFailed(RequestRefused):
    """The token is missing, wrong or revoked."""

    code = "unauthorized"
    hint = "give the server's token: Client(token=...) or KERNELGATE_TOKEN; `kernelgate token` makes one"


class PermissionDenied(RequestRefused):
    """The token is good, and not for this."""

    code = "forbidden"
    hint = "use a token that may do this; a token sees its own sessions only"


class NotFound(RequestRefused):
    """The thing asked for is not there, or belongs to another token."""

    code = "not_found"


class SessionNotFound(NotFound):
    """No such session under this token."""

    code = "session_not_found"
    hint = "see those there are with client.sessions.list(), or make one with sessions.create()"


class ContextNotFound(NotFound):
    """No such context in this session."""

    code = "context_not_found"
    hint = "see those there are with session.contexts.list()"


class ExecutionNotFound(NotFound):
    """No such execution in this session."""

    code = "execution_not_found"
    hint = "see those there are with session.executions.list()"


class CommandNotFound(NotFound):
    """No such command in this session."""

    code = "command_not_found"
    hint = "see those there are with session.command.list()"


class FileNotFound(NotFound):
    """There is nothing at this path in the session."""

    code = "file_not_found"
    hint = "see what is there with session.file_system.list_directory()"


class FilePermissionDenied(PermissionDenied):
    """The session's own user may not do that."""

    code = "permission_denied"
    hint = "use a path in /workspace or /tmp, or change the permissions from inside the session"


class Conflict(RequestRefused):
    """The request is right, and does not fit the present state of what it is about."""

    code = "conflict"


class FileConflict(Conflict):
    """What is at the path does not fit: it exists, is a directory, is none, is not empty; `code` says which."""

    code = "file_exists"
    hint = "look at it with session.file_system.get_file_info()"


class NoSpace(RequestRefused):
    """The session's disk is full."""

    code = "no_space"
    hint = "delete files in the session"


class SessionClosed(Conflict):
    """The session has ended: deleted, idle for too long, too old, or lost."""

    code = "session_closed"
    hint = "make a new session with client.sessions.create()"


class CapacityExceeded(RequestRefused):
    """A quota or a limit of the server is reached."""

    code = "capacity_exceeded"
    hint = "delete sessions that are done, or try again later"


class ServerFault(KernelgateError):
    """kernelgate itself failed. Not the request's fault, nor the code's."""

    code = "internal_error"
    hint = "report it with the request id; the server's log has the details"


class ServerUnavailable(ServerFault):
    """The server is starting, draining, or cannot make sandboxes just now."""

    code = "unavailable"
    hint = "try again shortly; `kernelgate doctor` says what is missing"


class KernelUnavailable(ServerFault):
    """A kernel did not start, or did not answer a question about code."""

    code = "kernel_error"
    hint = "look at the message; `kernelgate doctor` tries every language"


class UnexpectedAnswer(ServerFault):
    """What answered does not speak kernelgate's API."""

    code = "unexpected_answer"
    hint = "check that the address is kernelgate's own, and that no proxy answers for it"


class CodeFailed(KernelgateError):
    """A failed result, raised by `raise_for_error()`.

    Attributes:
        result: the result, with all that the code had put out.
        limit: the session's limit that it met, None if it met none.
    """

    code = "code_failed"
    fault: Fault = "the code"

    def __init__(self, message: str, *, result: Result, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, request_id=result.request_id or None)
        self.result = result
        self.limit: str | None = result.limit


class CodeRaised(CodeFailed):
    """The code raised, or did not parse."""

    code = "error"
    hint = "read result.error.traceback"


class CodeTimedOut(CodeFailed):
    """The code ran longer than its `timeout_s`, or used more processor time than its session allows."""

    code = "timeout"
    hint = "give it a larger timeout_s, or None for no limit"


class CodeInterrupted(CodeFailed):
    """Someone interrupted the code."""

    code = "interrupted"


class CodeCancelled(CodeFailed):
    """The execution was cancelled, maybe before it began."""

    code = "cancelled"


class KernelDied(CodeFailed):
    """The kernel died under the code; result.death says why."""

    code = "kernel_died"
    hint = "run it again in the fresh kernel that the next execution gets; old variables are gone"


class ExecutionLost(CodeFailed):
    """The session was lost while the code ran; what it did since is not known."""

    code = "lost"
    fault: Fault = "the server"
    hint = "make a new session"


# A code of the server's that has a class. Codes it does not list fall to the status' class below.
_BY_CODE: dict[str, type[KernelgateError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        UnknownLanguage,
        LanguageNotInstalled,
        RequestTooLarge,
        AuthenticationFailed,
        PermissionDenied,
        NotFound,
        SessionNotFound,
        ContextNotFound,
        ExecutionNotFound,
        CommandNotFound,
        Conflict,
        SessionClosed,
        CapacityExceeded,
        ServerFault,
        ServerUnavailable,
        KernelUnavailable,
    )
}
_BY_CODE |= {cls.code: cls for cls in (FileNotFound, FilePermissionDenied, FileConflict, NoSpace)}
_BY_CODE |= dict.fromkeys(("not_a_directory", "is_a_directory", "directory_not_empty"), FileConflict)
_BY_CODE |= {
    "execution_conflict": Conflict,
    "not_waiting_for_input": Conflict,
    "kernel_start_failed": KernelUnavailable,
    "kernel_unresponsive": KernelUnavailable,
    "sandbox_unavailable": ServerUnavailable,
    "host_unavailable": ServerUnavailable,
    "draining": ServerUnavailable,
}

# Where a code has a better next step than its class.
_HINTS: dict[str, str] = {
    "execution_conflict": "choose another execution_id, or none: the SDK makes one",
    "not_waiting_for_input": "answer only while the code asks: on_input does",
    "kernel_unresponsive": "it may be busy: try again, or interrupt it with session.interrupt()",
    "sandbox_unavailable": "`kernelgate doctor` says what the machine lacks",
}

_BY_STATUS: dict[int, type[KernelgateError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    410: SessionClosed,
    413: RequestTooLarge,
    429: CapacityExceeded,
    503: ServerUnavailable,
    504: ServerUnavailable,
}

_CODE_FAILURES: dict[str, type[CodeFailed]] = {
    cls.code: cls
    for cls in (
        CodeRaised,
        CodeTimedOut,
        CodeInterrupted,
        CodeCancelled,
        KernelDied,
        ExecutionLost,
    )
}


def from_wire(error: Mapping[str, Any], *, status: int | None = None, request_id: str | None = None) -> KernelgateError:
    """The exception for an error object of the server's.

    Args:
        error: `{code, message, request_id, details}`; any part may be missing.
        status: the answer's HTTP status, None for an error inside a stream.
        request_id: of the request, where the error does not say.
    """
    code = error.get("code")
    cls: type[KernelgateError] | None = _BY_CODE.get(code) if isinstance(code, str) else None
    if cls is None and status is not None:
        cls = _BY_STATUS.get(status) or (InvalidRequest if status < 500 else ServerFault)
    details = error.get("details")
    return (cls or ServerFault)(
        str(error.get("message") or "the server gave no reason"),
        code=code if isinstance(code, str) else None,
        hint=_HINTS.get(code) if isinstance(code, str) else None,
        request_id=error.get("request_id") or request_id,
        status=status,
        details=details if isinstance(details, dict) else None,
    )


def from_result(result: Result) -> CodeFailed:
    """The exception for a result that ended badly."""
    cls = _CODE_FAILURES.get(result.status or "", CodeFailed)
    return cls(result.error_message, result=result)
