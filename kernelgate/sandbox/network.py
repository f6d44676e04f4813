"""A session's network, where it may have one: a stack in user mode (pasta) between a network namespace of its own and the machine's sockets.

pasta runs in the session's PID namespace, so that it ends with the session whatever ends that, but outside its root, its control groups and its users: as a user of its own, which owns
the network namespace and nothing else. What a session may not reach is refused by the namespace's routes, which its code has no right to change. Routes alone would not hold: a socket that
is bound to the device goes past them, to whoever answers on the link. So nobody is asked for on the link: the gateway is the one neighbour there is. Multicast asks for nobody either way; the policies
for outgoing packets refuse it, and all the rest once more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from kernelgate.sandbox import syscalls as sc

#: By name, the Debian package that has it.
PROGRAMS = {"pasta": "passt", "ip": "iproute2"}
#: Addresses of the link between a session and pasta, out of a range that is nowhere else (RFC 7335).
_OWN, _GATEWAY = "192.0.0.2", "192.0.0.1"
#: Where machines name their resolvers; the second one has those that a resolver on the machine's loopback asks.
_RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_GATEWAY_MAC = "02:6b:67:00:00:01"
_DEVICE = "net0"
#: Never reachable: "this network", the link's own range, metadata services (also of clouds that have theirs elsewhere), multicast, what is reserved.
_DENIED = ("0.0.0.0/8", "192.0.0.0/24", "169.254.0.0/16", "100.100.100.200", "168.63.129.16", "224.0.0.0/4", "240.0.0.0/4")


def missing() -> list[str]:
    """Debian packages of what is not there."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


def resolver(configured: str) -> str | None:
    """The resolver of sessions: `configured`, or the machine's first that a session can reach."""
    if configured:
        return configured
    for path in _RESOLVERS:
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver" and ":" not in words[1] and not words[1].startswith("127."):
                    return words[1]
    return None


def enter(uid: int, denied: Iterable[str], configured_resolver: str) -> str:
    """Puts the calling process, the first of its PID namespace, into a network namespace with a way out. Before it gives up its rights and its view of the machine.

    `uid`: pasta's user. `denied`: networks that are not to be reached, besides those that never are. Returns the resolver's address.
    Raises OSError: a program is missing or failed.
    """
    names = resolver(configured_resolver)
    if names is None:
        raise OSError("this machine names no resolver that a session could ask (sandbox.network_resolver)")
    addresses = [
        address["local"]
        for device in json.loads(_run("ip", "-json", "-4", "address", "show"))
        for address in device["addr_info"]
        if not address["local"].startswith("127.")
    ]
    user_namespace, namespace = _make_namespace(uid)
    try:
        _start(uid, user_namespace, namespace)
        sc.setns(namespace, sc.CLONE_NEWNET)
    finally:
        os.close(user_namespace)
        os.close(namespace)
    _configure(names, [*_DENIED, *denied, *addresses])
    return names


def _make_namespace(uid: int) -> tuple[int, int]:
    """A user namespace of this user, and a network namespace that belongs to it: descriptors of both."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        try:
            sc.become(uid, uid)
            sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNET)
            sc.set_dumpable(True)
            found = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("user", "net")]
            socket.send_fds(theirs, [b"."], found)
        except OSError as exc:
            theirs.send(str(exc).encode())
        finally:
            os._exit(0)
    theirs.close()
    said, found, _, _ = socket.recv_fds(ours, 1000, 2)
    ours.close()
    os.waitpid(pid, 0)
    if len(found) != 2:
        raise OSError(f"no network namespace can be made for a user without rights: {said.decode('utf-8', 'replace')}")
    return found[0], found[1]


def _start(uid: int, user_namespace: int, namespace: int) -> None:
    """Starts pasta. It goes on in the background when all is set up, and only then is the first process's end waited for."""
    program = shutil.which("pasta")
    if program is None:
        raise OSError("a network needs pasta (Debian: passt), which `kernelgate setup` installs")
    command = [
        program, "--quiet", "--ipv4-only", "--userns", f"/proc/self/fd/{user_namespace}", "--netns", f"/proc/self/fd/{namespace}", "--no-netns-quit", "--ns-ifname", _DEVICE,
        "--address", _OWN, "--netmask", "29", "--gateway", _GATEWAY, "--mac-addr", _GATEWAY_MAC, "--mtu", "65520",
        "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw", "--no-dhcp", "--no-dhcpv6", "--no-ra", "--no-ndp", "--no-icmp",
    ]  # fmt: skip
    said = os.memfd_create("pasta", os.MFD_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(said, 2)
            _show_tun()
            os.setsid()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # it takes what it inherits here for a failure of its own
            sc.become(uid, uid)
            sc.no_new_privs()
            for fd in (user_namespace, namespace):
                os.set_inheritable(fd, True)
            os.execve(program, command, {})
        except OSError as exc:
            os.write(2, str(exc).encode())
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    os.lseek(said, 0, os.SEEK_SET)
    with os.fdopen(said, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    if status != 0:
        lines = [line for line in text.splitlines() if line and "syslog" not in line]
        raise OSError(f"pasta ended with status {os.waitstatus_to_exitcode(status)}: {' '.join(lines[-3:])}")


def _show_tun() -> None:
    """Where only root may open the device that tunnels are made with, this process gets one of its own."""
    if os.stat("/dev/net/tun").st_mode & 0o006 == 0o006:
        return
    number = os.stat("/dev/net/tun").st_rdev
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
    sc.mount("tun", "/dev/net", "tmpfs", sc.MS_NOSUID | sc.MS_NOEXEC, "mode=0755,size=16k")
    os.mknod("/dev/net/tun", 0o020666, number)
    os.chmod("/dev/net/tun", 0o666)  # noqa: S103 - only pasta sees it


def _configure(resolver: str, denied: list[str]) -> None:
    """Addresses and routes of the namespace that the calling process is in."""
    lines = [
        "link set lo up",
        f"link set {_DEVICE} up",
        f"address add {_OWN}/32 dev {_DEVICE}",
        f"neighbour replace {_GATEWAY} lladdr {_GATEWAY_MAC} nud permanent dev {_DEVICE}",
        f"route add {_GATEWAY} dev {_DEVICE} scope link",
        f"route add {resolver} via {_GATEWAY}",
        f"route add default via {_GATEWAY}",
        f"xfrm policy update dst {resolver} dir out action allow priority 1",
        *(
            line
            for network in dict.fromkeys(denied)
            for line in (f"route replace prohibit {network}", f"xfrm policy update dst {network} dir out action block priority 2")
        ),
    ]
    for name in ("mcast_solicit", "ucast_solicit", "app_solicit"):
        Path(f"/proc/sys/net/ipv4/neigh/{_DEVICE}/{name}").write_text("0")
    ipv6 = Path(f"/proc/sys/net/ipv6/conf/{_DEVICE}/disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")
    _run("ip", "-batch", "-", text="\n".join(lines) + "\n")


def _run(*command: str, text: str = "") -> str:
    program = shutil.which(command[0])
    if program is None:
        raise OSError(f"a network needs {command[0]} (Debian: {PROGRAMS[command[0]]}), which `kernelgate setup` installs")
    done = subprocess.run([program, *command[1:]], input=text, capture_output=True, text=True, check=False, env={})
    if done.returncode != 0:
        raise OSError(f"{command[0]} {' '.join(command[1:])}: {done.stderr.strip()}")
    return done.stdout
