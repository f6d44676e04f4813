import inspect

import httpx
import pytest

from kernelgate.sdk import _http, errors
from kernelgate.sdk.settings import Pool, Timeout

RAISED = [cls for cls in vars(httpx).values() if inspect.isclass(cls) and issubclass(cls, _http.HTTPX_ERRORS)]


@pytest.mark.parametrize("cls", RAISED, ids=lambda cls: cls.__name__)
def test_every_exception_of_httpx_becomes_one_of_ours(cls):
    if cls is httpx.HTTPStatusError:
        error = cls("why", request=httpx.Request("GET", "http://x"), response=httpx.Response(500))
    else:
        error = cls("why")
    ours = _http.translate(error, "http://host:1", "r-1")
    assert isinstance(ours, errors.KernelgateError)
    assert ours.request_id == "r-1"
    assert "why" in ours.message


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (httpx.ConnectError, errors.ServerUnreachable),
        (httpx.ConnectTimeout, errors.ServerUnreachable),
        (httpx.ReadTimeout, errors.RequestTimeout),
        (httpx.PoolTimeout, errors.RequestTimeout),
        (httpx.RemoteProtocolError, errors.ConnectionLost),
        (httpx.ReadError, errors.ConnectionLost),
        (httpx.UnsupportedProtocol, errors.InvalidUse),
    ],
)
def test_whose_fault_it_is(theirs, ours):
    assert type(_http.translate(theirs("why"), "http://host:1", None)) is ours


def test_what_is_not_httpxs_passes_through():
    with pytest.raises(ValueError, match="mine"):
        _http.translate(ValueError("mine"), "http://host:1", None)


def test_no_proxy_stands_between_a_client_and_its_own_machine():
    assert _http.client_options("http://127.0.0.1:8000", Pool())["trust_env"] is False
    assert _http.client_options("http://elsewhere:8000", Pool())["trust_env"] is True


def test_certificates_are_checked_where_there_are_any():
    assert "verify" not in _http.client_options("https://elsewhere", Pool())
    # The context of plain HTTP trusts nobody, should it ever meet TLS.
    assert _http.client_options("http://elsewhere", Pool())["verify"].get_ca_certs() == []


def test_each_part_of_the_timeout_reaches_httpx():
    made = _http.timeout_option(Timeout(connect_s=1, read_s=2, write_s=3, pool_s=4), 9)
    assert (made.connect, made.read, made.write, made.pool) == (1, 9, 3, 4)
