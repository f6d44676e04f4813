"""The Bash kernel against docs/kernels.md, point by point."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel_client import Kernel, hears_a_namesake, is_gone

pytestmark = pytest.mark.bash

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def bash() -> Iterator[Kernel]:
    kernel = Kernel("bash")
    yield kernel
    kernel.close()


def test_state_and_counts(bash: Kernel) -> None:
    first = bash.run("x=5; f() { echo f$1; }; shopt -s extglob\nalias hi='echo hello'\nhi; mkdir -p d; cd d; (exit 3)")
    assert first.stdout == "hello\n"
    second = bash.run("echo $?; f $x; hi; basename $PWD; echo ${PWD/+(d)/D} >/dev/null")
    assert second.stdout == "3\nf5\nhello\nd\n"
    assert second.reply["execution_count"] == first.reply["execution_count"] + 1
    assert second.of("execute_result") == []
    assert bash.run("# nothing\n").outputs == []
    bash.run("cd ..; shopt -u extglob; unalias hi")


def test_streams_apart_ordered_and_at_once(bash: Kernel) -> None:
    cell = bash.run("echo out; echo err >&2; sh -c 'echo child; echo e2 >&2'")
    assert (cell.stdout, cell.stderr) == ("out\nchild\n", "err\ne2\n")
    slow = bash.run("for i in 1 2 3; do printf $i; sleep 0.15; done")
    assert slow.stdout == "123"
    assert [at - slow.times_s[0] for at in slow.times_s] == pytest.approx([0, 0.15, 0.3], abs=0.1)


def test_bytes_that_are_no_text(bash: Kernel) -> None:
    assert bash.run(r"printf '\xff ok \xc3'; sleep 0.05; printf '\xa9 \xe2\x82'").stdout == "\ufffd ok é \ufffd"


@pytest.mark.slow
def test_large_output_is_whole(bash: Kernel) -> None:
    assert len(bash.run("seq 1 1500000").stdout) == 10_888_896
    line = bash.run("head -c 2000000 /dev/zero | tr '\\0' x")
    assert line.stdout == "x" * 2_000_000
    assert line.took_s < 3


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("echo a\n(exit 3)", ("CommandFailed", "exit status 3"), ["line 2", "    (exit 3)", "CommandFailed: exit status 3"]),
        ("g() {\n  return 4\n}\ng", ("CommandFailed", "exit status 4"), ["line 4", "    g", "CommandFailed: exit status 4"]),
        ("sh -c 'kill -9 $$'", ("CommandFailed", "exit status 137 (killed by SIGKILL)"), None),
        ("false && true", ("CommandFailed", "exit status 1"), ["CommandFailed: exit status 1"]),
        ("echo no\nif true; then", ("SyntaxError", "syntax error: unexpected end of file"), None),
        ("echo 'a", ("SyntaxError", "unexpected EOF while looking for matching `''"), None),
        ("}\necho no\n{", ("SyntaxError", "syntax error near unexpected token `}'"), None),
    ],
)
def test_errors(bash: Kernel, code: str, error: tuple[str, str], traceback: list[str] | None) -> None:
    cell = bash.run(code)
    assert cell.error == error
    assert "no" not in cell.stdout
    if traceback:
        assert cell.reply["traceback"] == traceback


def test_an_error_does_not_abort_what_is_sent_after_it(bash: Kernel) -> None:
    for _ in range(20):
        assert bash.run("false").error
        assert bash.run("true").reply["status"] == "ok"


def test_heredocs(bash: Kernel) -> None:
    assert bash.run("y=1; cat <<X\n$y\nX\ncat <<'X'\n$y\nX").stdout == "1\n$y\n"


def test_errexit_and_nounset_end_the_cell_alone(bash: Kernel) -> None:
    cell = bash.run("set -e\nh() {\n  false\n  echo no\n}\n! true || true\nh\necho no")
    assert cell.error == ("CommandFailed", "exit status 1")
    assert cell.stdout == ""
    assert cell.reply["traceback"][:-1] == ["line 7", "    h", "line 3, in h", "    false"]
    assert bash.run("echo ${-//[!e]}; set +e").stdout == "e\n"
    unset = bash.run("set -u\necho $unset\necho no")
    assert unset.stdout == ""
    assert "unset: unbound variable" in unset.stderr
    assert unset.error
    assert bash.run("set +u; echo ${z:-ok}").stdout == "ok\n"


def test_environment_of_one_execution(bash: Kernel) -> None:
    bash.run("A=(1 2); export B=old; unset C")
    value = 'it\'s "q" $x\nline 2'
    cell = bash.run("sh -c 'echo \"$A|$B|$C\"'; B=changed; false", env={"A": "a", "B": value, "C": "c"})
    assert cell.stdout == f"a|{value}|c\n"
    assert bash.run("declare -p A B; echo ${C-unset}").stdout == 'declare -a A=([0]="1" [1]="2")\ndeclare -x B="old"\nunset\n'
    bash.run("echo in; sleep 30", env={"B": "b"}, interrupt_at="in")
    assert bash.run("echo $B").stdout == "old\n"


@pytest.mark.parametrize(
    "code",
    [
        "echo in; while :; do :; done",
        "echo in\nsleep 61\necho no",
        "sleep 61 & echo in; wait; echo no",
        "echo in; sleep 61 | cat; echo no",
        "echo in; (sleep 61; echo no)",
        "echo in; (trap '' INT; sleep 61)",
        "f() { echo in; sleep 61; echo no; }; f",
    ],
)
def test_interrupt(bash: Kernel, code: str) -> None:
    bash.run("kept=1")
    cell = bash.run(code, interrupt_at="in")
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert cell.interrupted_s < 1
    assert cell.stdout == "in\n"
    assert bash.run("set +eu; echo $kept; kill %1 2>/dev/null; true").stdout == "1\n"
    assert bash.run("pgrep -P $$ -x sleep").stdout == ""


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Other work on every core, so that a process may wait long between its fork and its program."""
    work = [subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"]) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for process in work:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize("code", ["echo in; sleep 61 | cat; echo no", "echo in; read x < <(sleep 61); echo no"])
def test_interrupt_while_processes_are_being_forked(bash: Kernel, code: str) -> None:
    for _ in range(20):
        cell = bash.run(code, interrupt_at="in")
        assert cell.stdout == "in\n"
        assert cell.error is not None


def test_stdin(bash: Kernel) -> None:
    cell = bash.run("read -p 'Name? ' n; read -s p; echo $n $p; head -n 1", answers=["Bob B", "pw", "line"])
    assert cell.prompts == [("Name? ", False), ("", True), ("", False)]
    assert cell.stdout == "Bob B pw\nline\n"
    assert bash.run("cat", answers=["a", "\x04"]).stdout == "a\n"
    for code in ("read x", "cat; read x"):
        denied = bash.run(code)
        assert denied.error == ("CommandFailed", "exit status 1")
        assert denied.took_s < 1
    assert bash.run("printf '1\\n2\\n' | while read n; do echo n$n; done").stdout == "n1\nn2\n"


def test_displays(bash: Kernel) -> None:
    Path(bash.directory, "t.csv").write_text("a,b\n1,x\n,007\n")
    cell = bash.run(
        f"base64 -d <<< {PNG} > p.png; display p.png; rm p.png; display_html <<< '<b>x</b>'; echo mid\n"
        "display_markdown <<< '# t'; display_json <<< '{\"a\": [1]}'; display t.csv; display_svg <<< '<svg/>'"
    )
    assert cell.error is None
    png, html, markdown, json_, table, svg = cell.displays
    assert png["image/png"] == PNG
    assert html["text/html"] == "<b>x</b>\n"
    assert markdown["text/markdown"] == markdown["text/plain"] == "# t\n"
    assert json_["application/json"] == {"a": [1]}
    assert table["application/vnd.kernelgate.data+json"] == {"a": [1, None], "b": ["x", "007"]}
    assert "<td>007</td>" in table["text/html"]
    assert svg["image/svg+xml"] == "<svg/>\n"
    assert cell.order[2] == "stdout"
    assert bash.run("display nope").error
    assert "display_json: " in bash.run("display_json <<< '{'").stderr


def test_complete_inspect_is_complete(bash: Kernel) -> None:
    bash.run("my_variable=1; my_function() { :; }; touch 'a file'")
    assert bash.ask("complete_request", code="echo $my_v", cursor_pos=10)["matches"] == ["my_variable"]
    assert "my_function" in bash.ask("complete_request", code="true; my_f", cursor_pos=10)["matches"]
    files = bash.ask("complete_request", code="cat a", cursor_pos=5)
    assert (files["matches"], files["cursor_start"]) == (["a\\ file"], 4)
    for code, text in (
        ("cd x", "Change the shell working directory"),
        ("my_function", "my_function ()"),
        ("$my_variable", 'my_variable="1"'),
    ):
        assert text in bash.ask("inspect_request", code=code, cursor_pos=1, detail_level=0)["data"]["text/plain"]
    assert bash.ask("inspect_request", code="no_such_thing", cursor_pos=2, detail_level=0)["found"] is False
    for code, status in (
        ("echo a", "complete"),
        ("if true; then", "incomplete"),
        ("a |", "incomplete"),
        ("cat <<X\na", "incomplete"),
        ("echo )", "invalid"),
    ):
        assert bash.ask("is_complete_request", code=code)["status"] == status


def test_late_output_belongs_to_the_last_cell(bash: Kernel) -> None:
    request = bash.send("(sleep 0.2; echo late) & echo now")
    assert bash.next_stream() == {"name": "stdout", "text": "now\n", "parent": request}
    assert bash.reply(request)["status"] == "ok"
    assert bash.next_stream() == {"name": "stdout", "text": "late\n", "parent": request}


@pytest.mark.slow
def test_exit_and_death() -> None:
    kernel = Kernel("bash", transport="tcp")
    try:
        background = int(kernel.run("setsid sleep 62 & echo $!").stdout)
        last = kernel.run("echo bye; exit 3")
        assert last.is_dead
        assert last.stdout == "bye\n"
        assert kernel.wait_status() == 3
        assert is_gone(background)
    finally:
        kernel.close()


@pytest.mark.slow
def test_sigterm_ends_all() -> None:
    kernel = Kernel("bash")
    try:
        kernel.run("trap 'echo trapped > trapped' EXIT")
        kernel.send("sleep 63 & echo $!; sleep 63")
        background = int(kernel.next_stream()["text"])
        begun = time.monotonic()
        os.kill(kernel.pid, signal.SIGTERM)
        assert kernel.wait_status() == 0
        assert time.monotonic() - begun < 1
        assert is_gone(background)
        assert Path(kernel.directory, "trapped").read_text() == "trapped\n"
    finally:
        kernel.close()


def test_a_host_that_follows_one_that_was_killed_is_heard(bash: Kernel) -> None:
    assert hears_a_namesake(bash.client)
