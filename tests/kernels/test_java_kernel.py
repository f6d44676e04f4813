"""The Java kernel as installed, over tcp, by the words of docs/kernels.md."""

from __future__ import annotations

import base64
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import KernelManager

from tests.support.kernel_client import hears_a_namesake

FOLDER = Path(sys.prefix) / "share/jupyter/kernels/java"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "lib/kernel.jar").exists(),
    reason=f"the java kernel is not installed in {FOLDER}: run its install.sh",
)

DATA = "application/vnd.kernelgate.data+json"
WITHIN_S = 20.0


@dataclass
class Run:
    """What one execution came to."""

    reply: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    arrived_at: list[float] = field(default_factory=list)
    prompts: int = 0

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [m["content"] for m in self.messages if m["msg_type"] == kind]

    def stream(self, name: str = "stdout") -> str:
        return "".join(c["text"] for c in self.of("stream") if c["name"] == name)

    @property
    def value(self) -> Any:
        results = self.of("execute_result")
        assert len(results) == 1, self.messages
        return results[0]["data"]["text/plain"]


class Kernel:
    """One kernel process and a client of it."""

    def __init__(self, **options: Any) -> None:
        self.manager = KernelManager(kernel_name="java")
        self.manager.start_kernel(**options)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WITHIN_S)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = getattr(self.manager.provisioner, "process")  # noqa: B009 - the base class has none
        return process

    def send(self, code: str, *, allow_stdin: bool = False, env: dict[str, str] | None = None) -> str:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        metadata = {"kernelgate": {"env": env}} if env else {}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        request: str = message["header"]["msg_id"]
        return request

    def run(
        self,
        code: str,
        *,
        answers: list[str] | None = None,
        on_text: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Run:
        done = Run()
        request = self.send(code, allow_stdin=answers is not None, **options)
        until = time.monotonic() + WITHIN_S
        while True:
            if answers:
                try:
                    self.client.stdin_channel.get_msg(timeout=0.02)
                    done.prompts += 1
                    self.client.input(answers.pop(0))
                except queue.Empty:
                    pass
            try:
                message = self.client.get_iopub_msg(timeout=0.02 if answers else 0.5)
            except queue.Empty:
                assert time.monotonic() < until, f"no idle after {code!r}: {done.messages}"
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            done.messages.append(message)
            done.arrived_at.append(time.monotonic())
            if on_text and message["msg_type"] == "stream":
                on_text(message["content"]["text"])
            if message["content"].get("execution_state") == "idle":
                break
        done.reply = self.reply(request)
        return done

    def reply(self, request: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=WITHIN_S)
            if message["parent_header"]["msg_id"] == request:
                content: dict[str, Any] = message["content"]
                return content

    def late(self, request: str) -> dict[str, Any]:
        """The next output that names a given execution as its parent."""
        while True:
            message = self.client.get_iopub_msg(timeout=WITHIN_S)
            if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
                return message

    def interrupted(self, code: str, **options: Any) -> tuple[Run, float]:
        """Runs code that prints "go" and then does not end; interrupts it there. Seconds until idle."""
        told: list[float] = []

        def interrupt(_: str) -> None:
            if not told:
                told.append(time.monotonic())
                self.manager.interrupt_kernel()

        done = self.run(f'System.out.println("go"); {code}', on_text=interrupt, **options)
        return done, time.monotonic() - told[0]

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    running = Kernel()
    yield running
    running.close()


@pytest.fixture
def another() -> Iterator[Kernel]:
    running = Kernel()
    yield running
    running.close()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("6*7", "42"),
        ('"text"', "text"),
        ("int a = 2; a + 1", "3"),
        ("new int[][] {{1, 2}, {3}}", "[[1, 2], [3]]"),
        ("record Point(int x, int y) {}\nnew Point(1, 2)", "Point[x=1, y=2]"),
        ("import java.util.zip.CRC32;\nnew CRC32().getValue();", "0"),
        ("class Box<T> { T t; Box(T t) { this.t = t; } }\nnew Box<>(5).t", "5"),
        ("twice(4)", None),
        ("twice(4);\nint twice(int n) { return n * two(); }\nint two() { return 2; }\ntwice(5)", "10"),
        ('String été = "ü😀"; été', "ü😀"),
        ("null", "null"),
    ],
)
def test_value_of_the_last_expression(kernel: Kernel, code: str, text: str | None) -> None:
    done = kernel.run(code)
    if text is None:
        assert done.reply["ename"] == "CompilationError"
    else:
        assert done.value == text


@pytest.mark.parametrize(
    "code",
    ["", "// nothing", "int s = 1;", "s = 2", "s += 3", "s++;", "if (s > 0) { s = 1; }", "void f() {}", ";"],
)
def test_no_value(kernel: Kernel, code: str) -> None:
    kernel.run("int s = 0;")
    done = kernel.run(code)
    assert done.reply["status"] == "ok"
    assert [m["msg_type"] for m in done.messages] == ["status", "execute_input", "status"]


def test_execution_count_rises_by_one(kernel: Kernel) -> None:
    counts = [kernel.run(code).reply["execution_count"] for code in ("1", "", "1/0", "2")]
    assert counts == list(range(counts[0], counts[0] + 4))


def test_display_has_no_stray_result_and_can_be_updated(kernel: Kernel) -> None:
    done = kernel.run('display("hi")')
    assert [d["data"] for d in done.of("display_data")] == [{"text/plain": "hi"}]
    assert not done.of("execute_result")
    done = kernel.run("String id = display(1); updateDisplay(id, 2); id")
    (shown,), (updated,) = done.of("display_data"), done.of("update_display_data")
    assert shown["transient"] == updated["transient"] == {"display_id": done.value}
    assert updated["data"]["text/plain"] == "2"


@pytest.mark.parametrize(
    ("code", "mime_type", "data"),
    [
        ('display("<b>x</b>", "text/html");', "text/html", "<b>x</b>"),
        ('display(markdown("# x"));', "text/markdown", "# x"),
        ('display(latex("$x$"));', "text/latex", "$x$"),
        ('display(svg("<svg/>"));', "image/svg+xml", "<svg/>"),
        ('display(json("[1, null]"));', "application/json", [1, None]),
        ('display(Map.of("a", List.of(1)), "application/json");', "application/json", {"a": [1]}),
        ('display("%PDF-".getBytes(), "application/pdf");', "application/pdf", "JVBERi0="),
    ],
)
def test_display_by_mime_type(kernel: Kernel, code: str, mime_type: str, data: Any) -> None:
    (shown,) = kernel.run(code).of("display_data")
    assert shown["data"][mime_type] == data
    assert "text/plain" in shown["data"]


def test_image(kernel: Kernel) -> None:
    code = "import java.awt.image.BufferedImage;\nvar im = new BufferedImage(4, 3, BufferedImage.TYPE_INT_ARGB);\n"
    done = kernel.run(code + 'display(im); display(im, "image/jpeg"); im')
    png, jpeg = (d["data"] for d in done.of("display_data"))
    assert base64.b64decode(png["image/png"]).startswith(b"\x89PNG")
    assert base64.b64decode(jpeg["image/jpeg"]).startswith(b"\xff\xd8")
    assert done.of("execute_result")[0]["data"] == png


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ('List.of(Map.of("a", 1), new TreeMap<>(Map.of("a", 2, "b", "x")))', {"a": [1, 2], "b": [None, "x"]}),
        (
            (
                "record Day(String n, LocalDate d, double v) {}\n"
                'List.of(new Day("<", LocalDate.of(2024, 1, 2), 0.5), new Day("b", null, Double.NaN))'
            ),
            {"n": ["<", "b"], "d": ["2024-01-02", None], "v": [0.5, None]},
        ),
        ("new int[][] {{1, 2}, {3, 4}}", {"0": [1, 3], "1": [2, 4]}),
        ('table(Map.of("k", List.of(1, 2)))', {"k": [1, 2]}),
    ],
)
def test_table(kernel: Kernel, code: str, data: dict[str, Any]) -> None:
    (result,) = kernel.run(code).of("execute_result")
    assert result["data"][DATA] == data
    assert result["data"]["text/html"].startswith("<table")
    assert "<td><</td>" not in result["data"]["text/html"]


def test_streams_apart_in_order_and_while_the_cell_runs(kernel: Kernel) -> None:
    done = kernel.run('System.out.print("a"); Thread.sleep(300); System.err.println("b"); System.out.write(\'c\');')
    assert [(c["name"], c["text"]) for c in done.of("stream")] == [("stdout", "a"), ("stderr", "b\n"), ("stdout", "c")]
    assert done.arrived_at[-1] - done.arrived_at[2] > 0.25


def test_child_processes_and_native_writes_are_captured_in_order(kernel: Kernel) -> None:
    done = kernel.run(
        'System.out.print("1");'
        'new ProcessBuilder("sh", "-c", "cat; printf 2; printf x >&2").inheritIO().start().waitFor();'
        'System.out.print("3"); new FileOutputStream(FileDescriptor.out).write("é".getBytes());'
    )
    assert (done.stream(), done.stream("stderr")) == ("123é", "x")


def test_ten_megabytes(kernel: Kernel) -> None:
    done = kernel.run('for (int i = 0; i < 500_000; i++) System.out.println("é".repeat(9) + (i % 10));')
    assert done.stream() == "".join("é" * 9 + f"{i % 10}\n" for i in range(500_000))


@pytest.mark.parametrize(
    ("code", "name", "message", "frames"),
    [
        ("int d(int n) {\n  return 1 / n;\n}\n\nd(0)", "ArithmeticException", "/ by zero", ["at d (cell N:line 2)", "at cell N:line 5"]),
        (
            ('class Mine extends RuntimeException { Mine(String m, Throwable c) { super(m, c); } }\n'
            'throw new Mine("outer", new IllegalStateException("inner"));'),
            "Mine", "outer", ["at cell N:line 2", "Caused by: IllegalStateException: inner", "at cell N:line 2"],
        ),
        ("int n = 1;\nint m = n +;", "CompilationError", "line 2: illegal start of expression", ["    int m = n +;", "               ^"]),
        ('String t = 5;', "CompilationError", "line 1: incompatible types: int cannot be converted to java.lang.String", ["    String t = 5;", "               ^"]),
        ("for (;;) {", "CompilationError", "line 1: reached end of file while parsing", []),
        ("new Scanner(System.in).nextLine()", "StdinNotAllowedException", None, []),
    ],
)  # fmt: skip
def test_errors(kernel: Kernel, code: str, name: str, message: str | None, frames: list[str]) -> None:
    done = kernel.run(code)
    (error,) = done.of("error")
    assert done.reply["status"] == "error"
    assert {key: done.reply[key] for key in error} == error
    assert error["ename"] == name
    assert message is None or error["evalue"] == message
    text = "\n".join(error["traceback"]).replace(f"cell {done.reply['execution_count']}", "cell N")
    place = 0
    for frame in frames:
        assert frame in text[place:], text
        place = text.index(frame, place) + len(frame)
    assert not any(word in text for word in ("jshell", "JShell", "kernelgate", "jjava", "do_it"))


def test_environment_of_one_execution(kernel: Kernel) -> None:
    code = (
        'new ProcessBuilder("sh", "-c", "echo $KG_A").inheritIO().start().waitFor();'
        'Runtime.getRuntime().exec(new String[] {"sh", "-c", "echo $KG_A >&2"}).getErrorStream().transferTo(System.out);'
        'System.getenv("KG_A") + System.getProperty("KG_A")'
    )
    done = kernel.run(code, env={"KG_A": 'b"ä'})
    assert (done.stream(), done.value) == ('b"ä\nb"ä\n', 'b"äb"ä')
    kernel.run("1/0", env={"KG_A": "x"})
    done = kernel.run(code)
    assert (done.stream(), done.value) == ("\n\n", "nullnull")


def test_stdin(kernel: Kernel) -> None:
    done = kernel.run("String l = new Scanner(System.in).nextLine();\nl + new Scanner(System.in).nextInt()", answers=["Zoé", "42"])
    assert (done.value, done.prompts) == ("Zoé42", 2)


@pytest.mark.parametrize(
    "code",
    [
        "while (true) { kept++; }",
        "while (true) { try { Thread.sleep(9999); } catch (Exception e) { } }",
        "synchronized (list) { list.wait(); }",
        "new CompletableFuture<Integer>().join();",
        "new ServerSocket(0).accept();",
        'new ProcessBuilder("sleep", "99").start().getInputStream().read();',
        "IntStream.range(0, 9).parallel().forEach(i -> { while (true) { } });",
        "pool.submit(() -> { while (true) { } }).get();",
        "new Scanner(System.in).nextLine();",
    ],
)
def test_interrupt(kernel: Kernel, code: str) -> None:
    if int(kernel.run("Runtime.version().feature()").value) >= 20 and "join()" in code:
        pytest.skip("no JDK from 20 on can stop a thread that waits uninterruptibly; it is left behind")
    kernel.run(
        "long kept = 7; var list = new ArrayList<Integer>(); var pool = Executors.newFixedThreadPool(1); pool.submit(() -> 1).get();"
    )
    options: dict[str, Any] = {"answers": []} if "Scanner" in code else {}
    done, took_s = kernel.interrupted(code, **options)
    assert done.reply["ename"] == "KeyboardInterrupt"
    assert took_s < 1.0
    assert int(kernel.run("kept").value) >= 7
    process = psutil.Process(kernel.process.pid)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        # Nothing of the cell runs on: no thread that computes, no child.
        before = sum(process.cpu_times()[:2])
        time.sleep(0.1)
        if sum(process.cpu_times()[:2]) - before < 0.08 and not process.children():
            return
    left = process.children()
    for child in left:
        child.kill()  # the next case is to be judged by what it leaves itself
    pytest.fail(f"still running: {left}")


@pytest.mark.parametrize(
    "code",
    [
        # The interrupt comes while a process is being started.
        "while (true) starting.start();",
        "for (int i = 0; i < 2; i++) new Thread(() -> { try { while (true) starting.start(); } catch (Exception e) { } }).start(); gate.await();",
        # What the shell starts is no child of the kernel's.
        'while (true) new ProcessBuilder("sh", "-c", "sleep 98 & sleep 98").start().waitFor(20, TimeUnit.MILLISECONDS);',
    ],
)
def test_interrupt_ends_what_was_being_started(kernel: Kernel, code: str) -> None:
    kernel.run(
        'var starting = new ProcessBuilder("sleep", "98"); var gate = new CountDownLatch(1);'
        'var kept = new ProcessBuilder("sleep", "97").start();'
    )
    process = psutil.Process(kernel.process.pid)
    (kept,) = process.children()
    try:
        for _ in range(3):
            done, _ = kernel.interrupted(code)
            assert done.reply["ename"] == "KeyboardInterrupt"
            until = time.monotonic() + WITHIN_S
            while (left := process.children(recursive=True)) != [kept]:
                assert kept in left, "what an earlier cell left running was ended"
                assert time.monotonic() < until, f"still running: {left}"
                time.sleep(0.02)
    finally:
        left = process.children(recursive=True)
        for child in left:
            child.kill()
        psutil.wait_procs(left, WITHIN_S)


@pytest.mark.parametrize("is_late", [False, True])
def test_interrupt_ends_a_process_that_is_there_only_later(kernel: Kernel, tmp_path: Path, is_late: bool) -> None:
    """The interrupt comes while a process is being started: its start waits until somebody reads what it will write."""
    wanted, awaited = tmp_path / "wanted", tmp_path / "awaited"
    os.mkfifo(wanted)
    os.mkfifo(awaited)
    process = psutil.Process(kernel.process.pid)
    let = threading.Event()
    files: list[int] = []

    def read() -> None:
        let.wait(WITHIN_S)
        with awaited.open("rb") as reader:
            reader.read()  # until the process is gone

    def interrupt(_: str) -> None:
        if not files:
            files.append(os.open(wanted, os.O_WRONLY))  # the start is under way when this returns
            kernel.manager.interrupt_kernel()
            if not is_late:
                threading.Timer(0.3, let.set).start()

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    code = f'new ProcessBuilder("sleep", "98").redirectInput(new File("{wanted}")).redirectOutput(new File("{awaited}")).start().waitFor();'
    done = kernel.run(f'System.out.println("go"); {code}', on_text=interrupt)
    let.set()  # where it is late, the cell has ended and its thread was left behind
    assert done.reply["ename"] == "KeyboardInterrupt"
    reading.join(5)
    _, left = psutil.wait_procs(process.children(), 5)
    for child in left:
        child.kill()
    os.close(files[0])
    assert not left
    assert kernel.run("6*7").value == "42"


def test_late_output_belongs_to_its_cell(kernel: Kernel) -> None:
    kernel.run("var gate = new CountDownLatch(1);")
    request = kernel.send('new Thread(() -> { try { gate.await(); } catch (Exception e) { } System.out.println("late"); }).start();')
    kernel.reply(request)
    kernel.send("gate.countDown();")
    assert kernel.late(request)["content"]["text"] == "late\n"


def test_pool_of_an_earlier_cell_prints_in_the_cell_that_uses_it(kernel: Kernel) -> None:
    kernel.run("var old = Executors.newFixedThreadPool(1); old.submit(() -> 1).get();")
    assert kernel.run('old.submit(() -> System.out.println("here")).get();').stream() == "here\n"


def test_complete_inspect_is_complete(kernel: Kernel) -> None:
    kernel.run('String word = "x";')
    client = kernel.client
    content = kernel.reply(client.complete("/*😀*/ word.toUpp"))
    assert content["matches"] == ["toUpperCase("]
    assert (content["cursor_start"], content["cursor_end"]) == (11, 16)
    content = kernel.reply(client.inspect("Math.max", 8))
    assert content["found"]
    assert "int Math.max(int a, int b)" in content["data"]["text/plain"]
    assert not kernel.reply(client.inspect("nosuchname", 5))["found"]
    states = {code: kernel.reply(client.is_complete(code))["status"] for code in ("1 + 1", "int f() {", "int x = ;", "")}
    assert list(states.values()) == ["complete", "incomplete", "invalid", "complete"]


def test_out_of_memory_leaves_the_kernel_usable() -> None:
    environment = dict(os.environ, JDK_JAVA_OPTIONS="-Xmx96m")
    small = Kernel(env=environment)
    try:
        done = small.run("var all = new ArrayList<long[]>(); while (true) all.add(new long[10_000]);")
        assert done.reply["ename"] == "OutOfMemoryError"
        assert small.run("all = null; 6 * 7").value == "42"
    finally:
        small.close()


def test_two_kernels_share_nothing(kernel: Kernel, another: Kernel) -> None:
    kernel.run("int mine = 1;")
    assert another.run("mine").reply["ename"] == "CompilationError"


def test_exit_ends_the_process_after_its_output(another: Kernel) -> None:
    request = another.send('System.out.println("bye"); System.exit(3);')
    assert another.late(request)["content"]["text"] == "bye\n"
    assert another.process.wait(5) == 3


@pytest.mark.parametrize("how", ["SIGTERM", "shutdown_request"])
def test_end_within_a_second_with_children(another: Kernel, how: str) -> None:
    another.run('new ProcessBuilder("sleep", "99").start();Runtime.getRuntime().addShutdownHook(new Thread(() -> { while (true) { } }));')
    (child,) = psutil.Process(another.process.pid).children()
    another.send("while (true) { }")
    started = time.monotonic()
    if how == "SIGTERM":
        another.process.send_signal(signal.SIGTERM)
    else:
        another.client.shutdown()
    another.process.wait(5)
    assert time.monotonic() - started < 1.2
    child_gone = threading.Event()
    psutil.wait_procs([child], timeout=1, callback=lambda _: child_gone.set())
    assert child_gone.is_set()


def test_a_host_that_follows_one_that_was_killed_is_heard(kernel: Kernel) -> None:
    assert hears_a_namesake(kernel.client)
