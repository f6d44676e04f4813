"""Control: interrupt, cancel, restart, deadlines, input, questions, and kernels that die."""

from __future__ import annotations

import pytest

from tests.support.stream import execute, until

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

SLEEP = "print('in', flush=True)\nimport time\ntime.sleep(100)"
#: Takes SIGINT and goes on: only a restart ends it.
STUBBORN = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('in', flush=True)\nwhile True: time.sleep(1)"


def begin(api, session, code, **body):
    """Starts code that prints `in`, and waits until it did."""
    execution = api.start(session, code, **body)
    api.until(lambda: api.call("GET", f"/v1/sessions/{session}/executions/{execution}")["logs"]["stdout"] == ["in\n"])
    return execution


# -- interrupt, cancel, restart --


@pytest.mark.parametrize(
    "code",
    [SLEEP, "print('in', flush=True)\nwhile True: pass", "print('in', flush=True)\nimport asyncio\nawait asyncio.sleep(100)"],
    ids=["sleep", "loop", "await"],
)
def test_an_interrupt_ends_the_cell_and_keeps_the_state(api, own, code):
    api.run(own, "x = 42")
    running = begin(api, own, code)
    assert api.call("POST", f"/v1/sessions/{own}/contexts/python/interrupt") == {"interrupted": [running]}
    result = api.wait(own, running)
    assert (result["status"], result["success"], result["error"]["name"], result["death"]) == (
        "interrupted",
        False,
        "KeyboardInterrupt",
        None,
    )
    assert result["logs"]["stdout"] == ["in\n"]
    after = api.run(own, "x")
    assert (after["text"], after["fresh_kernel"]) == ("42", None)


def test_an_interrupt_of_nothing_says_so(api, own):
    assert api.call("POST", f"/v1/sessions/{own}/interrupt") == {"interrupted": []}
    api.run(own, "1")
    assert api.call("POST", f"/v1/sessions/{own}/contexts/python/interrupt") == {"interrupted": []}
    assert api.run(own, "2")["text"] == "2"


def test_an_interrupt_of_the_session_reaches_every_context(api, own):
    context = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    both = {begin(api, own, SLEEP), begin(api, own, SLEEP, context=context)}
    assert set(api.call("POST", f"/v1/sessions/{own}/interrupt")["interrupted"]) == both
    assert {api.wait(own, one)["status"] for one in both} == {"interrupted"}


def test_code_that_catches_the_interrupt_ends_as_it_will(api, own):
    running = begin(api, own, "print('in', flush=True)\nimport time\ntry: time.sleep(100)\nexcept KeyboardInterrupt: y = 'caught'\ny")
    api.call("POST", f"/v1/sessions/{own}/contexts/python/interrupt")
    result = api.wait(own, running)
    assert (result["status"], result["text"]) == ("ok", "'caught'")


def test_what_waits_goes_on_after_an_interrupt(api, own):
    running = begin(api, own, SLEEP)
    waiting = api.start(own, "'next'")
    api.call("POST", f"/v1/sessions/{own}/contexts/python/interrupt")
    assert api.wait(own, running)["status"] == "interrupted"
    assert api.wait(own, waiting)["text"] == "'next'"


def test_cancelling_what_runs_what_waits_and_what_has_ended(api, own):
    running, waiting = begin(api, own, SLEEP), api.start(own, "x = 'ran'")
    cancelled = api.call("POST", f"/v1/sessions/{own}/executions/{waiting}/cancel")
    assert (cancelled["state"], cancelled["status"], cancelled["success"], cancelled["error"]["name"]) == (
        "done",
        "cancelled",
        False,
        "ExecutionCancelled",
    )
    assert (cancelled["started_at"], cancelled["execution_time"], cancelled["execution_count"]) == (None, 0, None)
    assert [event["type"] for event in api.events(own, waiting)] == ["queued", "error", "end"]
    api.call("POST", f"/v1/sessions/{own}/executions/{running}/cancel")
    assert api.wait(own, running)["status"] == "cancelled"
    ended = api.call("POST", f"/v1/sessions/{own}/executions/{running}/cancel")
    assert (ended["state"], ended["status"]) == ("done", "cancelled")
    done = api.run(own, "globals().get('x')", id="fine")
    assert done["results"] == []
    assert api.call("POST", f"/v1/sessions/{own}/executions/fine/cancel")["status"] == "ok"


def test_a_restart_is_a_fresh_kernel_for_one_context_alone(api, own):
    other = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    for context in ("python", other):
        api.run(own, "x = 1", context=context)
    running, waiting = begin(api, own, SLEEP), api.start(own, "'x' in globals()")
    before = api.call("GET", f"/v1/sessions/{own}/contexts/python")
    context = api.call("POST", f"/v1/sessions/{own}/contexts/python/restart")
    assert context["generation"] == before["generation"] + 1
    result = api.wait(own, running)
    assert (result["status"], result["death"]["reason"], result["logs"]["stdout"], result["error"]["name"]) == (
        "kernel_died",
        "restarted",
        ["in\n"],
        "KernelDied",
    )
    after = api.wait(own, waiting)
    assert (after["status"], after["text"], after["execution_count"]) == ("ok", "False", 1)
    assert "restarted" in after["fresh_kernel"]
    assert api.run(own, "1")["fresh_kernel"] is None
    assert api.run(own, "x", context=other)["text"] == "1"


def test_a_restart_before_first_use_starts_one(api, own):
    context = api.call("POST", f"/v1/sessions/{own}/contexts/python/restart")
    assert (context["state"], context["is_default"]) == ("idle", True)


# -- deadlines --


def test_a_timeout_interrupts_and_keeps_the_state(api, own):
    api.run(own, "x = 42")
    result = api.run(own, SLEEP, timeout_s=0.3)
    assert (result["status"], result["success"], result["timeout"], result["death"]) == (
        "timeout",
        False,
        {"after_s": 0.3, "action": "interrupt"},
        None,
    )
    assert (result["error"]["name"], result["logs"]["stdout"]) == ("ExecutionTimeout", ["in\n"])
    assert "0.3" in result["error"]["value"]
    assert 0.3 <= result["execution_time"] < 5
    assert api.run(own, "x")["text"] == "42"


def test_the_wait_in_the_queue_does_not_count(api, own):
    gate = begin(api, own, SLEEP)
    waiting = api.start(own, "'ran'", timeout_s=0.5)
    aside = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    api.run(own, "import time; time.sleep(0.6)", context=aside)
    api.call("POST", f"/v1/sessions/{own}/executions/{gate}/cancel")
    assert api.wait(own, waiting)["text"] == "'ran'"


def test_code_that_ignores_the_interrupt_is_restarted_alone(api, own):
    other = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    api.run(own, "x = 'kept'", context=other)
    api.run(own, "x = 'lost'")
    timed_out = api.start(own, STUBBORN, timeout_s=0.2)
    after = api.start(own, "'x' in globals()")
    # Meanwhile the other context works on.
    assert api.run(own, "x", context=other)["text"] == "'kept'"
    result = api.wait(own, timed_out)
    assert (result["status"], result["timeout"], result["death"]["reason"]) == (
        "timeout",
        {"after_s": 0.2, "action": "restart"},
        "restarted",
    )
    assert result["logs"]["stdout"] == ["in\n"]
    fresh = api.wait(own, after)
    assert (fresh["text"], fresh["status"]) == ("False", "ok")
    assert "ran out of time" in fresh["fresh_kernel"]
    assert api.run(own, "x", context=other)["text"] == "'kept'"


def test_the_servers_own_ceiling_and_default(tight_api, tight_session):
    begun = tight_api.start(tight_session, "1")
    assert tight_api.events(tight_session, begun)[0]["timeout_s"] == 30
    for timeout_s in (41, None):
        error = tight_api.call("POST", f"/v1/sessions/{tight_session}/executions", 400, json={"code": "1", "timeout_s": timeout_s})["error"]
        assert (error["code"], "40" in error["message"]) == ("timeout_too_long", True)
    assert tight_api.run(tight_session, "1", timeout_s=40)["text"] == "1"


def test_no_timeout_and_a_far_one(api, session):
    for timeout_s in (None, 1_000_000_000):
        begun = api.start(session, "1", timeout_s=timeout_s)
        assert api.wait(session, begun)["text"] == "1"
        assert api.events(session, begun)[0]["timeout_s"] == timeout_s


# -- input --


def test_input_is_asked_for_and_answered(api, server, own):
    code = "import getpass, sys\nname = input('Name? ')\nsecret = getpass.getpass('Secret: ')\nline = sys.stdin.readline()\n(name, len(secret), line)"
    with execute(api, own, code, id="asks", allow_stdin=True) as events, server.api() as other:
        for prompt, password, value in (("Name? ", False, "Ada ü"), ("Secret: ", True, "hunter2"), ("", False, "a line")):
            asked = until(events, "input_request")[-1]
            assert (asked["prompt"], asked["password"]) == (prompt, password)
            other.call("POST", f"/v1/sessions/{own}/executions/asks/stdin", 204, json={"value": value})
        rest = list(events)
    assert next(event for event in rest if event["type"] == "result")["result"]["text"] == "('Ada ü', 7, 'a line\\n')"
    # What was typed may be a secret.
    assert "hunter2" not in str(api.events(own, "asks"))


def test_input_that_is_not_allowed_fails_at_once(api, session):
    result = api.run(session, "input('?')")
    assert (result["status"], result["error"]["name"]) == ("error", "StdinNotImplementedError")


def test_an_answer_nobody_waits_for(api, own):
    running = begin(api, own, SLEEP, allow_stdin=True)
    error = api.call("POST", f"/v1/sessions/{own}/executions/{running}/stdin", 409, json={"value": "x"})["error"]
    assert error["code"] == "not_waiting_for_input"
    waiting = api.start(own, "1")
    assert (
        api.call("POST", f"/v1/sessions/{own}/executions/{waiting}/stdin", 409, json={"value": "x"})["error"]["code"]
        == "not_waiting_for_input"
    )
    api.call("POST", f"/v1/sessions/{own}/interrupt")
    api.wait(own, running)
    assert (
        api.call("POST", f"/v1/sessions/{own}/executions/{running}/stdin", 409, json={"value": "x"})["error"]["code"]
        == "not_waiting_for_input"
    )


def test_input_can_be_interrupted_and_times_out(api, own):
    with execute(api, own, "input('?')", allow_stdin=True, timeout_s=0.5) as events:
        until(events, "input_request")
        assert until(events, "end")[-1]["status"] == "timeout"
    assert api.run(own, "1")["text"] == "1"


def test_many_inputs_and_a_wrong_second_answer(api, server, own):
    with execute(api, own, "a = input(); b = input(); a + b", id="two", allow_stdin=True) as events, server.api() as other:
        until(events, "input_request")
        other.call("POST", f"/v1/sessions/{own}/executions/two/stdin", 204, json={"value": "1"})
        until(events, "input_request")
        other.call("POST", f"/v1/sessions/{own}/executions/two/stdin", 204, json={"value": "2"})
        until(events, "end")
    assert api.wait(own, "two")["text"] == "'12'"


# -- questions --


def test_complete_inspect_and_is_complete(api, own):
    path = f"/v1/sessions/{own}/contexts/python"
    api.run(own, "import math\nalphabet = 'abc'\ndef fun(a):\n    'It is fun.'")
    answer = api.call("POST", f"{path}/complete", json={"code": "alphab"})
    assert "alphabet" in answer["matches"]
    assert (answer["cursor_start"], answer["cursor_end"]) == (0, 6)
    answer = api.call("POST", f"{path}/complete", json={"code": "x = math.sq + 1", "cursor_pos": 11})
    assert any(match.endswith("sqrt") for match in answer["matches"])
    answer = api.call("POST", f"{path}/inspect", json={"code": "fun", "cursor_pos": 3})
    assert answer["found"] is True
    assert "It is fun." in answer["data"]["text/plain"]
    assert api.call("POST", f"{path}/inspect", json={"code": "nothing_like_it", "detail_level": 1})["found"] is False
    for code, status in (("1 + 1", "complete"), ("def f():", "incomplete"), ("1 +* 2", "invalid")):
        assert api.call("POST", f"{path}/is_complete", json={"code": code})["status"] == status
    assert api.call("POST", f"{path}/is_complete", json={"code": "def f():"})["indent"] == "    "
    assert api.call("POST", f"{path}/complete", json={"code": ""})["matches"] is not None
    assert api.call("GET", path)["execution_count"] == 1


def test_a_question_before_first_use_starts_the_kernel(api, own):
    assert "import" in api.call("POST", f"/v1/sessions/{own}/contexts/python/complete", json={"code": "impo"})["matches"]


# -- kernels that die --


@pytest.mark.parametrize(
    ("code", "reason", "exit_code", "signal"),
    [
        ("import os; os._exit(3)", "exited", 3, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signalled", None, "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "signalled", None, "SIGSEGV"),
        ("import os; os.abort()", "signalled", None, "SIGABRT"),
    ],
    ids=["exit", "SIGKILL", "segfault", "abort"],
)
def test_a_kernel_that_dies_says_why_and_the_next_one_is_fresh(api, own, code, reason, exit_code, signal):
    api.run(own, "x = 1")
    result = api.run(own, f"print('last words', flush=True)\n{code}")
    assert (result["status"], result["success"], result["error"]["name"]) == ("kernel_died", False, "KernelDied")
    assert (result["death"]["reason"], result["death"]["exit_code"], result["death"]["signal"]) == (reason, exit_code, signal)
    assert result["logs"]["stdout"] == ["last words\n"]
    assert result["death"]["message"] == result["error"]["value"]
    context = api.call("GET", f"/v1/sessions/{own}/contexts/python")
    assert (context["state"], context["death"]) == ("dead", result["death"])
    after = api.run(own, "'x' in globals()")
    assert (after["status"], after["text"], after["fresh_kernel"], after["execution_count"]) == (
        "ok",
        "False",
        result["death"]["message"],
        1,
    )
    assert api.run(own, "1")["fresh_kernel"] is None
    context = api.call("GET", f"/v1/sessions/{own}/contexts/python")
    assert (context["state"], context["death"], context["generation"]) == ("idle", None, 2)


def test_what_waited_runs_in_the_fresh_kernel(api, own):
    dying = api.start(own, "import os, time\ntime.sleep(0.2)\nos._exit(1)")
    waiting = [api.start(own, f"{number}") for number in range(3)]
    assert api.wait(own, dying)["status"] == "kernel_died"
    results = [api.wait(own, one) for one in waiting]
    assert [result["text"] for result in results] == ["0", "1", "2"]
    assert [result["fresh_kernel"] is not None for result in results] == [True, False, False]


def test_a_kernel_that_dies_while_idle(api, own):
    api.run(own, "import os, threading\nthreading.Timer(0.05, lambda: os._exit(7)).start()")
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/contexts/python")["state"] == "dead")
    assert "7" in api.run(own, "1")["fresh_kernel"]


def test_another_context_does_not_notice(api, own):
    other = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    api.run(own, "x = 1", context=other)
    api.run(own, "import os; os._exit(1)")
    assert api.run(own, "x", context=other)["text"] == "1"


@pytest.mark.parametrize("code", ["exit()", "quit()", "import sys; sys.exit(3)", "raise SystemExit"])
def test_exit_ends_the_cell_as_the_kernel_says_and_loses_nothing_after(api, own, code):
    result = api.run(own, f"x = 1\nprint('bye')\n{code}")
    assert result["logs"]["stdout"] == ["bye\n"]
    after = api.run(own, "'x' in globals()")
    if code in ("exit()", "quit()"):
        # The cell is fine, and ends the kernel: what follows is for its successor.
        assert (result["status"], after["text"], after["fresh_kernel"]) == ("ok", "False", "the kernel exited with status 0")
    else:
        assert (result["error"]["name"], after["text"], after["fresh_kernel"]) == ("SystemExit", "True", None)


def test_out_of_memory_is_said_and_survived(tight, tight_api, tight_session):
    if tight_api.call("GET", "/health")["sandbox"]["cgroup_version"] == 0:
        pytest.skip("this machine lends no control groups")
    result = tight_api.run(
        tight_session, "print('filling', flush=True)\nhoard = []\nwhile True: hoard.append(bytearray(b'x' * 16_000_000))"
    )
    assert (result["status"], result["death"]["reason"], result["death"]["signal"]) == ("kernel_died", "out_of_memory", "SIGKILL")
    assert "memory" in result["error"]["value"]
    assert result["logs"]["stdout"] == ["filling\n"]
    after = tight_api.run(tight_session, "'hoard' in globals()")
    assert after["text"] == "False"
    assert "memory" in after["fresh_kernel"]
