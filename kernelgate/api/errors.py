"""One table from exceptions to HTTP: found by the class or its nearest base."""

from __future__ import annotations

from kernelgate import errors

#: Status of each exception. What is not here, and is no KernelgateError, is our bug: 500.
STATUS: dict[type[Exception], int] = {
    errors.InvalidRequest: 400,
    errors.BodyTooLarge: 413,
    errors.RangeNotSatisfiable: 416,
    errors.AuthenticationError: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.SessionClosed: 410,
    errors.CapacityExceeded: 429,
    errors.NoSpace: 507,
    errors.StorageUnavailable: 503,
    errors.KernelError: 502,
    errors.SandboxUnavailable: 503,
    errors.HostUnavailable: 503,
    errors.Draining: 503,
    errors.ProtocolError: 502,
    errors.LocalProtocolError: 500,
    errors.KernelgateError: 500,
}


def status_of(error: BaseException) -> int:
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return 500
