"""The SDK against a real server, and a wire to it that can be cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kernelgate.sdk import Client, Session
from tests.support.server import Server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, server.token) as made:
        yield made


@pytest.fixture
def live(client: Client) -> Iterator[Session]:
    """A session of the test's own."""
    with client.sessions.create() as made:
        yield made


class Wire:
    """A TCP proxy before the server. It can cut what is connected, and refuse what comes.

    Attributes:
        url: to connect to in place of the server's.
        connections: how many came so far.
        cut_after_bytes: each connection is cut once so much of the server's answer has passed; None for never.
    """

    def __init__(self, server_url: str) -> None:
        self.connections = 0
        self.cut_after_bytes: int | None = None
        self._port = int(server_url.rpartition(":")[2])
        self._open: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._refusing = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="wire")

    def __enter__(self) -> Wire:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def cut(self) -> None:
        """Cuts every connection there is."""
        self._loop.call_soon_threadsafe(self._cut)

    def cut_each_after(self, size_bytes: int) -> None:
        """Cuts each connection after so many bytes of the server's answers, those there are at once."""
        self.cut_after_bytes = size_bytes
        self.cut()

    def refuse(self, refusing: bool) -> None:
        """Takes no new connection any more, or takes them again."""
        self._refusing = refusing
        self.cut()

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._copy(reader, back, None), self._copy(there, writer, self.cut_after_bytes))
        except OSError:
            pass
        finally:
            self._open -= {writer, back}
            writer.transport.abort()
            back.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, limit: int | None) -> None:
        passed = 0
        while data := await source.read(4096):
            if limit is not None and passed + len(data) > limit:
                target.write(data[: limit - passed])
                raise ConnectionAbortedError
            passed += len(data)
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with Wire(server.url) as made:
        yield made
