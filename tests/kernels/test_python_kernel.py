"""docs/kernels.md, held by the Python kernel: started as a program, and forked from a prepared process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient

pytestmark = pytest.mark.python

PATIENCE_S = 20.0
PORTS = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}

ZYGOTE = """
import gc, json, os, sys
from kernelgate.kernels import python
facts = python.prepare(["numpy", "pandas", "matplotlib", "not_a_module"])
facts["files"] = sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1])
facts["blas"] = os.environ.get("OPENBLAS_NUM_THREADS")
gc.collect(); gc.freeze()
print(json.dumps(facts), flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.chdir(os.path.dirname(line.strip()))
        python.run(line.strip())
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Cell:
    """An execution: its messages so far, and its reply when there is one."""

    def __init__(self, msg_id: str) -> None:
        self.msg_id = msg_id
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.reply: dict[str, Any] | None = None

    def text(self, name: str) -> str:
        return "".join(c["text"] for kind, c in self.messages if kind == "stream" and c["name"] == name)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [content for k, content in self.messages if k == kind]

    @property
    def stdout(self) -> str:
        return self.text("stdout")

    @property
    def stderr(self) -> str:
        return self.text("stderr")

    @property
    def ok(self) -> dict[str, Any]:
        assert self.reply is not None
        assert self.reply["status"] == "ok", self.reply
        return self.reply

    @property
    def result(self) -> dict[str, Any]:
        [content] = self.of("execute_result")
        data: dict[str, Any] = content["data"]
        return data

    @property
    def error(self) -> dict[str, Any]:
        """The error message, which says the same as the reply."""
        assert self.reply is not None
        assert self.reply["status"] == "error", self.reply
        content = self.of("error")[-1]
        assert {key: self.reply[key] for key in ("ename", "evalue", "traceback")} == content
        return content

    @property
    def is_idle(self) -> bool:
        return ("status", {"execution_state": "idle"}) in self.messages


class Kernel:
    """A running kernel and a client of it."""

    def __init__(self, connection_file: Path, pid: int, wait: Callable[[], int]) -> None:
        self.pid = pid
        self.wait = wait
        self.cells: dict[str, Cell] = {}
        folder = connection_file.parent
        until = time.monotonic() + PATIENCE_S
        while not all((folder / f"k-{n}").exists() for n in PORTS.values()):
            assert time.monotonic() < until, "the kernel made no sockets"
            time.sleep(0.005)
        self.client = BlockingKernelClient(connection_file=str(connection_file))
        self.client.load_connection_file()
        self.client.start_channels(hb=False)
        while not self._hears():
            assert time.monotonic() < until, "the kernel does not answer"

    def _hears(self) -> bool:
        # Until its own output reaches us: a subscription takes time to arrive.
        cell = self.start("pass", store_history=False, silent=True)
        try:
            self.until(lambda: cell.is_idle, within_s=0.2)
        except AssertionError:
            return False
        self.finish(cell)
        return True

    def start(self, code: str, *, env: dict[str, str] | None = None, warm: bool = False, allow_stdin: bool = False, **content: Any) -> Cell:
        session = self.client.session
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": False,
            **content,
        }
        msg = session.msg("execute_request", content)
        if env is not None or warm:
            msg["metadata"] = {"kernelgate": {"env": env or {}, "warm": warm}}
        self.client.shell_channel.send(msg)
        return self.cells.setdefault(msg["header"]["msg_id"], Cell(msg["header"]["msg_id"]))

    def until(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        until = time.monotonic() + within_s
        while not condition():
            left = until - time.monotonic()
            assert left > 0, [(c.messages[-3:], c.reply) for c in list(self.cells.values())[-2:]]
            try:
                msg = self.client.get_iopub_msg(timeout=min(left, 0.05))
            except Empty:
                continue
            cell = self.cells.get(msg["parent_header"].get("msg_id", ""))
            if cell is not None:
                cell.messages.append((msg["msg_type"], msg["content"]))

    def finish(self, cell: Cell, within_s: float = PATIENCE_S) -> Cell:
        self.until(lambda: cell.is_idle, within_s)
        while cell.reply is None:
            msg = self.client.get_shell_msg(timeout=within_s)
            owner = self.cells.get(msg["parent_header"].get("msg_id", ""))
            if owner is not None:
                owner.reply = msg["content"]
        return cell

    def run(self, code: str, **options: Any) -> Cell:
        return self.finish(self.start(code, **options))

    def interrupt_when_ready(self, code: str, **options: Any) -> Cell:
        """Run a cell that prints `ready`, and interrupt it then; it must end within a second."""
        cell = self.start(code, **options)
        self.until(lambda: "ready" in cell.stdout)
        os.kill(self.pid, signal.SIGINT)
        return self.finish(cell, within_s=1.0)

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        msg = self.client.session.msg(kind, content)
        self.client.shell_channel.send(msg)
        while True:
            reply = self.client.get_shell_msg(timeout=PATIENCE_S)
            if reply["parent_header"]["msg_id"] == msg["header"]["msg_id"]:
                found: dict[str, Any] = reply["content"]
                return found

    def close(self) -> None:
        self.client.stop_channels()


def connection_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = {"transport": "ipc", "ip": str(folder / "k"), "key": uuid.uuid4().hex, "signature_scheme": "hmac-sha256", **PORTS}
    path = folder / "connection.json"
    path.write_text(json.dumps(info))
    return path


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name in ("PATH", "LANG") if (value := os.getenv(name))}
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}


class Program:
    """Kernels started as kernel.json says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[tuple[subprocess.Popen[bytes], Kernel]] = []

    def start(self) -> Kernel:
        file = connection_file(self.folder / str(len(self.processes)))
        argv = [sys.executable, "-m", "kernelgate.kernels.python", "-f", str(file)]
        process = subprocess.Popen(argv, cwd=file.parent, env=environment(file.parent), start_new_session=True)
        kernel = Kernel(file, process.pid, lambda: process.wait(PATIENCE_S))
        self.processes.append((process, kernel))
        return kernel

    def close(self) -> None:
        for process, kernel in self.processes:
            kernel.close()
            process.kill()
            process.wait()


class Zygote:
    """A process that prepares once and forks kernels, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.count = 0
        self.kernel: Kernel | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment(folder),
        )
        assert self.process.stdout is not None
        self.facts = json.loads(self.process.stdout.readline())

    def start(self) -> Kernel:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.count += 1
        file = connection_file(self.folder / str(self.count))
        self.process.stdin.write(f"{file}\n")
        self.process.stdin.flush()
        output = self.process.stdout
        self.kernel = Kernel(file, int(output.readline()), lambda: int(output.readline()))
        return self.kernel

    def close(self) -> None:
        if self.kernel is not None:
            self.kernel.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.kernel.pid, signal.SIGKILL)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("p"))
    yield program
    program.close()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("z") / "z")
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def forked(zygote: Zygote) -> Kernel:
    return zygote.start()


@pytest.fixture(scope="module")
def program(programs: Program) -> Kernel:
    return programs.start()


@pytest.fixture(params=["program", "forked"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    found: Kernel = request.getfixturevalue(request.param)
    return found


def test_prepare_leaves_a_process_that_may_fork(zygote: Zygote) -> None:
    facts = zygote.facts
    assert facts["modules"] == ["numpy", "pandas", "matplotlib"]
    assert facts["missing"] == ["not_a_module"]
    assert facts["tasks"] == 1
    assert not [name for name in facts["files"] if name.startswith(("socket:", "anon_inode:")) or name.endswith((".sqlite", ".ttf"))]
    assert facts["blas"] is None
    assert not list((zygote.folder).glob(".ipython")), "IPython made itself a home"


# -- results and streams -----------------------------------------------------------------------------------------------------------------


def test_result(kernel: Kernel) -> None:
    cell = kernel.run("6*7")
    assert cell.result == {"text/plain": "42"}
    assert cell.ok["execution_count"] == cell.of("execute_result")[0]["execution_count"]


@pytest.mark.parametrize("code", ["x = 1", "", "# nothing", "def f(): pass", "None", "1;"])
def test_no_result_and_still_counted(kernel: Kernel, code: str) -> None:
    before = kernel.run("0").ok["execution_count"]
    cell = kernel.run(code)
    assert not cell.of("execute_result")
    assert cell.ok["execution_count"] == before + 1
    assert cell.of("execute_input")[0]["execution_count"] == before + 1
    assert kernel.run("0").ok["execution_count"] == before + 2


def test_a_cell_that_warms_leaves_no_trace(programs: Program) -> None:
    kernel = programs.start()
    before = kernel.run("names = sorted(globals()); names, In, Out, _, __, _i, _oh")
    other = programs.start()
    warm = other.finish(other.start("x = 6; x * 7", silent=True, store_history=False, warm=True))
    assert (warm.ok["status"], warm.result) == ("ok", {"text/plain": "42"})
    after = other.run("names = sorted(globals()); names, In, Out, _, __, _i, _oh")
    assert after.result == before.result
    assert (after.ok["execution_count"], after.stdout) == (1, "")


def test_a_cell_is_transformed_once(kernel: Kernel) -> None:
    note = "calls = []\ndef note(lines):\n    calls.append(lines)\n    return lines\n"
    kernel.run(note + "get_ipython().input_transformers_cleanup.append(note)")
    kernel.run("calls.clear()")
    assert kernel.run("len(calls)").result["text/plain"] == "1"
    kernel.run("get_ipython().input_transformers_cleanup.remove(note)")


def test_what_waits_behind_an_error_is_not_run(kernel: Kernel) -> None:
    until_another_waits = "import select\nfds = [one.fd for one in get_ipython().kernel.shell_channel.connections.values()]\nprint('ready')\nselect.select(fds, [], [])\n"
    failing = kernel.start(until_another_waits + "1/0", stop_on_error=True)
    kernel.until(lambda: "ready" in failing.stdout)  # else both are taken at once, and nothing waits in the socket
    waiting = kernel.start("left = 1")
    assert kernel.finish(failing).error["ename"] == "ZeroDivisionError"
    assert kernel.finish(waiting).reply == {"status": "aborted"}
    assert kernel.run("'left' in globals()").result["text/plain"] == "False"


def test_it_holds_its_output_until_somebody_listens(programs: Program) -> None:
    kernel = programs.start()
    session, client = kernel.client.session, kernel.client
    client.control_channel.send(session.msg("kernelgate_hold_request", {}))
    while client.get_iopub_msg(timeout=PATIENCE_S)["msg_type"] != "kernelgate_held":
        pass
    cell = kernel.start(
        "import threading\nprint('kept')\nprinted = threading.Timer(0.05, print, ('late',)); printed.start(); printed.join()\n6 * 7"
    )
    with pytest.raises(Empty):
        client.get_iopub_msg(timeout=0.2)
    subscription = client.iopub_channel.socket
    subscription.unsubscribe(b"")
    subscription.subscribe(b"")
    kernel.finish(cell)
    assert (cell.stdout, cell.result["text/plain"]) == ("kept\nlate\n", "42")
    assert kernel.run("print('as before')").stdout == "as before\n"


def test_who_lets_it_hold_may_change_his_mind_at_once(kernel: Kernel) -> None:
    session, client = kernel.client.session, kernel.client
    subscription = client.iopub_channel.socket
    for number in range(100):
        client.control_channel.send(session.msg("kernelgate_hold_request", {}))
        while client.get_iopub_msg(timeout=PATIENCE_S)["msg_type"] != "kernelgate_held":
            pass
        subscription.unsubscribe(b"")
        subscription.subscribe(b"")
        assert kernel.run(str(number)).result["text/plain"] == str(number)


def test_history(kernel: Kernel) -> None:
    """From memory: there is no database."""

    def ask(**asked: Any) -> list[Any]:
        found = kernel.ask("history_request", **{"output": False, "raw": True, "session": 0, **asked})["history"]
        return [text for _, _, text in found]

    for code in ("h1 = 1", "h2 = 2; h2", "h1 = 1"):
        kernel.run(code)
    assert ask(hist_access_type="tail", n=2) == ["h2 = 2; h2", "h1 = 1"]
    assert ask(hist_access_type="search", pattern="h? = *") == ["h1 = 1", "h2 = 2; h2", "h1 = 1"]
    assert ask(hist_access_type="search", pattern="h? = *", unique=True) == ["h2 = 2; h2", "h1 = 1"]
    assert ask(hist_access_type="search", pattern="h? = *", n=1) == ["h1 = 1"]
    assert ask(hist_access_type="search", pattern="H? = *") == []
    assert "h2 = 2; h2\n" in kernel.run("%history -g h2*").stdout


def test_state_stays(kernel: Kernel) -> None:
    kernel.run("kept = [1]")
    assert kernel.run("kept.append(2); kept").result["text/plain"] == "[1, 2]"


def test_streams_apart_and_in_order(kernel: Kernel) -> None:
    cell = kernel.run("import sys\nfor i in range(3): print(i); print('e', i, file=sys.stderr)")
    # Where the machine is busy a line may come in two pieces.
    pieces = itertools.groupby(cell.of("stream"), key=lambda content: content["name"])
    assert [(name, "".join(content["text"] for content in contents)) for name, contents in pieces] == [
        pair for i in range(3) for pair in (("stdout", f"{i}\n"), ("stderr", f"e {i}\n"))
    ]


def test_the_parts_of_a_line_come_together(kernel: Kernel) -> None:
    """`print` writes its arguments and its newline one by one; a busy machine may take a while in between. Where it took too long it is tried again."""
    code = "import sys, time\ntime.sleep(0.03); sys.stdout.write('a'); time.sleep(0.004); sys.stdout.write('\\n')"
    assert any([content["text"] for content in kernel.run(code).of("stream")] == ["a\n"] for _ in range(10))


@pytest.mark.parametrize(
    "write",
    [
        "os.system('echo 2')",
        "os.write(1, b'2\\n')",
        "subprocess.run(['echo', '2'])",
        "subprocess.run(['echo', '2'], stdout=sys.stdout)",
        "sys.stdout.buffer.write(b'2\\n')",
    ],
)
def test_whoever_writes_is_seen_in_order(kernel: Kernel, write: str) -> None:
    assert kernel.run(f"import os, subprocess, sys\nprint(1); {write}; print(3)").stdout == "1\n2\n3\n"


def test_shell_commands(kernel: Kernel) -> None:
    cell = kernel.run("!echo out; echo err >&2; exit 3")
    assert (cell.stdout, cell.stderr) == ("out\n", "err\n")
    assert kernel.run("_exit_code").result["text/plain"] == "3"
    cell = kernel.run("%%bash\necho out\necho err >&2")
    assert (cell.stdout, cell.stderr) == ("out\n", "err\n")


def test_unflushed_output_arrives_while_the_cell_runs(kernel: Kernel) -> None:
    cell = kernel.start("import time\nprint('now', time.time(), end='')\nimport threading; threading.Event().wait(0.5)")
    kernel.until(lambda: bool(cell.stdout))
    took = time.time() - float(cell.stdout.split()[1])
    assert took < 0.3  # 20 ms where nothing else runs
    assert not cell.is_idle
    kernel.finish(cell)


def test_ten_megabytes_arrive_whole(kernel: Kernel) -> None:
    cell = kernel.run("for i in range(100_000): print('%099d' % i)")
    assert cell.stdout == "".join(f"{i:099d}\n" for i in range(100_000))
    cell = kernel.run("import os\nos.system('seq 1000000')")
    assert cell.stdout == "".join(f"{i}\n" for i in range(1, 1_000_001))


def test_text_cut_in_the_middle_of_a_character(kernel: Kernel) -> None:
    cell = kernel.run("import os\ndata = 'é€😀'.encode()\nfor i in range(len(data)): os.write(1, data[i:i+1])")
    assert cell.stdout == "é€😀"


def test_a_slow_reader_loses_nothing(programs: Program) -> None:
    kernel = programs.start()
    cell = kernel.start("from IPython.display import display\nfor i in range(4000): display(i)")
    # Nothing is read in the meantime: more than all buffers on the way hold.
    threading.Event().wait(0.5)
    kernel.finish(cell)
    assert [c["data"]["text/plain"] for c in cell.of("display_data")] == [str(i) for i in range(4000)]


def test_display_updates_and_clear(kernel: Kernel) -> None:
    cell = kernel.run("from IPython.display import clear_output, display\nd = display('x', display_id='i'); d.update('y'); clear_output()")
    assert cell.of("display_data")[0]["transient"] == {"display_id": "i"}
    assert cell.of("update_display_data")[0]["data"]["text/plain"] == "'y'"
    assert cell.of("clear_output") == [{"wait": False}]


@pytest.mark.parametrize(
    ("code", "mime", "value"),
    [
        ("[1, {'a': None}]", "application/json", [1, {"a": None}]),
        ("from IPython.display import Markdown; Markdown('*x*')", "text/markdown", "*x*"),
        ("from IPython.display import Latex; Latex('$x$')", "text/latex", "$x$"),
        ("from IPython.display import HTML; HTML('<b>')", "text/html", "<b>"),
        ("from IPython.display import Javascript; Javascript('1')", "application/javascript", "1"),
        (
            "class B:\n  def _repr_mimebundle_(self, **kw): return {'text/plain': 'b', 'application/x-y': {'a': 1}}\nB()",
            "application/x-y",
            {"a": 1},
        ),
    ],
)
def test_representations(kernel: Kernel, code: str, mime: str, value: object) -> None:
    bundle = kernel.run(code).result
    assert bundle[mime] == value
    assert "text/plain" in bundle


def test_raw_bundle_is_left_alone(kernel: Kernel) -> None:
    cell = kernel.run("from IPython.display import display\ndisplay({'text/latex': 'x'}, raw=True)")
    assert cell.of("display_data")[0]["data"] == {"text/latex": "x"}


def test_help_is_an_output(kernel: Kernel) -> None:
    cell = kernel.run("len?")
    assert "number of items" in cell.of("display_data")[0]["data"]["text/plain"]
    assert cell.ok["payload"] == []
    assert "number of items" in kernel.run("help(len)").stdout


# -- errors ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "ename", "evalue"),
    [
        ("1/0", "ZeroDivisionError", "division by zero"),
        ("def f(:", "SyntaxError", "invalid syntax"),
        ("if 1:\nx", "IndentationError", "expected an indented block"),
        ("%nosuchmagic", "UsageError", "nosuchmagic"),
        ("import sys; sys.exit(3)", "SystemExit", "3"),
        ("raise ExceptionGroup('many', [ValueError(1)])", "ExceptionGroup", "many"),
        ("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", "Odd", "failed"),
        ("class R:\n    def __repr__(self): raise KeyError('r')\nR()", "KeyError", "r"),
        ("input()", "StdinNotImplementedError", ""),
        ("import getpass; getpass.getpass()", "StdinNotImplementedError", ""),
        ("import sys; sys.stdin.readline()", "StdinNotImplementedError", ""),
        ("eval('1 +')", "SyntaxError", "invalid syntax"),
        ("import asyncio\nasync def f(): raise KeyError('k')\nawait f()", "KeyError", "k"),
        ("%%bash\nfalse", "CalledProcessError", ""),
    ],
)
def test_errors(kernel: Kernel, code: str, ename: str, evalue: str) -> None:
    cell = kernel.run(code)
    assert cell.error["ename"] == ename
    assert evalue in cell.error["evalue"]
    text = "\n".join(cell.error["traceback"])
    assert ename in text or ename == "Odd"
    assert "\x1b" not in text
    for inside in ("ipykernel/", "IPython/", "kernelgate/"):
        assert inside not in text
    assert cell.stderr == ""


def test_traceback_keeps_library_frames_and_causes(kernel: Kernel) -> None:
    cell = kernel.run("import json\ntry:\n    json.loads('{')\nexcept ValueError as exc:\n    raise RuntimeError('outer') from exc")
    text = "\n".join(cell.error["traceback"])
    assert "json/decoder.py" in text
    assert "direct cause" in text
    assert "Cell In[" in text


# -- interrupts --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "print('ready')\nwhile True: pass",
        "import time; print('ready'); time.sleep(60)",
        "import asyncio; print('ready'); await asyncio.sleep(60)",
        "import asyncio; await asyncio.sleep(0); print('ready')\nwhile True: pass",
        "import asyncio\nasync def spin():\n    print('ready')\n    while True: pass\ntask = asyncio.create_task(spin()); await asyncio.sleep(60)",
        "import asyncio\nasync def main(): print('ready'); await asyncio.sleep(60)\nasyncio.run(main())",
        "import subprocess; print('ready'); subprocess.run(['sleep', '60'])",
        "import os; os.system('echo ready; sleep 60; echo not this')",
        "!echo ready; sleep 60; echo not this",
        "%%bash\necho ready; sleep 60; echo not this",
        "import threading; print('ready'); threading.Event().wait()",
        "print('ready')\nwhile True: print('x' * 50)",
        "import multiprocessing, time\np = multiprocessing.Process(target=time.sleep, args=(60,)); p.start(); print('ready'); p.join()",
    ],
)
def test_interrupt(kernel: Kernel, code: str) -> None:
    kernel.run("kept = 1")
    cell = kernel.interrupt_when_ready(code)
    assert cell.error["ename"] == "KeyboardInterrupt"
    assert "not this" not in cell.stdout
    assert kernel.run("kept").result["text/plain"] == "1"


@pytest.mark.parametrize("then", ["pass", "wire.raise_deferred()"])
def test_an_interrupt_that_comes_while_the_loop_writes_or_reads_ends_a_cell_that_awaits(kernel: Kernel, then: str) -> None:
    """Its lock, which puts a KeyboardInterrupt off, is held by the loop and not by the cell, which does nothing meanwhile that could raise it."""
    kernel.run(
        "import asyncio, os, signal\n"
        "wire = get_ipython().kernel.iopub_socket\n"
        "def write():\n"
        "    with wire.lock:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        sum(range(100))\n"
        f"    {then}\n"
    )
    cell = kernel.run("call = asyncio.get_running_loop().call_later(0.01, write); await asyncio.sleep(20)")
    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert kernel.run("del wire, write, call; 6 * 7").result["text/plain"] == "42"


def test_interrupt_by_message(kernel: Kernel) -> None:
    cell = kernel.start("import time; print('ready'); time.sleep(60)")
    kernel.until(lambda: "ready" in cell.stdout)
    kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", {}))
    assert kernel.finish(cell, within_s=1.0).error["ename"] == "KeyboardInterrupt"
    assert kernel.client.get_control_msg(timeout=PATIENCE_S)["content"]["status"] == "ok"


def test_swallowed_interrupt_is_the_codes_own_affair(kernel: Kernel) -> None:
    cell = kernel.interrupt_when_ready(
        "import time\ntry:\n    print('ready'); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('no')\n7"
    )
    assert cell.result["text/plain"] == "7"
    assert "no\n" in cell.stdout


def test_interrupt_outside_a_cell_does_nothing(kernel: Kernel) -> None:
    os.kill(kernel.pid, signal.SIGINT)
    assert kernel.run("1").result["text/plain"] == "1"


def test_interrupt_spares_what_earlier_cells_started(kernel: Kernel) -> None:
    kernel.run("import subprocess, time; server = subprocess.Popen(['sleep', '60']); time.sleep(0.05)")
    kernel.interrupt_when_ready("print('ready'); time.sleep(60)")
    assert kernel.run("server.poll() is None").result["text/plain"] == "True"
    kernel.run("server.kill(); server.wait()")


# -- the environment of one execution ----------------------------------------------------------------------------------------------------


def test_env_is_real_and_undone(kernel: Kernel) -> None:
    kernel.run("import os; os.environ['KEPT'] = 'before'")
    cell = kernel.run(
        "import os; print(os.environ['KEPT'], os.getenv('NEW')); os.system('echo $KEPT $NEW')", env={"KEPT": "a'\"$b", "NEW": "n"}
    )
    assert cell.stdout == "a'\"$b n\na'\"$b n\n"
    assert kernel.run("print(os.environ['KEPT'], os.getenv('NEW'))").stdout == "before None\n"


def test_env_is_undone_after_an_error_and_an_interrupt(kernel: Kernel) -> None:
    kernel.run("import os, time")
    assert kernel.run("1/0", env={"NEW": "n"}).error["ename"] == "ZeroDivisionError"
    assert kernel.run("print(os.getenv('NEW'))").stdout == "None\n"
    kernel.interrupt_when_ready("print('ready'); time.sleep(60)", env={"NEW": "n"})
    assert kernel.run("print(os.getenv('NEW'))").stdout == "None\n"


# -- threads, processes, asyncio ---------------------------------------------------------------------------------------------------------


def test_late_output_belongs_to_the_cell_it_came_from(kernel: Kernel) -> None:
    first = kernel.run(
        "import threading\ngo = threading.Event()\n"
        "def late(): go.wait(); print('late'); display('shown')\n"
        "thread = threading.Thread(target=late); thread.start()"
    )
    kernel.ask("kernel_info_request")
    second = kernel.run("go.set(); thread.join(); print('mine')")
    kernel.until(lambda: bool(first.of("display_data")))
    assert (first.stdout, second.stdout) == ("late\n", "mine\n")


def test_thread_pool_prints_into_the_cell_that_gave_the_work(kernel: Kernel) -> None:
    kernel.run("from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1); list(pool.map(print, 'a'))")
    assert kernel.run("r = list(pool.map(print, 'b'))").stdout == "b\n"


def test_late_output_of_a_child_process(kernel: Kernel) -> None:
    cell = kernel.run("import os, subprocess\nr, w = os.pipe(); late = subprocess.Popen('read x; echo late', shell=True, stdin=r)")
    kernel.ask("kernel_info_request")
    os.kill(kernel.pid, 0)
    kernel.ask("complete_request", code="os.wri", cursor_pos=6)
    done = kernel.run("os.write(w, b'\\n'); late.wait(); os.close(w); os.close(r)")
    kernel.until(lambda: "late" in cell.stdout + done.stdout)


def test_multiprocessing(kernel: Kernel) -> None:
    cell = kernel.run(
        "import multiprocessing\ndef f(x):\n    print('child', x)\n    return x * x\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(f, range(3)))"
    )
    assert sorted(cell.stdout.splitlines()) == ["[0, 1, 4]", "child 0", "child 1", "child 2"]


def test_children_that_are_ended_at_once_do_not_end_the_kernel(kernel: Kernel) -> None:
    cell = kernel.run(
        "import multiprocessing, time\nfork = multiprocessing.get_context('fork')\n"
        "for _ in range(40):\n    p = fork.Process(target=time.sleep, args=(60,)); p.start(); p.terminate(); p.join()\n"
        "p.exitcode"
    )
    assert cell.result["text/plain"] == str(-signal.SIGTERM)


def test_display_from_a_forked_child(kernel: Kernel) -> None:
    cell = kernel.run(
        "import multiprocessing\np = multiprocessing.get_context('fork').Process(target=lambda: display('c')); p.start(); p.join()"
    )
    kernel.until(lambda: bool(cell.of("display_data")))
    assert cell.of("display_data")[0]["data"]["text/plain"] == "'c'"


def test_await_and_asyncio_run(kernel: Kernel) -> None:
    kernel.run("import asyncio\nasync def f(): await asyncio.sleep(0); return 5")
    assert kernel.run("await f()").result["text/plain"] == "5"
    assert kernel.run("asyncio.run(f())").result["text/plain"] == "5"
    assert kernel.run("asyncio.run(f()) + await f()").result["text/plain"] == "10"
    kernel.run("task = asyncio.create_task(f())")
    assert kernel.run("await task").result["text/plain"] == "5"


# -- other requests ----------------------------------------------------------------------------------------------------------------------


def test_who_waits_hears_that_a_silent_cell_runs(kernel: Kernel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cell = kernel.start(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)", silent=True)
    kernel.until(lambda: ("status", {"execution_state": "busy"}) in cell.messages)
    gate.touch()
    assert kernel.finish(cell).ok["status"] == "ok"


@contextlib.contextmanager
def another(kernel: Kernel) -> Iterator[BlockingKernelClient]:
    """Another client of the same kernel."""
    client = BlockingKernelClient(connection_file=str(kernel.client.connection_file))
    client.load_connection_file()
    client.start_channels(hb=False)
    try:
        yield client
    finally:
        client.stop_channels()
        client.context.term()


def test_who_comes_while_a_cell_runs_is_served(kernel: Kernel) -> None:
    cell = kernel.start("import threading\nprint('waits')\nthreading.Event().wait(20)")
    kernel.until(lambda: cell.stdout == "waits\n")
    with another(kernel) as other:
        assert other.get_iopub_msg(timeout=PATIENCE_S)["msg_type"] == "iopub_welcome"
        asked = other.session.msg("interrupt_request", {})
        other.control_channel.send(asked)
        assert other.get_control_msg(timeout=PATIENCE_S)["parent_header"]["msg_id"] == asked["header"]["msg_id"]
    assert kernel.finish(cell).error["ename"] == "KeyboardInterrupt"
    assert kernel.run("6 * 7").result["text/plain"] == "42"


def test_the_heart_beats_while_a_cell_keeps_the_interpreter(programs: Program) -> None:
    """As it does with ipykernel: C code that holds the interpreter's lock is no dead kernel."""
    kernel = programs.start()
    client = kernel.client

    def beats() -> bool:
        with client.context.socket(zmq.REQ) as heart:
            heart.linger = 0
            heart.connect(client._make_url("hb"))
            heart.send(b"ping")
            return bool(heart.poll(PATIENCE_S * 1000)) and heart.recv() == b"ping"

    assert beats()
    cell = kernel.start("import ctypes, sys\nprint('begins'); sys.stdout.flush()\nctypes.PyDLL(None).sleep(2)\nprint('ended')")
    kernel.until(lambda: "begins" in cell.stdout)
    assert beats()
    assert cell.stdout == "begins\n"
    assert kernel.finish(cell).stdout == "begins\nended\n"


def test_what_a_cell_does_to_sockets_and_signals_is_its_own_affair(programs: Program) -> None:
    kernel = programs.start()
    kernel.run(
        "import select, signal, socket\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nsocket.setdefaulttimeout(0.001)\nsocket.socket = select.poll = select.select = None"
    )
    for _ in range(3):  # who leaves before his answer, which then has nowhere to go
        with another(kernel) as other:
            other.execute("'x' * 10_000_000")
    with another(kernel) as other:
        asked = other.execute("6 * 7")
        while (reply := other.get_shell_msg(timeout=PATIENCE_S))["parent_header"]["msg_id"] != asked:
            pass
    assert reply["content"]["status"] == "ok"
    assert kernel.run("6 * 7").result["text/plain"] == "42"


def test_complete_inspect_is_complete(kernel: Kernel) -> None:
    kernel.run("names = {'alpha': 1}; import os")
    reply = kernel.ask("complete_request", code="os.getp", cursor_pos=7)
    assert ".getpid" in reply["matches"] or "getpid" in [match.rpartition(".")[2] for match in reply["matches"]]
    assert kernel.ask("complete_request", code="names['al", cursor_pos=9)["matches"] == ["alpha"]
    reply = kernel.ask("inspect_request", code="os.getpid", cursor_pos=9, detail_level=0)
    assert reply["found"]
    assert "process id" in reply["data"]["text/plain"]
    assert not kernel.ask("inspect_request", code="nothing_here", cursor_pos=3, detail_level=0)["found"]
    for code, status in (("1", "complete"), ("for x in y:", "incomplete"), ("1 +* 2", "invalid")):
        assert kernel.ask("is_complete_request", code=code)["status"] == status


def test_kernel_info_is_honest(kernel: Kernel) -> None:
    info = kernel.ask("kernel_info_request")
    assert info["language_info"]["name"] == "python"
    assert info["supported_features"] == ["kernel subshells"]


def test_stdin(kernel: Kernel) -> None:
    cell = kernel.start("import sys\nprint(input('name? ') + sys.stdin.readline())", allow_stdin=True)
    for answer, prompt in (("a", "name? "), ("b", "")):
        request = kernel.client.get_stdin_msg(timeout=PATIENCE_S)
        assert request["content"] == {"prompt": prompt, "password": False}
        kernel.client.input(answer)
    assert kernel.finish(cell).stdout == "ab\n\n"


def test_magics(kernel: Kernel) -> None:
    assert kernel.run("get_ipython().run_line_magic('time', '1')").result["text/plain"] == "1"
    assert "pip" in kernel.run("%pip --version").stdout
    cell = kernel.run("%%writefile script.py\nprint('ran')")
    assert kernel.run("%run script.py").stdout == "ran\n"
    assert cell.ok


def test_nothing_is_left_in_the_home(zygote: Zygote, forked: Kernel) -> None:
    forked.run("x = 1")
    forked.ask("complete_request", code="x.re", cursor_pos=4)
    names = {path.name for path in (zygote.folder / "1").iterdir()}
    assert not {name for name in names if name.startswith(".")}, names


def test_kernels_of_one_zygote_draw_different_numbers(zygote: Zygote, forked: Kernel) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.rand())"
    assert len(set(forked.run(code).stdout.split()) | set(forked.run(code).stdout.split())) == 4
    assert (
        forked.run("import sys; sys.argv, __name__, 'x' in globals(), _oh is Out")
        .result["text/plain"]
        .startswith("(['python'], '__main__'")
    )


# -- tables and figures ------------------------------------------------------------------------------------------------------------------

PNG, CHART, DATA = "image/png", "application/vnd.kernelgate.chart+json", "application/vnd.kernelgate.data+json"


def test_table(forked: Kernel) -> None:
    bundle = forked.run(
        "import pandas as pd\npd.DataFrame({'n': [1, 2], 't': pd.to_datetime(['2024-01-02', None]), 3: ['x', None]})"
    ).result
    assert bundle[DATA] == {"n": [1, 2], "t": ["2024-01-02T00:00:00", None], "3": ["x", None]}
    assert "<table" in bundle["text/html"]


def test_each_figure_is_one_display_with_its_chart(forked: Kernel) -> None:
    cell = forked.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\nplt.figure(); plt.bar(['a'], [3]);")
    bundles = [content["data"] for content in cell.of("display_data")]
    assert [bundle[CHART]["type"] for bundle in bundles] == ["line", "bar"]
    assert all(bundle[PNG].startswith("iVBOR") for bundle in bundles)
    assert forked.run("plt.get_fignums()").result["text/plain"] == "[]"


@pytest.mark.parametrize("last", ["fig", "ax.figure", "plt.gcf()"])
def test_figure_as_last_expression_is_shown_once(forked: Kernel, last: str) -> None:
    cell = forked.run(f"import matplotlib.pyplot as plt\nfig, ax = plt.subplots(); ax.plot([1, 2]);\n{last}")
    assert PNG in cell.result
    assert cell.of("display_data") == []


def test_displayed_figure_is_shown_again_only_if_changed(forked: Kernel) -> None:
    assert len(forked.run("fig, ax = plt.subplots(); ax.plot([1, 2]); display(fig)").of("display_data")) == 1
    assert len(forked.run("fig, ax = plt.subplots(); ax.plot([1, 2]); display(fig); ax.set_title('t');").of("display_data")) == 2


def test_figure_formats_of_the_users_choice(forked: Kernel) -> None:
    [shown] = forked.run("%config InlineBackend.figure_formats = ['svg', 'jpeg']\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);").of(
        "display_data"
    )
    assert set(shown["data"]) == {"text/plain", "image/svg+xml", "image/jpeg", CHART}
    forked.run("%config InlineBackend.figure_formats = ['png']")


def test_matplotlib_that_was_not_preloaded(program: Kernel) -> None:
    cell = program.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert set(cell.of("display_data")[0]["data"]) == {"text/plain", PNG, CHART}
    assert cell.stderr == ""


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # whoever inherits it may not reap it


# -- the end -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [("exit()", 0), ("quit", 0), ("exit(4); print('not this')", 4)])
def test_exit_answers_and_ends_the_kernel(programs: Program, code: str, status: int) -> None:
    kernel = programs.start()
    cell = kernel.run(code)
    assert cell.ok
    assert (cell.stdout, cell.of("error")) == ("", [])
    assert kernel.wait() == status


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Also where it has taken stdout and stderr for its cells already."""
    (tmp_path / "connection.json").write_text(json.dumps({"transport": "ipc", "ip": str(tmp_path / "k"), "key": "", **PORTS}))
    script = "import sys\nfrom kernelgate.kernels import python\ndef serve(app): raise RuntimeError('no thread left')\npython.KernelApp.serve = serve\npython.run(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "connection.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: no thread left" in done.stderr


def test_os_exit_is_the_status(programs: Program) -> None:
    kernel = programs.start()
    cell = kernel.start("import os; print('kept'); os._exit(3)")
    assert kernel.wait() == 3
    kernel.until(lambda: cell.stdout == "kept\n")


def test_sigterm_ends_it_while_a_cell_runs_children_included(programs: Program) -> None:
    kernel = programs.start()
    cell = kernel.start("import subprocess, time\nchild = subprocess.Popen(['sleep', '60']); print(child.pid)\nwhile True: pass")
    kernel.until(lambda: cell.stdout.endswith("\n"))
    started = time.monotonic()
    os.kill(kernel.pid, signal.SIGTERM)
    assert kernel.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - started < 1
    assert not is_running(int(cell.stdout))


def test_shutdown_answers_and_ends_it_while_a_cell_runs(programs: Program) -> None:
    kernel = programs.start()
    cell = kernel.start(
        "import subprocess, time\nchild = subprocess.Popen('trap \"\" TERM; sleep 60', shell=True); print(child.pid)\ntime.sleep(60)"
    )
    kernel.until(lambda: cell.stdout.endswith("\n"))
    started = time.monotonic()
    kernel.client.control_channel.send(kernel.client.session.msg("shutdown_request", {"restart": False}))
    assert kernel.client.get_control_msg(timeout=PATIENCE_S)["content"] == {"status": "ok", "restart": False}
    assert kernel.wait() == 0
    assert time.monotonic() - started < 1.5
    assert not is_running(int(cell.stdout))


def test_shutdown_runs_atexit(programs: Program) -> None:
    kernel = programs.start()
    kernel.run("import atexit, pathlib; atexit.register(pathlib.Path('at_exit').touch)")
    kernel.client.control_channel.send(kernel.client.session.msg("shutdown_request", {"restart": False}))
    assert kernel.wait() == 0
    assert (programs.folder / str(len(programs.processes) - 1) / "at_exit").exists()


def test_a_forked_kernel_ends_as_well(zygote: Zygote, forked: Kernel) -> None:
    # Last of the tests that use it.
    assert forked.run("exit(5)").ok
    assert forked.wait() == 5
