"""The WebSocket of a session: everything of it, both ways, on one connection."""

from __future__ import annotations

import json

import httpx
import pytest
from tornado.httpclient import HTTPClientError

from tests.support.channel import Channel

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_an_execution_from_its_reply_to_its_end(server, session):
    with Channel(server, session) as channel:
        channel.send("1", "execute", code="print('out'); 6 * 7", execution_id="by-socket")
        reply = channel.answer("1")["reply"]
        assert (reply["id"], reply["state"] in ("queued", "running", "done")) == ("by-socket", True)
        assert channel.event("1", "queued")["execution_id"] == "by-socket"
        assert channel.event("1", "stdout")["text"] == "out\n"
        assert channel.event("1", "result")["result"]["text"] == "42"
        assert channel.event("1", "end")["status"] == "ok"
        # Its id is free again.
        assert channel.call("1", "ping") == {}


def test_every_operation(api, server, own):
    with Channel(server, own, in_query=True) as channel:
        channel.send("run", "execute", code="name = input('Name? ')\nprint('hello', name)", allow_stdin=True, execution_id="asks")
        assert channel.event("run", "input_request")["prompt"] == "Name? "
        # Answers to other requests come in between.
        assert channel.call("2", "ping") == {}
        assert channel.fails("3", "stdin", execution_id="nothing", value="x")["code"] == "execution_not_found"
        assert channel.call("4", "stdin", execution_id="asks", value="Ada") == {}
        assert channel.event("run", "stdout")["text"] == "hello Ada\n"
        assert channel.event("run", "end")["success"] is True
        assert "isinstance" in channel.call("5", "complete", context="python", code="isinst")["matches"]
        assert channel.call("6", "inspect", context="python", code="len", cursor_pos=3)["found"] is True
        assert channel.call("7", "is_complete", context="python", code="def f():")["status"] == "incomplete"
        channel.send("8", "execute", code="import time; time.sleep(100)", execution_id="sleeps")
        channel.event("8", "started")
        assert channel.call("9", "interrupt", context="python") == {"interrupted": ["sleeps"]}
        assert channel.event("8", "end")["status"] == "interrupted"
        channel.send("10", "execute", code="import time; time.sleep(100)", execution_id="sleeps2")
        channel.event("10", "started")
        assert channel.call("11", "cancel", execution_id="sleeps2")["id"] == "sleeps2"
        assert channel.event("10", "end")["status"] == "cancelled"
        before = api.call("GET", f"/v1/sessions/{own}/contexts/python")["generation"]
        assert channel.call("12", "restart", context="python")["generation"] == before + 1
        channel.send("13", "execute", code="'name' in globals()")
        assert channel.event("13", "result")["result"]["text"] == "False"
        channel.event("13", "end")
        assert channel.call("14", "interrupt") == {"interrupted": []}


def test_attach_begins_where_the_caller_was(api, server, own):
    api.run(own, "for i in range(3): print(i, flush=True)\n'end'", id="past")
    whole = api.events(own, "past")
    with Channel(server, own) as channel:
        for after in (0, whole[2]["seq"], whole[-1]["seq"]):
            channel.send("a", "attach", execution_id="past", after=after)
            assert channel.answer("a")["reply"]["status"] == "ok"
            wanted = [event for event in whole if event["seq"] > after]
            assert [channel.answer("a")["event"] for _ in wanted] == wanted
            assert channel.call("p", "ping") == {}
        assert channel.fails("b", "attach", execution_id="nothing")["code"] == "execution_not_found"


def test_two_sockets_and_http_see_the_same(api, server, own):
    with Channel(server, own) as first, Channel(server, own) as second:
        second.send("s", "subscribe")
        assert second.answer("s")["reply"] == {}
        first.send("1", "execute", code="print('seen by all')", execution_id="shared")
        first.event("1", "end")
        while (event := second.answer("s")["event"])["type"] != "stdout":
            pass
        assert (event["execution_id"], event["text"]) == ("shared", "seen by all\n")
        assert api.wait(own, "shared")["logs"]["stdout"] == ["seen by all\n"]
        assert second.call("d", "detach", of="s") == {}
        first.send("2", "execute", code="print('not seen')")
        first.event("2", "end")
        second.send("p", "ping")
        while (message := second.receive())["id"] != "p":
            assert message["event"].get("text") != "not seen\n"


def test_many_executions_at_once_come_back_under_their_ids(server, own):
    with Channel(server, own) as channel:
        for number in range(20):
            channel.send(f"r{number}", "execute", code=f"{number} * 10")
        for number in range(20):
            assert channel.event(f"r{number}", "result")["result"]["text"] == str(number * 10)
            channel.event(f"r{number}", "end")


def test_detaching_lets_it_run_on_and_closing_too(api, server, own):
    code = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n'done'"
    with Channel(server, own) as channel:
        channel.send("1", "execute", code=code, execution_id="stays")
        channel.event("1", "started")
        assert channel.call("2", "detach", of="1") == {}
    aside = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    api.run(own, "open('go', 'w').close()", context=aside)
    assert api.wait(own, "stays")["text"] == "'done'"


def test_closing_interrupts_where_that_was_asked_for(api, server, own):
    with Channel(server, own) as channel:
        channel.send("1", "execute", code="import time; time.sleep(100)", execution_id="goes", on_disconnect="interrupt")
        channel.event("1", "started")
    assert api.wait(own, "goes")["status"] == "cancelled"


def test_wrong_messages_are_told_and_the_socket_lives_on(server, session):
    with Channel(server, session) as channel:
        for text in (
            "{",
            "[]",
            '"x"',
            "nonsense",
            '{"id": 1}',
            '{"op": "ping"}',
            '{"id": ""}',
            '{"id": "a b", "op": "ping"}',
            "[" * 100_000,
            '{"id": "1", "timeout_s": NaN}',
            '{"id": "1", "op": "\\ud800"}',
        ):
            channel.send_text(text)
            answer = channel.receive()
            assert answer["id"] is None
            assert answer["error"]["code"] in ("invalid_json", "invalid_request"), text
            assert answer["error"]["request_id"]
        cases = [
            ("unknown_op", {"op": "fly"}),
            ("unknown_op", {"op": "__init__"}),
            ("unknown_op", {"op": None}),
            ("invalid_request", {"op": "execute"}),
            ("invalid_request", {"op": "execute", "code": 5}),
            ("invalid_request", {"op": "execute", "code": "1", "unknown": 1}),
            ("invalid_request", {"op": "execute", "code": "1", "execution_id": ""}),
            ("invalid_request", {"op": "execute", "code": "1", "timeout_s": -1}),
            ("language_and_context", {"op": "execute", "code": "1", "language": "python", "context": "python"}),
            ("unsupported_language", {"op": "execute", "code": "1", "language": "cobol"}),
            ("context_not_found", {"op": "execute", "code": "1", "context": "nothing"}),
            ("invalid_request", {"op": "attach"}),
            ("invalid_request", {"op": "attach", "execution_id": "x", "after": -1}),
            ("invalid_request", {"op": "attach", "execution_id": "x", "after": True}),
            ("invalid_request", {"op": "subscribe", "after": "x"}),
            ("invalid_request", {"op": "stdin", "execution_id": "x"}),
            ("invalid_request", {"op": "restart"}),
            ("context_not_found", {"op": "restart", "context": "nothing"}),
            ("context_not_found", {"op": "interrupt", "context": "nothing"}),
            ("invalid_request", {"op": "interrupt", "context": 5}),
            ("invalid_request", {"op": "complete", "context": "python"}),
            ("invalid_request", {"op": "complete", "context": "python", "code": "x", "cursor_pos": 2}),
        ]
        for code, fields in cases:
            channel.send_text(json.dumps({"id": "q", **fields}))
            message = channel.answer("q")
            assert message.get("error", {}).get("code") == code, (fields, message)
        assert channel.call("fine", "ping") == {}


def test_an_id_in_use_is_refused(server, own):
    with Channel(server, own) as channel:
        channel.send("1", "execute", code="import time; time.sleep(100)", execution_id="sleeps")
        channel.event("1", "started")
        assert channel.fails("1", "ping")["code"] == "conflict"
        channel.call("2", "cancel", execution_id="sleeps")
        assert channel.event("1", "end")["status"] == "cancelled"


def refused(server, session, **options):
    with pytest.raises(HTTPClientError) as caught:
        Channel(server, session, **options)
    assert caught.value.response is not None
    return caught.value.code


def test_who_may_open_one(api, server, session):
    assert refused(server, session, token="kg_wrong") == 401
    assert refused(server, session, token="kg_wrong", in_query=True) == 401
    assert refused(server, session, token=server.new_token("stranger")) == 404
    assert refused(server, "s" + "a" * 19) == 404
    assert refused(server, session, headers={"Origin": "https://evil.example"}) == 403
    assert refused(server, session, headers={"Host": "evil.example"}) == 403
    with Channel(server, session, headers={"Origin": server.url}) as channel:
        assert channel.call("1", "ping") == {}
    # An ordinary request has a reason to read.
    response = httpx.get(f"{server.url}/v1/sessions/{session}/channel", headers={"Authorization": "Bearer kg_wrong"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
    assert httpx.get(f"{server.url}/v1/sessions/{session}/channel", headers={"Authorization": f"Bearer {server.token}"}).status_code == 400
    # The token in the query opens sockets and nothing else.
    assert httpx.get(f"{server.url}/v1/sessions/{session}?token={server.token}").status_code == 401


def test_a_message_that_is_too_large_closes_the_socket_alone(tight, tight_session, tight_api):
    with Channel(tight, tight_session) as channel:
        channel.send_text(json.dumps({"id": "1", "op": "execute", "code": "#" * 2_000_000}))
        assert channel.close_code() == 1009
    assert tight_api.run(tight_session, "1")["text"] == "1"


def test_a_deleted_session_ends_its_socket_or_says_so(api, server):
    session = api.create()
    with Channel(server, session) as channel:
        channel.send("s", "subscribe")
        channel.answer("s")
        api.delete(session)
        while "event" in (message := channel.answer("s")):
            pass
        assert message["error"]["code"] == "session_closed"
        assert channel.fails("1", "execute", code="1")["code"] == "session_closed"


def test_commands(server, own):
    with Channel(server, own) as channel:
        accepted = channel.call("1", "command", command="read line; echo got $line; read line; exit 3", command_id="named", stdin_open=True)
        assert (accepted["id"], accepted["status"]) == ("named", None)
        channel.event("1", "command_started")
        assert channel.call("2", "command_stdin", command_id="named", value="one\n") == {}
        assert channel.event("1", "stdout")["text"] == "got one\n"
        assert channel.call("3", "command_attach", command_id="named")["stdout"] == "got one\n"
        assert channel.call("4", "command_stdin", command_id="named", value="", eof=True) == {}
        assert (channel.event("1", "end")["exit_code"], channel.event("3", "end")["exit_code"]) == (3, 3)
        channel.call("1", "command", command="sleep 100", command_id="long")
        channel.event("1", "command_started")
        assert channel.call("2", "command_signal", command_id="long", signal="SIGCONT")["state"] == "running"
        assert channel.call("5", "command_kill", command_id="long", grace_s=1)["status"] == "killed"
        assert channel.event("1", "end")["status"] == "killed"
        assert channel.fails("6", "command_kill", command_id="none")["code"] == "command_not_found"
        assert channel.fails("7", "command_stdin", command_id="named", value="late")["code"] == "input_closed"
        assert channel.fails("8", "command", command="")["code"] == "invalid_request"
        channel.call("9", "command", command="sleep 100", command_id="mine", on_disconnect="kill")
        channel.event("9", "command_started")
    with Channel(server, own) as channel:
        assert channel.call("1", "command_attach", command_id="mine")["id"] == "mine"
        assert channel.event("1", "end")["status"] == "killed"
