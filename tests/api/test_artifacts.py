"""Artifacts: files that a run made or changed, returned with its result."""

from __future__ import annotations

import base64
import os
import signal

import pytest

from tests.faults.test_killed import processes_of
from tests.support.stream import stream

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def paths(result):
    return [one["path"] for one in result["artifacts"]["files"]]


def test_files_of_an_execution(api, own):
    before = api.run(own, "open('old.txt', 'w').write('old'); open('changed.txt', 'w').write('1')")
    assert before["artifacts"] is None
    code = "open('new.txt', 'w').write('text'); open('changed.txt', 'a').write('2')\nopen('plot.png', 'wb').write(b'\\x89PNG')"
    result = api.run(own, code, artifacts=["*.txt", "plot.png", "absent.txt"])
    assert result["success"]
    assert (result["artifacts"]["truncated"], result["artifacts"]["error"]) == (False, None)
    changed, new, plot = result["artifacts"]["files"]
    assert (changed["path"], changed["content"], changed["encoding"]) == ("/workspace/changed.txt", "12", "utf-8")
    assert (new["name"], new["size"], new["mode"], new["content"]) == ("new.txt", 4, "0644", "text")
    assert (base64.b64decode(plot["content"]), plot["encoding"]) == (b"\x89PNG", "base64")
    assert api.http.get(plot["href"]).content == b"\x89PNG"
    assert api.call("GET", f"/v1/sessions/{own}/executions/{result['id']}")["artifacts"] == result["artifacts"]
    assert [event["type"] for event in api.events(own, result["id"])][-2:] == ["artifacts", "end"]
    assert all("artifacts" not in one for one in api.call("GET", f"/v1/sessions/{own}/executions")["executions"])


def test_only_what_this_run_made_however_soon_it_came(api, own):
    for number in range(10):
        result = api.run(own, f"open('{number}.txt', 'w').write('{number}')", artifacts=["*"])
        assert paths(result) == [f"/workspace/{number}.txt"]
    ids = [api.start(own, f"open('queued-{number}.txt', 'w').write('')", artifacts=["queued-*"]) for number in range(5)]
    assert [paths(api.wait(own, one)) for one in ids] == [[f"/workspace/queued-{number}.txt"] for number in range(5)]


def test_patterns(api, own):
    code = "import os\nfor d in ('out/deep', 'other'):\n    os.makedirs(d)\n    for n in ('a.csv', 'b.txt'): open(f'{d}/{n}', 'w')\nopen('/tmp/t.csv', 'w'); os.symlink('out', 'link'); os.mkfifo('pipe.csv')"
    wanted = {
        "*.csv": ["/workspace/other/a.csv", "/workspace/out/deep/a.csv"],
        "out/*": [],
        "out/*/*.csv": ["/workspace/out/deep/a.csv"],
        "out/**": ["/workspace/out/deep/a.csv", "/workspace/out/deep/b.txt"],
        "/tmp/*.csv": ["/tmp/t.csv"],
        "/tmp/t.csv": ["/tmp/t.csv"],
        "link": [],
        "out": [],
        "[": [],
    }
    made = api.run(own, code, artifacts=list(wanted))
    assert paths(made) == sorted({path for some in wanted.values() for path in some})
    for pattern, expected in wanted.items():
        code = "for f in ('out/deep/a.csv', 'out/deep/b.txt', 'other/a.csv', 'other/b.txt', '/tmp/t.csv'): os.utime(f)"
        assert paths(api.run(own, code, artifacts=[pattern])) == expected, pattern


def test_contents_up_to_a_size_and_no_more_files_than_a_thousand(api, own):
    code = "for name, size in (('a', 600), ('b', 600), ('c', 300)): open(name, 'w').write('x' * size)"
    result = api.run(own, code, artifacts={"patterns": ["*"], "max_bytes": 1000})
    assert [(one["name"], one["size"], one["content"] and len(one["content"])) for one in result["artifacts"]["files"]] == [
        ("a", 600, 600), ("b", 600, None), ("c", 300, 300),
    ]  # fmt: skip
    assert api.http.get(result["artifacts"]["files"][1]["href"]).content == b"x" * 600
    many = api.run(own, "for n in range(1001): open(f'f{n}', 'w')", artifacts={"patterns": ["f*"], "max_bytes": 0})
    assert (len(many["artifacts"]["files"]), many["artifacts"]["truncated"]) == (1000, True)


def test_a_run_that_fails_or_whose_kernel_dies_has_them_too(api, own):
    for code in ("1 / 0", "import os; os._exit(3)"):
        result = api.run(own, f"open('made', 'w').write('before'); {code}", artifacts=["made"])
        assert not result["success"]
        assert [one["content"] for one in result["artifacts"]["files"]] == ["before"]
    assert api.run(own, "'after'", artifacts=["made"])["artifacts"]["files"] == []


def test_files_of_commands(api, own):
    call = f"/v1/sessions/{own}/commands"
    result = api.call("POST", call, json={"command": "mkdir -p sub; echo one > sub/one; echo two > two", "artifacts": ["*"]})
    assert paths(result) == ["/workspace/sub/one", "/workspace/two"]
    listed = api.call("POST", call, json={"command": ["touch", "here"], "cwd": "sub", "artifacts": ["here", "one"]})
    assert paths(listed) == ["/workspace/sub/here"]
    assert "artifacts" not in api.call("GET", call)["commands"][0]
    with stream(api, "POST", call, json={"command": "echo x > streamed", "artifacts": ["streamed"]}) as events:
        assert [event["type"] for event in events][-2:] == ["artifacts", "end"]
    name = api.call("POST", f"{call}?wait=false", 202, json={"command": "echo x > killed; echo made; sleep 100", "artifacts": ["killed"]})[
        "id"
    ]
    api.until(lambda: api.call("GET", f"{call}/{name}")["stdout"])
    killed = api.call("POST", f"{call}/{name}/kill", json={"grace_s": 1})
    assert (killed["status"], paths(killed)) == ("killed", ["/workspace/killed"])
    absent = api.call("POST", call, json={"command": ["no_such_program_here"], "artifacts": ["*"]})
    assert (absent["exit_code"], paths(absent)) == (127, [])
    shell = api.call("POST", f"/v1/sessions/{own}/shells", 201, json={"cwd": "sub"})["id"]
    ran = api.call("POST", f"/v1/sessions/{own}/shells/{shell}/run", json={"command": "echo x > in-shell", "artifacts": ["in-shell"]})
    assert paths(ran) == ["/workspace/sub/in-shell"]


def test_a_host_that_dies_loses_none(api, server, own):
    api.run(own, "import time")
    code = "open('early', 'w').write('')\nprint('made')\nwhile not os.path.exists('go'): time.sleep(0.01)\nopen('later', 'w').write('')"
    execution = api.start(own, "import os; " + code, artifacts=["early", "later"])
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/executions/{execution}")["logs"]["stdout"])
    os.kill(processes_of(server, own)["host"], signal.SIGKILL)
    api.until(lambda: api.http.put(f"/v1/sessions/{own}/files/content?path=go", content=b"").is_success)
    assert paths(api.wait(own, execution)) == ["/workspace/early", "/workspace/later"]


def test_who_kills_the_process_that_looks_hides_the_files_and_nothing_else(api, own):
    """The session's code has the user of the process that looks, and may end it whenever it likes."""
    code = """
import os, subprocess, sys, time
killer = '''
import os, time
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) not in (1, os.getpid(), os.getppid()): os.kill(int(pid), 9)
        except OSError: pass
'''
killing = subprocess.Popen([sys.executable, "-uc", "print(1)" + killer], stdout=subprocess.PIPE)
killing.stdout.read(1)
open("made", "w").write("x")
"""
    result = api.run(own, code, artifacts=["made"])
    error = result["artifacts"]["error"]
    assert error is None or error["code"] == "files_interrupted"  # it may have been quicker
    api.run(own, "killing.kill(); killing.wait()")
    assert paths(api.run(own, "open('made', 'w').write('y')", artifacts=["made"])) == ["/workspace/made"]


@pytest.mark.parametrize("wanted", [[], [""], ["a\0b"], "*.png", {"patterns": ["*"], "max_bytes": 1 << 30}, {"patterns": []}, ["*"] * 65])
def test_what_is_asked_for_wrongly(api, session, wanted):
    for where, body in (("executions", {"code": "1"}), ("commands", {"command": "true"})):
        answer = api.call("POST", f"/v1/sessions/{session}/{where}", 400, json={**body, "artifacts": wanted})
        assert "artifacts" in answer["error"]["message"]
