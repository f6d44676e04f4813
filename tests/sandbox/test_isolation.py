"""What a session's code sees and may, asked from inside a real one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


@pytest.fixture
def look(api, session):
    """Runs code that ends in a JSON value, and returns it."""

    def run(code: str):
        result = api.run(session, f"import json\n{code}")
        assert result["success"], result["error"]
        return json.loads(result["logs"]["stdout"][0])

    return run


def status_of(look) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in look("print(json.dumps(open('/proc/self/status').read()))").splitlines() if ":\t" in line)


def test_it_runs_as_an_unprivileged_user_of_its_own(look, api, server):
    status = status_of(look)
    uids = {int(uid) for uid in status["Uid"].split()}
    assert len(uids) == 1
    assert uids.isdisjoint({0, os.getuid()})
    assert status["CapEff"] == status["CapPrm"] == status["CapInh"] == status["CapAmb"] == "0000000000000000"
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    other = api.create()
    assert int(api.run(other, "import os; os.getuid()")["text"]) not in uids
    api.delete(other)


def test_every_namespace_is_its_own(look):
    inside = look("import os; print(json.dumps({n: os.readlink('/proc/self/ns/' + n) for n in ('pid', 'mnt', 'net', 'ipc', 'uts')}))")
    assert {name for name, link in inside.items() if link == os.readlink(f"/proc/self/ns/{name}")} == set()


def test_it_sees_only_its_own_processes(look):
    commands = look("import os; print(json.dumps([os.stat('/proc/' + p).st_uid for p in os.listdir('/proc') if p.isdigit()]))")
    assert set(commands) == {look("import os; print(json.dumps(os.getuid()))")}


@pytest.mark.parametrize(
    "path", ["/", "/usr", "/usr/bin", "/etc", "/etc/ssl", "/run", "/run/etc", "/run/kernels", "/dev", "/proc/sys/kernel", "/var", "/home"]
)
def test_the_system_cannot_be_written(look, path):
    said = look(
        f"import os\ntry:\n    open({path!r} + '/written', 'w'); said = 'written'\nexcept OSError as e:\n    said = e.strerror\nprint(json.dumps(said))"
    )
    assert said in ("Read-only file system", "Permission denied", "No such file or directory", "Operation not permitted")


@pytest.mark.parametrize("path", ["/workspace", "/tmp", "/dev/shm", "/var/tmp"])
def test_its_own_places_can_be_written(look, path):
    assert look(f"open({path!r} + '/written', 'w').write('x'); print(json.dumps(open({path!r} + '/written').read()))") == "x"


def test_nothing_of_the_machine_shows(look, server):
    shown = look(
        "import os; print(json.dumps({p: os.path.exists(p) for p in ('/root/.ssh', '/etc/shadow', '/etc/machine-id', '/sys/class', '/sys/kernel', '/sys/fs/cgroup/cpu', '/boot', '/srv', '/mnt', '/opt')}))"
    )
    assert {path for path, there in shown.items() if there} == set()
    data = str(server.data_dir)
    assert look(f"import os; print(json.dumps(os.path.exists({data!r})))") is False
    assert look("import socket; print(json.dumps(socket.gethostname()))") == "kernelgate"


def test_only_loopback_and_nobody_else_on_it(look, server):
    assert look("import socket; print(json.dumps([name for _, name in socket.if_nameindex()]))") == ["lo"]
    port = int(server.url.rpartition(":")[2])
    said = look(f"import socket\ns = socket.socket()\ns.settimeout(5)\nprint(json.dumps(s.connect_ex(('127.0.0.1', {port}))))")
    assert said == 111  # refused: it is another loopback
    outside = look("import socket\ns = socket.socket()\ns.settimeout(5)\nprint(json.dumps(s.connect_ex(('192.0.2.1', 80))))")
    assert outside == 101  # unreachable


def test_abstract_sockets_of_the_machine_are_not_there(look):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0kernelgate-test-neighbour")
        listener.listen()
        assert look("import socket\nprint(json.dumps(socket.socket(socket.AF_UNIX).connect_ex('\\0kernelgate-test-neighbour')))") == 111


@pytest.mark.parametrize("family", [3, 16 + 1, 31, 38, 40])  # AX.25, packet, Bluetooth, the kernel's crypto, vsock
def test_other_kinds_of_sockets_are_refused(look, family):
    said = look(
        f"import socket\ntry:\n    socket.socket({family}, socket.SOCK_DGRAM); said = 0\nexcept OSError as e:\n    said = e.errno\nprint(json.dumps(said))"
    )
    assert said == 97  # EAFNOSUPPORT


CALLS = {
    "mount": (165, "b'none', b'/tmp', b'tmpfs', 0, 0"),
    "umount2": (166, "b'/tmp', 0"),
    "unshare user": (272, "0x10000000"),
    "unshare pid": (272, "0x20000000"),
    "clone user": (56, "0x10000011, 0, 0, 0, 0"),
    "setns": (308, "0, 0"),
    "ptrace": (101, "0, 0, 0, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "keyctl": (250, "0, 0, 0, 0, 0"),
    "add_key": (248, "b'user', b'x', b'y', 1, -2"),
    "bpf": (321, "0, 0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "perf_event_open": (298, "0, 0, -1, -1, 0"),
    "userfaultfd": (323, "0"),
    "chroot": (161, "b'/tmp'"),
    "pivot_root": (155, "b'/', b'/'"),
    "sethostname": (170, "b'x', 1"),
    "init_module": (175, "0, 0, b''"),
    "personality": (135, "0x0040000"),
    "open_by_handle_at": (304, "0, 0, 0"),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
@pytest.mark.parametrize("name", CALLS)
def test_system_calls_that_are_refused(look, name):
    number, arguments = CALLS[name]
    said = look(
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nr = libc.syscall({number}, {arguments})\nprint(json.dumps([r, ctypes.get_errno()]))"
    )
    assert said == [-1, 1]  # EPERM


def test_tiocsti_is_refused(look):
    said = look(
        "import fcntl, os\nm, s = os.openpty()\ntry:\n    fcntl.ioctl(s, 0x5412, b'x'); said = 0\nexcept OSError as e:\n    said = e.errno\nprint(json.dumps(said))"
    )
    assert said == 1


def test_host_and_init_cannot_be_touched(look, api, session):
    """Init is PID 1, the host is among the first; neither can be signalled, looked into or renamed."""
    assert (
        look(
            "import os\nsaid = []\nfor pid in range(1, os.getpid()):\n    try:\n        os.kill(pid, 9); said.append(pid)\n    except (PermissionError, ProcessLookupError):\n        pass\nprint(json.dumps(said))"
        )
        == []
    )
    for path in (
        "/proc/1/environ",
        "/proc/1/root",
        "/proc/1/mem",
        "/proc/2/environ",
        "/proc/2/mem",
        "/run/session",
        "/run/spool",
        "/run/session/events.jsonl",
    ):
        opened = look(
            f"import os\ntry:\n    os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}).read(); said = True\nexcept OSError:\n    said = False\nprint(json.dumps(said))"
        )
        assert opened is False, path
    assert api.run(session, "1 + 1")["text"] == "2"


def test_setuid_programs_give_nothing(look):
    assert (
        look(
            "import subprocess; print(json.dumps(subprocess.run(['su', '-c', 'id'], capture_output=True, stdin=subprocess.DEVNULL).returncode))"
        )
        != 0
    )
    mounts = look("print(json.dumps(open('/proc/self/mounts').read()))").splitlines()
    assert [line for line in mounts if "nosuid" not in line.split()[3].split(",")] == []


def test_the_environment_is_not_the_gateways(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "hidden")
    with Server(tmp_path / "data", "sessions.pool_size=1") as server, server.api() as api:
        session = api.create(env={"GREETING": 'it\'s "quoted" $HOME'})
        result = api.run(session, "import os; dict(os.environ)")
        assert "SECRET_OF_THE_GATEWAY" not in result["text"]
        assert "KERNELGATE" not in result["text"]
        told = api.call("POST", f"/v1/sessions/{session}/commands", json={"command": "env; cat /proc/self/environ /proc/$PPID/environ"})[
            "stdout"
        ]
        told += api.run(session, "print(open('/proc/self/environ').read())")["text"]
        assert "SECRET_OF_THE_GATEWAY" not in told
        assert "KERNELGATE" not in told
        assert api.run(session, "os.environ['GREETING']")["text"] == repr('it\'s "quoted" $HOME')
        assert api.run(session, "import subprocess; print(subprocess.check_output('echo $HOME $USER $PWD', shell=True, text=True))")[
            "logs"
        ]["stdout"] == ["/workspace user /workspace\n\n"]
        api.delete(session)
    assert server.leftovers() == []


def test_sessions_do_not_see_each_other(api):
    one, two = api.create(), api.create()
    api.run(one, "open('/workspace/secret', 'w').write('mine'); open('/tmp/secret', 'w').write('mine')")
    for path in ("/workspace/secret", "/tmp/secret"):
        assert api.run(two, f"import os; os.path.exists({path!r})")["text"] == "False"
    api.run(one, "import socket; s = socket.socket(); s.bind(('127.0.0.1', 4711)); s.listen()")
    assert api.run(two, "import socket; socket.socket().connect_ex(('127.0.0.1', 4711))")["text"] == "111"
    for session in (one, two):
        api.delete(session)


def test_memory_over_the_limit_ends_the_kernel_and_says_so(tmp_path):
    with Server(tmp_path / "data", "sessions.pool_size=1", f"sandbox.memory_bytes={512 * 1024 * 1024}") as server, server.api() as api:
        if api.call("GET", "/health")["sandbox"]["cgroup_version"] == 0:
            pytest.skip("no control groups here")
        session = api.create()
        result = api.run(session, "print('before', flush=True)\nx = bytearray(10**9)")
        assert (result["status"], result["death"]["reason"]) == ("kernel_died", "out_of_memory")
        assert result["logs"]["stdout"] == ["before\n"]
        after = api.run(session, "6 * 7")
        assert after["text"] == "42"
        assert "memory" in after["fresh_kernel"]
    assert server.leftovers() == []


@pytest.mark.java
@pytest.mark.javascript
def test_runtimes_size_themselves_by_the_sessions_memory(tmp_path):
    """Java and Node take the limit for the machine's memory, so that a full heap is an error of the code and not the end of the kernel."""
    with Server(tmp_path / "data", "sessions.pool_size=1", f"sandbox.memory_bytes={1024**3}") as server, server.api() as api:
        session = api.create()
        assert int(api.run(session, "Runtime.getRuntime().maxMemory()", language="java")["text"]) < 1024**3
        filled = api.run(
            session, "var all = new java.util.ArrayList<byte[]>(); while (true) all.add(new byte[10_000_000]);", language="java"
        )
        assert filled["error"]["name"] == "OutOfMemoryError"
        assert api.run(session, "all = null; 6 * 7", language="java")["text"] == "42"
        assert "NOTE" not in "".join(
            api.run(session, 'new ProcessBuilder("java", "-version").inheritIO().start().waitFor()', language="java")["logs"]["stderr"]
        )
        if api.call("GET", "/health")["sandbox"]["cgroup_version"] == 1:
            assert float(api.run(session, "require('v8').getHeapStatistics().heap_size_limit", language="javascript")["text"]) < 1024**3
    assert server.leftovers() == []


def test_without_a_sandbox_it_says_so(tmp_path):
    """`sandbox.kind = none`: the same service, a warning at start and in /health."""
    with Server(tmp_path / "data", "sandbox.kind=none", "sessions.pool_size=1") as server, server.api() as api:
        health = api.call("GET", "/health")
        assert health["sandbox"]["isolated"] is False
        assert "not isolated" in health["warnings"][0]
        session = api.create(env={"A": "b"})
        assert api.run(session, "print('x'); import os; os.environ['A']")["text"] == "'b'"
        workspace = api.call("GET", f"/v1/sessions/{session}")["cwd"]
        assert api.run(session, "os.getcwd()")["text"] == repr(workspace)
        assert api.run(session, "while True: pass", timeout_s=0.3)["status"] == "timeout"
        api.run(session, "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)")
        assert Path(workspace).is_dir()
        api.delete(session)
        assert not Path(workspace).exists()
    assert server.leftovers() == []


def test_one_that_takes_long_to_end_keeps_nobody_waiting(tmp_path):
    with Server(tmp_path / "data", "sandbox.kind=none", "sessions.pool_size=0") as server, server.api() as api:
        slow, other = api.create(), api.create()
        with contextlib.closing(sqlite3.connect(server.data_dir / "registry.sqlite")) as registry:
            ((init,),) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (slow,))
        os.kill(init, signal.SIGSTOP)  # without a sandbox it is asked to end, and does so when it goes on
        deleting = threading.Thread(target=api.delete, args=(slow,))
        deleting.start()
        with server.api() as beside:
            beside.until(lambda: beside.http.get(f"/v1/sessions/{slow}/contexts").status_code == 410)
            made = beside.create()
            assert beside.run(made, "6 * 7")["text"] == "42"
            beside.delete(other)
            beside.delete(made)
            assert deleting.is_alive()
        os.kill(init, signal.SIGCONT)
        deleting.join()
    assert server.leftovers() == []


def test_a_sandbox_that_cannot_be_made_is_said_and_never_left_out(tmp_path):
    """Without the rights to make namespaces the server does not start; it does not go on without."""
    command = [
        "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all",
        sys.executable, "-m", "kernelgate", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "sandbox" in done.stderr
    assert "none" in done.stderr
    assert Server(tmp_path / "data").cgroups() == []
