"""The one place that knows websockets: how a socket of ours is opened, and whose fault its errors are.

Imported with the first terminal that is attached to.
"""

from __future__ import annotations

from typing import Any

from websockets import exceptions

from kernelgate import __version__
from kernelgate.sdk import _wire, errors

_LOOPBACK = ("ws://127.0.0.1", "ws://localhost", "ws://[::1]")

#: The socket is gone, from either side.
CLOSED = (exceptions.ConnectionClosed,)

#: What opening one may raise.
PROBLEMS = (exceptions.WebSocketException, OSError)


def options(url: str, connect_s: float | None) -> dict[str, Any]:
    """Arguments for `connect` of either kind."""
    return {
        "open_timeout": connect_s,
        "max_size": None,
        # A proxy from the environment is for reaching others, not this machine.
        "proxy": None if url.startswith(_LOOPBACK) else True,
        # What a person types and sees is small, and must not wait for a compressor.
        "compression": None,
        "user_agent_header": f"kernelgate/{__version__}",
    }


def translate(error: Exception, url: str, request_id: str) -> errors.KernelgateError:
    """Our exception for one of websockets', or of the system's."""
    if isinstance(error, exceptions.InvalidStatus):
        response = error.response
        try:
            _wire.decode(bytes(response.body or b""), status=max(400, response.status_code), request_id=request_id)
        except errors.KernelgateError as refusal:
            return refusal
    if isinstance(error, TimeoutError):
        return errors.RequestTimeout(f"{url} did not answer in time", request_id=request_id)
    if isinstance(error, OSError):
        return errors.ServerUnreachable(f"nothing answers at {url} ({error})", request_id=request_id)
    if isinstance(error, exceptions.InvalidURI):
        return errors.InvalidUse(f"{url} is not an address")
    if isinstance(error, exceptions.InvalidHandshake):
        return errors.ConnectionLost(f"the connection to {url} was not upgraded ({error})", request_id=request_id)
    return errors.ConnectionLost(f"the connection to {url} broke ({error})", request_id=request_id)
