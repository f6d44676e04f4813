"""Values of environments are seen by the code they were given to, and by nobody else: not in logs, metrics, lists, the registry, the journal, or another session."""

from __future__ import annotations

import hashlib

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

SECRET = "kept-" + "fe1d0c9b" * 4


def test_a_secret_stays_where_it_was_given(api, server):
    mine, other = api.create(env={"OF_SESSION": SECRET + "1"}), api.create()
    path = f"/v1/sessions/{mine}"
    api.call("PUT", f"{path}/env", json={"env": {"SET_LATER": SECRET + "2"}})
    context = api.call("POST", f"{path}/contexts", 201, json={"language": "python", "env": {"OF_CONTEXT": SECRET + "3"}})["id"]
    look = "import hashlib, os; hashlib.sha256(os.environ[{!r}].encode()).hexdigest()"
    for number, (name, more) in enumerate(
        (("OF_SESSION", {}), ("SET_LATER", {}), ("OF_CONTEXT", {"context": context}), ("OF_RUN", {"env": {"OF_RUN": SECRET + "4"}})), 1
    ):
        wanted = hashlib.sha256(f"{SECRET}{number}".encode()).hexdigest()
        assert api.run(mine, look.format(name), **more)["text"] == repr(wanted)
    shell = api.call("POST", f"{path}/shells", 201, json={"env": {"OF_SHELL": SECRET + "5"}})["id"]
    assert api.call("POST", f"{path}/shells/{shell}/run", json={"command": "echo ${#OF_SHELL}"})["stdout"] == f"{len(SECRET) + 1}\n"
    done = api.call("POST", f"{path}/commands", json={"command": "echo ${#OF_COMMAND}", "env": {"OF_COMMAND": SECRET + "6"}})
    assert done["stdout"] == f"{len(SECRET) + 1}\n"
    api.call("POST", "/v1/sessions", 400, json={"env": {"BAD=NAME": SECRET + "7"}})
    api.call("POST", f"{path}/executions", 400, json={"code": "1", "env": {"A": SECRET + "8"}, "no_such_field": 1})
    # What others and operators can read.
    for told in (
        "/metrics",
        "/health",
        "/v1/sessions",
        path,
        f"{path}/executions",
        f"{path}/commands",
        f"{path}/contexts",
        f"{path}/shells",
        f"{path}/notebook",
        f"{path}/processes",
    ):
        answer = api.http.get(told)
        assert answer.status_code == 200, told
        assert SECRET not in answer.text, told
    assert {"OF_SESSION", "SET_LATER"} <= set(api.call("GET", path)["env_names"])
    seen = "import os, glob\nprint(len(dict(os.environ)), [p for p in glob.glob('/proc/[0-9]*/environ') if %r in open(p, errors='replace').read()], %r in str(dict(os.environ)))"
    assert api.run(other, seen % (SECRET[:20], SECRET[:20]))["logs"]["stdout"][0].endswith("[] False\n")
    assert SECRET not in server.log.read_text()
    kept = [
        file
        for file in server.data_dir.rglob("*")
        if file.is_file() and file.suffix != ".ext4" and SECRET.encode() in file.read_bytes()
    ]  # fmt: skip
    assert kept == []
    api.delete(mine)
    api.delete(other)
