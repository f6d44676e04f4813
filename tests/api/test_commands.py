"""Commands: programs run in a session, followed, written to, ended; and the processes they make."""

from __future__ import annotations

import base64
import json
import time

import pytest

from tests.api.conftest import errors_in
from tests.support.stream import NDJSON, SSE, stream, until

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def run(api, session, command, **body):
    return api.call("POST", f"/v1/sessions/{session}/commands", json={"command": command, **body})


def follow(api, session, command, **body):
    return stream(api, "POST", f"/v1/sessions/{session}/commands", json={"command": command, **body})


def test_a_command_through_the_shell(api, session):
    result = run(api, session, "echo out; echo err >&2; pwd; exit 3")
    assert (result["stdout"], result["stderr"]) == ("out\n/workspace\n", "err\n")
    assert (result["exit_code"], result["success"], result["status"], result["signal"], result["timed_out"]) == (
        3,
        False,
        "error",
        None,
        False,
    )
    assert (result["state"], result["cwd"], result["command"]) == ("done", "/workspace", "echo out; echo err >&2; pwd; exit 3")
    assert 0 < result["duration_s"] < 10
    assert result["pid"] > 1
    assert result["usage"]["cpu_s"] >= 0
    assert result["truncated"] is None


def test_a_list_needs_no_shell(api, session):
    result = run(api, session, ["printf", "%s|", "a b", "$HOME", "'"])
    assert (result["stdout"], result["exit_code"]) == ("a b|$HOME|'|", 0)


@pytest.mark.parametrize("command", ["no_such_program_here", ["no_such_program_here"]])
def test_a_program_that_is_not_there_is_a_result(api, session, command):
    result = run(api, session, command)
    assert (result["exit_code"], result["success"]) == (127, False)
    assert "no_such_program_here" in result["stderr"]


def test_directory_and_environment(api, session):
    result = run(api, session, "mkdir -p sub; cd sub; echo $PWD $WORD", env={"WORD": "hello"})
    assert result["stdout"] == "/workspace/sub hello\n"
    assert run(api, session, "pwd; echo [$WORD]", cwd="sub")["stdout"] == "/workspace/sub\n[]\n"
    absent = run(api, session, "pwd", cwd="/nowhere")
    assert (absent["exit_code"], absent["stdout"]) == (127, "")
    assert "/nowhere" in absent["stderr"]


def test_input(api, session):
    assert run(api, session, "cat", stdin="Hello from input!")["stdout"] == "Hello from input!"
    assert run(api, session, "cat | wc -c", stdin_base64=base64.b64encode(bytes(range(256)) * 4000).decode())["stdout"] == "1024000\n"
    assert run(api, session, "cat; echo at once")["stdout"] == "at once\n"  # without input there is none to wait for
    refused = api.call("POST", f"/v1/sessions/{session}/commands", 400, json={"command": "cat", "stdin": "a", "stdin_base64": "b"})
    assert "not both" in refused["error"]["message"]
    # A program that does not read takes no harm, and neither does the session.
    assert run(api, session, "exec <&-; true", stdin="x" * 1_000_000)["success"]


def test_bytes_come_back_as_they_are(api, session):
    everything = bytes(range(256)) * 300
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)"
    result = run(api, session, ["python3", "-c", program], encoding="base64")
    assert base64.b64decode(result["stdout"]) == everything
    assert run(api, session, ["python3", "-c", program])["stdout"] == everything.decode(errors="replace")


def test_a_character_cut_by_a_pause_is_whole(api, session):
    program = "import os, time\nfor byte in 'aé€𝄞'.encode(): os.write(1, bytes([byte])); time.sleep(0.005)"
    with follow(api, session, ["python3", "-c", program]) as events:
        seen = list(events)
    texts = [event["text"] for event in seen if event["type"] == "stdout"]
    assert texts == ["a", "é", "€", "𝄞"]


def test_streams_merged_are_in_order(api, session):
    result = run(api, session, "for i in 1 2 3; do echo out $i; echo err $i >&2; done", merge=True)
    assert result["stdout"] == "".join(f"out {i}\nerr {i}\n" for i in (1, 2, 3))
    assert result["stderr"] == ""


def test_much_output_keeps_head_and_tail(api, session):
    result = run(api, session, "seq 1 200000; echo error >&2", max_output_bytes=10_000)
    assert result["stdout"].startswith("1\n2\n3\n")
    assert result["stdout"].endswith("199999\n200000\n")
    assert 1_270_000 < result["truncated"]["stdout_bytes"] < 1_288_895
    assert "bytes cut" in result["stdout"]
    whole = run(api, session, "seq 1 200000")
    assert (len(whole["stdout"]), whole["truncated"]) == (1_288_895, None)
    assert run(api, session, "yes | head -c 100000", max_output_bytes=0)["truncated"] == {"stdout_bytes": 100_000, "stderr_bytes": 0}


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_output_comes_while_it_is_made_and_input_can_be_written(api, server, own, accept):
    path = f"/v1/sessions/{own}/commands"
    body = {"command": "echo ready; while read line; do echo got $line; done; echo over", "stdin_open": True, "id": "talk"}
    with server.api() as other, stream(api, "POST", path, accept=accept, json=body) as events:
        assert [event["type"] for event in until(events, "stdout", text="ready\n")] == ["command", "command_started", "stdout"]
        for word in ("one", "two"):
            other.call("POST", f"{path}/talk/stdin", 204, json={"value": f"{word}\n"})
            assert until(events, "stdout")[-1]["text"] == f"got {word}\n"
        other.call("POST", f"{path}/talk/stdin", 204, json={"base64": base64.b64encode(b"three\n").decode(), "eof": True})
        rest = list(events)
        refused = other.call("POST", f"{path}/talk/stdin", 409, json={"value": "more"})
        assert refused["error"]["code"] == "input_closed"
    assert "".join(event["text"] for event in rest if event["type"] == "stdout") == "got three\nover\n"
    assert (rest[-1]["type"], rest[-1]["exit_code"]) == ("end", 0)


def test_the_same_id_is_the_same_command(api, own):
    first = run(api, own, "echo $RANDOM$RANDOM; date +%N", id="once")
    assert run(api, own, "echo $RANDOM$RANDOM; date +%N", id="once") == first
    refused = api.call("POST", f"/v1/sessions/{own}/commands", 409, json={"command": "true", "id": "once"})
    assert refused["error"]["code"] == "execution_conflict"
    assert api.run(own, "1", id="cell")["success"]
    api.call("POST", f"/v1/sessions/{own}/commands", 409, json={"command": "true", "id": "cell"})
    api.call("POST", f"/v1/sessions/{own}/executions", 409, json={"code": "1", "id": "once"})
    api.call("GET", f"/v1/sessions/{own}/executions/once", 404)
    assert api.call("GET", f"/v1/sessions/{own}/commands/cell", 404)["error"]["code"] == "command_not_found"
    assert [one["id"] for one in api.call("GET", f"/v1/sessions/{own}/executions")["executions"]] == ["cell"]
    listed = api.call("GET", f"/v1/sessions/{own}/commands")["commands"]
    assert [one["id"] for one in listed] == ["once"]
    assert "stdout" not in listed[0]
    assert api.call("GET", f"/v1/sessions/{own}/commands/once") == first


def test_over_time_it_is_ended_with_what_it_left_running_and_keeps_its_output(api, own):
    started = time.monotonic()
    result = run(api, own, "echo before; sleep 300 & echo also; sleep 300", timeout_s=0.5)
    assert time.monotonic() - started < 10
    assert (result["stdout"], result["timed_out"], result["status"], result["success"]) == ("before\nalso\n", True, "timeout", False)
    assert result["signal"] == "SIGTERM"
    stubborn = run(api, own, "trap '' TERM; echo deaf; while :; do sleep 0.05; done", timeout_s=0.3)
    assert (stubborn["stdout"], stubborn["signal"], stubborn["exit_code"], stubborn["timed_out"]) == ("deaf\n", "SIGKILL", 137, True)
    api.until(lambda: run(api, own, "pgrep -c sleep || true")["stdout"] == "0\n")


def test_in_the_background(api, own):
    path = f"/v1/sessions/{own}/commands"
    made = api.call("POST", path, 201, json={"command": "echo up; while read line; do echo $line; done", "background": True})
    assert (made["state"], made["background"]) == ("running", True)
    one = f"{path}/{made['id']}"
    assert [found["id"] for found in api.call("GET", f"{path}?running=true")["commands"]] == [made["id"]]
    api.call("POST", f"{one}/stdin", 204, json={"value": "hello\n"})
    with stream(api, "GET", one) as events:
        text = ""
        while not text.endswith("hello\n"):  # in one piece with what came before, or not
            text += until(events, "stdout")[-1]["text"]
    assert api.call("GET", one)["stdout"] == "up\nhello\n"
    killed = api.call("POST", f"{one}/kill", json={})
    assert (killed["status"], killed["signal"], killed["stdout"]) == ("killed", "SIGTERM", "up\nhello\n")
    assert api.call("GET", f"{path}?running=true")["commands"] == []
    assert api.call("POST", f"{one}/kill", json={}) == killed


def test_signals(api, own):
    path = f"/v1/sessions/{own}/commands"
    with follow(api, own, "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.02; done", id="trapped") as events:
        until(events, "stdout")
        with_name = api.http.post(f"{path}/trapped/signal", json={"signal": "no such"})
        assert (with_name.status_code, with_name.json()["error"]["code"]) == (400, "invalid_signal")
        api.call("POST", f"{path}/trapped/signal", json={"signal": "INT"})
        rest = list(events)
    assert (rest[-2]["text"], rest[-1]["exit_code"]) == ("interrupted\n", 7)
    killed = run(api, own, "kill -SEGV $$")
    assert (killed["signal"], killed["exit_code"], killed["reason"]) == ("SIGSEGV", 139, "ended by SIGSEGV")


def test_what_a_command_leaves_running_lives_on(api, own):
    started = time.monotonic()
    made = run(api, own, "mkfifo gate; (read line < gate; echo late; echo done > left) & echo $!", id="parent")
    assert time.monotonic() - started < 10
    assert (made["exit_code"], "late" in made["stdout"]) == (0, False)
    run(api, own, "echo go > gate; while [ ! -s left ]; do sleep 0.01; done")
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/commands/parent")["stdout"].endswith("late\n"))
    assert [event for event in api.http.get(
        f"/v1/sessions/{own}/commands/parent", headers={"Accept": NDJSON}
    ).text.splitlines() if json.loads(event).get("late")]  # fmt: skip


def test_cancelled_with_its_caller(api, server, own):
    with (
        server.api() as other,
        stream(
            other, "POST", f"/v1/sessions/{own}/commands", json={"command": "echo on; sleep 300", "on_disconnect": "kill", "id": "left"}
        ) as events,
    ):
        until(events, "stdout")
    ended = api.call("GET", f"/v1/sessions/{own}/commands/left?wait=true")
    assert (ended["status"], ended["stdout"]) == ("killed", "on\n")


def test_a_session_that_is_deleted_while_its_caller_s_command_is_ended(api, server):
    """The kill is in its second of grace and finds no session any more, which is nobody's failure."""
    session = api.create()
    body = {"command": "trap 'echo asked' TERM; echo on; while :; do sleep 1; done", "on_disconnect": "kill", "id": "left"}
    named = {"X-Request-Id": session}
    with server.api() as other, stream(other, "POST", f"/v1/sessions/{session}/commands", json=body, headers=named) as events:
        until(events, "stdout")
    api.until(lambda: "asked" in api.call("GET", f"/v1/sessions/{session}/commands/left")["stdout"])
    api.call("DELETE", f"/v1/sessions/{session}", 204)
    api.until(lambda: f'"request_id": "{session}"' in server.log.read_text())  # the request has ended
    assert errors_in(server.log) == []


def test_memory_that_a_program_used_is_told(api, own):
    result = run(api, own, ["python3", "-c", "x = bytearray(400_000_000); print(len(x))"])
    assert result["success"]
    assert result["usage"]["peak_memory_bytes"] > 400_000_000
    busy = run(api, own, "head -c 30000000 /dev/urandom | sha256sum")
    assert busy["usage"]["cpu_s"] > 0.01


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "command"),
        ({"command": ""}, "command"),
        ({"command": []}, "command"),
        ({"command": [""]}, "command"),
        ({"command": "a\0b"}, "NUL"),
        ({"command": "true", "cwd": ""}, "cwd"),
        ({"command": "true", "env": {"a=b": "c"}}, "env"),
        ({"command": "true", "timeout_s": 0}, "timeout_s"),
        ({"command": "true", "encoding": "binary"}, "encoding"),
        ({"command": "true", "stdin_base64": "#"}, "base64"),
        ({"command": "true", "max_output_bytes": -1}, "max_output_bytes"),
        ({"command": "true", "commandd": "true"}, "commandd"),
    ],
)
def test_bad_input_says_what_to_change(api, session, body, said):
    refused = api.call("POST", f"/v1/sessions/{session}/commands", 400, json=body)
    assert said in refused["error"]["message"]


def test_the_history_of_an_ended_session_has_its_commands(server):
    with server.api() as api:
        own = api.create(lifetime_s=2)
        result = run(api, own, "echo kept", id="kept")
        api.until(lambda: api.call("GET", f"/v1/sessions/{own}")["state"] != "running", within_s=60)
        assert api.call("GET", f"/v1/sessions/{own}/commands/kept") == result
        assert [one["id"] for one in api.call("GET", f"/v1/sessions/{own}/commands")["commands"]] == ["kept"]
        assert api.call("GET", f"/v1/sessions/{own}/executions")["executions"] == []
        api.delete(own)


# -- processes --


def processes(api, session, pattern=None):
    return api.call("GET", f"/v1/sessions/{session}/processes", params={} if pattern is None else {"filter": pattern})["processes"]


def background(api, session, command, **body):
    return api.call("POST", f"/v1/sessions/{session}/commands", 201, json={"command": command, "background": True, **body})


def test_processes_are_listed(api, own):
    api.run(own, "import os; me = os.getpid()")
    made = background(api, own, ["sleep", "321"])
    (found,) = processes(api, own, r"^sleep 321$")
    assert (found["pid"], found["command"], found["command_id"]) == (made["pid"], "sleep 321", made["id"])
    assert found["state"] in "SDR"
    assert 0 < found["memory_bytes"] < 100_000_000
    assert abs(found["started"] - time.time()) < 60
    (kernel,) = [one for one in processes(api, own) if one["context_id"] == "python"]
    assert (str(kernel["pid"]), kernel["command"]) == (api.run(own, "me")["text"], "kernel python")
    # Neither init nor the host nor who looked is among them; what came and went on the way here may be, for a moment.
    # A session from the pool may have kernels of other languages that were used lately.
    api.until(lambda: {one["pid"] for one in processes(api, own) if one["context_id"] in (None, "python")} == {kernel["pid"], made["pid"]})
    assert processes(api, own, "no such") == []
    refused = api.call("GET", f"/v1/sessions/{own}/processes", 400, params={"filter": "("})
    assert refused["error"]["code"] == "invalid_pattern"


def test_a_process_is_listed_and_killed_from_the_moment_its_start_is_answered(api, own):
    for number in range(10):
        made = background(api, own, ["sleep", str(2000 + number)])
        assert [one["command_id"] for one in processes(api, own, f"^sleep {2000 + number}$")] == [made["id"]]
        again = background(api, own, ["sleep", "3000"])
        assert api.call("POST", f"/v1/sessions/{own}/processes/kill", json={"pid": again["pid"]})["signalled"] == [again["pid"]]


def test_processes_are_killed(api, own):
    path = f"/v1/sessions/{own}/processes/kill"
    one, two, three = (background(api, own, ["sleep", str(number)]) for number in (1001, 1002, 1003))
    deaf = background(
        api,
        own,
        ["python3", "-c", "import signal, time\nsignal.signal(15, lambda *_: None)\nprint('deaf', flush=True)\nwhile True: time.sleep(1)"],
    )
    assert api.call("POST", path, json={"pid": one["pid"]}) == {"signalled": [one["pid"]], "forced": []}
    ended = api.call("GET", f"/v1/sessions/{own}/commands/{one['id']}?wait=true")
    assert (ended["signal"], ended["status"]) == ("SIGTERM", "error")
    assert api.call("POST", path, json={"pattern": "sleep 100", "grace_s": 5})["signalled"] == [two["pid"], three["pid"]]
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/commands/{deaf['id']}")["stdout"])
    assert api.call("POST", path, json={"pid": deaf["pid"], "grace_s": 0.1}) == {"signalled": [deaf["pid"]], "forced": [deaf["pid"]]}
    assert api.call("GET", f"/v1/sessions/{own}/commands/{deaf['id']}?wait=true")["signal"] == "SIGKILL"
    assert api.call("POST", path, 404, json={"pid": 1})["error"]["code"] == "process_not_found"
    api.call("POST", path, 400, json={"pid": 1, "pattern": "x"})
    api.call("POST", path, 400, json={"pid": 1, "signal": "NONE"})
    # A kernel is no program that a pattern means.
    api.run(own, "kept = 1")
    api.call("POST", path, json={"pattern": "."})
    assert api.run(own, "kept")["text"] == "1"


def test_kernels_of_other_languages_are_no_programs_either(api, own):
    """R's and Bash's code runs in a process below the kernel's own, which is the kernel's as well; what the code starts is not."""
    for language, code in (("r", "kept <- 1; system('sleep 987 &')"), ("bash", "kept=1; sleep 987 &")):
        api.run(own, code, language=language)
    # What was just forked is still called by its parent's name. A session from the pool may have kernels of further languages.
    api.until(lambda: len(processes(api, own, "^sleep 987$")) == 2)
    found = [one for one in processes(api, own) if one["state"] != "Z"]
    named = sorted(one["context_id"] or one["command"] for one in found if one["context_id"] in ("r", "bash", None))
    assert named == ["bash", "bash", "r", "r", "sleep 987", "sleep 987"]
    sleeping = {one["pid"] for one in found if one["command"] == "sleep 987"}
    killed = api.call("POST", f"/v1/sessions/{own}/processes/kill", json={"pattern": "."})["signalled"]
    assert set(killed) == sleeping
    assert api.run(own, "cat(kept)", language="r")["logs"]["stdout"] == ["1"]
    assert api.run(own, "echo $kept", language="bash")["logs"]["stdout"] == ["1\n"]


def test_a_process_is_watched(api, own):
    busy = background(api, own, "while :; do :; done")
    seen = []
    with stream(api, "GET", f"/v1/sessions/{own}/processes/{busy['pid']}/stats?interval_s=0.1") as events:
        for event in events:
            seen.append(event)
            if len(seen) == 4:
                api_kill = api.http.post  # the stream ends with the process
                api_kill(f"/v1/sessions/{own}/processes/kill", json={"pid": busy["pid"], "signal": "KILL"})
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert {event["type"] for event in seen} == {"stats"}
    assert max(event["cpu_percent"] for event in seen) > 0
    assert seen[-1]["cpu_s"] > seen[0]["cpu_s"]
    api.call("GET", f"/v1/sessions/{own}/processes/{busy['pid']}/stats", 404)
    api.call("GET", f"/v1/sessions/{own}/processes/1/stats?interval_s=0", 400)
    # Whoever leaves ends only the watching.
    other = background(api, own, ["sleep", "555"])
    with stream(api, "GET", f"/v1/sessions/{own}/processes/{other['pid']}/stats?interval_s=0.1") as events:
        next(events)
    assert processes(api, own, "sleep 555")


# -- environment and shells --


def test_the_sessions_environment(api):
    own = api.create(env={"FROM_START": "1"})
    path = f"/v1/sessions/{own}/env"
    assert api.call("GET", path) == {"env": {"FROM_START": "1"}}
    show = "import os; print(os.environ.get('WORD'))"
    assert api.run(own, show)["logs"]["stdout"] == ["None\n"]
    assert api.call("PUT", path, json={"env": {"WORD": "one", "OTHER": "2"}})["env"] == {"FROM_START": "1", "WORD": "one", "OTHER": "2"}
    assert run(api, own, "echo $FROM_START $WORD $OTHER")["stdout"] == "1 one 2\n"
    assert run(api, own, "echo $WORD", env={"WORD": "mine"})["stdout"] == "mine\n"
    # The kernel that runs has it with its next execution, another from its start.
    assert api.run(own, show)["logs"]["stdout"] == ["one\n"]
    assert api.run(own, show, env={"WORD": "mine"})["logs"]["stdout"] == ["mine\n"]
    other = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    assert api.run(own, show, context=other)["logs"]["stdout"] == ["one\n"]
    assert api.call("GET", path, params={"name": ["WORD", "NO"]}) == {"env": {"WORD": "one"}}
    assert api.call("DELETE", path, 200, params={"name": "WORD"})["env"] == {"FROM_START": "1", "OTHER": "2"}
    assert run(api, own, "echo [$WORD]")["stdout"] == "[]\n"
    assert api.call("GET", f"/v1/sessions/{own}")["env_names"] == ["FROM_START", "OTHER"]
    assert api.call("DELETE", path)["env"] == {}
    assert api.call("PUT", path, 400, json={"env": {"a=b": "c"}})["error"]["code"] == "invalid_env"
    assert api.call("PUT", path, 400, json={"env": {"A": 1}})
    api.call("PUT", path, json={"env": {"A": "x" * 200_000}})
    assert api.call("PUT", path, 400, json={"env": {"B": "x" * 200_000}})["error"]["code"] == "invalid_env"
    api.delete(own)


def test_a_shell_keeps_what_it_was_told(api, own):
    path = f"/v1/sessions/{own}/shells"
    shell = api.call("POST", path, 201, json={"env": {"GIVEN": "yes"}})
    one = f"{path}/{shell['id']}"

    def at_prompt(command, **body):
        return api.call("POST", f"{one}/run", json={"command": command, **body})

    assert at_prompt("mkdir -p deep/er; cd deep/er; export WORD='two words' MULTI=$'a\\nb'; plain=3; unset LANG")["stdout"] == ""
    assert at_prompt('pwd; echo $WORD "$MULTI" $plain $GIVEN ${LANG-none}')["stdout"] == "/workspace/deep/er\ntwo words a\nb 3 yes none\n"
    assert at_prompt("printenv WORD; printenv plain")["exit_code"] == 1
    at_prompt("greet() { echo hello $1; }; alias ll='echo listed'; shopt -s nullglob; set -o noclobber; list=(a 'b c')")
    assert (
        at_prompt('greet you; ll; echo *.nothing; echo "${list[1]}"; echo x > f; echo y > f; cat f')["stdout"]
        == "hello you\nlisted\n\nb c\nx\n"
    )
    ended = at_prompt("cd ..; echo bye; exit 9")
    assert (ended["stdout"], ended["exit_code"], ended["shell_id"]) == ("bye\n", 9, shell["id"])
    assert at_prompt("pwd; false")["stdout"] == "/workspace/deep\n"
    late = at_prompt("cd /; WORD=gone; sleep 60", timeout_s=0.3)
    assert late["timed_out"]
    assert at_prompt("echo $(basename $PWD) $WORD")["stdout"] in ("deep two words\n", "/ gone\n")
    running = api.call("POST", f"{one}/run?wait=false", 202, json={"command": "sleep 60"})
    assert api.call("POST", f"{one}/run", 409, json={"command": "true"})["error"]["code"] == "shell_busy"
    assert api.call("GET", one)["command_id"] == running["id"]
    api.call("POST", f"/v1/sessions/{own}/commands/{running['id']}/kill", json={})
    assert [found["id"] for found in api.call("GET", path)["shells"]] == [shell["id"]]
    api.call("DELETE", one, 204)
    assert api.call("POST", f"{one}/run", 404, json={"command": "true"})["error"]["code"] == "shell_not_found"
    api.until(lambda: run(api, own, "ls -A /tmp | grep -c kernelgate-shell || true")["stdout"] == "0\n")
