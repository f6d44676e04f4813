"""Who may do what: tokens, whose session it is, Host and Origin."""

from __future__ import annotations

import stat
import subprocess
import sys

import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def token_command(server, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "kernelgate", "token", *arguments, "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )


def get(server, path="/v1/sessions", **headers):
    return httpx.get(server.url + path, headers=headers)


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer kg_wrong", "Basic abc", "kg_x", "Bearer ü".encode()])
def test_without_a_good_token_nothing_is_said(server, value):
    headers = {} if value is None else {"Authorization": value}
    for path in ("/v1/sessions", "/v1/languages", "/v1/openapi.json", "/metrics", "/nothing/here", "/v1/sessions/sabc"):
        response = httpx.get(server.url + path, headers=headers)
        error = response.json()["error"]
        assert (response.status_code, error["code"], response.headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer"), path
        assert "kernelgate token" in error["message"]


def test_anybody_may_ask_whether_it_lives(server):
    assert get(server, "/health").status_code == 200
    assert get(server, "/ready").status_code in (200, 503)


def test_the_scheme_is_told_apart_in_any_case(server):
    for scheme in ("Bearer", "bearer", "BEARER", "Token"):
        assert get(server, Authorization=f"{scheme} {server.token}").status_code == 200


def test_the_first_token_is_in_a_private_file(server):
    for name in ("token", "server.json", "registry.sqlite"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600, name
    assert (server.data_dir / "token").read_text().strip() == server.token
    assert token_command(server).stdout.strip() == server.token
    assert server.token.startswith("kg_")
    assert len(server.token) == 43
    assert server.token.encode() not in (server.data_dir / "registry.sqlite").read_bytes()


def test_a_token_sees_its_own_sessions_alone(api, server, session):
    with server.api(server.new_token("other")) as other:
        execution = api.run(session, "1")["id"]
        assert other.call("GET", "/v1/sessions")["sessions"] == []
        unknown = "s" + "a" * 19
        for method, path in (
            ("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/keepalive"), ("POST", "/interrupt"), ("GET", "/contexts"), ("GET", "/contexts/python"), ("DELETE", "/contexts/python"),
            ("POST", "/contexts/python/restart"), ("GET", "/executions"), ("GET", f"/executions/{execution}"), ("POST", f"/executions/{execution}/cancel"), ("GET", "/events"),
        ):  # fmt: skip
            answers = [other.http.request(method, f"/v1/sessions/{one}{path}") for one in (session, unknown)]
            # A session that is somebody else's cannot be told from one that is not.
            assert [answer.status_code for answer in answers] == [404, 404], (method, path)
            first, second = ({**answer.json()["error"], "request_id": ""} for answer in answers)
            assert first["message"].replace(session, unknown) == second["message"]
        for path, body in (
            ("executions", {"code": "1"}),
            ("contexts", {"language": "python"}),
            (f"executions/{execution}/stdin", {"value": ""}),
            ("contexts/python/complete", {"code": ""}),
        ):
            assert other.call("POST", f"/v1/sessions/{session}/{path}", 404, json=body)["error"]["code"] == "session_not_found"
    assert api.run(session, "2")["text"] == "2"


def test_a_revoked_token_is_refused_soon(server):
    secret = server.new_token("short-lived")
    assert "short-lived" in token_command(server, "list").stdout
    assert secret not in token_command(server, "list").stdout
    with server.api(secret) as api:
        assert api.http.get("/v1/sessions").status_code == 200
        assert token_command(server, "revoke", "short-lived").returncode == 0
        api.until(lambda: api.http.get("/v1/sessions").status_code == 401, within_s=10, every_s=0.1)
    assert token_command(server, "revoke", "short-lived").returncode == 1
    assert "short-lived" not in token_command(server, "list").stdout


def test_sessions_in_the_pool_are_nobodys(server, api):
    ready = server.data_dir / "sessions"
    mine = {one["id"] for one in api.call("GET", "/v1/sessions?limit=1000")["sessions"]}
    for entry in ready.iterdir():
        if entry.name not in mine:
            assert api.http.get(f"/v1/sessions/{entry.name}").status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1", 200), ("127.0.0.1:9", 200), ("[::1]:9", 200), ("10.1.2.3", 200),
        ("evil.example", 403), ("evil.example:80", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403), ("kernels.example", 403),
    ],
)  # fmt: skip
def test_a_name_that_somebody_else_can_point_here_is_refused(server, host, status):
    for path in ("/v1/sessions", "/health"):
        response = get(server, path, Authorization=f"Bearer {server.token}", Host=host)
        assert response.status_code == status, path
        if status == 403:
            assert (response.json()["error"]["code"], "server.allowed_hosts" in response.json()["error"]["message"]) == ("forbidden", True)


def test_hosts_and_origins_that_the_settings_allow(tight):
    known = {"Authorization": f"Bearer {tight.token}"}
    assert get(tight, **known, Host="kernels.example").status_code == 200
    response = get(tight, **known, Origin="https://app.example")
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"], response.headers["Vary"]) == (
        200,
        "https://app.example",
        "Origin",
    )
    assert get(tight, **known, Origin="https://other.example").status_code == 403
    preflight = httpx.options(
        tight.url + "/v1/sessions", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://127.0.0.1:1"])
def test_pages_of_others_are_refused(server, origin):
    response = get(server, Authorization=f"Bearer {server.token}", Origin=origin)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert "Access-Control-Allow-Origin" not in response.headers
    assert httpx.options(server.url + "/v1/sessions", headers={"Origin": origin}).status_code == 403


def test_its_own_pages_may_call(server):
    response = get(server, Authorization=f"Bearer {server.token}", Origin=server.url)
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, server.url)
