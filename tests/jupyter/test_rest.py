"""Jupyter's REST as jupyter_server answers it: status codes, fields, error shapes; tokens wherever clients put them."""

from __future__ import annotations

import json
import re
import socket
from datetime import datetime

import httpx
import pytest

from kernelgate import languages
from tests.faults.machine import processes_of, stopped
from tests.jupyter.conftest import start
from tests.support.frontend import Frontend, kind

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def is_model(model) -> bool:
    datetime.strptime(model["last_activity"], "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007 - as its clients parse it
    assert re.fullmatch(r"\w+-\w+-\w+-\w+-\w+", model["id"])
    return {"id", "name", "last_activity", "execution_state", "connections"} <= set(model) and isinstance(model["connections"], int)


def fails(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) >= {"message", "reason"}
    return str(body["message"])


def test_a_kernels_life(api):
    response = api.http.post("/api/kernels", json={"name": "python3", "path": "some/where.ipynb"})
    model = response.json()
    assert (response.status_code, response.headers["Location"]) == (201, f"/api/kernels/{model['id']}")
    assert "frame-ancestors 'self'; report-uri /api/security/csp-report" in response.headers["Content-Security-Policy"]
    assert is_model(model)
    assert model["name"] == "python3"
    url = f"/api/kernels/{model['id']}"
    assert is_model(api.call("GET", url, 200))
    assert model["id"] in [one["id"] for one in api.call("GET", "/api/kernels", 200)]
    assert api.http.post(f"{url}/interrupt").status_code == 204
    assert api.call("POST", f"{url}/restart", 200, json={})["id"] == model["id"]
    assert api.http.delete(url).status_code == 204
    for method, path in (
        ("DELETE", url),
        ("GET", url),
        ("POST", f"{url}/interrupt"),
        ("POST", f"{url}/restart"),
        ("GET", f"{url}/channels"),
    ):
        assert "does not exist" in fails(api.http.request(method, path), 404)


def test_an_empty_body_starts_the_default_kernel(api):
    for content in (b"", b"{}", b"null"):
        response = api.http.post("/api/kernels", content=content)
        assert (response.status_code, response.json()["name"]) == (201, "python3")
        api.call("DELETE", f"/api/kernels/{response.json()['id']}", 204)


def test_kernel_ids_of_the_clients_choice(api):
    for body in ({"kernel_id": "11111111-2222-3333-4444-555555555555"}, {"env": {"KERNEL_ID": "11111111-2222-3333-4444-555555555555"}}):
        first = start(api, **body)
        assert first == "11111111-2222-3333-4444-555555555555"
        assert start(api, **body) == first
        assert [one["id"] for one in api.call("GET", "/api/kernels")].count(first) == 1
        api.call("DELETE", f"/api/kernels/{first}", 204)
    assert "five groups" in fails(api.http.post("/api/kernels", json={"kernel_id": "x"}), 400)


def test_what_cannot_be_is_said(api):
    assert "not supported" in fails(api.http.post("/api/kernels", json={"name": "cobol"}), 400)
    assert "KERNEL_UID is refused" in fails(api.http.post("/api/kernels", json={"env": {"KERNEL_UID": "0"}}), 400)
    fails(api.http.post("/api/kernels", content=b"{"), 400)
    fails(api.http.post("/api/kernels", json=[]), 400)
    fails(api.http.put("/api/kernels", json={}), 405)
    fails(api.http.get("/api/contents"), 404)
    fails(api.http.get("/api/kernels/not-an-id"), 404)


def test_kernelspecs(api, server):
    found = api.call("GET", "/api/kernelspecs", 200)
    assert found["default"] == "python3"
    ready = {name for name, language in languages.load().items() if language.ready}
    assert set(found["kernelspecs"]) == {*ready, "python3"}
    for name, model in found["kernelspecs"].items():
        assert api.call("GET", f"/api/kernelspecs/{name}", 200) == model
        assert model["name"] == name
        assert {"argv", "display_name", "language", "env", "metadata", "interrupt_mode"} <= set(model["spec"])
        assert set(model["resources"]) == {"logo-32x32", "logo-64x64", "logo-svg"}
        for url in model["resources"].values():
            picture = httpx.get(server.url + url)
            assert picture.status_code == 200
            assert picture.headers["Content-Type"] == ("image/svg+xml" if url.endswith("svg") else "image/png")
            assert httpx.head(server.url + url).status_code == 200
    fails(api.http.get("/api/kernelspecs/cobol"), 404)
    fails(api.http.get("/kernelspecs/python/kernel.json"), 404)
    # What gateway clients ask of those who name a user.
    assert api.call("GET", "/api/kernelspecs?user=me", 200) == found
    assert api.call("GET", "/api/kernelspecs?user=me/python3", 200) == found["kernelspecs"]["python3"]


def test_documents(api):
    """What Jupyter calls sessions."""
    response = api.http.post("/api/sessions", json={"path": "a/b.ipynb", "name": "b", "type": "notebook", "kernel": {"name": "python3"}})
    model = response.json()
    assert (response.status_code, response.headers["Location"]) == (201, f"/api/sessions/{model['id']}")
    assert {name: model[name] for name in ("path", "name", "type", "notebook")} == {
        "path": "a/b.ipynb", "name": "b", "type": "notebook", "notebook": {"path": "a/b.ipynb", "name": "b"},
    }  # fmt: skip
    assert is_model(model["kernel"])
    url = f"/api/sessions/{model['id']}"
    assert api.call("GET", url, 200)["kernel"]["id"] == model["kernel"]["id"]
    again = api.call("POST", "/api/sessions", 201, json={"path": "a/b.ipynb", "type": "notebook", "kernel": {"name": "python3"}})
    assert again["id"] == model["id"]
    moved = api.call("PATCH", url, 200, json={"path": "c.ipynb", "name": "c"})
    assert (moved["path"], moved["name"], moved["kernel"]["id"]) == ("c.ipynb", "c", model["kernel"]["id"])
    other = api.call("PATCH", url, 200, json={"kernel": {"name": "bash"}})
    assert (other["kernel"]["name"], other["kernel"]["id"] != model["kernel"]["id"]) == ("bash", True)
    fails(api.http.get(f"/api/kernels/{model['kernel']['id']}"), 404)
    assert model["id"] in [one["id"] for one in api.call("GET", "/api/sessions", 200)]
    assert api.http.delete(url).status_code == 204
    fails(api.http.get(url), 404)
    fails(api.http.get(f"/api/kernels/{other['kernel']['id']}"), 404)
    assert "path" in fails(api.http.post("/api/sessions", json={"type": "notebook"}), 400)
    assert api.http.post("/api/sessions", json={"path": "x", "type": "notebook", "kernel": {"name": "cobol"}}).status_code == 501
    opened = api.call("POST", "/api/sessions", 201, json={"path": "gone", "type": "console", "kernel": {}})
    api.call("DELETE", f"/api/kernels/{opened['kernel']['id']}", 204)
    assert api.http.delete(f"/api/sessions/{opened['id']}").status_code == 410


def test_the_service(api, server, kernel):
    assert set(httpx.get(f"{server.url}/api").json()) == {"version"}
    me = api.call("GET", '/api/me?permissions={"kernels":["read"]}', 200)
    assert me["identity"]["name"] == "local"
    assert me["permissions"]["kernels"] == ["read"]
    status = api.call("GET", "/api/status", 200)
    assert set(status) == {"started", "last_activity", "kernels", "connections"}
    assert status["kernels"] >= 1
    described = httpx.get(f"{server.url}/api/spec.yaml")
    assert (described.status_code, described.json()["swagger"]) == (200, "2.0")


def test_tokens_are_taken_wherever_clients_put_them(server, kernel):
    token, url = server.token, f"{server.url}/api/kernels"
    for headers in ({"Authorization": f"{scheme} {token}"} for scheme in ("token", "Token", "Bearer", "bearer", "TOKEN")):
        assert httpx.get(url, headers=headers).status_code == 200
    assert httpx.get(f"{url}?token={token}").status_code == 200
    assert httpx.get(f"{server.url}/t/{token}/api/kernels", headers={"Authorization": "token"}).status_code == 200
    with Frontend(server, kernel, prefix=f"/t/{token}", session=None) as one:
        assert one.run("1")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token"}, {"Authorization": "Bearer nonsense"}])
def test_without_a_token_the_answer_is_json_and_no_redirect(server, headers):
    for path in (
        "/api/kernels",
        "/api/me",
        "/api/kernelspecs",
        "/t/nonsense/api/kernels",
        "/api/kernels/a-b-c-d-e/channels",
        "/api/nothing",
    ):
        fails(httpx.get(server.url + path, headers=headers), 401)
    assert httpx.get(f"{server.url}/", headers=headers).status_code == 404
    for path in ("/tree", "/tree?", "/t/anything/"):
        fails(httpx.get(server.url + path, headers=headers), 404)


def test_foreign_pages_and_hosts_are_refused(server, api):
    fails(api.http.get("/api/kernels", headers={"Origin": "https://evil.example"}), 403)
    fails(api.http.get("/api/kernels", headers={"Host": "evil.example"}), 403)
    answer = api.http.get("/api/kernels", headers={"Origin": server.url})
    assert answer.headers["Access-Control-Allow-Origin"] == server.url
    preflight = httpx.options(f"{server.url}/api/kernels", headers={"Origin": server.url, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]


def test_a_token_in_the_path_is_not_logged(server):
    httpx.get(f"{server.url}/t/{server.token}/api/kernels")
    httpx.get(f"{server.url}/t/{server.token}/nothing/here")
    httpx.get(f"{server.url}/api/kernels?token={server.token}")
    assert server.token not in server.log.read_text()


@pytest.mark.bash
def test_the_path_chooses_the_kernel_of_clients_that_always_ask_for_python3(server, api):
    prefix = f"/t/{server.token}/k/bash"
    assert api.call("GET", f"{prefix}/api/kernelspecs")["default"] == "bash"
    model = api.call("POST", f"{prefix}/api/kernels", 201, json={"name": "python3"})
    assert model["name"] == "bash"
    with Frontend(server, model["id"], prefix=prefix) as one:
        assert [m["content"]["text"] for m in one.run("echo $((6*7))") if kind(m) == "iopub:stream"] == ["42\n"]
    api.call("DELETE", f"/api/kernels/{model['id']}", 204)


def test_a_token_sees_only_its_own_kernels(server, kernel):
    with server.api(server.new_token("somebody else")) as other:
        assert other.call("GET", "/api/kernels", 200) == []
        fails(other.http.get(f"/api/kernels/{kernel}"), 404)
        fails(other.http.get(f"/api/kernels/{kernel}/channels"), 404)
        fails(other.http.delete(f"/api/kernels/{kernel}"), 404)


def test_a_working_directory_is_honoured_in_the_workspace_alone(server, api):
    for wanted, found in (
        ("/workspace/deep/er", "/workspace/deep/er"),
        ("sub", "/workspace/sub"),
        ("/home/me/notebooks", "/workspace"),
        ("/workspace/../etc", "/workspace"),
    ):
        made = start(api, env={"KERNEL_WORKING_DIR": wanted, "KERNEL_USERNAME": "me", "KERNEL_LAUNCH_TIMEOUT": "40"})
        with Frontend(server, made) as one:
            (result,) = [m for m in one.run("import os; os.getcwd(), os.environ['KERNEL_USERNAME']") if kind(m) == "iopub:execute_result"]
            assert result["content"]["data"]["text/plain"] == repr((found, "me"))
        api.call("DELETE", f"/api/kernels/{made}", 204)


def test_what_a_frontend_runs_for_itself_is_no_cell_of_the_notebook(server, api):
    session = api.create()
    api.run(session, "1")
    (model,) = [model for model in api.call("GET", "/api/kernels") if model["id"].replace("-", "").startswith(session)]
    with Frontend(server, model["id"]) as one:
        one.run("a_cell = 1")
        one.run("hidden = 1", silent=True)
        one.run("hidden = 1", store_history=False)
    assert [cell["source"] for cell in api.call("GET", f"/v1/sessions/{session}/notebook")["cells"]] == ["1", "a_cell = 1"]
    api.delete(session)


def test_executions_of_frontends_are_counted(server, api, kernel):
    def counted() -> float:
        found = re.search(
            r'^kernelgate_executions_total\{language="python",status="error"\} (.*)$', api.http.get("/metrics").text, re.MULTILINE
        )
        return float(found[1]) if found else 0

    before = counted()
    with Frontend(server, kernel) as one, Frontend(server, kernel):
        one.run("1/0")
        assert counted() == before + 1


def test_a_kernel_that_is_made_while_the_list_is_asked_for_is_in_it(server, api):
    """JupyterLab takes one that is not in the list for ended. Here a host stands still meanwhile."""
    slow = start(api)
    (host,) = processes_of(server, slow.rpartition("-")[0].replace("-", ""))["host"]
    head = f"GET /api/kernels HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {server.token}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as sock:
        with stopped(host):
            sock.sendall(head.encode())
            made = start(api)
        listed = sock.makefile("rb").read().partition(b"\r\n\r\n")[2]
    assert {slow, made} <= {one["id"] for one in json.loads(listed)}
    for one in (slow, made):
        api.call("DELETE", f"/api/kernels/{one}", 204)
