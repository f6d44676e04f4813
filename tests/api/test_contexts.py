"""Contexts: default ones, named ones, their directories, their order, their end."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

FIELDS = {"id", "name", "language", "cwd", "is_default", "state", "execution_count", "queued", "created_at", "generation", "death"}


def make(api, session, **body):
    return api.call("POST", f"/v1/sessions/{session}/contexts", 201, json={"language": "python", **body})


def test_the_default_context_is_made_on_first_use_and_kept(api, own):
    assert api.run(own, "x = 41")["context_id"] == "python"
    assert api.run(own, "x + 1", language="Python")["text"] == "42"
    assert api.run(own, "x + 2", context="python")["text"] == "43"
    (context,) = [one for one in api.call("GET", f"/v1/sessions/{own}/contexts")["contexts"] if one["id"] == "python"]
    assert context.keys() == FIELDS
    assert (context["is_default"], context["language"], context["cwd"], context["state"]) == (True, "python", "/workspace", "idle")
    assert (context["execution_count"], context["queued"], context["death"], context["generation"]) == (3, 0, None, 1)
    assert api.call("GET", f"/v1/sessions/{own}/contexts/python") == context


@pytest.mark.parametrize("name", ["python", "PYTHON", "Python", "py", "Py", "python3", "PYTHON3", " python "])
def test_a_language_by_any_of_its_names(api, session, name):
    result = api.run(session, "1 + 1", language=name)
    assert (result["text"], result["language"], result["context_id"]) == ("2", "python", "python")


def test_named_contexts_have_a_kernel_of_their_own(api, session):
    response = api.http.post(f"/v1/sessions/{session}/contexts", json={"language": "PY", "name": "scratch", "cwd": "data"})
    made = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/sessions/{session}/contexts/{made['id']}"
    assert made.keys() == FIELDS
    assert (made["name"], made["language"], made["cwd"], made["is_default"]) == ("scratch", "python", "/workspace/data", False)
    api.call("DELETE", f"/v1/sessions/{session}/contexts/{made['id']}", 204)
    first, second = make(api, session)["id"], make(api, session, cwd="/tmp")["id"]
    api.run(session, "x = 1", context=first)
    assert api.run(session, "'x' in globals()", context=second)["text"] == "False"
    assert api.run(session, "'x' in globals()")["text"] == "False"
    assert api.run(session, "import os; os.getcwd()", context=second)["text"] == "'/tmp'"
    assert {first, second} <= {one["id"] for one in api.call("GET", f"/v1/sessions/{session}/contexts")["contexts"]}
    for context in (first, second):
        api.call("DELETE", f"/v1/sessions/{session}/contexts/{context}", 204)


def test_a_directory_that_is_not_there_is_said_by_name(api, session):
    context = make(api, session, cwd="/no/such/place")["id"]
    result = api.run(session, "1", context=context)
    assert (result["status"], result["success"], result["death"]["reason"]) == ("kernel_died", False, "start_failed")
    assert "/no/such/place" in result["error"]["value"]
    assert api.call("POST", f"/v1/sessions/{session}/contexts/{context}/restart", 502)["error"]["code"] == "kernel_start_failed"
    found = api.call("GET", f"/v1/sessions/{session}/contexts/{context}")
    assert (found["state"], found["death"]["reason"]) == ("dead", "start_failed")
    # Made meanwhile, the context works.
    path = api.call("POST", f"/v1/sessions/{session}/contexts", 201, json={"language": "python", "cwd": "made-later"})["id"]
    assert api.run(session, "1", context=path)["status"] == "kernel_died"
    api.run(session, "import os; os.makedirs('made-later', exist_ok=True)")
    assert api.run(session, "import os; os.getcwd()", context=path)["text"] == "'/workspace/made-later'"
    for one in (context, path):
        api.call("DELETE", f"/v1/sessions/{session}/contexts/{one}", 204)


def test_contexts_run_beside_each_other(api, session):
    context = make(api, session)["id"]
    # Each can end only when the other one runs too.
    code = "import os, time\nopen('{0}', 'w').close()\nwhile not os.path.exists('{1}'): time.sleep(0.01)\n'both'"
    first = api.start(session, code.format("left", "right"))
    assert api.run(session, code.format("right", "left"), context=context)["text"] == "'both'"
    assert api.wait(session, first)["text"] == "'both'"
    api.call("DELETE", f"/v1/sessions/{session}/contexts/{context}", 204)


def test_executions_on_one_context_run_in_order_and_say_their_place(api, own):
    gate = api.start(own, "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nlog = ['gate']")
    waiting = [api.start(own, f"log.append({number}); log", id=f"n{number}") for number in range(4)]
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/executions/{gate}")["state"] == "running")
    places = [api.call("GET", f"/v1/sessions/{own}/executions/{one}") for one in waiting]
    assert [one["state"] for one in places] == ["queued"] * 4
    # The one that runs is before them.
    assert [one["queue_position"] for one in places] == [1, 2, 3, 4]
    context = api.call("GET", f"/v1/sessions/{own}/contexts/python")
    assert (context["state"], context["queued"]) == ("busy", 4)
    assert api.call("GET", f"/v1/sessions/{own}")["executing"] == 5
    # One taken out moves the others up.
    assert api.call("POST", f"/v1/sessions/{own}/executions/n1/cancel")["status"] == "cancelled"
    assert [api.call("GET", f"/v1/sessions/{own}/executions/{one}")["queue_position"] for one in ("n0", "n2", "n3")] == [1, 2, 3]
    aside = make(api, own)["id"]
    api.run(own, "open('go', 'w').close()", context=aside)
    assert api.wait(own, "n3")["text"] == "['gate', 0, 2, 3]"
    assert api.wait(own, "n3")["queue_position"] is None
    assert [api.events(own, one)[0]["position"] for one in (gate, "n0", "n2", "n3")] == [0, 1, 3, 4]
    assert api.wait(own, "n1")["status"] == "cancelled"


def test_deleting_a_context_ends_what_runs_and_cancels_what_waits(api, session):
    context = make(api, session)["id"]
    running = api.start(session, "print('in', flush=True)\nimport time\ntime.sleep(100)", context=context)
    waiting = api.start(session, "1", context=context)
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}/executions/{running}")["logs"]["stdout"])
    api.call("DELETE", f"/v1/sessions/{session}/contexts/{context}", 204)
    ended = api.wait(session, running)
    assert (ended["status"], ended["logs"]["stdout"]) == ("kernel_died", ["in\n"])
    assert api.wait(session, waiting)["status"] == "cancelled"
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/restart"), ("POST", "/interrupt")):
        assert api.call(method, f"/v1/sessions/{session}/contexts/{context}{path}", 404)["error"]["code"] == "context_not_found"
    error = api.call("POST", f"/v1/sessions/{session}/executions", 404, json={"code": "1", "context": context})["error"]
    assert error["code"] == "context_not_found"
    assert "python" in error["message"]


def test_a_deleted_default_context_is_made_anew(api, own):
    api.run(own, "x = 1")
    api.call("DELETE", f"/v1/sessions/{own}/contexts/python", 204)
    assert api.run(own, "'x' in globals()")["text"] == "False"


def test_there_may_be_so_many(api, own):
    # Kernels that cannot start cost nothing but their record.
    made = 0
    while (response := api.http.post(f"/v1/sessions/{own}/contexts", json={"language": "python", "cwd": "/nowhere"})).status_code == 201:
        made += 1
        assert made < 100
    assert (response.status_code, response.json()["error"]["code"]) == (400, "too_many_contexts")


def test_a_language_that_is_not_installed_says_how_to_get_it(tight_api, tight_session):
    known = {one["name"]: one for one in tight_api.call("GET", "/v1/languages")["languages"]}
    assert known["python"]["state"] == "ready"
    assert known["python"]["version"].count(".") == 2
    assert known["javascript"]["state"] == "not_installed"
    assert (known["javascript"]["version"], bool(known["javascript"]["missing"])) == (None, True)
    for path, body in (("executions", {"code": "1"}), ("contexts", {})):
        error = tight_api.call("POST", f"/v1/sessions/{tight_session}/{path}", 400, json={"language": "NodeJS", **body})["error"]
        assert error["code"] == "language_not_installed"
        assert known["javascript"]["install"] in error["message"]
        assert error["details"] == {"language": "javascript", "install": known["javascript"]["install"]}
    assert tight_api.call("POST", "/v1/sessions", 400, json={"languages": ["js"]})["error"]["code"] == "language_not_installed"


def test_sessions_see_the_python_that_the_settings_name(tight_api, tight_session, other_python):
    assert tight_api.run(tight_session, "import sys; sys.prefix")["text"] == repr(str(other_python.parent.parent))
    assert tight_api.run(
        tight_session, "import subprocess; subprocess.check_output(['python', '-c', 'import sys; print(sys.prefix)'], text=True)"
    )["text"] == repr(f"{other_python.parent.parent}\n")
