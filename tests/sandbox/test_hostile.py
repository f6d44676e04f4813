"""Code that wants to do harm, run for real: each attack fails, its session lives on, and a neighbour keeps answering meanwhile.

Everything runs inside sessions with small limits. `HOSTILE_TABLE=FILE` writes the table: case, what stopped it, the neighbour's slowest answer.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

MIB = 1024 * 1024
MEMORY, TMP, SHM, FILE, JOURNAL, WORKSPACE = 384 * MIB, 32 * MIB, 48 * MIB, 64 * MIB, 24 * MIB, 128 * MIB
#: A neighbour that waits longer for `6 * 7` than this was kept from its work; two busy cores alone make it wait for tenths of a second.
SLOWEST_S = 5.0
LIMITS = (
    f"sandbox.memory_bytes={MEMORY}", "sandbox.processes=96", "sandbox.cpu=1.0", f"sandbox.tmp_bytes={TMP}", "sandbox.tmp_inodes=2000", f"sandbox.shm_bytes={SHM}",
    "sandbox.open_files=512", f"sandbox.file_bytes={FILE}", f"sessions.journal_bytes={JOURNAL}", "sessions.pool_size=2", f"executions.max_output_bytes={2 * MIB}",
    f"executions.max_result_bytes={2 * MIB}", f"sandbox.workspace_bytes={WORKSPACE}", "sandbox.workspace_inodes=6000",
)  # fmt: skip

#: Before each attack in Python: `tried` says how an attempt ended, `call` is a system call by its number.
PRELUDE = """\
import ctypes, errno, os, signal, socket, subprocess, sys, threading, time
def tried(attempt):
    try:
        said = attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return f"SUCCEEDED {said!r}"
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if (said := libc.syscall(number, *arguments)) == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return said
def write(path, text):
    return os.write(os.open(path, os.O_WRONLY), text.encode())
def fill(directory, each=1 << 20):
    written = 0
    try:
        with open(directory + "/filler", "wb") as file:
            while written < 1 << 30:
                written += file.write(b"x" * each)
                file.flush()
    except OSError as error:
        return f"{errno.errorcode[error.errno]} after {written >> 20} MiB"
    return "SUCCEEDED"
"""


@dataclass(frozen=True)
class Case:
    """An attack: `expect` is a pattern that the summary of its result (see `summary`) must match from its beginning; `by` says what stopped it."""

    name: str
    by: str
    code: str
    expect: str
    language: str = "python"
    timeout_s: float = 20
    #: Whether the session is used by this attack alone; one that changes nothing shares one with others.
    alone: bool = True


def quick(name: str, by: str, code: str, expect: str, **more: Any) -> Case:
    return Case(name, by, code, expect, alone=False, **more)


FORGE = """
import hashlib, hmac, json, zmq
kernel = get_ipython().kernel
parent = kernel.get_parent()["header"]
def forge(*parts, key=None, socket=None):
    frames = [part if isinstance(part, bytes) else json.dumps(part, default=str).encode() for part in parts]
    signature = hmac.new(key or kernel.session.key, b"".join(frames), hashlib.sha256).hexdigest().encode()
    (socket or kernel.iopub_socket).send_multipart([b"topic", b"<IDS|MSG>", signature, *frames])
def header(kind, **more):
    return {"msg_id": "forged", "session": "x", "username": "x", "date": "", "msg_type": kind, "version": "5.4", **more}
"""

CASES = (
    # -- processes --
    Case("fork bomb, shell", "pids limit", "b() { b | b & }; b; sleep 1; echo survived", r"(ok|error|timeout|kernel_died)", language="bash", timeout_s=4),
    Case("fork bomb, Python", "pids limit", "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass", r"(timeout|kernel_died)", timeout_s=1),
    Case("fork bomb that leaves its process group", "pids limit", "while True:\n    try:\n        if os.fork() == 0:\n            os.setsid()\n    except OSError:\n        pass", r"(timeout|kernel_died)", timeout_s=1),
    Case(
        "double-forked daemons", "pids limit; the session's end takes them", "n = 0\ntry:\n    while True:\n        os.posix_spawn('/bin/sleep', ['sleep', '1000'], os.environ, setsid=True)\n        n += 1\nexcept OSError as e:\n    print(errno.errorcode[e.errno], n < 96)", r"ok .*EAGAIN True",
    ),
    Case("zombie flood, unwaited children", "pids limit", "n = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            os._exit(0)\n        n += 1\nexcept OSError as e:\n    print(errno.errorcode[e.errno], n < 96)", r"ok .*EAGAIN True"),
    Case(
        "zombie flood, orphans", "init reaps", "for _ in range(12):\n    if (p := os.fork()) == 0:\n        for _ in range(8):\n            try:\n                if os.fork() == 0:\n"
        "                    os._exit(0)\n            except OSError:\n                pass\n        os._exit(0)\n    os.waitpid(p, 0)\ntime.sleep(0.3)\n"
        "print(sum(open(f'/proc/{p}/stat').read().rpartition(')')[2].split()[0] == 'Z' for p in os.listdir('/proc') if p.isdigit()))", r"ok .*stdout=0",
    ),
    Case("thread bomb", "pids limit", "n = 0\ntry:\n    while True:\n        threading.Thread(target=time.sleep, args=(2,)).start()\n        n += 1\nexcept RuntimeError as e:\n    print(e, n < 96)", r"ok .*can't start new thread True"),
    # -- memory --
    Case("memory bomb, heap", "memory limit", "x = []\nwhile True:\n    x.append(bytearray(10**7))", r"kernel_died out_of_memory"),
    Case("memory bomb, one allocation", "memory limit", "x = bytearray(10**9)", r"kernel_died out_of_memory"),
    Case("memory bomb, shell", "memory limit", "x=$(tail -c 600000000 /dev/zero | tr '\\0' x); echo ${#x}", r"(ok|error|kernel_died)(?!.*600000000)", language="bash"),
    Case("memory bomb, many processes", "memory limit", "for _ in range(8):\n    if os.fork() == 0:\n        x = bytearray(80_000_000); time.sleep(30); os._exit(0)\ntime.sleep(0.5)\nprint('lives')", r"(ok|kernel_died)"),
    Case("memory bomb, tmpfs", "size of /tmp", "print(fill('/tmp'))", r"ok .*ENOSPC after (2\d|3[012]) MiB"),
    Case("memory bomb, /dev/shm", "size of /dev/shm", "print(fill('/dev/shm'))", r"ok .*ENOSPC after 4\d MiB"),
    Case("memory bomb, System V shared memory", "kernel.shmall of the session", "print(tried(lambda: [call(29, 0, 16 << 20, 0o1600) for _ in range(20)]))", r"ok .*(ENOSPC|ENOMEM)"),
    Case("memory bomb, threads", "memory limit", "def eat():\n    mine = []\n    while True:\n        mine.append(bytearray(10**6))\nfor _ in range(8):\n    threading.Thread(target=eat, daemon=True).start()\ntime.sleep(30)", r"kernel_died out_of_memory", timeout_s=10),
    Case("memory bomb, memfd", "memory limit", "kept = []\nwhile True:\n    kept.append(fd := os.memfd_create('x'))\n    for _ in range(16):\n        os.write(fd, bytes(1 << 20))", r"kernel_died out_of_memory"),
    Case("memory bomb, mapped and locked", "memory limit", "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 24)\n    m.write(b'x' * (1 << 24))\n    x.append(m)", r"kernel_died out_of_memory"),
    Case("full socket buffers", "open files, memory limit", "x = []\ntry:\n    while True:\n        a, b = socket.socketpair()\n        a.setblocking(False)\n        x += [a, b]\n        try:\n            while True:\n                a.send(bytes(65536))\n        except BlockingIOError:\n            pass\nexcept OSError as e:\n    print(errno.errorcode[e.errno])", r"(ok .*EMFILE|kernel_died)"),
    # -- disk --
    Case("inode fill, /tmp", "inodes of /tmp", "def many():\n    for n in range(10**6):\n        open(f'/tmp/f{n}', 'w').close()\nprint(tried(many))", r"ok .*ENOSPC"),
    Case("inode fill, /dev/shm", "inodes of /dev/shm", "def many():\n    for n in range(10**6):\n        os.mkdir(f'/dev/shm/f{n}')\nprint(tried(many))", r"ok .*ENOSPC"),
    Case("huge file, /workspace", "RLIMIT_FSIZE", "print(fill('/workspace'))", r"ok .*EFBIG after 64 MiB"),
    quick("huge file, shell", "RLIMIT_FSIZE", "head -c 100000000 /dev/zero > /workspace/huge; stat -c %s /workspace/huge; rm /workspace/huge", r"\w+ .*67108864", language="bash"),
    quick("sparse file", "RLIMIT_FSIZE", "print(tried(lambda: open('/workspace/sparse', 'wb').truncate(1 << 40)))", r"ok .*EFBIG"),
    quick("fallocate", "RLIMIT_FSIZE", "print(tried(lambda: os.posix_fallocate(os.open('/workspace/f', os.O_RDWR | os.O_CREAT), 0, 1 << 40)))", r"ok .*EFBIG"),
    Case("workspace fill, size", "size of the workspace", "n = 0\ntry:\n    while True:\n        with open(f'/workspace/f{n}', 'wb') as file:\n            file.write(bytes(16 << 20))\n        n += 1\nexcept OSError as e:\n    print(errno.errorcode[e.errno], n < 9)", r"ok .*ENOSPC True"),
    Case("workspace fill, inodes", "inodes of the workspace", "def many():\n    for n in range(10**6):\n        open(f'/workspace/f{n}', 'w').close()\nprint(tried(many), len(os.listdir('/workspace')) < 6000)", r"ok .*ENOSPC True"),
    Case("directories nested without end", "removal walks by descriptor", "os.chdir('/workspace')\nfor n in range(4000):\n    os.mkdir('d'); os.chdir('d')\nos.chdir('/workspace'); print('deep')", r"ok .*deep"),
    Case("a workspace nobody may enter", "removal by the zygote", "os.mkdir('/workspace/shut'); open('/workspace/shut/x', 'w').close(); os.chmod('/workspace/shut', 0); os.chmod('/workspace', 0); print('shut')", r"ok .*shut"),
    quick("writing the kernels' directory", "owner", "print(tried(lambda: open('/run/kernels/x', 'w')))", r"ok .*(EACCES|EROFS)"),
    # -- output --
    Case("endless output", "output limit, deadline", "while True: print('spam' * 100)", r"timeout .*cut", timeout_s=1),
    Case("endless output without newline", "output limit, deadline", "while True: sys.stdout.write('spam' * 100)", r"timeout .*cut", timeout_s=1),
    Case("endless output, shell", "output limit, deadline", "while :; do echo spamspamspamspam; done", r"timeout", language="bash", timeout_s=1),
    Case("endless output, yes", "output limit, deadline", "yes spam", r"timeout .*cut", language="bash", timeout_s=1),
    Case("output past Python", "output limit, deadline", "while True: os.write(1, b'spam' * 1000)", r"timeout .*cut", timeout_s=1),
    Case("10^6 prints", "output limit", "for n in range(10**6): print(n)", r"(ok|timeout) .*cut", timeout_s=8),
    quick("huge single result", "result limit", "'x' * 20_000_000", r"ok .*cut"),
    quick("huge display", "result limit", "from IPython.display import display\ndisplay({'image/png': 'x' * 20_000_000}, raw=True)", r"ok .*cut"),
    quick("many results", "result limit", "from IPython.display import display\nfor _ in range(300):\n    display({'text/plain': 'x' * 20_000}, raw=True)", r"ok .*cut"),
    quick("huge error", "", "raise ValueError('x' * 3_000_000)", r"error .*ValueError"),
    Case("journal exhaustion, events without content", "limit of the execution's events", "from IPython.display import clear_output\nwhile True: clear_output()", r"timeout", timeout_s=3),
    Case("an update a display, 20 000 times", "result limit", "from IPython.display import display\nh = display('x', display_id=True)\nfor _ in range(20000): h.update('y' * 1000)", r"(ok|timeout) .*cut", timeout_s=6),
    # -- processor --
    Case("CPU burn", "deadline", "while True: pass", r"timeout interrupt", timeout_s=1),
    Case("CPU burn, shell", "deadline", "while :; do :; done", r"timeout", language="bash", timeout_s=1),
    Case("CPU burn, JavaScript", "deadline", "while (true) {}", r"timeout", language="javascript", timeout_s=1),
    Case("CPU burn, TypeScript", "deadline", "const n: number = 1; while (n) {}", r"timeout", language="typescript", timeout_s=1),
    Case("CPU burn, R", "deadline", "while (TRUE) {}", r"timeout", language="r", timeout_s=1),
    Case("CPU burn, Java", "deadline", "while (true) {}", r"timeout", language="java", timeout_s=1),
    Case("CPU burn, many processes", "CPU share, deadline", "for _ in range(6):\n    if os.fork() == 0:\n        while True: pass\nwhile True: pass", r"timeout", timeout_s=1),
    Case("ignoring SIGINT and SIGTERM", "SIGKILL after the grace", "signal.signal(2, 1); signal.signal(15, 1)\nwhile True: pass", r"timeout restart", timeout_s=0.5),
    Case("ignoring SIGINT and SIGTERM, shell", "SIGKILL to the group", "trap '' INT TERM; while :; do sleep 0.1; done", r"timeout", language="bash", timeout_s=0.5),
    Case("catching every interrupt", "SIGKILL after the grace", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", r"timeout", timeout_s=0.5),
    Case("stopping its own kernel", "SIGKILL after the grace", "os.kill(os.getpid(), signal.SIGSTOP)", r"timeout restart", timeout_s=0.5),
    quick("priority above others", "no capability", "print(tried(lambda: os.nice(-5)), tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))))", r"ok .*EPERM EPERM"),
    # -- descriptors --
    Case("fd exhaustion", "open files", "kept = []\ndef many():\n    while len(kept) < 5000: kept.append(os.open('/dev/null', os.O_RDONLY))\nprint(tried(many), len(kept) < 512)\n[os.close(fd) for fd in kept]", r"ok .*EMFILE True"),
    Case("closing every descriptor", "a fresh kernel", "os.closerange(3, 500)\n1", r"(timeout|kernel_died)", timeout_s=0.5),
    quick("raising its own limits", "no capability", "import resource\ndef more(kind):\n    try:\n        resource.setrlimit(kind, (1 << 30, 1 << 30)); return 'SUCCEEDED'\n    except (ValueError, PermissionError): return 'refused'\nprint(more(resource.RLIMIT_NOFILE), more(resource.RLIMIT_FSIZE))", r"ok .*refused refused"),
    # -- reading and writing outside --
    quick("/proc/1/environ", "hidepid, user", "print(tried(lambda: open('/proc/1/environ').read()))", r"ok .*(ENOENT|EACCES|EPERM)"),
    quick("/proc/1/root", "hidepid, user", "print(tried(lambda: os.listdir('/proc/1/root/')))", r"ok .*(ENOENT|EACCES|EPERM)"),
    quick("/proc/*/environ of others", "hidepid", "print([p for p in range(1, 400) if os.path.exists(f'/proc/{p}') and os.stat(f'/proc/{p}').st_uid != os.getuid()])", r"ok .*stdout=\[\]"),
    quick("/proc/sys", "user", "print(*[tried(lambda p=p: write('/proc/' + p, '1')) for p in ('sys/kernel/core_pattern', 'sysrq-trigger', 'sys/vm/drop_caches', 'sys/kernel/shmall')])", r"ok .*(?!.*SUCCEEDED)"),
    quick("/proc/kcore, /dev/mem, /dev/kmsg", "user, no devices", "print(*[tried(lambda p=p: open(p, 'rb').read(1)) for p in ('/proc/kcore', '/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/vda')])", r"ok .*stdout=((ENOENT|EACCES|EPERM) ?){5}"),
    quick("/sys", "not there", "print(os.path.exists('/sys/class'), os.path.exists('/sys/kernel'))", r"ok .*False False"),
    quick("its own control group", "read-only", "import glob\nprint(*{tried(lambda p=p: write(p, '0')) for p in glob.glob('/sys/fs/cgroup/**/*', recursive=True) if os.path.isfile(p)})", r"ok (?!.*SUCCEEDED)"),
    quick("host paths", "root of its own", "print(*[os.path.exists(p) for p in ('/etc/shadow', '/root/.ssh', '/var/log', '{data_dir}', '{data_dir}/token', '/home/user')])", r"ok .*stdout=(False ?){6}"),
    quick("symlink out of the workspace", "root of its own", "os.symlink('/../../..{data_dir}/token', '/workspace/link'); print(tried(lambda: open('/workspace/link').read()), tried(lambda: open('/workspace/../../../../../..{data_dir}/token').read()))", r"ok .*ENOENT ENOENT"),
    quick("hard links out of the workspace", "other file system, user", "print(*[tried(lambda p=p: os.link(p, '/workspace/hard')) for p in ('/etc/ld.so.cache', '/usr/bin/su', '/run/etc/passwd', '/run/session')])", r"ok .*stdout=((EXDEV|EPERM|EACCES|ENOENT) ?){4}"),
    quick("making devices", "no capability", "import stat\nprint(tried(lambda: os.mknod('/workspace/sda', 0o666 | stat.S_IFBLK, os.makedev(8, 0))))", r"ok .*EPERM"),
    quick("descriptors left open by init", "closed", "print(sorted({os.readlink(f'/proc/self/fd/{n}').partition(':')[0] for n in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}')} - {'/dev/null', 'pipe', 'socket', 'anon_inode', '/proc/self/fd'}, key=str))", r"ok (?!.*(sessions|journal|link.sock|events))"),
    quick("the journal and the spool", "user", "print(*[tried(lambda p=p: os.listdir(p)) for p in ('/run/session', '/run/spool')])", r"ok .*EACCES EACCES"),
    # -- other processes --
    Case("kill of everything", "users", "os.kill(-1, signal.SIGKILL)\ntime.sleep(3)", r"(kernel_died|ok)"),
    quick("kill of init and host", "users", "print(*[tried(lambda p=p: os.kill(p, 9)) for p in (1, 2)])", r"ok .*stdout=((EPERM|ESRCH) ?){2}"),
    quick("ptrace of the host", "filter", "print(*[tried(lambda p=p: call(101, 16, p, 0, 0)) for p in (1, 2, os.getppid())])", r"ok .*stdout=(EPERM ?){3}"),
    quick("memory of the host", "filter, hidepid", "print(tried(lambda: call(310, 2, 0, 0, 0, 0, 0)), tried(lambda: open('/proc/2/mem', 'rb').read(1)))", r"ok .*EPERM (ENOENT|EACCES|EPERM)"),
    quick("limits of the host", "users", "import resource\nprint(tried(lambda: resource.prlimit(2, resource.RLIMIT_NOFILE, (1, 1))), tried(lambda: os.sched_setaffinity(2, {0})))", r"ok .*stdout=((EPERM|ESRCH) ?){2}"),
    quick("saving itself from the OOM killer", "no capability", "print(tried(lambda: write('/proc/self/oom_score_adj', '-1000')))", r"ok .*EACCES"),
    # -- sockets --
    quick("raw sockets", "no capability, filter", "print(tried(lambda: socket.socket(2, socket.SOCK_RAW, 1)), tried(lambda: socket.socket(17, socket.SOCK_RAW, 3)), tried(lambda: socket.socket(40, 1)))", r"ok .*EPERM EAFNOSUPPORT EAFNOSUPPORT"),
    quick("abstract sockets of the machine", "network namespace", "print(tried(lambda: socket.socket(socket.AF_UNIX).connect('\\0{abstract}')))", r"ok .*ECONNREFUSED"),
    quick("reaching the gateway", "network namespace", "print(tried(lambda: socket.create_connection(('127.0.0.1', {port}), 2)))", r"ok .*ECONNREFUSED"),
    quick("reaching the metadata service", "network namespace", "print(tried(lambda: socket.create_connection(('169.254.169.254', 80), 2)))", r"ok .*ENETUNREACH"),
    quick("reaching the zygote", "root of its own", "print(tried(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('{data_dir}/zygote.sock'[-100:])))", r"ok .*(ENOENT|ECONNREFUSED)"),
    quick("reaching a neighbour", "root and network of its own", "print(os.path.exists('{data_dir}/sessions/{neighbour}'), tried(lambda: socket.create_connection(('127.0.0.1', 47123), 2)))", r"ok .*False ECONNREFUSED"),
    quick("changing the network", "no capability", "s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\nimport struct\ns.send(struct.pack('=IHHII', 32, 16, 5, 1, 0) + struct.pack('=BBHiII', 0, 0, 0, 1, 0, 1))\nprint(struct.unpack('=i', s.recv(4096)[16:20])[0])", r"ok .*stdout=-1\b"),
    # -- the kernel's interfaces --
    quick("user namespace", "filter", "print(tried(lambda: call(272, 0x10000000)), tried(lambda: call(56, 0x10000011, 0, 0, 0, 0)), tried(lambda: call(435, 0, 0)))", r"ok .*EPERM EPERM ENOSYS"),
    quick("mounts", "filter", "print(tried(lambda: call(165, b'none', b'/tmp', b'tmpfs', 0, 0)), tried(lambda: call(430, b'tmpfs', 0)), tried(lambda: call(155, b'/', b'/')))", r"ok .*EPERM EPERM EPERM"),
    quick("32-bit system calls", "filter", "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\np = ctypes.addressof(ctypes.c_char.from_buffer(m))\nif (c := os.fork()) == 0:\n    os._exit(int(ctypes.CFUNCTYPE(ctypes.c_int)(p)() > 0))\nprint('killed' if os.WIFSIGNALED(os.waitpid(c, 0)[1]) else 'SUCCEEDED')", r"ok .*killed"),
    quick("setuid binaries", "no_new_privs, nosuid", "subprocess.run(['cp', '/bin/id', '/workspace/id']); os.chmod('/workspace/id', 0o6755)\nprint(subprocess.run(['su', '-c', 'id'], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0, b'euid' not in subprocess.run(['/workspace/id'], capture_output=True).stdout)", r"ok .*True True"),
    quick("keyrings", "filter", "print(tried(lambda: call(248, b'user', b'x', b'y', 1, -2)), tried(lambda: call(250, 0, 0, 0, 0, 0)))", r"ok .*EPERM EPERM"),
    quick("io_uring", "filter", "print(tried(lambda: call(425, 1, 0)))", r"ok .*EPERM"),
    quick("bpf, perf, userfaultfd", "filter", "print(tried(lambda: call(321, 0, 0, 0)), tried(lambda: call(298, 0, 0, -1, -1, 0)), tried(lambda: call(323, 0)))", r"ok .*EPERM EPERM EPERM"),
    quick("TIOCSTI", "filter", "import fcntl\nm, s = os.openpty()\nprint(tried(lambda: fcntl.ioctl(s, 0x5412, b'x')))", r"ok .*EPERM"),
    # -- the kernel's messages --
    quick("a wrong signature", "signatures", FORGE + "forge(header('stream'), parent, {}, {'name': 'stdout', 'text': 'forged'}, key=b'wrong')\nprint('real')", r"ok .*stdout=real"),
    quick("frames that are no message", "validation", FORGE + "for frames in ([b'x'], [b'<IDS|MSG>'], [b'<IDS|MSG>', b'', b'{}'], [b''] * 100):\n    kernel.iopub_socket.send_multipart(frames)\nprint('real')", r"ok .*stdout=real"),
    quick("nested and odd JSON", "validation", FORGE + "forge(b'[' * 100000, parent, {}, {})\nforge(b'{\"a\":' * 50000, parent, {}, {})\nforge(header('stream'), parent, {}, b'\\xff\\xfe')\nforge(header(5), parent, {}, {})\nforge(header('stream'), [1], 7, {})\nforge(header('stream'), parent, {}, {'name': ['x'], 'text': {'a': 1}})\nprint('real')", r"ok .*real"),
    quick(
        "results with fields of every wrong type", "validation", FORGE + "odd = (None, 5, 'x', [], [1], {}, {'a': 1}, {'text/plain': 5}, {'image/png': [1]}, {'application/json': float('nan')}, {'text/html': {'a': []}}, {'text/plain': '\\ud800'}, {'image/svg+xml': None}, {'': ''})\n"
        "for kind in ('display_data', 'execute_result', 'update_display_data', 'error', 'status', 'clear_output', 'execute_input', 'stream', 'nonsense'):\n    for one in odd:\n"
        "        forge(header(kind), parent, {}, {'data': one, 'metadata': one, 'transient': one, 'ename': one, 'evalue': one, 'traceback': one, 'name': one, 'text': one, 'execution_count': one, 'wait': one})\n"
        "        forge(header(kind), parent, {}, {'data': one, 'metadata': {}, 'transient': {'display_id': 'd'}})\nforge(header('stream'), parent, {}, {'name': 'stdout', 'text': '\\ud800'})\nprint('real')", r"(ok|error) .*real",
    ),
    quick("numbers beyond all numbers", "validation", FORGE + "forge(header('execute_input'), parent, {}, b'{\"execution_count\": ' + b'9' * 4000 + b'}')\nforge(header('display_data'), parent, {}, b'{\"data\": {\"application/json\": 1e999}}')\nprint('real')", r"ok .*real"),
    quick("an early end", "both halves are waited for", FORGE + "forge(header('status'), parent, {}, {'execution_state': 'idle'})\ntime.sleep(0.3)\nprint('real')", r"ok .*real"),
    quick("output in another's name", "ids of this kernel alone", FORGE + "forge(header('stream'), {'msg_id': 'kg-other:ex_1:1'}, {}, {'name': 'stdout', 'text': 'x'})\nforge(header('stream'), {'msg_id': parent['msg_id'].rpartition(':')[0] + '/../../x:1'}, {}, {'name': 'stdout', 'text': 'x'})\nprint('real')", r"ok .*real"),
    quick("a client of its own at its kernel's ports", "ids of this kernel alone", FORGE + "import glob\ninfo = json.load(open(sorted(glob.glob('/run/kernels/*'), key=os.path.getmtime)[-1]))\ns = zmq.Context().socket(zmq.DEALER)\ns.linger = 0\ns.identity = b'kg-py-1'\ns.connect(f'tcp://127.0.0.1:{info[\"shell_port\"]}')\nfor _ in range(200):\n    forge(header('execute_request'), {}, {}, {'code': 'print(1)'}, key=b'wrong', socket=s)\ns.send(b'x' * 1000000)\ntime.sleep(0.2)\nprint('real')", r"ok .*real"),
    Case(
        "a daemon in its kernel's place", "a fresh kernel has other ports and another key", FORGE + "import glob\ninfo = json.load(open(sorted(glob.glob('/run/kernels/*'), key=os.path.getmtime)[-1]))\nme = os.getpid()\n"
        "if os.fork() == 0:\n    os.setsid()\n    os.closerange(3, 500)\n    if os.fork():\n        os._exit(0)\n    while os.path.exists(f'/proc/{me}'): time.sleep(0.01)\n    c = zmq.Context()\n    socks = []\n"
        "    for name in ('shell', 'iopub', 'control', 'stdin', 'hb'):\n        s = c.socket(zmq.ROUTER if name != 'iopub' else zmq.PUB)\n        s.bind(f'tcp://127.0.0.1:{info[name + \"_port\"]}')\n        socks.append(s)\n    time.sleep(100)\n"
        "time.sleep(0.1)\nos.kill(me, signal.SIGKILL)", r"kernel_died",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose sessions are small; without control groups nothing here is run."""
    with Server(tmp_path_factory.mktemp("hostile") / "data", *LIMITS) as server:
        with server.api() as api:
            if api.call("GET", "/health")["sandbox"]["cgroup_version"] == 0:
                pytest.skip("no control groups here: bombs are not let off without limits")
        yield server
    assert server.leftovers() == []


@pytest.fixture(scope="module")
def shared(hostile: Server) -> Iterator[str]:
    with hostile.api() as api:
        session = api.create(languages=["python", "bash"])
        yield session
        api.delete(session)


class Neighbour(threading.Thread):
    """A session that asks for `6 * 7` again and again, and how long the slowest answer took."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._api = server.api()
        self.session = self._api.create()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._slowest, self._answers, self.wrong = 0.0, 0, list[Any]()
        self._api.run(self.session, "6 * 7")

    def run(self) -> None:
        while not self._closing.wait(0.02):
            started = time.monotonic()
            try:
                said = self._api.run(self.session, "6 * 7")["text"]
            except Exception as exc:
                said = repr(exc)
            took = time.monotonic() - started
            with self._lock:
                self._answers += 1
                self._slowest = max(self._slowest, took)
                if said != "42":
                    self.wrong.append(said)

    def begin(self) -> None:
        with self._lock:
            self._slowest, self._answers = 0.0, 0

    def slowest(self) -> float:
        """Since `begin`; waits until three answers have come."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with self._lock:
                if self._answers >= 3:
                    return self._slowest
            time.sleep(0.01)
        return 30.0

    def close(self) -> None:
        self._closing.set()
        self.join(30)
        self._api.delete(self.session)
        self._api.http.close()


@pytest.fixture(scope="module")
def neighbour(hostile: Server) -> Iterator[Neighbour]:
    made = Neighbour(hostile)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, str, float]]]:
    """The closing table: printed, and written where HOSTILE_TABLE says."""
    rows: list[tuple[str, str, float]] = []
    yield rows
    lines = [
        "| case | what stopped it | neighbour's slowest answer |",
        "|---|---|---|",
        *(f"| {name} | {by} | {slowest * 1000:.0f} ms |" for name, by, slowest in rows),
    ]
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write("\n" + "\n".join(lines) + "\n")
    if path := os.environ.get("HOSTILE_TABLE"):
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def abstract() -> Iterator[str]:
    """A listener on an abstract socket of this machine."""
    name = f"kernelgate-hostile-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        yield name


def summary(result: dict[str, Any]) -> str:
    """status, the reason of a death, what a timeout did, `cut`, the error's name, and what was printed."""
    parts = [result["status"]]
    if result["death"]:
        parts.append(result["death"]["reason"])
    if result["timeout"]:
        parts.append(result["timeout"]["action"])
    if result["truncated"]:
        parts.append("cut")
    if result["error"]:
        parts += [result["error"]["name"], result["error"]["value"][:3000]]
    return " ".join([*parts, "stdout=" + "".join(result["logs"]["stdout"])[:1000]])


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name, marks=[getattr(pytest.mark, case.language)]) for case in CASES])
def test_attack(case: Case, hostile: Server, shared: str, neighbour: Neighbour, table: list[tuple[str, str, float]], abstract: str):
    code = case.code.replace("{data_dir}", str(hostile.data_dir)).replace("{neighbour}", neighbour.session).replace("{abstract}", abstract)
    code = code.replace("{port}", hostile.url.rpartition(":")[2])
    if case.language == "python":
        code = PRELUDE + code
    with hostile.api() as api:
        session = api.create() if case.alone else shared
        neighbour.begin()
        result = api.run(session, code, language=case.language, timeout_s=case.timeout_s)
        said = summary(result)
        assert "SUCCEEDED" not in said
        assert re.match(case.expect, said, re.DOTALL), said
        after = api.run(session, "6 * 7", timeout_s=20)
        assert after["text"] == "42", f"the session does not live on: {summary(after)}; the attack: {said}"
        if case.alone:
            api.delete(session)
            assert not (hostile.data_dir / "sessions" / session).exists()
        slowest = neighbour.slowest()
    table.append((case.name, case.by, slowest))
    assert neighbour.wrong == []
    assert slowest < SLOWEST_S
