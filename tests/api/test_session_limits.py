"""Limits of a session: asked for when it is made, held, and named in the result of what met them. The session lives on each time."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from kernelgate.sdk import Client
from kernelgate.sdk import errors as sdk_errors
from tests.support.server import Api

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

MiB = 1024 * 1024
SMALL = {
    "memory_bytes": 256 * MiB, "cpu": 0.9, "processes": 64, "open_files": 600, "file_bytes": 2 * MiB, "wall_time_s": 20, "cpu_time_s": 30, "output_bytes": 100_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(server):
    """A session with small limits. Whoever leaves its Python kernel dead leaves a fresh one to the next."""
    with server.api() as api:
        made = api.create(limits=SMALL)
        yield made
        api.delete(made)


@pytest.fixture(scope="module")
def narrow(server):
    """A session with a small workspace."""
    with server.api() as api:
        made = api.create(limits={"workspace_bytes": 32 * MiB, "workspace_inodes": 200})
        yield made
        api.delete(made)


def lives_on(api: Api, session: str) -> None:
    """It works with the next execution, and can start processes."""
    result = api.run(session, "import subprocess; subprocess.run(['echo', 'lives'], capture_output=True, text=True).stdout")
    assert result["text"] == "'lives\\n'", {name: result[name] for name in ("status", "limit", "error", "death", "execution_time")}


def command(api: Api, session: str, text: str, **more):
    return api.call("POST", f"/v1/sessions/{session}/commands", json={"command": text, **more})


# -- asking for them --


def test_they_are_told_with_the_session(api, small, session):
    assert {name: value for name, value in api.call("GET", f"/v1/sessions/{small}")["limits"].items() if name in SMALL} == SMALL
    default = api.call("GET", f"/v1/sessions/{session}")["limits"]
    assert (default["memory_bytes"], default["cpu"], default["wall_time_s"]) == (4096 * MiB, None, None)


@pytest.mark.parametrize(
    ("name", "ceiling"),
    [
        ("memory_bytes", 4096 * MiB),
        ("processes", 512),
        ("open_files", 8192),
        ("file_bytes", 8192 * MiB),
        ("workspace_bytes", 10240 * MiB),
        ("workspace_inodes", 500_000),
        ("output_bytes", 1024 * MiB),
    ],
)
def test_above_its_ceiling_each_is_refused(api, name, ceiling):
    error = api.call("POST", "/v1/sessions", 400, json={"limits": {name: ceiling + 1}})["error"]
    assert (error["code"], error["details"]) == ("limit_too_high", {"field": f"limits.{name}", "ceiling": ceiling})
    assert str(ceiling) in error["message"]


def test_no_limit_is_more_than_a_ceiling(api):
    error = api.call("POST", "/v1/sessions", 400, json={"limits": {"memory_bytes": None}})["error"]
    assert (error["code"], error["details"]["field"]) == ("limit_too_high", "limits.memory_bytes")


@pytest.mark.parametrize(
    "limits",
    [{"memory_bytes": "1G"}, {"memory_bytes": 1}, {"cpu": 0}, {"cpu": True}, {"processes": 1.5}, {"open_files": None}, {"wall_time_s": -1}, {"memory": 1}, [], None],
)  # fmt: skip
def test_what_is_no_limit_is_refused(api, limits):
    assert api.call("POST", "/v1/sessions", 400, json={"limits": limits})["error"]["code"] == "invalid_request"


def test_most_come_from_the_pool(api):
    def from_pool() -> float:
        text = api.http.get("/metrics").text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("kernelgate_sessions_from_pool "))

    for limits, taken in (
        ({"memory_bytes": 200 * MiB, "processes": 50, "cpu": 0.5, "open_files": 512}, 1),
        ({"workspace_bytes": 16 * MiB}, 0),
    ):
        api.until(lambda: api.call("GET", "/ready")["pool"])
        before = from_pool()
        made = api.create(limits=limits)
        assert from_pool() - before == taken
        api.delete(made)


def test_a_token_with_ceilings_of_its_own(server):
    token = server.new_token(
        "small", "--ceiling", "memory_bytes=1073741824", "--ceiling", "wall_time_s=30", "--ceiling", "output_bytes=2000000"
    )
    with server.api(token) as own:
        made = own.call("POST", "/v1/sessions", 201)
        assert (made["limits"]["memory_bytes"], made["limits"]["wall_time_s"], made["limits"]["output_bytes"]) == (1 << 30, 30, 2_000_000)
        assert own.run(made["id"], "6 * 7")["text"] == "42"
        own.delete(made["id"])
        for name, value, ceiling in (("memory_bytes", 1 << 31, 1 << 30), ("wall_time_s", None, 30)):
            error = own.call("POST", "/v1/sessions", 400, json={"limits": {name: value}})["error"]
            assert (error["code"], error["details"]) == ("limit_too_high", {"field": f"limits.{name}", "ceiling": ceiling})
    listed = server.command("token", "list")
    assert "memory_bytes=1073741824  output_bytes=2000000  wall_time_s=30" in listed.stdout
    for wrong, why in (
        ("memory_bytes=1", ">= 134217728"),
        ("memory_bytes=null", "a number is expected"),
        ("processes=100000", "at the most"),
        ("memory=5", "one of"),
        ("cpu", "LIMIT=VALUE"),
    ):
        refused = server.command("token", "create", "wrong", "--ceiling", wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert why in refused.stderr
    assert server.command("token", "list", "--ceiling", "cpu=1").returncode == 2


# -- meeting them --


def test_memory(api, small):
    result = api.run(small, "x = bytearray(10**9)")
    assert (result["status"], result["death"]["reason"], result["limit"]) == ("kernel_died", "out_of_memory", "memory")
    lives_on(api, small)
    kept = api.run(small, "kept = 1\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', 'x = bytearray(10**9)']).returncode")
    assert (kept["status"], kept["text"], kept["limit"]) == ("ok", "-9", "memory")
    done = command(api, small, ["python3", "-c", "x = bytearray(10**9)"])
    assert (done["status"], done["reason"], done["limit"]) == ("error", "out_of_memory", "memory")
    assert api.run(small, "kept")["text"] == "1"


def test_init_and_host_are_the_last_to_go_for_memory(api, server, small):
    with contextlib.closing(sqlite3.connect(server.data_dir / "registry.sqlite")) as registry:
        (init,) = registry.execute("SELECT pid FROM sessions WHERE id = ?", (small,)).fetchone()

    def family() -> dict[int, int]:
        """oom_score_adj of init and its children, by pid."""
        pids = [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]
        return {pid: int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (init, *pids)}

    api.run(small, "1")
    before = family()
    (host,) = [
        pid for pid in before if Path(f"/proc/{pid}").stat().st_uid not in (0, Path(f"/proc/{init}").stat().st_uid) and before[pid] < 900
    ]
    assert before[init] <= 0
    assert before[host] <= 0
    assert {score for pid, score in before.items() if pid not in (init, host)} == {900}
    bombs = "import os\nfor _ in range(4):\n    if os.fork() == 0:\n        x = [bytearray(10**6) for _ in range(1000)]\n        os._exit(0)\nx = [bytearray(10**6) for _ in range(1000)]"
    assert api.run(small, bombs)["limit"] == "memory"
    lives_on(api, small)
    assert {init, host} <= family().keys()


def test_processes_and_what_a_bomb_leaves(api, small):
    caught = api.run(
        small,
        "kept = 2\nimport threading, time\nmade = []\ntry:\n    for _ in range(100):\n        made.append(threading.Thread(target=time.sleep, args=(0.3,)))\n        made[-1].start()\n"
        "except RuntimeError as e:\n    print(e)\nfor one in made[:-1]: one.join()",
    )
    assert (caught["status"], caught["limit"]) == ("ok", "processes")
    assert api.run(small, "kept")["text"] == "2"
    # Children that sleep for ever, of a kernel that does not wait for them: it ends with them, and the next execution has another.
    bomb = api.run(small, "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(1000)")
    assert (bomb["status"], bomb["error"]["name"], bomb["limit"]) == ("error", "BlockingIOError", "processes")
    lives_on(api, small)
    # Processes of their own session, that a program in a kernel leaves: the kernel stays as it was.
    assert (
        api.run(small, "kept = 3\nimport subprocess\nsubprocess.run('while setsid sleep 1000 & do :; done', shell=True, timeout=2)")[
            "limit"
        ]
        == "processes"
    )
    lives_on(api, small)
    assert api.run(small, "kept")["text"] == "3"
    done = command(api, small, "b() { b | b & }; b; sleep 0.3; echo survived")
    assert done["limit"] == "processes"
    assert command(api, small, "echo $(echo lives)")["stdout"] == "lives\n"


@pytest.mark.bash
def test_a_bomb_of_the_shell(api, small):
    assert api.run(small, "b() { b | b & }; b; sleep 0.3; echo survived", language="bash", timeout_s=5)["limit"] in (
        "processes",
        "wall_time",
    )
    result = api.run(small, "echo $(echo lives)", language="bash")
    assert result["text"] == "lives\n", result


def test_processor_time(api):
    with contextlib.ExitStack() as stack:
        session = api.create(limits={"cpu_time_s": 0.5})
        stack.callback(api.delete, session)
        result = api.run(session, "kept = 4\nwhile True: pass")
        assert (result["status"], result["limit"]) == ("timeout", "cpu_time")
        assert result["timeout"] == {"after_s": 0.5, "action": "interrupt"}
        assert "processor time" in result["error"]["value"]
        asleep = api.run(session, "import time; time.sleep(0.7); kept")
        assert (asleep["text"], asleep["limit"]) == ("4", None)
        assert api.run(session, "import subprocess; subprocess.run('while :; do :; done', shell=True)")["limit"] == "cpu_time"
        done = command(api, session, "while :; do :; done")
        assert (done["status"], done["timed_out"], done["limit"]) == ("timeout", True, "cpu_time")


def test_share_of_the_processor(api, small):
    """Two processes that compute get less than one core together."""
    code = (
        "import os, time\nbegan = time.monotonic()\nif (child := os.fork()) == 0:\n    while time.monotonic() - began < 0.7: pass\n    os._exit(0)\n"
        "while time.monotonic() - began < 0.7: pass\nos.waitpid(child, 0)\nt = os.times()\nprint((time.process_time() + t.children_user + t.children_system) < 5)\n"
        "import resource\nprint(sum(sum(resource.getrusage(who)[:2]) for who in (0, -1)))"
    )
    before = float(api.run(small, "import resource; print(sum(sum(resource.getrusage(who)[:2]) for who in (0, -1)))")["text"])
    after = float(api.run(small, code)["logs"]["stdout"][0].split()[-1])
    assert after - before < 1.2 * 0.9  # 1.4 s of two cores' time without the limit


def test_wall_time(api, small):
    result = api.run(small, "import time; time.sleep(30)", timeout_s=0.2)
    assert (result["status"], result["limit"]) == ("timeout", "wall_time")
    assert command(api, small, "sleep 30", timeout_s=0.2)["limit"] == "wall_time"
    for path, body in (("executions", {"code": "1"}), ("commands", {"command": "true"})):
        for asked in (21, None):
            error = api.call("POST", f"/v1/sessions/{small}/{path}", 400, json={**body, "timeout_s": asked})["error"]
            assert (error["code"], error["details"]) == ("timeout_too_long", {"field": "timeout_s", "ceiling": 20})


def test_output(api, small):
    result = api.run(small, "print('x' * 200_000)")
    assert (result["status"], result["limit"], result["truncated"]["stdout_bytes"]) == ("ok", "output", 100_001)
    assert command(api, small, "head -c 200000 /dev/zero")["limit"] == "output"
    error = api.call("POST", f"/v1/sessions/{small}/executions", 400, json={"code": "1", "max_output_bytes": 100_001})["error"]
    assert (error["code"], error["details"]) == ("limit_too_high", {"field": "max_output_bytes", "ceiling": 100_000})


def test_files(api, small):
    result = api.run(small, "open('/workspace/large', 'wb').write(bytes(3_000_000))")
    assert (result["error"]["name"], result["limit"]) == ("OSError", "file_size")
    done = command(api, small, "head -c 3000000 /dev/zero > /workspace/large")
    assert done["success"] is False
    assert command(api, small, "stat -c %s /workspace/large; rm /workspace/large")["stdout"] == f"{2 * MiB}\n"
    result = api.run(
        small,
        "import os\nkept = []\ntry:\n    while True: kept.append(os.open('/dev/null', os.O_RDONLY))\nfinally:\n    [os.close(fd) for fd in kept]",
    )
    assert (result["error"]["name"], result["limit"]) == ("OSError", "open_files")
    assert api.run(small, "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)")["text"] == "(600, 600)"


def test_a_workspace_that_is_full(api, narrow):
    result = api.run(narrow, "open('x', 'wb').write(bytes(64 << 20))")
    assert (result["error"]["name"], result["limit"]) == ("OSError", "workspace")
    done = command(api, narrow, "cat /dev/zero > y")
    assert (done["success"], done["limit"]) == (False, "workspace")
    full = api.http.put(f"/v1/sessions/{narrow}/files/content", params={"path": "z"}, content=bytes(MiB))
    assert (full.status_code, full.json()["error"]["code"]) == (507, "no_space")
    result = api.run(narrow, "import os; os.unlink('x'); os.unlink('y')\nfor n in range(300): open(f'f{n}', 'w').close()")
    assert (result["error"]["name"], result["limit"]) == ("OSError", "workspace")
    done = command(api, narrow, "ls | wc -l; rm f*; echo room > x; cat x")
    assert 150 <= int(done["stdout"].split()[0]) <= 200
    assert (done["success"], done["limit"]) == (True, None)
    lives_on(api, narrow)


def test_a_workspace_is_empty_and_its_users_own(api, narrow):
    assert command(api, narrow, "find . -name 'lost*'; stat -c '%U %a' .; touch here && rm here")["stdout"] == "user 700\n"


def test_the_sdk(server):
    with Client(server.url, server.token) as client, client.sessions.create(limits={"memory_bytes": 200 * MiB, "cpu_time_s": 5}) as session:
        assert session.info.limits["memory_bytes"] == 200 * MiB
        result = session.code.run("x = bytearray(10**9)")
        assert result.limit == "memory"
        with pytest.raises(sdk_errors.KernelDied) as died:
            result.raise_for_error()
        assert died.value.limit == "memory"
        assert session.command.execute("sleep 9", timeout_s=0.2).limit == "wall_time"
        with pytest.raises(sdk_errors.InvalidRequest) as refused:
            client.sessions.create(limits={"processes": 10**6})
        assert (refused.value.code, refused.value.details["field"]) == ("limit_too_high", "limits.processes")
