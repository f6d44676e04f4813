"""`kernelgate run`: what it prints, what it saves, and how it exits."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_output_and_value_go_where_a_programs_would(kernelgate):
    done = kernelgate("run", "-c", "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n42\n", "err\n")


def test_nothing_is_added_to_what_the_code_printed(kernelgate):
    assert kernelgate("run", "-c", "print('x', end='')").stdout == "x"


def test_a_failure_is_its_traceback_and_1(kernelgate):
    done = kernelgate("run", "-c", "print('before')\n1 / 0")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "kernelgate/" not in done.stderr
    assert "\x1b" not in done.stderr


def test_out_of_time_is_124(kernelgate):
    done = kernelgate("run", "-c", "import time; time.sleep(60)", "--timeout", "0.5")
    assert done.returncode == 124
    assert "out of time after 0.5 s" in done.stderr


def test_a_kernel_that_dies_is_1_and_says_why(kernelgate):
    # What a process is killed with on its tongue is nobody's.
    code = "import os, signal, time; print('before', flush=True); time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)"
    done = kernelgate("run", "-c", code)
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "SIGKILL" in done.stderr


def test_pictures_are_saved_and_named(kernelgate, tmp_path):
    code = "import matplotlib.pyplot as plt\nfor n in range(2):\n    plt.plot([1, n])\n    plt.show()"
    done = kernelgate("run", "-c", code)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "[saved picture-1.png]\n[saved picture-2.png]\n"
    for name in ("picture-1.png", "picture-2.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "[saved plots/picture-1.png]" in kernelgate("run", "-c", code, "-o", "plots").stderr


def test_a_file_tells_its_language_and_names_its_pictures(kernelgate, tmp_path):
    (tmp_path / "growth.py").write_text("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('é')", encoding="utf-8")
    done = kernelgate("run", "growth.py")
    assert done.stdout == "é\n"
    assert (tmp_path / "growth-1.png").exists()


def test_code_comes_from_standard_input(kernelgate):
    assert kernelgate("run", "-", stdin="print('piped')").stdout == "piped\n"


def test_questions_are_answered_from_standard_input(kernelgate):
    done = kernelgate("run", "-c", "print('hello', input('who? '))", stdin="Ada\n")
    assert (done.returncode, done.stdout) == (0, "who? hello Ada\n")


def test_a_question_after_the_end_of_standard_input_stops_the_code(kernelgate):
    done = kernelgate("run", "-c", "while True: input()", stdin="one\n")
    assert done.returncode != 0
    assert "standard input has ended" in done.stderr


def test_json_is_the_result_as_the_api_has_it(kernelgate):
    done = kernelgate("run", "--json", "-c", "print('a')\n1 / 0")
    result = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert result["logs"]["stdout"] == ["a\n"]
    assert result["error"]["name"] == "ZeroDivisionError"


def test_environment_is_given(kernelgate):
    assert (
        kernelgate("run", "-c", "import os; print(os.environ['A'], os.environ['B'])", "--env", "A=1", "--env", "B=x=y").stdout == "1 x=y\n"
    )


def test_a_session_that_is_named_is_kept(kernelgate, client):
    with client.sessions.create() as session:
        assert kernelgate("run", "--session", session.id, "-c", "x = 5").returncode == 0
        assert kernelgate("run", "--session", session.id, "-c", "x").stdout == "5\n"
        assert session.refresh().state == "running"
    assert kernelgate("run", "--session", session.id, "-c", "x").returncode == 3


def test_a_session_of_its_own_is_gone_afterwards(kernelgate, client):
    before = {session.id for session in client.sessions.list()}
    kernelgate("run", "-c", "1")
    assert {session.id for session in client.sessions.list()} == before


def test_an_unknown_language_is_told_without_a_traceback(kernelgate):
    done = kernelgate("run", "-l", "cobol", "-c", "1")
    assert done.returncode == 3
    assert "cobol" in done.stderr
    assert "python" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.bash
def test_other_languages_run_too(kernelgate, tmp_path):
    (tmp_path / "a.sh").write_text("echo $((6 * 7))")
    assert kernelgate("run", "a.sh").stdout == "42\n"
    assert kernelgate("run", "-l", "sh", "-c", "echo hi").stdout == "hi\n"


def test_output_streams_and_ctrl_c_stops_the_code(environment, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kernelgate",
            "run",
            "-c",
            "print('on', flush=True)\ntry:\n    import time; time.sleep(60)\nfinally: print('cleaned up')",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert process.stdout.readline() == "on\n"
    begun_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "cleaned up\n"
    assert "KeyboardInterrupt" in err
    assert "kernelgate/" not in err
    assert time.monotonic() - begun_at < 20


def test_a_reader_that_leaves_ends_it_quietly(environment, tmp_path):
    command = f"{sys.executable} -m kernelgate run -c 'for n in range(100000): print(n)' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True, env=environment, cwd=tmp_path)
    assert done.stdout == "0\n141\n"
    assert done.stderr == ""


def test_where_no_server_runs_one_is_started_for_the_command_alone(kernelgate, tmp_path):
    nowhere = tmp_path / "nowhere"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = kernelgate(
        "run", "-c", "print('embedded')", KERNELGATE_DATA_DIR=str(nowhere), KERNELGATE_TOKEN="of another server", TMPDIR=str(temporary)
    )
    assert (done.returncode, done.stdout) == (0, "embedded\n"), done.stderr
    assert list(temporary.iterdir()) == []
    assert not nowhere.exists()


def test_a_file_that_a_killed_server_left_is_not_believed(kernelgate, tmp_path):
    stale = tmp_path / "stale"
    stale.mkdir()
    (stale / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "token": "t", "pid": 1}))
    done = kernelgate("run", "-c", "print('embedded')", KERNELGATE_DATA_DIR=str(stale))
    assert (done.returncode, done.stdout) == (0, "embedded\n"), done.stderr


def test_an_embedded_server_that_cannot_start_says_why(kernelgate, tmp_path):
    done = kernelgate("run", "-c", "1", KERNELGATE_DATA_DIR=str(tmp_path / "nowhere"), KERNELGATE_SERVER__PORT="nonsense")
    assert done.returncode == 3
    assert "the embedded server did not start" in done.stderr
    assert "kernelgate: the embedded" in done.stderr


def test_it_starts_fast(environment):
    code = "import sys, time\nfrom kernelgate.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\nprint(time.process_time(), file=sys.stderr)"
    times = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        times.append(float(done.stderr))
    assert min(times) < 0.3
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom kernelgate.cli import run\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout.split()
    assert not {"rich", "prompt_toolkit", "tornado", "zmq", "nbformat"} & set(loaded)


def test_the_module_runs_as_the_command(environment):
    # Whoever has only the interpreter, as the embedded server does.
    done = subprocess.run([sys.executable, "-m", "kernelgate", "--version"], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("kernelgate ")


def test_pictures_that_exist_are_not_written_over(kernelgate, tmp_path):
    (tmp_path / "picture-1.png").write_bytes(b"mine")
    kernelgate("run", "-c", "import matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
    assert (tmp_path / "picture-1.png").read_bytes() == b"mine"
    assert Path(tmp_path / "picture-2.png").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("reached", ["kernelgate-*", "kernelgate-*/zygote.sock", "kernelgate-*/server.json"])
def test_who_is_ended_takes_the_embedded_server_along(environment, tmp_path, number, reached):
    """Whatever it has come to: its start, its zygote's, or sessions."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "kernelgate", "run", "-c", "import time; time.sleep(100)"]
    with subprocess.Popen(
        command, env={**environment, "KERNELGATE_DATA_DIR": str(tmp_path / "nowhere"), "TMPDIR": str(temporary)}
    ) as process:
        until(lambda: list(temporary.glob(reached)))
        (directory,) = temporary.iterdir()
        process.send_signal(number)
        assert process.wait(30) == (128 + number if number == signal.SIGTERM else -number)
    until(lambda: not Server(directory).leftovers())
    # Nobody is left to remove the directory of one that was killed; the server's own log is there, and its end.
    assert directory.exists() == (number == signal.SIGKILL)


def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)
