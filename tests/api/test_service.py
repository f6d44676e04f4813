"""The service itself: health, readiness, metrics, languages, its description, its logs. (Its orderly end: tests/faults/test_drain.py)"""

from __future__ import annotations

import json
import re
import sys

import httpx
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

import kernelgate
from kernelgate.api import routes
from tests.support.stream import execute, stream, until

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_health(server, api):
    health = httpx.get(server.url + "/health").json()
    assert (health["status"], health["version"], health["pid"]) == ("ok", kernelgate.__version__, server.pid)
    assert health["uptime_s"] > 0
    assert (health["sandbox"]["kind"], health["sandbox"]["isolated"]) == ("namespaces", True)
    assert health["warnings"] == [] or health["sandbox"]["cgroup_version"] == 0


def test_ready_when_a_session_can_be_made_at_once(api):
    answer = api.until(lambda: (response := api.http.get("/ready")).status_code == 200 and response.json())
    assert answer["ready"] is True
    assert answer["pool"] >= 1


def metrics(api):
    response = api.http.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def test_metrics_are_prometheus_and_count(api, own):
    before = metrics(api)
    api.run(own, "1")
    api.run(own, "1 / 0")
    with execute(api, own, "2") as events:
        list(events)
    after = metrics(api)

    def risen(name, **labels):
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert risen("kernelgate_executions_total", language="python", status="ok") == 2
    assert risen("kernelgate_executions_total", language="python", status="error") == 1
    assert risen("kernelgate_execution_seconds_count", language="python") == 3
    assert risen("kernelgate_http_requests_total", method="POST", handler="ExecutionsHandler", status="200") == 3
    assert after["kernelgate_sessions", (("state", "running"),)] >= 1
    assert after["kernelgate_streams", ()] == 0
    with stream(api, "GET", f"/v1/sessions/{own}/events") as events:
        next(events)
    # Nothing of a caller's ends up in a label.
    for path in ("/v1/sessions/s3cret", "/s3cret"):
        api.http.get(path)
    api.http.request("S3CRET", "/v1/sessions")
    assert "s3cret" not in api.http.get("/metrics").text.lower()


def test_languages(api):
    known = api.call("GET", "/v1/languages")["languages"]
    assert {"python", "javascript", "typescript", "r", "java", "bash"} <= {one["name"] for one in known}
    for one in known:
        assert one.keys() == {"name", "display_name", "aliases", "state", "version", "missing", "install"}
        assert (one["state"] == "ready") == (one["missing"] == [])
        assert one["install"].endswith(f"setup {one['name']}")
    python = known[0]
    assert (python["name"], python["state"], set(python["aliases"])) == ("python", "ready", {"py", "python3"})
    assert python["version"] == ".".join(map(str, sys.version_info[:3]))
    aliases = {alias for one in known for alias in one["aliases"]}
    assert {"js", "node", "nodejs"} <= aliases


def test_the_description_is_openapi_and_names_every_route(api):
    document = api.call("GET", "/v1/openapi.json")
    assert document["openapi"].startswith("3.1.")
    assert (document["info"]["title"], document["info"]["version"]) == ("kernelgate", kernelgate.__version__)
    documented = set(document["paths"])
    for path, _ in (*routes.NATIVE, *routes.SERVICE):
        plain = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", path).replace("\\", "")
        variants = [plain.replace("{kind}", kind) for kind in ("complete", "inspect", "is_complete")] if "{kind}" in plain else [plain]
        for variant in variants:
            assert variant in documented, variant
            documented.discard(variant)
    assert documented == set()
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named <= set(schemas)
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
            in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            assert ("requestBody" in operation) <= (method in ("post", "patch", "put"))
    assert {"application/json", "application/x-ndjson", "text/event-stream"} <= document["paths"]["/v1/sessions/{session_id}/executions"][
        "post"
    ]["responses"]["200"]["content"].keys()
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["security"] == [{"token": []}]


def test_what_is_answered_is_what_is_described(api, own):
    document = api.call("GET", "/v1/openapi.json")

    def check(name, value):
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]}).validate(value)

    check("Session", api.call("GET", f"/v1/sessions/{own}"))
    check("SessionList", api.call("GET", "/v1/sessions"))
    check("Result", api.run(own, "print(1); display(2); 3", id="one"))
    check("Result", api.run(own, "1 / 0"))
    check("Result", api.run(own, "import os; os._exit(1)"))
    check("Result", api.run(own, "import time; time.sleep(9)", timeout_s=0.1))
    check("Executions", api.call("GET", f"/v1/sessions/{own}/executions"))
    check("Contexts", api.call("GET", f"/v1/sessions/{own}/contexts"))
    check("Context", api.call("GET", f"/v1/sessions/{own}/contexts/python"))
    check("Completion", api.call("POST", f"/v1/sessions/{own}/contexts/python/complete", json={"code": "pri"}))
    check("Inspection", api.call("POST", f"/v1/sessions/{own}/contexts/python/inspect", json={"code": "print"}))
    check("Completeness", api.call("POST", f"/v1/sessions/{own}/contexts/python/is_complete", json={"code": "1"}))
    check("Interrupted", api.call("POST", f"/v1/sessions/{own}/interrupt"))
    check("Languages", api.call("GET", "/v1/languages"))
    check("ErrorBody", api.http.get("/v1/sessions/nothing").json())
    for event in api.events(own, "one"):
        check("Event", event)
    # And what is refused is what the description refuses.
    for body in ({}, {"code": 5}, {"code": "1", "timeout_s": 0}, {"code": "1", "extra": 1}, {"code": "1", "id": ""}):
        assert list(
            Draft202012Validator({"$ref": "#/components/schemas/Execute", "components": document["components"]}).iter_errors(body)
        ), body


def test_every_answer_has_a_request_id(server, api):
    for path in ("/health", "/v1/sessions", "/nothing", "/v1/sessions/nothing"):
        assert api.http.get(path).headers["X-Request-Id"].startswith("req-")
        assert api.http.get(path, headers={"X-Request-Id": "mine:1.2-3_4"}).headers["X-Request-Id"] == "mine:1.2-3_4"
        for bad in ("", "a b", "x" * 129, "a\tb"):
            assert api.http.get(path, headers={"X-Request-Id": bad}).headers["X-Request-Id"].startswith("req-")
    error = api.http.get("/v1/sessions/nothing", headers={"X-Request-Id": "find-me"}).json()["error"]
    assert error["request_id"] == "find-me"


def test_logs_are_structured_name_the_request_and_keep_secrets(server, api):
    secrets = {
        "code": "c0de_s3cret",
        "output": "0utput_s3cret",
        "env": "env_s3cret",
        "session env": "sess10n_s3cret",
        "typed": "typed_s3cret",
        "label": "lab3l_s3cret",
    }
    session = api.create(env={"A": secrets["session env"]}, labels={"l": secrets["label"]})
    half = secrets["output"][:4], secrets["output"][4:]
    api.http.post(
        f"/v1/sessions/{session}/executions",
        json={
            "code": f"{secrets['code']} = 1; print({half[0]!r} + {half[1]!r}); raise ValueError({secrets['code']!r})",
            "env": {"B": secrets["env"]},
        },
        headers={"X-Request-Id": "logged-1"},
    )
    with execute(api, session, "input()", id="asks", allow_stdin=True) as events:
        until(events, "input_request")
        with server.api() as other:
            other.call("POST", f"/v1/sessions/{session}/executions/asks/stdin", 204, json={"value": secrets["typed"]})
        until(events, "end")
    api.http.post(f"/v1/sessions/{session}/executions", json={"code": secrets["code"], "env": {"=": secrets["env"]}})
    api.http.post(f"/v1/sessions/{session}/executions", content=secrets["code"].encode() + b"\xff")
    api.run(session, f"import os, sys; os.write(2, {secrets['code']!r}.encode()); os._exit(1)")
    httpx.get(f"{server.url}/v1/sessions/{session}/channel?token={server.token}")
    httpx.get(f"{server.url}/v1/sessions", headers={"Authorization": "Bearer kg_wr0ng_s3cret"})
    api.delete(session)
    text = server.log.read_text()
    for what, secret in secrets.items():
        assert secret not in text, what
    assert server.token not in text
    assert "kg_wr0ng_s3cret" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "logged-1"]
    assert {name: line[name] for name in ("level", "message", "method", "path", "status")} == {
        "level": "INFO", "message": "request", "method": "POST", "path": f"/v1/sessions/{session}/executions", "status": 200,
    }  # fmt: skip
    assert line["ms"] > 0
    for name in ("zygote.log",):
        assert "s3cret" not in (server.data_dir / name).read_text()
