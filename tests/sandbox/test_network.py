"""Sessions with a network: what they reach, and what they do not. "The internet" is a network namespace of the test's own behind the machine."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kernelgate.sessions.node import _first_uid
from tests.support.server import Server

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.python,
    pytest.mark.skipif(
        shutil.which("pasta") is None or shutil.which("ip") is None, reason="pasta or ip is missing (Debian: passt, iproute2)"
    ),
]

PORT = 8077
NEAR, FAR, PRIVATE, LINK_LOCAL = "203.0.113.1", "203.0.113.2", "10.213.77.2", "169.254.213.2"

#: Says hello to who connects, and as a resolver that every name is FAR's.
_INTERNET = f"""
import socket, threading
listener = socket.create_server(("0.0.0.0", {PORT}))
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("0.0.0.0", 53))
print("ready", flush=True)

def resolve():
    while True:
        question, peer = names.recvfrom(2000)
        end = question.index(b"\\0", 12) + 5
        wanted = question[end - 4 : end - 2] == b"\\0\\1"
        header = question[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if wanted else b"\\0\\0") + bytes(4)
        answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton("{FAR}") if wanted else b""
        names.sendto(header + question[12:end] + answer, peer)

threading.Thread(target=resolve, daemon=True).start()
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.close()
"""

#: In a session: what comes of connecting, for each of the ways there are to go past routes.
_CONNECT = """
import json, socket
def connect(host, port, way):
    with socket.socket() as sock:
        sock.settimeout(3)
        try:
            if way == "device":
                sock.setsockopt(socket.SOL_SOCKET, 25, b"net0")
            elif way == "index":
                sock.setsockopt(socket.IPPROTO_IP, 50, socket.htonl(socket.if_nametoindex("net0")).to_bytes(4, "little"))
            elif way == "direct":
                sock.setsockopt(socket.SOL_SOCKET, 5, 1)
            sock.connect((host, port))
            return sock.recv(5).decode() or "connected"
        except OSError as exc:
            return "refused"
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def internet() -> Iterator[None]:
    """A machine of its own, as far as the network goes; it ends with its process."""
    with subprocess.Popen(["unshare", "--net", sys.executable, "-c", _INTERNET], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        within = ("nsenter", "--target", str(process.pid), "--net", "ip")
        try:
            run("ip", "link", "add", "kgtest0", "type", "veth", "peer", "name", "kgtest1", "netns", str(process.pid))
            run("ip", "address", "add", f"{NEAR}/24", "dev", "kgtest0")
            run("ip", "link", "set", "kgtest0", "up")
            run(*within, "link", "set", "kgtest1", "up")
            run(*within, "address", "add", f"{FAR}/24", "dev", "kgtest1")
            for address in (PRIVATE, LINK_LOCAL):
                run(*within, "address", "add", f"{address}/32", "dev", "kgtest1")
                run("ip", "route", "add", address, "via", FAR)
            yield
        finally:
            subprocess.run(["ip", "link", "delete", "kgtest0"], check=False)
            process.kill()


@pytest.fixture(scope="module")
def open_server(internet, tmp_path_factory) -> Iterator[Server]:
    settings = ("sessions.pool_size=0", "server.host=0.0.0.0", "sandbox.network=true", f"sandbox.network_resolver={FAR}")
    made = Server(tmp_path_factory.mktemp("network") / "data", *settings)
    with made:
        yield made
    assert helpers(made) == []
    assert made.leftovers() == []


@pytest.fixture(scope="module")
def open_api(open_server):
    with open_server.api() as api:
        yield api


@pytest.fixture(scope="module")
def online(open_api) -> Iterator[str]:
    made = open_api.call("POST", "/v1/sessions", 201, json={"network": "allow"})
    assert made["network"] == "allow"
    yield made["id"]
    open_api.delete(made["id"])


def look(api, session: str, code: str):
    result = api.run(session, f"import json\n{code}")
    assert result["success"], result["error"]
    return json.loads(result["logs"]["stdout"][0])


def helpers(server: Server) -> list[int]:
    """Processes of the user that gives this server's sessions a network."""
    uid, found = _first_uid(str(server.data_dir)), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid or f"\nUid:\t{uid}\t" in (entry / "status").read_text():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def test_with_a_network_the_world_is_there(open_api, online):
    assert open_api.call("GET", f"/v1/sessions/{online}", 200)["network"] == "allow"
    code = f"{_CONNECT}\nprint(json.dumps([connect('internet.example', {PORT}, ''), *(connect({FAR!r}, {PORT}, way) for way in ('', 'device', 'index'))]))"
    assert look(open_api, online, code) == ["hello"] * 4


def test_without_one_it_is_not(open_api):
    other = open_api.create()
    assert open_api.call("GET", f"/v1/sessions/{other}", 200)["network"] == "none"
    assert look(open_api, other, f"{_CONNECT}\nprint(json.dumps(connect({FAR!r}, {PORT}, '')))") == "refused"
    open_api.delete(other)


def test_the_machine_metadata_and_private_networks_are_not(open_api, open_server, online):
    port = int(open_server.url.rpartition(":")[2])
    devices = json.loads(subprocess.run(["ip", "-json", "address"], capture_output=True, check=True).stdout)
    addresses = {one["local"] for device in devices for one in device["addr_info"] if one["family"] == "inet"}
    assert NEAR in addresses
    there = [*((address, port) for address in addresses), (PRIVATE, PORT), (LINK_LOCAL, PORT)]
    for target in there:
        socket.create_connection(target, timeout=5).close()  # the machine itself reaches them
    targets = [*there, ("169.254.169.254", 80), ("100.100.100.200", 80), ("168.63.129.16", 80), ("192.0.0.192", 80), ("localhost", port)]
    ways = [(*target, way) for target in targets for way in ("", "device", "index", "direct")]
    code = f"""{_CONNECT}
from concurrent.futures import ThreadPoolExecutor
ways = {ways!r}
with ThreadPoolExecutor(len(ways)) as threads:
    print(json.dumps(dict(zip(map(str, ways), threads.map(lambda way: connect(*way), ways)))))
"""
    found = look(open_api, online, code)
    assert set(found.values()) == {"refused"}, found
    groups = ("239.1.2.3", "224.0.0.251", "255.255.255.255")
    code = f"""
import socket
def send(group, bind):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if bind:
                sock.setsockopt(socket.SOL_SOCKET, 25, b"net0")
            return sock.sendto(b"all", (group, 5353))
        except OSError:
            return "refused"
print(json.dumps([send(group, bind) for group in {groups!r} for bind in (False, True)]))
"""
    assert look(open_api, online, code) == ["refused"] * 6


def test_its_code_has_no_rights_over_it(open_api, open_server, online):
    code = """
import os, signal, socket, subprocess
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
    return False
found = [
    refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0),
    refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
    refused(open, "/proc/sys/net/ipv4/neigh/net0/mcast_solicit", "w"),
    refused(os.open, "/dev/net/tun", os.O_RDWR),
    *(subprocess.run(["ip", *change.split()], capture_output=True).returncode != 0 for change in (
        "route del prohibit 169.254.0.0/16", "route add 169.254.169.254 dev net0", "link set net0 down", "neighbour add 203.0.113.7 lladdr 02:6b:67:00:00:01 dev net0")),
]
print(json.dumps(found))
"""
    assert set(look(open_api, online, code)) == {True}
    pasta = helpers(open_server)
    assert pasta
    seen = look(
        open_api, online, "import os\nprint(json.dumps([open(f'/proc/{p}/comm').read() for p in os.listdir('/proc') if p.isdigit()]))"
    )
    assert not [name for name in seen if "pas" in name]


def test_who_may_not_is_refused(api, open_server, open_api):
    error = api.call("POST", "/v1/sessions", 400, json={"network": "allow"})["error"]
    assert (error["code"], error["details"]) == ("network_not_allowed", {"field": "network"})
    assert "sandbox.network" in error["message"]
    with open_server.api(open_server.new_token("plain")) as plain:
        error = plain.call("POST", "/v1/sessions", 400, json={"network": "allow"})["error"]
        assert error["code"] == "network_not_allowed"
        assert "kernelgate token create" in error["message"]
    with open_server.api(open_server.new_token("online", "--network")) as allowed:
        allowed.delete(allowed.call("POST", "/v1/sessions", 201, json={"network": "allow"})["id"])
    assert "  online  " in (listed := open_server.command("token", "list").stdout)
    assert [line.endswith("  network") for line in listed.splitlines() if "  online  " in line] == [True]
    assert open_api.call("GET", "/health", 200)["sandbox"]["network"] == "allow"


def test_it_lives_and_ends_with_its_session(open_server, open_api):
    """Through the death of gateway and zygote; and not beyond the session's own."""
    before = set(helpers(open_server))
    made = open_api.call("POST", "/v1/sessions", 201, json={"network": "allow"})["id"]
    mine = set(helpers(open_server)) - before
    assert mine
    zygote = open_server.zygote_pid()
    assert zygote is not None
    open_server.kill()
    os.kill(zygote, signal.SIGKILL)
    open_server.start()
    with open_server.api() as again:
        assert look(again, made, f"{_CONNECT}\nprint(json.dumps(connect({FAR!r}, {PORT}, '')))") == "hello"
        with closing(sqlite3.connect(open_server.data_dir / "registry.sqlite")) as registry:
            (init,) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (made,)).fetchone()
        watched = [os.pidfd_open(pid) for pid in mine]
        os.kill(init, signal.SIGKILL)
        for pidfd in watched:
            assert select.select([pidfd], [], [], 20)[0], "what gave it a network outlives its session"
            os.close(pidfd)
        again.delete(made)
    assert set(helpers(open_server)) == before
