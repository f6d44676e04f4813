"""The host's sockets against libzmq's: connecting late, again, under a name; subscriptions; much at once; and the end."""

from __future__ import annotations

import socket
import time

import pytest
import zmq

from kernelgate.host.loop import Loop
from kernelgate.host.peer import Peer

LIMIT_S = 10.0


class Stage:
    """A loop with peers on one side, libzmq on the other."""

    def __init__(self, tmp_path):
        self.loop, self.zmq, self.heard, self.peers = Loop(), zmq.Context(), [], []
        self._directory = tmp_path

    def address(self, transport):
        if transport == "tcp":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            return f"tcp://127.0.0.1:{port}", ("127.0.0.1", port)
        if transport == "abstract":
            name = f"kernelgate-test-{self._directory.name}-{id(self)}"
            return f"ipc://@{name}", f"\0{name}"
        path = str(self._directory / "s")
        return f"ipc://{path}", path

    def bound(self, kind, url, **options):
        sock = self.zmq.socket(kind)
        sock.linger = 0
        sock.rcvtimeo = int(LIMIT_S * 1000)
        for name, value in options.items():
            sock.set(getattr(zmq, name), value)
        sock.bind(url)
        return sock

    def peer(self, address, kind=b"DEALER", identity=b"kg"):
        made = Peer(self.loop, address, kind, identity, self.heard.append, retry_s=0.001, retry_most_s=0.01)
        self.peers.append(made)
        return made

    def met(self):
        """A router and a peer that have spoken."""
        url, address = self.address("abstract")
        router = self.bound(zmq.ROUTER, url)
        peer = self.peer(address)
        peer.send([b"hello"])
        self.run_until(lambda: router.poll(0))
        assert router.recv_multipart() == [b"kg", b"hello"]
        return router, peer

    def run_until(self, holds):
        until = time.monotonic() + LIMIT_S

        def look():
            if holds():
                self.loop.stop()
            elif time.monotonic() > until:
                self.loop.stop()
                self.late = True
            else:
                self.loop.call_later(0.001, look)

        self.late, self.loop._stopped = False, False
        look()
        self.loop.run()
        assert not self.late

    def close(self):
        for peer in self.peers:
            peer.close()
        self.zmq.destroy(linger=0)
        assert not self.loop._registered


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("transport", ["ipc", "abstract", "tcp"])
def test_who_connects_before_anybody_listens_is_heard_and_answered(stage, transport):
    url, address = stage.address(transport)
    peer = stage.peer(address)
    peer.send([b"one", b"", b"x" * 1000])
    assert not peer.connected
    router = stage.bound(zmq.ROUTER, url)
    stage.run_until(lambda: router.poll(0))
    assert router.recv_multipart() == [b"kg", b"one", b"", b"x" * 1000]
    router.send_multipart([b"kg", b"two", b"y" * 300_000])
    stage.run_until(lambda: stage.heard)
    assert stage.heard == [[b"two", b"y" * 300_000]]


def test_a_new_peer_of_the_same_name_gets_what_was_asked_by_the_old_one(stage):
    url, address = stage.address("abstract")
    router = stage.bound(zmq.ROUTER, url, ROUTER_HANDOVER=1)
    old = stage.peer(address)
    old.send([b"question"])
    stage.run_until(lambda: router.poll(0))
    name, _ = router.recv_multipart()
    stage.peer(address).send([b"here"])
    stage.run_until(lambda: router.poll(0))
    assert router.recv_multipart() == [name, b"here"]
    router.send_multipart([name, b"answer"])
    stage.run_until(lambda: stage.heard)
    assert stage.heard == [[b"answer"]]


def test_a_subscription_is_one_again_after_the_publisher_came_back(stage):
    url, address = stage.address("abstract")
    stage.peer(address, b"SUB", b"")
    for word in (b"first", b"second"):
        publisher = stage.bound(zmq.XPUB, url)
        stage.run_until(lambda publisher=publisher: publisher.poll(0))
        assert publisher.recv() == b"\x01"
        publisher.send_multipart([b"topic", word])
        stage.run_until(lambda word=word: stage.heard and stage.heard[-1] == [b"topic", word])
        publisher.close()
        stage.run_until(lambda: not stage.peers[0].connected)
    assert len(stage.heard) == 2


def test_subscribing_anew_is_seen(stage):
    url, address = stage.address("abstract")
    publisher = stage.bound(zmq.XPUB, url, XPUB_VERBOSE=1)
    peer = stage.peer(address, b"SUB", b"")
    stage.run_until(lambda: publisher.poll(0))
    assert publisher.recv() == b"\x01"
    peer.subscribe_anew()
    stage.run_until(lambda: publisher.poll(0))
    assert [publisher.recv(), publisher.recv()] == [b"\x00", b"\x01"]


def test_much_at_once_both_ways_is_whole_and_in_order(stage):
    url, address = stage.address("abstract")
    router = stage.bound(zmq.ROUTER, url, SNDHWM=0, RCVHWM=0)
    peer = stage.peer(address)
    sizes = [1, 255, 256, 65_536, 1_000_003, 20_000_000, 3]
    for size in sizes:
        peer.send([b"%d" % size, b"z" * size])  # far more than a socket takes at once
    got = []

    def all_came():
        while router.poll(0):
            got.append(router.recv_multipart())
        return len(got) == len(sizes)

    stage.run_until(all_came)
    assert [len(message[2]) for message in got] == sizes
    for size in sizes:
        router.send_multipart([b"kg", b"q" * size])
    stage.run_until(lambda: len(stage.heard) == len(sizes))
    assert [len(message[0]) for message in stage.heard] == sizes


def test_while_it_does_not_listen_everything_waits(stage):
    router, peer = stage.met()
    peer.listen(False)
    for number in range(5):
        router.send_multipart([b"kg", b"%d" % number])
    turns = []
    stage.loop.call_later(0.02, lambda: turns.append(1))
    stage.run_until(lambda: turns)
    assert stage.heard == []
    peer.listen(True)
    stage.run_until(lambda: len(stage.heard) == 5)
    assert stage.heard == [[b"%d" % number] for number in range(5)]


def test_what_was_sent_before_the_end_is_read_and_the_end_is_seen(stage):
    router, peer = stage.met()
    peer.listen(False)
    router.send_multipart([b"kg", b"last words"])
    router.close(linger=1000)
    until = time.monotonic() + LIMIT_S
    while peer.connected and time.monotonic() < until:
        peer.read_all()
    assert stage.heard == [[b"last words"]]
    assert not peer.connected


def test_a_message_that_cannot_be_dealt_with_takes_no_other_with_it(stage, caplog):
    router, peer = stage.met()

    def dealt_with(message):
        if message == [b"2"]:
            raise ValueError("a bug")
        stage.heard.append(message)

    peer._on_message = dealt_with
    for number in range(5):
        router.send_multipart([b"kg", b"%d" % number])
    stage.run_until(lambda: len(stage.heard) == 4)
    assert stage.heard == [[b"0"], [b"1"], [b"3"], [b"4"]]
    assert "a callback of the session host failed" in caplog.text


def test_who_speaks_something_else_is_left_and_tried_again(stage):
    _, address = stage.address("tcp")
    with socket.socket() as listener:
        listener.bind(address)
        listener.listen()
        peer = stage.peer(address)
        for _ in range(2):
            client, _ = listener.accept()
            client.sendall(b"SSH-2.0-whatever\r\n".ljust(64))
            stage.run_until(lambda: not peer.connected)
            stage.run_until(lambda: peer.connected)
            client.close()
