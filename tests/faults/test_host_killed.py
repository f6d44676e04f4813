"""What a session has outlives its host: its environment, its shells, its background processes with their input, its terminals' names, its artifacts' times."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.test_killed import processes_of

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_all_of_it_lives_on(api, server):
    session = api.create(env={"FROM_START": "1"})
    path = f"/v1/sessions/{session}"
    api.run(session, "kept = 'variables'")
    api.call("PUT", f"{path}/env", json={"env": {"SET_LATER": "2"}})
    shell = api.call("POST", f"{path}/shells", 201, json={"env": {"OF_SHELL": "3"}})["id"]
    api.call("POST", f"{path}/shells/{shell}/run", json={"command": "cd /tmp; export EXPORTED=4; own() { echo function; }"})
    cat = api.call(
        "POST", f"{path}/commands", 201, json={"command": "while read line; do echo got $line; done; echo ended", "background": True}
    )["id"]
    api.call("POST", f"{path}/commands/{cat}/stdin", 204, json={"value": "before\n"})
    api.until(lambda: api.call("GET", f"{path}/commands/{cat}")["stdout"] == "got before\n")
    in_shell = api.call("POST", f"{path}/shells/{shell}/run?wait=false", 202, json={"command": "echo begun; sleep 300", "timeout_s": None})[
        "id"
    ]
    api.until(lambda: api.call("GET", f"{path}/commands/{in_shell}")["stdout"])

    os.kill(processes_of(server, session)["host"], signal.SIGKILL)

    api.until(lambda: api.http.get(f"{path}/contexts").status_code == 200)
    assert api.call("GET", f"{path}/env")["env"] == {"FROM_START": "1", "SET_LATER": "2"}
    assert api.run(session, "import os; kept, os.environ['FROM_START'], os.environ['SET_LATER']")["text"] == "('variables', '1', '2')"
    assert api.call("POST", f"{path}/commands", json={"command": "echo $FROM_START $SET_LATER"})["stdout"] == "1 2\n"
    # The background process has the same input and output as before.
    api.call("POST", f"{path}/commands/{cat}/stdin", 204, json={"value": "after\n", "eof": True})
    ended = api.call("GET", f"{path}/commands/{cat}?wait=true")
    assert (ended["stdout"], ended["exit_code"]) == ("got before\ngot after\nended\n", 0)
    # The shell knows what it ran, and is still busy with it.
    (known,) = api.call("GET", f"{path}/shells")["shells"]
    assert (known["id"], known["command_id"], known["env_names"]) == (shell, in_shell, ["OF_SHELL"])
    assert api.call("POST", f"{path}/shells/{shell}/run", 409, json={"command": "true"})["error"]["code"] == "shell_busy"
    assert api.call("POST", f"{path}/commands/{in_shell}/kill", json={"grace_s": 1})["status"] == "killed"
    again = api.call("POST", f"{path}/shells/{shell}/run", json={"command": "echo $PWD $OF_SHELL $EXPORTED; own"})
    assert again["stdout"] == "/tmp 3 4\nfunction\n"
    api.delete(session)
