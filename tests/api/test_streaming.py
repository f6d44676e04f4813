"""Streams: NDJSON and Server-Sent Events, live, resumed, of what has ended, and of whole sessions."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.support.stream import NDJSON, SSE, execute, stream, until

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

#: Puts out one line each time a file of the next number appears: the reader decides when.
STEPS = "import os, time\nfor step in range({}):\n    while not os.path.exists(f'step{{step}}'): time.sleep(0.005)\n    print('step', step)\n'end'"


def step(api, session, number):
    aside = [one["id"] for one in api.call("GET", f"/v1/sessions/{session}/contexts")["contexts"] if one["name"] == "aside"]
    context = (
        aside[0] if aside else api.call("POST", f"/v1/sessions/{session}/contexts", 201, json={"language": "python", "name": "aside"})["id"]
    )
    api.run(session, f"open('step{number}', 'w').close()", context=context)


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_events_come_while_they_happen(api, server, own, accept):
    with (
        server.api() as other,
        stream(api, "POST", f"/v1/sessions/{own}/executions", accept=accept, json={"code": STEPS.format(3), "id": "steps"}) as events,
    ):
        until(events, "started")
        for number in range(3):
            step(other, own, number)
            assert until(events, "stdout")[-1]["text"] == f"step {number}\n"
        rest = list(events)
    assert [event["type"] for event in rest] == ["result", "end"]
    assert rest[-1].keys() == {
        "seq",
        "execution_id",
        "type",
        "time",
        "status",
        "success",
        "execution_count",
        "execution_time",
        "truncated",
        "timeout",
        "death",
        "limit",
    }


def test_an_unflushed_print_is_seen_while_the_cell_goes_on(api, own):
    with execute(api, own, "import time\nprint(time.time())\nwhile True: pass") as events:
        event = until(events, "stdout")[-1]
        arrived = time.time()
        # 50 ms on an idle machine; here it need only be the same moment, in the middle of the cell.
        assert 0 <= event["time"] - float(event["text"]) < 1
        assert 0 <= arrived - event["time"] < 1
        api.call("POST", f"/v1/sessions/{own}/interrupt")
        assert until(events, "end")[-1]["status"] == "interrupted"


def test_numbers_rise_and_every_event_has_the_common_fields(api, own):
    with execute(
        api, own, "import sys\nfor i in range(50): print(i); print(i, file=sys.stderr)\ndisplay(1)\nlist(range(3))", id="many"
    ) as events:
        seen = [event for event in events if event["type"] != "keepalive"]
    assert [event["seq"] for event in seen] == sorted({event["seq"] for event in seen})
    assert {event["execution_id"] for event in seen} == {"many"}
    assert all({"seq", "execution_id", "type", "time"} <= event.keys() for event in seen)
    assert (seen[0]["type"], seen[1]["type"], seen[-1]["type"]) == ("queued", "started", "end")
    assert "".join(event["text"] for event in seen if event["type"] == "stdout") == "".join(f"{i}\n" for i in range(50))
    result = api.call("GET", f"/v1/sessions/{own}/executions/many")
    assert result["last_seq"] == seen[-1]["seq"]


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_a_stream_is_taken_up_after_any_event(api, own, accept):
    api.run(own, "for i in range(5):\n    print(i, flush=True)\ndisplay('x')", id="past")
    path = f"/v1/sessions/{own}/executions/past"
    whole = api.events(own, "past")
    for place, event in enumerate(whole):
        with stream(api, "GET", f"{path}?after={event['seq']}", accept=accept) as events:
            assert list(events) == whole[place + 1 :]
        with stream(api, "GET", path, accept=accept, headers={"Last-Event-ID": str(event["seq"])}) as events:
            assert list(events) == whole[place + 1 :]
    with stream(api, "GET", f"{path}?after=999999", accept=accept) as events:
        assert list(events) == []


def test_a_lost_stream_goes_on_in_the_middle(api, server, own):
    with execute(api, own, STEPS.format(2), id="steps") as events, server.api() as other:
        step(other, own, 0)
        seen = until(events, "stdout")
    assert api.call("GET", f"/v1/sessions/{own}/executions/steps")["state"] == "running"
    with stream(api, "GET", f"/v1/sessions/{own}/executions/steps?after={seen[-1]['seq']}") as events:
        with server.api() as other:
            step(other, own, 1)
        rest = list(events)
    assert [event["type"] for event in rest] == ["stdout", "result", "end"]
    assert [*seen, *rest] == api.events(own, "steps")


def test_several_read_the_same_execution(api, server, own):
    with (
        execute(api, own, STEPS.format(1), id="steps") as first,
        server.api() as other,
        stream(other, "GET", f"/v1/sessions/{own}/executions/steps", accept=SSE) as second,
    ):
        with server.api() as third:
            step(third, own, 0)
        assert list(first) == list(second)


def test_a_stream_of_a_session_has_everything_of_it(api, server, own):
    with server.api() as other, stream(other, "GET", f"/v1/sessions/{own}/events") as events:
        api.run(own, "print('one')", id="one")
        context = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
        api.run(own, "print('two')", id="two", context=context)
        seen = until(events, "end", execution_id="two")
    numbers = [event["seq"] for event in seen if event["type"] != "keepalive"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {event["execution_id"] for event in seen} == {None, "one", "two"}
    assert {(event["context_id"], event["event"]) for event in seen if event["type"] == "kernel"} >= {
        (context, "starting"),
        (context, "ready"),
    }
    middle = numbers[len(numbers) // 2]
    for accept in (NDJSON, SSE):
        with stream(api, "GET", f"/v1/sessions/{own}/events?after={middle}", accept=accept) as events:
            assert until(events, "end", execution_id="two") == [event for event in seen if event["seq"] > middle]
    api.run(own, "import os; os._exit(1)")
    with stream(api, "GET", f"/v1/sessions/{own}/events?after={numbers[-1]}") as events:
        died = until(events, "kernel", event="died")[-1]
    assert (died["context_id"], died["death"]["reason"], died["death"]["exit_code"]) == ("python", "exited", 1)


def test_a_quiet_stream_says_that_it_lives(tight_api, tight_session):
    for accept in (NDJSON, SSE):
        with stream(
            tight_api, "POST", f"/v1/sessions/{tight_session}/executions", accept=accept, json={"code": "import time; time.sleep(100)"}
        ) as events:
            until(events, "started")
            assert [next(events)["type"] for _ in range(3)] == ["keepalive"] * 3
            tight_api.call("POST", f"/v1/sessions/{tight_session}/interrupt")
            assert until(events, "end")[-1]["status"] == "interrupted"


def test_whoever_goes_does_not_stop_what_runs(api, server, own):
    with server.api() as other, execute(other, own, STEPS.format(1), id="stays", on_disconnect="continue") as events:
        until(events, "started")
    step(api, own, 0)
    assert api.wait(own, "stays")["status"] == "ok"


def test_unless_that_was_asked_for(api, server, own):
    code = "import time\nprint('in', flush=True)\ntime.sleep(100)"
    with server.api() as other, execute(other, own, code, id="goes", on_disconnect="interrupt") as events:
        until(events, "stdout")
    result = api.wait(own, "goes")
    assert (result["status"], result["logs"]["stdout"]) == ("cancelled", ["in\n"])
    # The same for one who waits for the JSON.
    body = json.dumps({"code": "import time; time.sleep(100)", "id": "waits", "on_disconnect": "interrupt"}).encode()
    head = f"POST /v1/sessions/{own}/executions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as sock:
        sock.sendall(head.encode() + body)
        api.until(lambda: api.http.get(f"/v1/sessions/{own}/executions/waits").status_code == 200)
    assert api.wait(own, "waits")["status"] == "cancelled"
    assert api.run(own, "1")["text"] == "1"


def test_an_ended_stream_closes_and_the_connection_is_used_again(api, own):
    for _ in range(3):
        with execute(api, own, "print(1)") as events:
            assert list(events)[-1]["type"] == "end"
    assert api.run(own, "2")["text"] == "2"


def test_events_of_a_session_that_is_deleted_end_with_the_reason(api, server):
    session = api.create()
    with server.api() as other, stream(other, "GET", f"/v1/sessions/{session}/events") as events:
        api.run(session, "1")
        until(events, "end")
        api.delete(session)
        rest = list(events)
    assert rest[-1]["type"] == "failure"
    assert rest[-1]["error"]["code"] == "session_closed"
    assert rest[-1]["error"]["request_id"]


def test_events_of_a_thread_that_prints_on_come_to_the_sessions_stream(api, own):
    with stream(api, "GET", f"/v1/sessions/{own}/events") as events:
        code = "import threading, os, time\ndef on():\n    while not os.path.exists('step0'): time.sleep(0.01)\n    print('on')\nthreading.Thread(target=on).start()"
        api.start(own, code, id="threads")
        until(events, "end", execution_id="threads")
        step(api, own, 0)
        late = until(events, "stdout")[-1]
    assert (late["execution_id"], late["text"], late["late"]) == ("threads", "on\n", True)


def test_the_stream_itself_is_plain_json_lines(api, own):
    response = api.http.post(
        f"/v1/sessions/{own}/executions", json={"code": "print('\\u2028\\x85 ü')"}, headers={"Accept": "application/x-ndjson"}
    )
    lines = response.content.split(b"\n")
    assert lines[-1] == b""
    assert all(json.loads(line) for line in lines[:-1])
    assert response.content.isascii()
    assert response.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
