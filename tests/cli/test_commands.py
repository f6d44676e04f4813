"""The other commands: sessions, languages, doctor, notebook, serve, token."""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_sessions_are_made_listed_shown_and_deleted(kernelgate):
    made = kernelgate(
        "sessions",
        "create",
        "--label",
        "made-by=test",
        "--label",
        "note=[red]x[/]",
        "--env",
        "SECRET=hidden",
        "--idle-timeout",
        "none",
        "--lifetime",
        "3600",
    )
    session_id = made.stdout.strip()
    assert made.returncode == 0
    listed = kernelgate("sessions")
    assert session_id in listed.stdout
    assert "made-by=test" in listed.stdout
    assert "note=[red]x[/]" in listed.stdout
    assert session_id in kernelgate("sessions", "list", "--label", "made-by=test", "--state", "running").stdout
    assert session_id not in kernelgate("sessions", "list", "--label", "made-by=other").stdout
    assert [one["id"] for one in json.loads(kernelgate("sessions", "list", "--label", "made-by=test", "--json").stdout)] == [session_id]

    kernelgate("run", "--session", session_id, "-c", "1")
    shown = kernelgate("sessions", "show", session_id).stdout
    assert "idle limit     none" in shown
    assert "SECRET" in shown
    assert "hidden" not in shown
    assert "python ok" in shown
    assert re.search(r"uses           \d+ % CPU, \d+( of \d+)? MiB of memory, \d+ processes", shown)
    assert "entries" in shown
    assert json.loads(kernelgate("sessions", "show", session_id, "--json").stdout)["id"] == session_id

    deleted = kernelgate("sessions", "delete", session_id)
    assert (deleted.returncode, deleted.stderr) == (0, f"deleted {session_id}\n")
    again = kernelgate("sessions", "delete", session_id)
    assert again.returncode == 3
    assert "Traceback" not in again.stderr


def test_languages_are_a_table(kernelgate):
    lines = kernelgate("languages").stdout.splitlines()
    assert lines[0].split()[:3] == ["language", "version", "state"]
    assert any("python" in line and "ready" in line for line in lines)
    languages = {one["name"]: one for one in json.loads(kernelgate("languages", "--json").stdout)}
    assert languages["python"]["state"] == "ready"
    for name, language in languages.items():
        assert language["state"] == "ready" or any(name in line and language["install"] in line for line in lines)


def test_doctor_runs_a_cell_in_each_installed_language(kernelgate):
    report = json.loads(kernelgate("doctor", "--json").stdout)
    assert report["health"]["status"] == "ok"
    by_name = {one["name"]: one for one in report["languages"]}
    assert by_name["python"]["ok"] is True
    assert all(one["ok"] in {True, None} for one in report["languages"]), report


def test_doctor_says_what_the_server_says_of_its_sandbox(kernelgate):
    done = kernelgate("doctor", "-l", "python")
    assert done.returncode == 0
    assert "sandbox" in done.stdout
    assert "python     works" in done.stdout
    assert "bash" not in done.stdout


def test_doctor_knows_its_languages(kernelgate):
    done = kernelgate("doctor", "-l", "cobol")
    assert done.returncode == 2
    assert "there is no language 'cobol'" in done.stderr


def test_a_notebook_is_run_in_place_or_aside(kernelgate, tmp_path):
    file = tmp_path / "n.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('hi')"), new_code_cell("6 * 7")]), file)
    done = kernelgate("notebook", "run", "n.ipynb", "-o", "out.ipynb")
    assert done.returncode == 0
    assert "cell 1 of 2: done" in done.stderr
    assert "wrote out.ipynb" in done.stderr
    filled = nbformat.read(tmp_path / "out.ipynb", 4)
    assert filled.cells[1].outputs[0].data["text/plain"] == "42"
    assert nbformat.read(file, 4).cells[1].outputs == []
    kernelgate("notebook", "run", "n.ipynb")
    assert nbformat.read(file, 4).cells == filled.cells


def test_a_notebook_that_fails_is_1_and_keeps_what_it_did(kernelgate, tmp_path):
    file = tmp_path / "n.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('hi')"), new_code_cell("1 / 0"), new_code_cell("3")]), file)
    done = kernelgate("notebook", "run", "n.ipynb")
    assert done.returncode == 1
    assert "cell 2 of 3: failed: ZeroDivisionError: division by zero" in done.stderr
    cells = nbformat.read(file, 4).cells
    assert cells[0].outputs[0].text == "hi\n"
    assert cells[2].outputs == []
    assert kernelgate("notebook", "run", "n.ipynb", "--allow-errors").returncode == 0
    assert nbformat.read(file, 4).cells[2].outputs != []


def test_run_prints_a_notebook_and_leaves_it_alone(kernelgate, tmp_path):
    file = tmp_path / "n.ipynb"
    source = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\nprint('drawn')"
    nbformat.write(new_notebook(cells=[new_code_cell(source), new_code_cell("6 * 7")]), file)
    before = file.read_bytes()
    done = kernelgate("run", "n.ipynb")
    assert (done.returncode, done.stdout) == (0, "drawn\n42\n")
    assert (tmp_path / "n-1.png").read_bytes().startswith(b"\x89PNG")
    assert file.read_bytes() == before


def test_a_session_becomes_a_notebook(kernelgate, client, tmp_path):
    with client.sessions.create() as session:
        session.code.run("6 * 7")
        printed = kernelgate("notebook", "export", session.id)
        assert nbformat.reads(printed.stdout, 4).cells[0].outputs[0].data["text/plain"] == "42"
        assert kernelgate("notebook", "export", session.id, "-o", "s.ipynb").returncode == 0
        assert nbformat.read(tmp_path / "s.ipynb", 4).cells[0].source == "6 * 7"


def test_what_is_no_notebook_is_2(kernelgate, tmp_path):
    (tmp_path / "n.ipynb").write_text("{}")
    done = kernelgate("notebook", "run", "n.ipynb")
    assert done.returncode == 2
    assert "this is no notebook" in done.stderr


@pytest.mark.parametrize("command", ["serve", "token"])
def test_commands_of_the_server_have_their_own_help(kernelgate, command):
    done = kernelgate(command, "--help")
    assert done.returncode == 0
    assert "--data-dir" in done.stdout


def test_a_server_is_found_by_environment_and_by_flag(kernelgate, server):
    gone = {"KERNELGATE_DATA_DIR": None}
    assert kernelgate("languages", "--json", KERNELGATE_URL=server.url, KERNELGATE_TOKEN=server.token, **gone).returncode == 0
    assert kernelgate("languages", "--json", "--url", server.url, "--token", server.token, **gone).returncode == 0
    wrong = kernelgate("languages", "--url", server.url, "--token", "wrong")
    assert wrong.returncode == 3
    assert "kernelgate token" in wrong.stderr
