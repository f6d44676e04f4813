"""The R kernel against docs/kernels.md, point by point."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel_client import Kernel, hears_a_namesake, is_gone

pytestmark = pytest.mark.r

DATA = "application/vnd.kernelgate.data+json"


@pytest.fixture(scope="module")
def r() -> Iterator[Kernel]:
    kernel = Kernel("r")
    yield kernel
    kernel.close()


def test_results(r: Kernel) -> None:
    cell = r.run("6*7")
    assert cell.result == {"text/plain": "[1] 42"}
    assert cell.reply["execution_count"] == cell.of("execute_result")[0]["execution_count"]
    cell = r.run("1\n2\nx <- 3")
    assert (cell.displays, cell.result) == ([{"text/plain": "[1] 1"}], {"text/plain": "[1] 2"})
    for code in ("x <- 1", "", "# c", "invisible(3)", "for (i in 1:2) i"):
        assert r.run(code).outputs == []
    assert r.run("'ünï 日本'; .Last.value").result == {"text/plain": '[1] "ünï 日本"'}


def test_order_of_values_and_streams(r: Kernel) -> None:
    for _ in range(10):
        cell = r.run("1; cat('a\\n'); 2; system('echo b'); 3; cat('c\\n')")
        assert cell.order == ["display_data", "stdout", "display_data", "stdout", "execute_result", "stdout"]


def test_tables(r: Kernel) -> None:
    cell = r.run(
        "data.frame(n = c(1.5, NA), s = c('a', '<b>'), d = as.Date(c('2024-01-02', NA)), t = as.POSIXct(c(0, 60), tz = 'UTC', origin = '1970-01-01'),"
        " f = factor(c('u', 'v')), l = c(TRUE, NA), check.names = FALSE)"
    )
    assert cell.result is not None
    assert cell.result[DATA] == {
        "n": [1.5, None],
        "s": ["a", "<b>"],
        "d": ["2024-01-02", None],
        "t": ["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"],
        "f": ["u", "v"],
        "l": [True, None],
    }
    assert "<td>&lt;b&gt;</td>" in cell.result["text/html"]
    assert cell.result["text/plain"].splitlines()[0].split() == ["n", "s", "d", "t", "f", "l"]
    large = r.run("data.frame(i = 1:20000)").result
    assert large is not None
    assert len(large[DATA]["i"]) == 10_000
    assert r.run("list(a = 1, b = list(2, 'z'))").result == {
        "text/plain": '$a\n[1] 1\n\n$b\n$b[[1]]\n[1] 2\n\n$b[[2]]\n[1] "z"\n\n',
        "application/json": {"a": 1, "b": [2, "z"]},
    }


def test_streams(r: Kernel) -> None:
    cell = r.run(
        "cat('a'); system('echo b; echo c >&2'); write('d', stderr()); message('e'); warning('f'); suppressWarnings(as.integer('x'))"
    )
    assert (cell.stdout, cell.stderr) == ("ab\n", "c\nd\ne\nWarning: f\n")
    slow = r.run("for (i in 1:3) { cat(i); Sys.sleep(0.15) }")
    assert slow.stdout == "123"
    assert [at - slow.times_s[0] for at in slow.times_s] == pytest.approx([0, 0.15, 0.3], abs=0.1)


@pytest.mark.slow
def test_large_output_is_whole(r: Kernel) -> None:
    assert r.run("cat(strrep('0123456789\\n', 1e6))").stdout == "0123456789\n" * 1_000_000


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("stop('boom')", ("simpleError", "boom"), ["Error: boom", "Traceback:", '1. stop("boom")']),
        (
            "f <- function(x) {\n  g(x)\n}\ng <- function(y) stop('deep')\nf(2)",
            ("simpleError", "deep"),
            ["Error in g(x) : deep", "Traceback:", "1. f(2)", "2. g(x)  # line 2", '3. stop("deep")  # line 4'],
        ),
        ("stop(structure(class = c('mine', 'error', 'condition'), list(message = 'm', call = NULL)))", ("mine", "m"), None),
        ("(1:3)[[5]]", ("subscriptOutOfBoundsError", "subscript out of bounds"), None),
        ("options(warn = 2); as.integer('a')", ("simpleError", "(converted from warning) NAs introduced by coercion"), None),
        ("options(warn = 0); print.bad <- function(x, ...) stop('no'); structure(1, class = 'bad')", ("simpleError", "no"), None),
        ("h <- function(n) h(n + 1); h(1)", ("CStackOverflowError", None), None),
        ("cat('no')\na b", ("ParseError", "unexpected symbol"), ["Error: cell:2:3: unexpected symbol", "1: cat('no')", "2: a b", "     ^"]),
        ("f(", ("ParseError", "unexpected end of input"), None),
    ],
)
def test_errors(r: Kernel, code: str, error: tuple[str, str | None], traceback: list[str] | None) -> None:
    cell = r.run(code)
    assert cell.error is not None
    assert cell.error[0] == error[0]
    assert error[1] is None or cell.error[1] == error[1]
    assert cell.stdout == ""
    if traceback:
        assert "\n".join(cell.reply["traceback"]).split("\n") == traceback


def test_environment_of_one_execution(r: Kernel) -> None:
    r.run("Sys.setenv(KG_B = 'old')")
    cell = r.run("system('echo \"$KG_A|$KG_B\"'); stop(Sys.getenv('KG_A'))", env={"KG_A": 'it\'s "q"', "KG_B": "new"})
    assert cell.stdout == 'it\'s "q"|new\n'
    assert cell.error == ("simpleError", 'it\'s "q"')
    r.run("cat('in'); Sys.sleep(30)", env={"KG_B": "b"}, interrupt_at="in")
    assert r.run("cat(Sys.getenv('KG_A', 'unset'), Sys.getenv('KG_B'))").stdout == "unset old"


@pytest.mark.parametrize(
    "code",
    [
        "cat('in'); while (TRUE) {}",
        "cat('in'); Sys.sleep(61); cat('no')",
        "f <- function() { cat('in'); system('sleep 61'); cat('no') }; f()",
        "cat('in'); system('sleep 61', intern = TRUE); cat('no')",
        "cat('in'); system('trap \"\" INT; sleep 61'); cat('no')",
        "cat('in'); repeat tryCatch(1, error = identity)",
    ],
)
def test_interrupt(r: Kernel, code: str) -> None:
    r.run("kept <- 1")
    cell = r.run(code, interrupt_at="in")
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert cell.interrupted_s < 1
    assert cell.stdout == "in"
    assert r.run("kept").result == {"text/plain": "[1] 1"}


def test_an_interrupt_between_two_cells_does_not_end_r(r: Kernel) -> None:
    """As one does that comes when the cell has just ended. R looks at its signals every thousand steps, so it takes some to meet that."""
    pid = int(r.run("cat(Sys.getpid())").stdout)
    r.run("kept <- 1")
    for _ in range(300):
        os.kill(pid, signal.SIGINT)
        assert r.run("kept").result == {"text/plain": "[1] 1"}
    assert r.run("cat(Sys.getpid())").stdout == str(pid)


def test_stdin(r: Kernel) -> None:
    cell = r.run("n <- readline('Name? '); cat(n, readLines('stdin', 1), scan(n = 2, quiet = TRUE))", answers=["Bob", "line", "1 2"])
    assert cell.prompts[0] == ("Name? ", False)
    assert cell.stdout == "Bob line 1 2"
    assert r.run("system('read z; echo $z')", answers=["child"]).stdout == "child\n"
    assert r.run("cat(names(read.csv(file('stdin'))))", answers=["a,b", "1,2", "\x04"]).stdout == "a b"
    for code in ("readline()", "readLines(stdin())", "readLines(file('stdin'))", "scan()", "read.csv(file('stdin'))"):
        denied = r.run(code)
        assert denied.error is not None
        assert denied.took_s < 1


def test_figures(r: Kernel) -> None:
    cell = r.run("plot(1:3, main = 'ä €'); lines(3:1); cat('t'); 7")
    (figure,) = cell.displays
    png = base64.b64decode(figure["image/png"])
    assert (png[:4], int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == (b"\x89PNG", 840, 840)
    assert figure["image/svg+xml"].startswith("<?xml")
    assert cell.result == {"text/plain": "[1] 7"}
    assert cell.stderr == ""
    assert len(r.run("plot(1); plot(2); par(mfrow = c(1, 2)); plot(3); plot(4)").displays) == 3
    assert r.run("par(mar = c(1, 1, 1, 1)); png('own.png'); plot(1); invisible(dev.off())").displays == []
    assert Path(r.directory, "own.png").stat().st_size > 0
    assert r.run("plot(1); stop('x')").order == ["display_data", "error"]
    formats = r.run("old <- options(jupyter.plot_mimetypes = 'image/svg+xml', repr.plot.width = 3); plot(1); options(old)")
    assert set(formats.displays[0]) == {"text/plain", "image/svg+xml"}
    assert 'width="216pt"' in formats.displays[0]["image/svg+xml"]
    assert "image/svg+xml" not in r.run("plot(runif(9000), pch = '.')").displays[0]


@pytest.mark.slow
def test_ggplot(r: Kernel) -> None:
    if r.run("cat(requireNamespace('ggplot2', quietly = TRUE))").stdout != "TRUE":
        pytest.skip("ggplot2 is not installed")
    cell = r.run("library(ggplot2)\np <- ggplot(mtcars, aes(mpg, wt)) + geom_point()\nfor (i in 1:2) print(p)\np")
    assert ["image/png" in data for data in cell.displays] == [True, True, True]
    assert cell.result is None


def test_displays(r: Kernel) -> None:
    cell = r.run(
        "display_html('<b>x</b>'); IRdisplay::display_markdown('# t'); display_latex('$x$'); display_json('{\"a\": 1}'); display_svg('<svg/>'); cat('end')"
    )
    html, markdown, latex, json_, svg = cell.displays
    assert html["text/html"] == "<b>x</b>"
    assert markdown["text/markdown"] == markdown["text/plain"] == "# t"
    assert latex["text/latex"] == "$x$"
    assert json_["application/json"] == {"a": 1}
    assert svg["image/svg+xml"] == "<svg/>"
    assert cell.order[-1] == "stdout"


def test_complete_inspect_is_complete(r: Kernel) -> None:
    r.run("my_table <- data.frame(first_column = 1)")
    for code, match, start in (("x\nread.cs", "read.csv", 2), ("my_table$fir", "my_table$first_column", 0), ("round(digi", "digits=", 6)):
        answer = r.ask("complete_request", code=code, cursor_pos=len(code))
        assert match in answer["matches"]
        assert answer["cursor_start"] == start
    page = r.ask("inspect_request", code="mean(x)", cursor_pos=2, detail_level=0)["data"]
    assert "Arithmetic Mean" in page["text/plain"]
    assert "<h2>" in page["text/html"]
    assert "first_column" in r.ask("inspect_request", code="my_table", cursor_pos=2, detail_level=0)["data"]["text/plain"]
    assert r.ask("inspect_request", code="no_such_thing", cursor_pos=2, detail_level=0)["found"] is False
    for code, status in (("1", "complete"), ("f(", "incomplete"), ("'a", "incomplete"), ("a b", "invalid")):
        assert r.ask("is_complete_request", code=code)["status"] == status


def test_comms(r: Kernel) -> None:
    r.run("IRkernel::comm_manager()$register_target('echo', function(comm, data) comm$on_msg(function(data) cat('got', data$n)))")
    session = r.client.session
    for kind, content in (
        ("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}}),
        ("comm_msg", {"comm_id": "c", "data": {"n": 5}}),
    ):
        r.client.shell_channel.send(session.msg(kind, content))
    # cat() writes each of its arguments by itself.
    text = ""
    while len(text) < len("got 5"):
        text += r.next_stream()["text"]
    assert text == "got 5"


def test_late_output_belongs_to_the_last_cell(r: Kernel) -> None:
    request = r.send("system('(sleep 0.2; echo late) &'); cat('now')")
    assert r.next_stream() == {"name": "stdout", "text": "now", "parent": request}
    assert r.reply(request)["status"] == "ok"
    assert r.next_stream() == {"name": "stdout", "text": "late\n", "parent": request}


@pytest.mark.slow
def test_quit_ends_the_process() -> None:
    kernel = Kernel("r", transport="tcp")
    try:
        last = kernel.run("cat('bye\\n'); quit(status = 4)")
        assert last.is_dead
        assert last.stdout == "bye\n"
        assert kernel.wait_status() == 4
    finally:
        kernel.close()


@pytest.mark.slow
def test_sigterm_ends_all() -> None:
    kernel = Kernel("r")
    try:
        kernel.send("system('sleep 63 &'); cat(tempdir()); Sys.sleep(63)")
        temporary = kernel.next_stream()["text"]
        children = Path(f"/proc/{kernel.pid}/task/{kernel.pid}/children").read_text().split()
        begun = time.monotonic()
        os.kill(kernel.pid, signal.SIGTERM)
        assert kernel.wait_status() == 0
        assert time.monotonic() - begun < 1
        assert not Path(temporary).exists()
        assert all(is_gone(int(child)) for child in children)
    finally:
        kernel.close()


def test_a_host_that_follows_one_that_was_killed_is_heard(r: Kernel) -> None:
    assert hears_a_namesake(r.client)
