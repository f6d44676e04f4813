"""Readers that take nothing: the server holds back, or lets them go with a reason. It never grows by what they do not read."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support.channel import Channel

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.slow]

MiB = 1024 * 1024
#: 200 MB in writes that are large, so that the kernel is not what takes the time, and not so large that its queue is.
FLOOD = "for _ in range(2000): print('x' * 99_999)"


def resident(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def open_stream(server, session, body, *, query=""):
    """A connection that asks for a stream and reads nothing of it."""
    sock = socket.create_connection(server.url.removeprefix("http://").split(":"), timeout=60)
    content = json.dumps(body).encode()
    head = f"POST /v1/sessions/{session}/executions{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\nAccept: application/x-ndjson\r\nContent-Length: {len(content)}\r\n\r\n"
    sock.sendall(head.encode() + content)
    return sock


def read_to_the_end(sock):
    size, tail = 0, b""
    try:
        while data := sock.recv(1 << 20):
            size += len(data)
            tail = (tail + data)[-10_000:]
    except ConnectionResetError:
        pass
    return size, tail


def state(api, session):
    """Of the newest execution, without its 200 MB."""
    return api.call("GET", f"/v1/sessions/{session}/executions?limit=1")["executions"][0]


def streams(api):
    (line,) = [line for line in api.http.get("/metrics").text.splitlines() if line.startswith("kernelgate_streams ")]
    return float(line.split()[1])


def test_a_reader_that_takes_nothing_does_not_grow_the_server(server, api, own):
    api.run(own, "1")
    before = resident(server.pid)
    with open_stream(server, own, {"code": FLOOD, "id": "flood", "max_output_bytes": 400_000_000}) as sock:
        other = api.create()
        peak = 0

        def ended():
            nonlocal peak
            peak = max(peak, resident(server.pid))
            # Others are served meanwhile.
            assert api.run(other, "1")["text"] == "1"
            return state(api, own)["state"] == "done"

        # The execution does not wait for its reader: what it puts out lies in the journal.
        api.until(ended, within_s=100, every_s=0.1)
        # And the reader, should it come to it, gets every byte.
        sock.settimeout(60)
        size, tail = 0, b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = sock.recv(1 << 20)
            assert data
            size, tail = size + len(data), (tail + data)[-5000:]
            peak = max(peak, resident(server.pid))
        assert size > 200_000_000
        assert b'"status":"ok"' in tail
    assert peak - before < 32 * MiB
    api.delete(other)


def test_one_that_stays_away_for_too_long_is_let_go(tight, tight_api, tight_session):
    with open_stream(tight, tight_session, {"code": FLOOD, "id": "flood", "max_output_bytes": 400_000_000}) as sock:
        # write_timeout_s is 1 there.
        tight_api.until(lambda: streams(tight_api) == 1)
        tight_api.until(lambda: streams(tight_api) == 0, within_s=60)
        size, tail = read_to_the_end(sock)
        assert size < 100_000_000
        assert not tail.endswith(b"0\r\n\r\n")  # it can tell that this is not all
    # What runs goes on, and can be read from where it was.
    ended = tight_api.until(lambda: (found := state(tight_api, tight_session))["state"] == "done" and found, within_s=60)
    assert (ended["status"], ended["death"]) == ("ok", None)
    assert "a reader that takes nothing was let go" in tight.log.read_text()


def test_a_socket_that_reads_nothing_is_closed_with_a_reason(tight, tight_api, tight_session):
    with Channel(tight, tight_session) as channel:
        channel.send("1", "execute", code=FLOOD, execution_id="flood", max_output_bytes=400_000_000)
        tight_api.until(lambda: streams(tight_api) == 1)
        tight_api.until(lambda: streams(tight_api) == 0, within_s=60)
        assert channel.close_code() in (1013, None)  # None where it came back only when the connection was gone
    tight_api.call("POST", f"/v1/sessions/{tight_session}/interrupt")
    assert tight_api.run(tight_session, "1")["text"] == "1"


def test_one_slow_reader_does_not_slow_down_another(server, api, own):
    with open_stream(server, own, {"code": "for _ in range(30): print('x' * 999_999)", "id": "flood", "max_output_bytes": 400_000_000}):
        api.until(lambda: api.call("GET", f"/v1/sessions/{own}/executions?limit=1")["executions"])
        assert sum(len(event.get("text", "")) for event in api.events(own, "flood")) == 30_000_000
