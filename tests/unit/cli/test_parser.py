import re

import pytest

from kernelgate import __version__, cli
from kernelgate.cli import _parser
from kernelgate.sdk import errors

COMMANDS = ["doctor", "languages", "notebook", "repl", "run", "serve", "sessions", "setup", "token"]


def parse(*arguments):
    return _parser.build().parse_args(arguments)


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^    {command}\s", shown, re.MULTILINE) for command in COMMANDS)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"kernelgate {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "-c", "1", "file.py"],
        ["run", "-c", "1", "--timeout", "soon"],
        ["run", "-c", "1", "--timeout", "-1"],
        ["run", "-c", "1", "--timeout", "nan"],
        ["run", "-c", "1", "--env", "NOVALUE"],
        ["run", "-c", "1", "--env", "=x"],
        ["sessions", "delete"],
        ["notebook"],
        ["notebook", "run"],
    ],
)
def test_a_wrong_command_line_is_2_and_a_sentence(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_run_takes_code_a_file_or_standard_input():
    assert parse("run", "-c", "1").code == "1"
    assert parse("run", "a.py").file == "a.py"
    assert parse("run", "-").file == "-"


def test_times_are_seconds_or_none():
    assert parse("run", "-c", "1", "--timeout", "2.5").timeout == 2.5
    assert parse("run", "-c", "1", "--timeout", "none").timeout is None
    assert parse("run", "-c", "1").timeout is None
    assert parse("sessions", "create").idle_timeout is ...
    assert parse("sessions", "create", "--idle-timeout", "none").idle_timeout is None


def test_environment_values_may_have_an_equals_sign():
    assert parse("run", "-c", "1", "--env", "A=b=c", "--env", "E=").env == [("A", "b=c"), ("E", "")]


def test_sessions_alone_lists_them():
    options = parse("sessions")
    assert (options.action, options.label, options.state) == (None, [], None)


def test_an_error_is_explained_without_a_traceback():
    text = _parser.explain(errors.SessionNotFound("there is no session 'a'", request_id="r-1"))
    assert text.splitlines() == [
        "kernelgate: there is no session 'a'",
        "  at fault: the request (session_not_found, request r-1)",
        f"  next: {errors.SessionNotFound.hint}",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "no-such-file.py"], "no-such-file.py cannot be read: No such file"),
        (["run", "program.cobol"], "say it with -l"),
        (["repl"], "needs a terminal"),
    ],
)
def test_a_mistake_is_2_before_any_server_is_asked(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_bytes_that_are_no_text_are_told(capsys, tmp_path):
    file = tmp_path / "a.py"
    file.write_bytes(b"\xff\xfe")
    assert cli.main(["run", str(file)]) == 2
    assert "is not UTF-8 text" in capsys.readouterr().err


def test_without_a_server_it_is_3_and_names_the_command_that_starts_one(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KERNELGATE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("KERNELGATE_URL", raising=False)
    assert cli.main(["sessions"]) == 3
    assert "kernelgate serve" in capsys.readouterr().err


def test_a_server_that_was_named_and_is_not_there_is_never_replaced(capsys):
    # Nothing listens on the discard port of a test machine.
    assert cli.main(["run", "-c", "1", "--url", "http://127.0.0.1:9"]) == 3
    assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().err
