"""The one place that knows httpx: how a client of ours is made, and whose fault its errors are.

Imported with the first request, so that `import kernelgate.sdk` does not pay for httpx.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx

from kernelgate import __version__
from kernelgate.sdk import errors

if TYPE_CHECKING:
    from kernelgate.sdk.settings import Pool, Timeout

_LOOPBACK = ("http://127.0.0.1", "http://localhost", "http://[::1]")


def client_options(url: str, pool: Pool) -> dict[str, Any]:
    """Arguments for `httpx.Client` and `httpx.AsyncClient`."""
    options: dict[str, Any] = {
        "headers": {"user-agent": f"kernelgate/{__version__}"},
        "limits": httpx.Limits(
            max_connections=pool.max_connections,
            max_keepalive_connections=pool.max_idle_connections,
            keepalive_expiry=pool.idle_s,
        ),
        # A proxy from the environment is for reaching others, not this machine.
        "trust_env": not url.startswith(_LOOPBACK),
    }
    if url.startswith("http://"):
        # Loading certificates takes longer than a cell, and plain HTTP needs none. This context
        # knows no authority, so it would refuse any TLS peer, not trust it.
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return options


def timeout_option(timeout: Timeout, read_s: float | None) -> httpx.Timeout:
    """httpx's form of our timeout, with its own time to read."""
    return httpx.Timeout(connect=timeout.connect_s, read=read_s, write=timeout.write_s, pool=timeout.pool_s)


# Most specific first. An exception of httpx that no row takes is caught by the last one.
_MEANINGS: tuple[tuple[type[Exception], type[errors.KernelgateError], str], ...] = (
    (httpx.ConnectTimeout, errors.ServerUnreachable, "no connection to {url} in time"),
    (httpx.ConnectError, errors.ServerUnreachable, "nothing answers at {url}"),
    (httpx.ProxyError, errors.ServerUnreachable, "the proxy did not connect to {url}"),
    (httpx.PoolTimeout, errors.RequestTimeout, "all connections of this client are in use"),
    (httpx.TimeoutException, errors.RequestTimeout, "{url} did not answer in time"),
    (httpx.UnsupportedProtocol, errors.InvalidUse, "{url} is not an address"),
    (httpx.InvalidURL, errors.InvalidUse, "{url} is not an address"),
    (httpx.LocalProtocolError, errors.InvalidUse, "the request cannot be sent as HTTP"),
    (httpx.DecodingError, errors.UnexpectedAnswer, "the answer of {url} cannot be decoded"),
    (httpx.TooManyRedirects, errors.UnexpectedAnswer, "{url} redirects without end"),
    (httpx.TransportError, errors.ConnectionLost, "the connection to {url} broke"),
    (httpx.HTTPError, errors.ConnectionLost, "the connection to {url} broke"),
)

HTTPX_ERRORS = (httpx.HTTPError, httpx.InvalidURL)


def translate(error: Exception, url: str, request_id: str | None) -> errors.KernelgateError:
    """Our exception for one of httpx's."""
    for theirs, ours, message in _MEANINGS:
        if isinstance(error, theirs):
            said = message.format(url=url)
            reason = str(error)
            return ours(f"{said} ({reason})" if reason else said, request_id=request_id)
    raise error
