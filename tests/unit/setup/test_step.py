from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from kernelgate.setup import step
from kernelgate.setup.step import StepFailed, Steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_step_is_one_line_with_its_time_and_its_output_goes_to_the_log(tmp_path: Path) -> None:
    out, log = io.StringIO(), tmp_path / "var" / "log"
    took_s = Steps(log, out).run("Something slow", sh("echo one; echo two >&2"))
    assert out.getvalue().startswith("  Something slow ")
    assert out.getvalue().endswith(f"{took_s:.1f} s\n")
    assert out.getvalue().count("\n") == 1
    assert "one\ntwo\n" in log.read_text(encoding="utf-8")


def test_a_failing_step_tells_the_end_of_its_own_output(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "log", io.StringIO())
    steps.run("First", sh("echo not of interest"))
    with pytest.raises(StepFailed) as caught:
        steps.run("Second", sh("seq 1000; exit 3"))
    assert str(caught.value) == "Second: exit status 3"
    assert caught.value.tail.splitlines()[-1] == "1000"
    assert len(caught.value.tail.splitlines()) == 25
    assert "not of interest" not in caught.value.tail


def test_a_program_that_is_not_there_is_a_failed_step(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no-such-program: No such file"):
        Steps(tmp_path / "log", io.StringIO()).run("Nothing", ["no-such-program"])


def test_a_step_gets_no_input(tmp_path: Path) -> None:
    Steps(tmp_path / "log", io.StringIO()).run("Asks", sh("! read answer"))


def test_on_a_terminal_the_line_is_rewritten(tmp_path: Path) -> None:
    out = Terminal()
    Steps(tmp_path / "log", out).run("Quick", ["true"])
    assert out.getvalue().count("\r\x1b[K  Quick") == 2
    assert out.getvalue().count("\n") == 1


def test_main_runs_one_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = str(tmp_path / "log")
    assert step.main(["--log", log, "Fine", "--", sys.executable, "-c", "pass"]) == 0
    assert step.main(["--log", log, "Bad", "--", "sh", "-c", "echo the reason; exit 1"]) == 1
    out, err = capfd.readouterr()
    assert "Fine" in out
    assert "the reason\n\nBad: exit status 1; all of its output is in" in err
    with pytest.raises(SystemExit):
        step.main(["--log", log, "Nothing to run"])
