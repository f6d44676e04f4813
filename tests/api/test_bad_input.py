"""Bad input: each a 4xx with a stable code and a message that says what to change. And whatever was sent, the service goes on."""

from __future__ import annotations

import base64
import json
import socket

import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

E, C, S = "/executions", "/contexts", ""


def fails(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].startswith("application/json")
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() - {"details"} == {"code", "message", "request_id"}
    assert body["error"]["code"] == code, body
    assert body["error"]["request_id"] == response.headers["X-Request-Id"]
    assert body["error"]["message"]
    return body["error"]["message"]


# what is sent as an execution; code; what the message must name
EXECUTIONS = [
    ({}, "invalid_request", "code"),
    ({"code": None}, "invalid_request", "code"),
    ({"code": 5}, "invalid_request", "code"),
    ({"code": ["1"]}, "invalid_request", "code"),
    ({"code": "1", "kode": "1"}, "invalid_request", "kode"),
    ({"code": "1", "Code": "1"}, "invalid_request", "Code"),
    ({"code": "1", "language": 5}, "invalid_request", "language"),
    ({"code": "1", "language": ""}, "unsupported_language", "python"),
    ({"code": "1", "language": "cobol"}, "unsupported_language", "javascript"),
    ({"code": "1", "language": "../python"}, "unsupported_language", "supported"),
    ({"code": "1", "language": "python", "context": "python"}, "language_and_context", "not both"),
    ({"code": "1", "context": ""}, "invalid_request", "context"),
    ({"code": "1", "id": ""}, "invalid_request", "id"),
    ({"code": "1", "id": "a b"}, "invalid_request", "id"),
    ({"code": "1", "id": "a/b"}, "invalid_request", "id"),
    ({"code": "1", "id": "a\n"}, "invalid_request", "id"),
    ({"code": "1", "id": "ü"}, "invalid_request", "id"),
    ({"code": "1", "id": "x" * 129}, "invalid_request", "id"),
    ({"code": "1", "id": 5}, "invalid_request", "id"),
    ({"code": "1", "timeout_s": 0}, "invalid_request", "timeout_s"),
    ({"code": "1", "timeout_s": -1}, "invalid_request", "timeout_s"),
    ({"code": "1", "timeout_s": -0.0}, "invalid_request", "timeout_s"),
    ({"code": "1", "timeout_s": "5"}, "invalid_request", "timeout_s"),
    ({"code": "1", "timeout_s": 1e300}, "invalid_request", "timeout_s"),
    ({"code": "1", "timeout_s": True}, "invalid_request", "timeout_s"),
    ({"code": "1", "env": {"A": 1}}, "invalid_request", "env"),
    ({"code": "1", "env": ["A=1"]}, "invalid_request", "env"),
    ({"code": "1", "env": None}, "invalid_request", "env"),
    ({"code": "1", "env": {"": "x"}}, "invalid_env", "env"),
    ({"code": "1", "env": {"A=B": "x"}}, "invalid_env", "A=B"),
    ({"code": "1", "env": {"A\0": "x"}}, "invalid_env", "env"),
    ({"code": "1", "env": {"A": "x\0"}}, "invalid_env", "'A'"),
    ({"code": "1", "env": {"A": "x" * 300_000}}, "invalid_env", "262144"),
    ({"code": "1", "allow_stdin": "yes"}, "invalid_request", "allow_stdin"),
    ({"code": "1", "ansi": 1}, "invalid_request", "ansi"),
    ({"code": "1", "max_output_bytes": -1}, "invalid_request", "max_output_bytes"),
    ({"code": "1", "max_output_bytes": 1.5}, "invalid_request", "max_output_bytes"),
    ({"code": "1", "max_output_bytes": 10**30}, "limit_too_high", "max_output_bytes"),
    ({"code": "1", "max_result_bytes": 10**12}, "limit_too_high", "max_result_bytes"),
    ({"code": "1", "on_disconnect": "explode"}, "invalid_request", "on_disconnect"),
]


@pytest.mark.parametrize(("body", "code", "named"), EXECUTIONS, ids=[json.dumps(body)[:60] for body, _, _ in EXECUTIONS])
def test_an_execution_that_cannot_be(api, session, body, code, named):
    assert named in fails(api.http.post(f"/v1/sessions/{session}{E}", json=body), 400, code)
    # Whatever the answer was to be.
    fails(api.http.post(f"/v1/sessions/{session}{E}", json=body, headers={"Accept": "text/event-stream"}), 400, code)


RAW = [
    (b"{", "invalid_json"),
    (b"nonsense", "invalid_json"),
    (b'{"code": "1"} x', "invalid_json"),
    (b"'code'", "invalid_json"),
    (b'{"code": NaN}', "invalid_json"),
    (b'{"code": "1", "timeout_s": NaN}', "invalid_json"),
    (b'{"code": "1", "timeout_s": Infinity}', "invalid_json"),
    (b'{"code": "1", "timeout_s": 1e999}', None),
    (b'{"code": "\xff\xfe"}', "invalid_utf8"),
    (b"\xff\xfe{\x00", "invalid_utf8"),
    (b'{"code": "\xed\xa0\x80"}', "invalid_utf8"),
    (b'{"code": "\\ud800"}', "invalid_json"),
    (b'{"code": "a\nb"}', "invalid_json"),
    (b"[" * 200_000, None),
    (b'{"code": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    (b'{"code":"1","env":' + b'{"a":' * 50_000, None),
    (b"[]", "invalid_request"),
    (b"null", "invalid_request"),
    (b'"x"', "invalid_request"),
    (b"5", "invalid_request"),
    (b"", "invalid_request"),
    (b"code=1", "invalid_json"),
]


@pytest.mark.parametrize(("content", "code"), RAW, ids=[repr(content[:40]) for content, _ in RAW])
def test_a_body_that_is_no_json_object(api, session, content, code):
    response = api.http.post(f"/v1/sessions/{session}{E}", content=content)
    code = code or response.json()["error"]["code"]
    assert code in ("invalid_json", "invalid_request", "invalid_utf8")
    fails(response, 400, code)


SESSIONS = [
    ({"labels": []}, "invalid_request", "labels"),
    ({"labels": {"a": 1}}, "invalid_request", "labels"),
    ({"labels": {"": "x"}}, "invalid_request", "labels"),
    ({"labels": {str(number): "" for number in range(65)}}, "invalid_request", "labels"),
    ({"labels": {"a": "x\0y"}}, "invalid_request", "labels"),
    ({"labels": {"x\0y": ""}}, "invalid_request", "labels"),
    ({"labels": {"a": "x" * 1025}}, "invalid_request", "labels"),
    ({"env": {"A": "\0"}}, "invalid_env", "env"),
    ({"idle_timeout_s": 0}, "invalid_request", "idle_timeout_s"),
    ({"idle_timeout_s": -5}, "invalid_request", "idle_timeout_s"),
    ({"idle_timeout_s": 1e308}, "invalid_request", "idle_timeout_s"),
    ({"lifetime_s": "1h"}, "invalid_request", "lifetime_s"),
    ({"languages": "python"}, "invalid_request", "languages"),
    ({"languages": ["cobol"]}, "unsupported_language", "python"),
    ({"language": "python"}, "invalid_request", "language"),
]


@pytest.mark.parametrize(("body", "code", "named"), SESSIONS, ids=[json.dumps(body)[:60] for body, _, _ in SESSIONS])
def test_a_session_that_cannot_be(api, body, code, named):
    assert named in fails(api.http.post("/v1/sessions", json=body), 400, code)


def test_an_update_that_cannot_be(api, session):
    path = f"/v1/sessions/{session}"
    before = api.call("GET", path)["labels"]
    for body, code in (
        ({"env": {}}, "invalid_request"),
        ({"idle_timeout_s": -1}, "invalid_request"),
        ({"labels": None}, "invalid_request"),
        ({"id": "x"}, "invalid_request"),
    ):
        fails(api.http.patch(path, json=body), 400, code)
    assert api.call("GET", path)["labels"] == before


CONTEXTS = [
    ({}, "invalid_request", "language"),
    ({"language": None}, "invalid_request", "language"),
    ({"language": "fortran"}, "unsupported_language", "python"),
    ({"language": "python", "cwd": 5}, "invalid_request", "cwd"),
    ({"language": "python", "cwd": "a\0b"}, "invalid_request", "cwd"),
    ({"language": "python", "cwd": "x" * 4097}, "invalid_request", "cwd"),
    ({"language": "python", "name": "x" * 129}, "invalid_request", "name"),
    ({"language": "python", "env": {"=": ""}}, "invalid_env", "env"),
    ({"language": "python", "id": "mine"}, "invalid_request", "id"),
]


@pytest.mark.parametrize(("body", "code", "named"), CONTEXTS, ids=[json.dumps(body)[:60] for body, _, _ in CONTEXTS])
def test_a_context_that_cannot_be(api, session, body, code, named):
    assert named in fails(api.http.post(f"/v1/sessions/{session}{C}", json=body), 400, code)


def test_questions_and_answers_that_cannot_be(api, session):
    path = f"/v1/sessions/{session}"
    for kind in ("complete", "inspect", "is_complete"):
        for body in ({}, {"code": 1}, {"code": "x", "extra": 1}):
            fails(api.http.post(f"{path}/contexts/python/{kind}", json=body), 400, "invalid_request")
    for body in (
        {"code": "x", "cursor_pos": -1},
        {"code": "x", "cursor_pos": 2},
        {"code": "x", "cursor_pos": "1"},
        {"code": "x", "cursor_pos": 10**20},
    ):
        fails(api.http.post(f"{path}/contexts/python/complete", json=body), 400, "invalid_request")
    fails(api.http.post(f"{path}/contexts/python/inspect", json={"code": "x", "detail_level": 2}), 400, "invalid_request")
    for body in ({}, {"value": None}, {"value": 5}, {"value": "x", "more": 1}):
        fails(api.http.post(f"{path}/executions/x/stdin", json=body), 400, "invalid_request")
    for call in ("keepalive", "interrupt", "contexts/python/restart", "contexts/python/interrupt", "executions/x/cancel"):
        fails(api.http.post(f"{path}/{call}", json={"force": True}), 400, "invalid_request")


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


QUERIES = [
    ("/v1/sessions", {"limit": "0"}, "invalid_request"),
    ("/v1/sessions", {"limit": "1001"}, "invalid_request"),
    ("/v1/sessions", {"limit": "-1"}, "invalid_request"),
    ("/v1/sessions", {"limit": "ten"}, "invalid_request"),
    ("/v1/sessions", {"limit": "²"}, "invalid_request"),
    ("/v1/sessions", {"limit": "9" * 5000}, "invalid_request"),
    ("/v1/sessions", {"label": "novalue"}, "invalid_request"),
    ("/v1/sessions", {"state": "sleeping"}, "invalid_request"),
    ("/v1/sessions", {"page_token": "!"}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": "ü"}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": "AAAA"}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": ""}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": encoded([])}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": encoded(["x", "y"])}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": encoded([None, None])}, "invalid_page_token"),
    ("/v1/sessions", {"page_token": base64.urlsafe_b64encode(b"[" * 3000).decode()}, "invalid_page_token"),
    ("{session}/executions", {"limit": "0"}, "invalid_request"),
    ("{session}/executions", {"page_token": encoded([5])}, "invalid_page_token"),
    ("{session}/executions/known", {"after": "x"}, "invalid_request"),
    ("{session}/executions/known", {"after": "-1"}, "invalid_request"),
    ("{session}/executions/known", {"after": "٣"}, "invalid_request"),
    ("{session}/events", {"after": "1.5"}, "invalid_request"),
    ("{session}/events", {"after": "9" * 5000}, "invalid_request"),
]


@pytest.mark.parametrize(("path", "query", "code"), QUERIES, ids=[f"{path} {query}"[:60] for path, query, _ in QUERIES])
def test_a_question_that_cannot_be(api, session, path, query, code):
    fails(api.http.get(path.replace("{session}", f"/v1/sessions/{session}"), params=query), 400, code)


def test_a_query_or_path_that_is_not_text(api, session):
    fails(api.http.get("/v1/sessions?limit=%ff"), 400, "invalid_request")
    fails(api.http.get("/v1/sessions/%ff"), 404, "session_not_found")
    fails(api.http.get(f"/v1/sessions/{session}/executions/x%00y"), 404, "execution_not_found")
    fails(api.http.get("/v1/sessions/..%2f..%2fetc"), 404, "session_not_found")


def test_unknown_places_and_wrong_methods(api, session):
    for path in ("/", "/v1", "/v2/sessions", "/v1/session", f"/v1/sessions/{session}/nothing", "/v1/sessions/a/b/c/d"):
        fails(api.http.get(path), 404, "not_found")
    for method, path in (
        ("PUT", "/v1/sessions"),
        ("POST", f"/v1/sessions/{session}"),
        ("DELETE", "/v1/sessions"),
        ("PATCH", f"/v1/sessions/{session}/executions"),
        ("GET", f"/v1/sessions/{session}/keepalive"),
    ):
        fails(api.http.request(method, path), 405, "method_not_allowed")
    for one in ("nothing", "S" + "A" * 19, "s" + "a" * 19, "s" * 5000):
        fails(api.http.get(f"/v1/sessions/{one}"), 404, "session_not_found")
        fails(api.http.post(f"/v1/sessions/{one}/executions", json={"code": "1"}), 404, "session_not_found")
    # A slash at the end is no other place.
    assert api.http.get("/v1/sessions/").status_code == 200


def test_an_answer_that_costs_the_connection_says_so(api):
    response = api.http.request("FLY", "/v1/sessions")
    fails(response, 405, "method_not_allowed")
    assert response.headers["Connection"] == "close"
    assert api.http.get("/v1/sessions").status_code == 200


def test_an_unknown_context(api, session):
    for headers in ({}, {"Accept": "application/x-ndjson"}):
        message = fails(
            api.http.post(f"/v1/sessions/{session}{E}", json={"code": "1", "context": "nothing"}, headers=headers), 404, "context_not_found"
        )
        assert "nothing" in message
    fails(api.http.get(f"/v1/sessions/{session}/contexts/nothing"), 404, "context_not_found")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_100_mb_is_refused_with_a_reason_its_sender_can_read(api, session, chunked):
    size = 100_000_000

    def parts():
        yield b'{"code": "'
        for _ in range(size // 1_000_000):
            yield b"#" * 1_000_000
        yield b'"}'

    content = parts() if chunked else b"".join(parts())
    message = fails(api.http.post(f"/v1/sessions/{session}{E}", content=content), 413, "body_too_large")
    assert "server.max_body_bytes" in message
    # The connection is good for the next one.
    assert api.run(session, "1")["text"] == "1"


def test_a_refusal_can_be_read_by_who_is_still_sending_and_leaves_the_connection(server):
    with httpx.Client(base_url=server.url) as client:
        for path, headers, status in (
            ("/v1/sessions", {}, 401),
            ("/v1/sessions", {"Authorization": f"Bearer {server.token}", "Host": "evil.example"}, 403),
            ("/nothing", {"Authorization": f"Bearer {server.token}"}, 404),
        ):
            response = client.post(path, content=b"x" * 20_000_000, headers=headers)
            assert response.status_code == status
            assert response.headers.get("Connection") != "close"
            peer = response.extensions["network_stream"].get_extra_info("client_addr")
            assert client.get("/health").extensions["network_stream"].get_extra_info("client_addr") == peer


def test_the_limit_of_bodies_is_a_setting_and_exact(tight_api, tight_session):
    def sized(size):
        body = b'{"code":"#'
        return body + b"x" * (size - len(body) - 2) + b'"}'

    assert tight_api.http.post(f"/v1/sessions/{tight_session}{E}", content=sized(1_000_000)).json()["status"] == "ok"
    fails(tight_api.http.post(f"/v1/sessions/{tight_session}{E}", content=sized(1_000_001)), 413, "body_too_large")
    fails(tight_api.http.patch(f"/v1/sessions/{tight_session}", content=sized(2_000_000)), 413, "body_too_large")


def raw(server, data, *, wait=True):
    """What comes back for bytes that no client would send."""
    with socket.create_connection(server.url.removeprefix("http://").split(":"), timeout=20) as sock:
        sock.sendall(data)
        if not wait:
            return b""
        parts = []
        try:
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                parts.append(part)
        except OSError:
            pass  # it was closed on us
        return b"".join(parts)


def test_bytes_that_are_no_http(server, api, session):
    head = f"Host: localhost\r\nAuthorization: Bearer {server.token}\r\n".encode()
    path = f"/v1/sessions/{session}/executions".encode()
    for data in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: -5\r\n\r\n{}",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: many\r\n\r\n{}",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: 1000\r\n\r\n{",
        b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 200_000 + b"\r\n\r\n",
    ):
        answer = raw(server, data)
        assert not answer or answer.split(b" ")[1] in (b"400", b"413", b"431"), (data[:60], answer[:100])
    raw(server, b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: 1000\r\n\r\n{", wait=False)
    assert api.run(session, "1")["text"] == "1"


def test_an_ended_session_refuses_and_its_history_is_read(api):
    session = api.create(idle_timeout_s=0.2)
    api.run(session, "print('kept'); 6 * 7", id="kept")
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}")["state"] == "closed", every_s=0.1)
    path = f"/v1/sessions/{session}"
    message = fails(api.http.post(f"{path}/executions", json={"code": "1"}), 410, "session_closed")
    assert "idle" in message
    fails(api.http.post(f"{path}/executions", json={"code": "1"}, headers={"Accept": "application/x-ndjson"}), 410, "session_closed")
    fails(api.http.post(f"{path}/contexts", json={"language": "python"}), 410, "session_closed")
    for call in ("keepalive", "interrupt", "contexts/python/restart", "executions/kept/cancel"):
        fails(api.http.post(f"{path}/{call}"), 410, "session_closed")
    fails(api.http.patch(path, json={"labels": {}}), 410, "session_closed")
    fails(api.http.get(f"{path}/executions/nothing"), 404, "execution_not_found")
    fails(api.http.get(f"{path}/executions/nothing", headers={"Accept": "text/event-stream"}), 404, "execution_not_found")
    assert api.call("GET", f"{path}/executions/kept")["text"] == "42"
    assert api.call("GET", f"{path}/executions/kept?wait=true")["logs"]["stdout"] == ["kept\n"]
    assert [one["id"] for one in api.call("GET", f"{path}/executions")["executions"]] == ["kept"]
    events = api.events(session, "kept")
    assert (events[0]["type"], events[-1]["type"]) == ("queued", "end")
    assert api.events(session, "kept", after=events[-2]["seq"]) == events[-1:]
    whole = api.http.get(f"{path}/events", headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert {json.loads(line)["execution_id"] for line in whole} == {None, "kept"}
    api.delete(session)
    fails(api.http.get(path), 404, "session_not_found")
