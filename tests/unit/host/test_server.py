"""The host's listening end."""

from __future__ import annotations

import socket

from kernelgate.host.loop import Loop
from kernelgate.host.server import Server
from kernelgate.link import frame
from kernelgate.link.journal import Journal


def test_who_has_just_connected_is_about_to_ask(tmp_path):
    """A host that slept at that moment hung up on him."""
    loop = Loop()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        server = Server(loop, listener, Journal(tmp_path / "journal"), lambda request: request.reply({}))
        assert server.is_quiet
        client.connect(str(tmp_path / "s"))
        server._accept()
        assert not server.is_quiet
        client.sendall(frame.encode({"op": "hello"}))
        (connection,) = server._connections
        connection._read()
        assert server.is_quiet
        connection.close()
