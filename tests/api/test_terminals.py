"""Terminals: a shell on a pseudo-terminal, over WebSockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.faults.test_killed import processes_of

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


class Screen:
    """One attached client: what it was shown so far."""

    def __init__(self, server, session, terminal):
        self._loop = asyncio.new_event_loop()
        url = f"{server.url.replace('http', 'ws', 1)}/v1/sessions/{session}/terminals/{terminal}"
        request = HTTPRequest(url, headers={"Authorization": f"Bearer {server.token}"}, request_timeout=30)
        self._socket = self._loop.run_until_complete(self._connect(request))
        self.shown = b""
        self.said = []

    @staticmethod
    async def _connect(request):
        return await websocket_connect(request)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        async def close():
            self._socket.close()
            while await self._socket.read_message() is not None:
                pass

        self._loop.run_until_complete(close())
        self._loop.close()

    def type(self, data):
        async def write():
            await self._socket.write_message(data, binary=isinstance(data, bytes))

        self._loop.run_until_complete(write())

    def until(self, wanted):
        """Reads until it shows this, or until what it says is true of it."""

        async def read():
            async with asyncio.timeout(30):
                while not (wanted(self) if callable(wanted) else wanted in self.shown):
                    message = await self._socket.read_message()
                    assert message is not None, self.shown
                    if isinstance(message, bytes):
                        self.shown += message
                    else:
                        self.said.append(json.loads(message))

        self._loop.run_until_complete(read())


def make(api, session, **body):
    return api.call("POST", f"/v1/sessions/{session}/terminals", 201, json={"env": {"PS1": "$ "}, "shell": "/bin/sh", **body})


def test_a_terminal_attached_to_resized_and_ended(api, server, own):
    made = make(api, own, rows=30, cols=100)
    path = f"/v1/sessions/{own}/terminals/{made['id']}"
    assert (made["rows"], made["cols"], made["state"], made["attached"]) == (30, 100, "running", 0)
    with Screen(server, own, made["id"]) as one:
        one.until(b"$ ")
        one.type(b"stty size; tty; echo $TERM\n")
        one.until(b"30 100\r\n/dev/pts/")
        one.until(b"xterm-256color")
        one.type(json.dumps({"resize": [40, 120]}))
        one.type(b"stty size\n")
        one.until(b"40 120")
        with Screen(server, own, made["id"]) as other:
            other.until(b"40 120")  # replayed
            other.type(b"echo from-$((1 + 1))\n")
            other.until(b"from-2")
            one.until(b"from-2")
            assert api.call("GET", path)["attached"] == 2
        one.type(b"cat\nsaid\n")
        one.until(lambda screen: screen.shown.count(b"said\r\n") == 2)  # by the terminal, and by cat
        one.type(json.dumps({"signal": "SIGINT"}))
        one.type(b"echo back-$((2 + 1))\n")
        one.until(b"back-3")
        one.type("no json")
        one.until(lambda screen: screen.said)
        assert one.said.pop()["error"]["code"] == "invalid_request"
        api.call("POST", f"{path}/input", 204, json={"value": "echo typed-$((3 + 1))\n"})
        one.until(b"typed-4")
        assert (api.call("POST", f"{path}/resize", json={"rows": 10, "cols": 20})["rows"]) == 10
        one.type(b"exit 7\n")
        one.until(lambda screen: screen.said)
        assert one.said == [{"exit_code": 7}]
    ended = api.call("GET", path)
    assert (ended["state"], ended["exit_code"]) == ("done", 7)


def test_a_session_that_ends_says_so_to_its_terminals(api, server):
    session = api.create()
    made = make(api, session)
    with Screen(server, session, made["id"]) as screen:
        screen.until(b"$ ")
        api.delete(session)
        screen.until(lambda screen: screen.said)
    # Whoever gets there first says it: the host with the shell's end, or the gateway with the session's.
    assert "exit_code" in screen.said[0] or screen.said[0]["error"]["code"] == "session_closed"


def test_a_terminal_is_killed_with_what_runs_in_it(api, server, own):
    made = make(api, own)
    path = f"/v1/sessions/{own}/terminals/{made['id']}"
    with Screen(server, own, made["id"]) as screen:
        screen.type(b"sleep 777\n")
        api.until(lambda: api.call("GET", f"/v1/sessions/{own}/processes?filter=sleep.777")["processes"])
        api.call("DELETE", path, 204)
        screen.until(lambda screen: screen.said)
    api.until(lambda: not api.call("GET", f"/v1/sessions/{own}/processes?filter=sleep.777")["processes"])
    assert [one["state"] for one in api.call("GET", f"/v1/sessions/{own}/terminals")["terminals"]] == ["done"]
    refused = api.call("GET", f"/v1/sessions/{own}/terminals/none", 404)
    assert refused["error"]["code"] == "terminal_not_found"
    api.call("POST", f"/v1/sessions/{own}/terminals", 400, json={"rows": 0})


def test_a_screenful_is_replayed_and_a_dead_host_ends_no_terminal(api, server, own):
    made = make(api, own)
    with Screen(server, own, made["id"]) as screen:
        screen.type(b"seq 1 40000; echo over-$((1 + 1))\n")
        screen.until(b"over-2")
    with Screen(server, own, made["id"]) as screen:
        screen.until(b"over-2")
        assert 60_000 < len(screen.shown) < 70_000
    with Screen(server, own, made["id"]) as screen:
        screen.type(b"kept=here\n")
        screen.until(b"kept=here")
    os.kill(processes_of(server, own)["host"], signal.SIGKILL)
    api.until(lambda: api.http.get(f"/v1/sessions/{own}/terminals").status_code == 200)
    with Screen(server, own, made["id"]) as screen:
        screen.type(b"echo still-$kept\n")
        screen.until(b"still-here")
