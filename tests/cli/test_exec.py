"""`kernelgate exec` and `kernelgate shell`."""

import sys

import pexpect
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_a_program_in_a_session(kernelgate):
    ran = kernelgate("exec", "--env", "WORD=hello", "--cwd", "/tmp", "echo $WORD $PWD; echo aside >&2; exit 5")
    assert (ran.returncode, ran.stdout, ran.stderr) == (5, "hello /tmp\n", "aside\n")
    assert kernelgate("exec", "--", "printf", "%s", "a  $b").stdout == "a  $b"
    assert kernelgate("exec", "wc -c", stdin="12345").stdout == "5\n"
    late = kernelgate("exec", "--timeout", "0.3", "echo on; sleep 60")
    assert (late.returncode, late.stdout) == (124, "on\n")
    assert kernelgate("exec").returncode == 2


def test_a_shell_in_a_session(kernelgate):
    ran = kernelgate("shell", stdin="cd /tmp\nexport WORD=kept\necho $PWD $WORD\nfalse\nexit\n")
    assert (ran.returncode, ran.stdout) == (1, "/tmp kept\n")


def test_a_shell_at_a_terminal(environment, tmp_path):
    """What is typed here is typed there: a terminal with a size, jobs, Ctrl-C."""
    shell = pexpect.spawn(
        sys.executable,
        ["-m", "kernelgate", "shell"],
        env=environment,
        cwd=str(tmp_path),
        encoding="utf-8",
        dimensions=(30, 100),
        timeout=60,
    )
    shell.expect_exact("$ ")
    shell.sendline("stty size; tty")
    shell.expect_exact("30 100\r\n/dev/pts/")
    shell.setwinsize(40, 120)
    shell.sendline("while [ \"$(stty size)\" != '40 120' ]; do sleep 0.05; done; echo size-$((40 + 2))")
    shell.expect_exact("size-42")
    # It says so itself: a Ctrl-C between Bash's fork and the program's start is lost, as it is at any terminal.
    shell.sendline("sh -c 'echo waits-$((1 + 1)); exec sleep 1000'")
    shell.expect_exact("waits-2")
    shell.sendintr()
    shell.sendline("echo back-$?")
    shell.expect_exact("back-130")
    shell.sendline("exit 7")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 7
