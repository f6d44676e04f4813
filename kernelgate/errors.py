"""Everything kernelgate raises, in one tree.

What the user's code does wrong is data (an `error` in a result) and never comes here. These are wrong requests, and what kernelgate could not do.

    KernelgateError
      InvalidRequest
        UnsupportedLanguage, LanguageNotInstalled, BodyTooLarge
        InvalidPath, NotAFile, NotText, InvalidArchive, FileTooLarge, RangeNotSatisfiable
      AuthenticationError, PermissionDenied, FilePermissionDenied
      NotFound
        SessionNotFound, ContextNotFound, ExecutionNotFound, CommandNotFound, ShellNotFound, TerminalNotFound, ProcessNotFound
        FileNotFound
      SessionClosed
      Conflict
        FileExists, NotADirectory, IsADirectory, DirectoryNotEmpty, EditNotFound, EditAmbiguous, FileOperationFailed, FilesInterrupted
        ExecutionConflict, NotWaitingForInput, InputClosed, ShellBusy
      NoSpace, StorageUnavailable
      CapacityExceeded
      KernelError
        KernelStartFailed, KernelUnresponsive
      SandboxUnavailable, HostUnavailable
      ProtocolError
        LocalProtocolError, RemoteProtocolError
      Draining
      ConfigError

`code` is a stable slug for programs, the message is for people and says what to change; `api/errors.py` alone knows HTTP.
"""

from __future__ import annotations

from typing import Any


class KernelgateError(Exception):
    """Base class. `detail` is safe to show to the caller; `details` holds fields of the particular error."""

    code = "internal_error"

    def __init__(self, detail: str = "", **details: Any) -> None:
        super().__init__(detail or self.code)
        self.detail = detail or self.code
        self.details = details


class InvalidRequest(KernelgateError):
    """The caller sent something that cannot be accepted; the message says what to change."""

    code = "invalid_request"

    def __init__(self, detail: str = "", *, code: str | None = None, **details: Any) -> None:
        super().__init__(detail, **details)
        if code:
            self.code = code


class UnsupportedLanguage(InvalidRequest):
    code = "unsupported_language"

    def __init__(self, name: str, supported: list[str]) -> None:
        super().__init__(f"language {name!r} is not supported; supported are: {', '.join(supported)}", supported=supported)


class LanguageNotInstalled(InvalidRequest):
    code = "language_not_installed"

    def __init__(self, language: str, install_command: str) -> None:
        super().__init__(
            f"{language} is supported but not installed here; install it with: {install_command}",
            language=language,
            install=install_command,
        )


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"


class AuthenticationError(KernelgateError):
    code = "unauthorized"


class PermissionDenied(KernelgateError):
    code = "forbidden"


class NotFound(KernelgateError):
    code = "not_found"


class SessionNotFound(NotFound):
    code = "session_not_found"


class ContextNotFound(NotFound):
    code = "context_not_found"


class ExecutionNotFound(NotFound):
    code = "execution_not_found"


class CommandNotFound(NotFound):
    code = "command_not_found"


class ShellNotFound(NotFound):
    code = "shell_not_found"


class TerminalNotFound(NotFound):
    code = "terminal_not_found"


class ProcessNotFound(NotFound):
    code = "process_not_found"


class SessionClosed(KernelgateError):
    """The session ended (deleted, culled or lost); its history is readable, nothing can run in it."""

    code = "session_closed"


class Conflict(KernelgateError):
    code = "conflict"


class ExecutionConflict(Conflict):
    """The execution id is known, but for other code or another context."""

    code = "execution_conflict"


class NotWaitingForInput(Conflict):
    code = "not_waiting_for_input"


class InputClosed(Conflict):
    """The command takes no more input: it has ended, or its input was closed."""

    code = "input_closed"


class ShellBusy(Conflict):
    """The shell runs something; one thing at a time, as at a prompt."""

    code = "shell_busy"


class CapacityExceeded(KernelgateError):
    code = "capacity_exceeded"


class KernelError(KernelgateError):
    code = "kernel_error"


class KernelStartFailed(KernelError):
    code = "kernel_start_failed"


class KernelUnresponsive(KernelError):
    """A kernel did not answer a question (complete, inspect) in time."""

    code = "kernel_unresponsive"


class SandboxUnavailable(KernelgateError):
    """The sandbox cannot be made here. Never answered by running without one."""

    code = "sandbox_unavailable"


class HostUnavailable(KernelgateError):
    """A session's host did not answer; it is being started again, or the session is being found lost."""

    code = "host_unavailable"


class ProtocolError(KernelgateError):
    code = "protocol_error"


class LocalProtocolError(ProtocolError):
    """We were about to send something illegal: our bug."""


class RemoteProtocolError(ProtocolError):
    """The other end sent something illegal: unsigned, malformed, too large."""


# -- files: what a session's file system answers. Their codes are what a worker says (host/worker.py) --


class InvalidPath(InvalidRequest):
    """A path that the system takes for none: a NUL in it, too long, links in a circle."""

    code = "invalid_path"


class NotAFile(InvalidRequest):
    """It is neither a file nor a directory: a pipe, a device, a socket."""

    code = "not_a_file"


class NotText(InvalidRequest):
    code = "not_text"


class InvalidArchive(InvalidRequest):
    code = "invalid_archive"


class FileTooLarge(BodyTooLarge):
    code = "file_too_large"


class RangeNotSatisfiable(InvalidRequest):
    code = "range_not_satisfiable"


class FilePermissionDenied(PermissionDenied):
    """The session's own user may not do that."""

    code = "permission_denied"


class FileNotFound(NotFound):
    code = "file_not_found"


class FileExists(Conflict):
    code = "file_exists"


class NotADirectory(Conflict):
    code = "not_a_directory"


class IsADirectory(Conflict):
    code = "is_a_directory"


class DirectoryNotEmpty(Conflict):
    code = "directory_not_empty"


class EditNotFound(Conflict):
    code = "edit_not_found"


class EditAmbiguous(Conflict):
    code = "edit_ambiguous"


class FileOperationFailed(Conflict):
    """The session's system refused for a reason that has no code of its own; the message has it."""

    code = "file_operation_failed"


class FilesInterrupted(Conflict):
    """The process that carried this out inside the session was killed or stopped there."""

    code = "files_interrupted"


class NoSpace(KernelgateError):
    """The session's disk is full, or the server's."""

    code = "no_space"


class StorageUnavailable(KernelgateError):
    """The server's data directory cannot be read or written; what lives, lives on."""

    code = "storage_unavailable"


class Draining(KernelgateError):
    code = "draining"


class ConfigError(KernelgateError):
    """At start only; names the key, where the value came from, and the cure."""

    code = "config_error"


#: What can go wrong with files, by code: all that a worker may say.
FILE_ERRORS: dict[str, type[KernelgateError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        InvalidPath,
        NotAFile,
        NotText,
        InvalidArchive,
        FileTooLarge,
        RangeNotSatisfiable,
        FilePermissionDenied,
        FileNotFound,
        FileExists,
        NotADirectory,
        IsADirectory,
        DirectoryNotEmpty,
        EditNotFound,
        EditAmbiguous,
        FileOperationFailed,
        FilesInterrupted,
        NoSpace,
    )
}

#: Errors a session host may answer with, by code: what comes over the link is made an exception again from this closed set.
HOST_ERRORS: dict[str, type[KernelgateError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        ContextNotFound,
        ExecutionNotFound,
        CommandNotFound,
        ShellNotFound,
        TerminalNotFound,
        ProcessNotFound,
        SessionClosed,
        ExecutionConflict,
        NotWaitingForInput,
        InputClosed,
        ShellBusy,
        CapacityExceeded,
        KernelStartFailed,
        KernelUnresponsive,
    )
}
HOST_ERRORS |= FILE_ERRORS
