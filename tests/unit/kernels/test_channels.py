"""The Python kernel's sockets against libzmq's: who connects, late or again or under another's name; slow readers; subscriptions; forks; and the end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time

import pytest
import zmq

from kernelgate import zmtp
from kernelgate.kernels import channels
from kernelgate.kernels.channels import Channel, Publisher
from kernelgate.kernels.message import WireSession
from kernelgate.kernels.wire import Wire, listening

LIMIT_S = 10.0


class Stage:
    """The kernel's end, with its thread, and clients of libzmq's."""

    def __init__(self, ip, transport="ipc"):
        self.wire, self.zmq = Wire(logging.getLogger("test")), zmq.Context()
        self.ip, self.transport = ip, transport
        self.port = 0
        self.listeners, self.clients = [], []
        self.wire.thread.start()

    def place(self):
        sock, self.port = listening(self.transport, self.ip, 0)
        return sock

    def channel(self):
        channel = Channel(self.wire, self.place())
        self.listeners.append(channel)
        self.come = threading.Condition()
        self.requests = []

        def take():
            with self.come:
                self.requests += channel.take()
                self.come.notify_all()

        channel.on_requests = take
        return channel

    def publisher(self):
        publisher = Publisher(self.wire, self.place(), WireSession(key=b"key"))
        self.listeners.append(publisher)
        return publisher

    def client(self, kind, **options):
        sock = self.zmq.socket(kind)
        self.clients.append(sock)
        sock.linger = 0
        sock.rcvtimeo = int(LIMIT_S * 1000)
        for name, value in options.items():
            sock.set(getattr(zmq, name), value)
        sock.connect(f"{self.transport}://{self.ip}{'-' if self.transport == 'ipc' else ':'}{self.port}")
        return sock

    def raw(self):
        """A connection of our own, whose socket takes little."""
        sock = socket.socket(socket.AF_UNIX)
        self.clients.append(sock)
        sock.settimeout(LIMIT_S)
        sock.connect("\0" + self.ip[1:] + f"-{self.port}")
        return sock

    def subscriber(self, topic=b""):
        sock = self.client(zmq.SUB)
        sock.subscribe(topic)
        welcome = sock.recv_multipart()
        assert b"iopub_welcome" in welcome[-4]
        return sock

    def received(self, count):
        with self.come:
            assert self.come.wait_for(lambda: len(self.requests) >= count, LIMIT_S)
            found, self.requests = self.requests, []
        return found

    def close(self):
        for client in self.clients:
            client.close()
        self.wire.stop()
        for listener in self.listeners:
            listener.close()
        self.wire.close()
        self.zmq.term()


@pytest.fixture
def stage(request):
    transport = getattr(request, "param", "abstract")
    with contextlib.ExitStack() as stack:
        if transport == "file":
            made = Stage(str(request.getfixturevalue("tmp_path") / "s"))
        else:
            made = Stage("127.0.0.1", "tcp") if transport == "tcp" else Stage(f"@kernelgate-test-{os.urandom(8).hex()}")
        stack.callback(made.close)
        yield made


@pytest.mark.parametrize("stage", ["tcp", "abstract", "file"], indirect=True)
def test_requests_and_answers(stage):
    channel = stage.channel()
    named, nameless = stage.client(zmq.DEALER, IDENTITY=b"me"), stage.client(zmq.DEALER)
    named.send_multipart([b"1", b"x" * 300_000])
    assert stage.received(1) == [[b"me", b"1", b"x" * 300_000]]
    nameless.send(b"2")
    ((name, body),) = stage.received(1)
    assert (name[:1], body) == (b"\0", b"2")
    channel.send_multipart([name, b"to the nameless"])
    channel.send_multipart([b"me", b"y" * 5_000_000, b"z"])
    channel.send_multipart([b"nobody", b"lost"])
    assert nameless.recv() == b"to the nameless"
    assert named.recv_multipart() == [b"y" * 5_000_000, b"z"]


def test_a_thousand_at_once_in_their_order(stage):
    stage.channel()
    client = stage.client(zmq.DEALER, IDENTITY=b"me")
    for number in range(1000):
        client.send(str(number).encode())
    assert [int(body) for _, body in stage.received(1000)] == list(range(1000))


def test_who_connects_again_is_the_same_and_what_he_had_said_counts(stage):
    channel = stage.channel()
    for turn in range(20):
        before = stage.raw()
        before.sendall(zmtp.hello(b"DEALER", b"me") + zmtp.encode([b"last words %d" % turn]))
        after = stage.client(zmq.DEALER, IDENTITY=b"me")
        after.send(b"again")
        assert sorted(stage.received(2)) == [[b"me", b"again"], [b"me", b"last words %d" % turn]]
        before.close()
        channel.send_multipart([b"me", b"answer"])
        assert after.recv() == b"answer"
        after.close()


def test_what_is_no_peer_is_turned_away_and_the_others_are_served(stage):
    stage.channel()
    odd = stage.raw()
    odd.sendall(b"GET / HTTP/1.1\r\n".ljust(64))
    while odd.recv(100):  # our greeting, then the end
        pass
    client = stage.client(zmq.DEALER)
    client.send(b"still here")
    assert stage.received(1)[0][1] == b"still here"


def test_subscriptions(stage):
    publisher = stage.publisher()
    publisher.send_multipart([b"a.1", b"heard by nobody"])
    everything, some = stage.subscriber(), stage.subscriber(b"a.")
    publisher.send_multipart([b"a.1", b"to both"])
    publisher.send_multipart([b"b.1", b"to one"])
    publisher.send_multipart([b"a.2", b"to both"])
    assert [everything.recv_multipart()[0] for _ in range(3)] == [b"a.1", b"b.1", b"a.2"]
    assert [some.recv_multipart()[0] for _ in range(2)] == [b"a.1", b"a.2"]
    some.unsubscribe(b"a.")
    some.subscribe(b"b")
    some.recv_multipart()
    publisher.send_multipart([b"a.3", b"to one"])
    publisher.send_multipart([b"b.3", b"to both"])
    assert some.recv_multipart()[0] == b"b.3"


def test_a_corked_message_goes_with_the_next(stage):
    publisher = stage.publisher()
    heard = stage.subscriber()
    with publisher.lock:
        publisher.cork()
        publisher.send_multipart([b"a", b"busy"])
        assert not heard.poll(20)
        publisher.send_multipart([b"b", b"input"])
    assert [heard.recv_multipart()[1] for _ in range(2)] == [b"busy", b"input"]
    publisher.send_multipart([b"c", b"idle"])
    assert heard.recv_multipart() == [b"c", b"idle"]


def greeted(stage, publisher):
    """A raw subscriber whose welcome has come."""
    sock = stage.raw()
    sock.sendall(zmtp.hello(b"SUB") + zmtp.encode([zmtp.SUBSCRIBE]))
    decoder = zmtp.Decoder()
    while not decoder.feed(sock.recv(65536)):
        pass
    return sock, decoder


def test_a_slow_reader_gets_everything_and_whoever_sends_waits_for_him(stage, monkeypatch):
    monkeypatch.setattr(channels, "BACKLOG_BYTES", 1_000_000)
    publisher = stage.publisher()
    slow, decoder = greeted(stage, publisher)
    quick = stage.subscriber()
    sent = []

    def send():
        for number in range(200):
            publisher.send_multipart([b"t", number.to_bytes(2, "big") * 10_000])
            publisher.wait_for_room(1_000_000)
            sent.append(number)

    sender = threading.Thread(target=send)
    sender.start()
    assert [quick.recv_multipart()[1][:2] for _ in range(40)][-1] == (39).to_bytes(2, "big")
    assert len(sent) < 150  # of 4 MB
    found = []
    while len(found) < 200:
        found += decoder.feed(slow.recv(50_000))
    sender.join(LIMIT_S)
    assert found == [[b"t", number.to_bytes(2, "big") * 10_000] for number in range(200)]


def test_a_reader_that_takes_nothing_costs_nobody_else_anything(stage, monkeypatch):
    monkeypatch.setattr(channels, "READER_WAIT_S", 0.05)
    publisher = stage.publisher()
    dead, decoder = greeted(stage, publisher)
    quick = stage.subscriber()
    received, messages = [], 30
    reader = threading.Thread(target=lambda: received.extend(quick.recv_multipart()[1][:2] for _ in range(messages)))
    reader.start()
    for number in range(messages):
        publisher.send_multipart([b"t", number.to_bytes(2, "big") * 500_000])
        if number == 10:
            publisher.wait_for_room(0)  # as `flush` does
    reader.join(LIMIT_S)
    assert received == [number.to_bytes(2, "big") for number in range(messages)]
    assert sum(one.waiting_bytes for one in publisher.connections.values()) <= 1_000_100
    # When he takes something again he goes on with whole messages.
    found = decoder.feed(dead.recv(65536))
    dead.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while True:
            found += decoder.feed(dead.recv(1 << 20))
    assert all(body == body[:2] * 500_000 for _, body in found)
    publisher.send_multipart([b"t", b"news"])
    assert decoder.feed(dead.recv(65536)) == [[b"t", b"news"]]


def test_who_is_alone_is_waited_for(stage, monkeypatch):
    """A host whose disk is full reads nothing until there is room; a cell that prints waits."""
    monkeypatch.setattr(channels, "READER_WAIT_S", 0.02)
    publisher = stage.publisher()
    busy, decoder = greeted(stage, publisher)
    done = threading.Event()

    def send():
        for number in range(3):
            publisher.send_multipart([b"t", number.to_bytes(2, "big") * 500_000])
            publisher.wait_for_room(0)
        done.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert not done.wait(0.2)
    found = []
    while len(found) < 3:
        found += decoder.feed(busy.recv(65536))
    sender.join(LIMIT_S)
    assert found == [[b"t", number.to_bytes(2, "big") * 500_000] for number in range(3)]


def test_one_that_is_gone_holds_nothing_up(stage):
    publisher = stage.publisher()
    gone, _ = greeted(stage, publisher)
    publisher.send_multipart([b"t", b"x" * 10_000_000])
    assert publisher._kept() > 5_000_000
    gone.close()
    publisher.wait_for_room(0)
    until = time.monotonic() + LIMIT_S
    while publisher.connections:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert publisher._kept() == 0


def test_what_is_held_comes_after_the_welcome(stage):
    publisher = stage.publisher()
    first = stage.subscriber()
    knocks = []
    publisher.knock = lambda: knocks.append(1)
    publisher.hold([b"held"])
    assert first.recv_multipart() == [b"held"]
    buffer = bytearray(b"then")
    publisher.send_multipart([b"t", memoryview(buffer)])
    buffer[:] = b"now "
    publisher.send_multipart([b"t", b"second"])
    assert knocks == [1]
    second = stage.subscriber()
    assert [second.recv_multipart()[1] for _ in range(2)] == [b"then", b"second"]
    assert [first.recv_multipart()[1] for _ in range(2)] == [b"then", b"second"]


def test_who_waits_for_what_is_held_goes_on_at_once(stage):
    publisher = stage.publisher()
    publisher.hold([b"held"])
    publisher.send_multipart([b"t", b"kept"])
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (publisher.wait_for_room(0), done.set()))
    waiting.start()
    assert not done.wait(0.1)
    stage.subscriber()
    assert done.wait(channels.READER_WAIT_S / 2)
    waiting.join()


def test_a_fork_displays_by_its_parent(stage):
    publisher = stage.publisher()
    heard = stage.subscriber()
    publisher.before_fork()
    publisher.after_fork()
    for number in range(20):
        publisher.forks.display([b"t", str(number).encode(), b"x" * 500_000])
        assert heard.recv_multipart() == [b"t", str(number).encode(), b"x" * 500_000]
    stranger = socket.socket(socket.AF_UNIX)
    stranger.connect(publisher.forks._address)
    stranger.sendall(zmtp.hello(b"PUSH") + zmtp.encode([b"guess", b"forged"]))
    publisher.forks.display([b"t", b"true"])
    assert heard.recv_multipart() == [b"t", b"true"]
    stranger.close()
    publisher.forks.close()


def test_what_was_sent_before_the_end_arrives_and_then_the_end_is_seen(stage):
    publisher = stage.publisher()
    slow, decoder = greeted(stage, publisher)
    publisher.send_multipart([b"t", b"x" * 1_000_000])
    end = threading.Thread(target=publisher.close)
    end.start()
    found = []
    while data := slow.recv(65536):
        found += decoder.feed(data)
    end.join(LIMIT_S)
    assert found == [[b"t", b"x" * 1_000_000]]
    stage.listeners.clear()


def test_no_descriptor_left_is_waited_for(stage, monkeypatch):
    stage.channel()
    real, refusals = stage.listeners[0]._socket._accept, []

    class Full:
        fileno = stage.listeners[0]._socket.fileno
        close = stage.listeners[0]._socket.close

        def _accept(self):
            if len(refusals) < 3:
                refusals.append(1)
                raise OSError(24, "Too many open files")
            return real()

    stage.listeners[0]._socket = Full()
    client = stage.client(zmq.DEALER)
    client.send(b"late")
    assert stage.received(1)[0][1] == b"late"
    assert len(refusals) == 3


def test_ports():
    """One that is given is taken from who has left it; one that is not is free."""
    name = f"@kernelgate-test-{os.urandom(8).hex()}"
    with contextlib.ExitStack() as stack:
        for expected in (1, 2):
            sock, port = listening("ipc", name, 0)
            stack.callback(sock.close)
            assert port == expected
        with pytest.raises(OSError, match="in use"):
            listening("ipc", name, 2)
        sock, port = listening("tcp", "*", 0)
        stack.callback(sock.close)
        assert port > 0
