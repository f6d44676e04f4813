"""`kernelgate exec` and `kernelgate shell`."""

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
