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
    from kernelgate.sdk._async.command import (
        AsyncCommands,
        AsyncEnvironment,
        AsyncInteractive,
        AsyncProcess,
        AsyncProcesses,
        AsyncShell,
        AsyncShells,
    )
    from kernelgate.sdk._async.context import AsyncContext, AsyncContexts
    from kernelgate.sdk._async.execution import AsyncExecutions
    from kernelgate.sdk._async.filesystem import AsyncFileSystem
    from kernelgate.sdk._async.notebook import AsyncNotebooks
    from kernelgate.sdk._async.session import AsyncSession
    from kernelgate.sdk._async.terminal import AsyncScreen, AsyncTerminal, AsyncTerminals
    from kernelgate.sdk._notebooks import CellProgress
    from kernelgate.sdk._sync.client import Client, Created, Sessions
    from kernelgate.sdk._sync.code import Code
    from kernelgate.sdk._sync.command import Commands, Environment, Interactive, Process, Processes, Shell, Shells
    from kernelgate.sdk._sync.context import Context, Contexts
    from kernelgate.sdk._sync.execution import Executions
    from kernelgate.sdk._sync.filesystem import FileSystem
    from kernelgate.sdk._sync.notebook import Notebooks
    from kernelgate.sdk._sync.session import Session
    from kernelgate.sdk._sync.terminal import Screen, Terminal, Terminals
    from kernelgate.sdk._unset import UNSET
    from kernelgate.sdk.artifacts import Artifact, Artifacts
    from kernelgate.sdk.commands import AbortError, CommandResult, CommandTimeout, ProcessInfo, Usage
    from kernelgate.sdk.errors import CodeFailed, KernelgateError
    from kernelgate.sdk.files import FileEdit, FileEvent, FileInfo, FileMatch, FileText
    from kernelgate.sdk.metrics import Metrics, Sample
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
    from kernelgate.sdk.terminals import TerminalInfo

__all__ = [
    "UNSET",
    "AbortError",
    "Artifact",
    "Artifacts",
    "AsyncClient",
    "AsyncCode",
    "AsyncCommands",
    "AsyncContext",
    "AsyncContexts",
    "AsyncCreated",
    "AsyncEnvironment",
    "AsyncExecutions",
    "AsyncFileSystem",
    "AsyncInteractive",
    "AsyncNotebooks",
    "AsyncProcess",
    "AsyncProcesses",
    "AsyncScreen",
    "AsyncSession",
    "AsyncSessions",
    "AsyncShell",
    "AsyncShells",
    "AsyncTerminal",
    "AsyncTerminals",
    "CellProgress",
    "Client",
    "Code",
    "CodeFailed",
    "CommandResult",
    "CommandTimeout",
    "Commands",
    "Completion",
    "Context",
    "ContextInfo",
    "Contexts",
    "Created",
    "Death",
    "Environment",
    "ExecutionError",
    "Executions",
    "FileEdit",
    "FileEvent",
    "FileInfo",
    "FileMatch",
    "FileSystem",
    "FileText",
    "Inspection",
    "Interactive",
    "KernelgateError",
    "Language",
    "Logs",
    "Metrics",
    "Notebooks",
    "Pool",
    "Process",
    "ProcessInfo",
    "Processes",
    "Result",
    "ResultItem",
    "ResultPage",
    "Retry",
    "Sample",
    "Screen",
    "Session",
    "SessionInfo",
    "SessionPage",
    "Sessions",
    "Shell",
    "Shells",
    "Terminal",
    "TerminalInfo",
    "Terminals",
    "TimedOut",
    "Timeout",
    "Truncated",
    "Usage",
    "errors",
    "events",
]

# Where each name lives. They are imported when they are first asked for: a program that uses one of
# the two clients does not load the other.
_HOMES = {
    "UNSET": "_unset",
    "AbortError": "commands",
    "Artifact": "artifacts",
    "Artifacts": "artifacts",
    "AsyncClient": "_async.client",
    "AsyncCode": "_async.code",
    "AsyncCommands": "_async.command",
    "AsyncContext": "_async.context",
    "AsyncContexts": "_async.context",
    "AsyncCreated": "_async.client",
    "AsyncEnvironment": "_async.command",
    "AsyncExecutions": "_async.execution",
    "AsyncFileSystem": "_async.filesystem",
    "AsyncInteractive": "_async.command",
    "AsyncNotebooks": "_async.notebook",
    "AsyncProcess": "_async.command",
    "AsyncProcesses": "_async.command",
    "AsyncScreen": "_async.terminal",
    "AsyncSession": "_async.session",
    "AsyncSessions": "_async.client",
    "AsyncShell": "_async.command",
    "AsyncShells": "_async.command",
    "AsyncTerminal": "_async.terminal",
    "AsyncTerminals": "_async.terminal",
    "CellProgress": "_notebooks",
    "Client": "_sync.client",
    "Code": "_sync.code",
    "CodeFailed": "errors",
    "CommandResult": "commands",
    "CommandTimeout": "commands",
    "Commands": "_sync.command",
    "Context": "_sync.context",
    "Contexts": "_sync.context",
    "Created": "_sync.client",
    "Environment": "_sync.command",
    "Executions": "_sync.execution",
    "FileEdit": "files",
    "FileEvent": "files",
    "FileInfo": "files",
    "FileMatch": "files",
    "FileSystem": "_sync.filesystem",
    "FileText": "files",
    "Interactive": "_sync.command",
    "KernelgateError": "errors",
    "Metrics": "metrics",
    "Notebooks": "_sync.notebook",
    "Pool": "settings",
    "Process": "_sync.command",
    "ProcessInfo": "commands",
    "Processes": "_sync.command",
    "Retry": "settings",
    "Sample": "metrics",
    "Screen": "_sync.terminal",
    "Session": "_sync.session",
    "Sessions": "_sync.client",
    "Shell": "_sync.command",
    "Shells": "_sync.command",
    "Terminal": "_sync.terminal",
    "TerminalInfo": "terminals",
    "Terminals": "_sync.terminal",
    "Timeout": "settings",
    "Usage": "commands",
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
