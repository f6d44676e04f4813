"""The Python SDK: run code in kernelgate's sessions, from ordinary or from asynchronous programs.

    from kernelgate.sdk import Client

    with Client() as client, client.sessions.create() as session:
        result = session.code.run("print('hello')")
        print(result)

Words: a `Client` knows one server; a session is a private machine in miniature; a context is one of
its kernels; an execution is one run of code, and has an id; a `Result` is what came of it.

Its one rule: nothing of the server is imported here, and nothing heavy before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelgate.sdk import errors, events
    from kernelgate.sdk._async.client import AsyncClient, AsyncCreated, AsyncSessions
    from kernelgate.sdk._async.code import AsyncCode
    from kernelgate.sdk._async.context import AsyncContext, AsyncContexts
    from kernelgate.sdk._async.execution import AsyncExecutions
    from kernelgate.sdk._async.notebook import AsyncNotebooks
    from kernelgate.sdk._async.session import AsyncSession
    from kernelgate.sdk._notebooks import CellProgress
    from kernelgate.sdk._sync.client import Client, Created, Sessions
    from kernelgate.sdk._sync.code import Code
    from kernelgate.sdk._sync.context import Context, Contexts
    from kernelgate.sdk._sync.execution import Executions
    from kernelgate.sdk._sync.notebook import Notebooks
    from kernelgate.sdk._sync.session import Session
    from kernelgate.sdk._unset import UNSET
    from kernelgate.sdk.errors import CodeFailed, KernelgateError
    from kernelgate.sdk.models import (
        Completion,
        ContextInfo,
        Death,
        ExecutionError,
        Inspection,
        Language,
        Logs,
        Result,
        ResultItem,
        ResultPage,
        SessionInfo,
        SessionPage,
        TimedOut,
        Truncated,
    )
    from kernelgate.sdk.settings import Pool, Retry, Timeout

__all__ = [
    "UNSET",
    "AsyncClient",
    "AsyncCode",
    "AsyncContext",
    "AsyncContexts",
    "AsyncCreated",
    "AsyncExecutions",
    "AsyncNotebooks",
    "AsyncSession",
    "AsyncSessions",
    "CellProgress",
    "Client",
    "Code",
    "CodeFailed",
    "Completion",
    "Context",
    "ContextInfo",
    "Contexts",
    "Created",
    "Death",
    "ExecutionError",
    "Executions",
    "Inspection",
    "KernelgateError",
    "Language",
    "Logs",
    "Notebooks",
    "Pool",
    "Result",
    "ResultItem",
    "ResultPage",
    "Retry",
    "Session",
    "SessionInfo",
    "SessionPage",
    "Sessions",
    "TimedOut",
    "Timeout",
    "Truncated",
    "errors",
    "events",
]

# Where each name lives. They are imported when they are first asked for: a program that uses one of
# the two clients does not load the other.
_HOMES = {
    "UNSET": "_unset",
    "AsyncClient": "_async.client",
    "AsyncCode": "_async.code",
    "AsyncContext": "_async.context",
    "AsyncContexts": "_async.context",
    "AsyncCreated": "_async.client",
    "AsyncExecutions": "_async.execution",
    "AsyncNotebooks": "_async.notebook",
    "AsyncSession": "_async.session",
    "AsyncSessions": "_async.client",
    "CellProgress": "_notebooks",
    "Client": "_sync.client",
    "Code": "_sync.code",
    "CodeFailed": "errors",
    "Context": "_sync.context",
    "Contexts": "_sync.context",
    "Created": "_sync.client",
    "Executions": "_sync.execution",
    "KernelgateError": "errors",
    "Notebooks": "_sync.notebook",
    "Pool": "settings",
    "Retry": "settings",
    "Session": "_sync.session",
    "Sessions": "_sync.client",
    "Timeout": "settings",
}
_MODULES = ("errors", "events")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415  (only when a name is first asked for)

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'models')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
