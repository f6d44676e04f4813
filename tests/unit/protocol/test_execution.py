from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgate.protocol import execution as machine
from kernelgate.protocol.execution import IDLE_GRACE_S, TAIL_BYTES, TEXT_EVENT_CHARS, Death, Execution, Limits
from kernelgate.protocol.jupyter import Message
from kernelgate.protocol.text import utf8_bytes


def message(msg_type, **content):
    return Message(msg_type=msg_type, msg_id="m", parent_id="p", header={}, parent_header={}, metadata={}, content=content)


REPLY = ("shell", message("execute_reply", status="ok", execution_count=3))
IDLE = ("iopub", message("status", execution_state="idle"))
BUSY = ("iopub", message("status", execution_state="busy"))
INPUT = ("iopub", message("execute_input", execution_count=3, code="x"))


def out(text, name="stdout"):
    return ("iopub", message("stream", name=name, text=text))


def play(execution, *steps, now=0.0):
    """What comes out of a row of messages, as (type, fields)."""
    emits = []
    for channel, what in steps:
        emits += execution.message(channel, what, now)
    return emits


def sent(**options):
    execution = Execution("e", "c", **options)
    execution.sent("m1", 0.0)
    return execution


def kinds(emits):
    return [kind for kind, _ in emits]


# -- transcripts --


def test_the_usual_course():
    execution = sent()
    emits = play(execution, BUSY, INPUT, out("a"), REPLY, IDLE, now=1.5)
    assert kinds(emits) == ["started", "stdout", "end"]
    assert emits[-1][1] == {
        "status": "ok",
        "success": True,
        "execution_count": 3,
        "execution_time": 1.5,
        "truncated": None,
        "timeout": None,
        "death": None,
        "limit": None,
    }


def test_reply_and_idle_in_either_order():
    assert kinds(play(sent(), IDLE, REPLY)) == ["started", "end"]
    assert kinds(play(sent(), REPLY, IDLE)) == ["started", "end"]


def test_a_kernel_that_never_says_idle_is_waited_for_and_no_longer():
    execution = sent()
    play(execution, REPLY, now=10.0)
    assert execution.wake_at() == 10.0 + IDLE_GRACE_S
    assert execution.wake(10.0) == []
    assert kinds(execution.wake(10.0 + IDLE_GRACE_S)) == ["end"]
    assert execution.wake_at() is None
    assert execution.wake(100.0) == []


def test_outputs_that_are_still_coming_are_waited_for():
    # The host may be far behind with a flood: the reply comes by another socket, and overtakes it.
    execution = sent()
    play(execution, REPLY, now=10.0)
    for now in (11.0, 12.5, 14.0):
        assert execution.wake(now) == []
        assert kinds(play(execution, out("late but in time"), now=now)) == ["stdout"]
    assert execution.wake(10.0 + IDLE_GRACE_S) == []
    assert kinds(play(execution, IDLE, now=15.0)) == ["end"]
    execution = sent()
    play(execution, out("before"), now=5.0)
    play(execution, REPLY, now=10.0)
    play(execution, out("after"), now=11.0)
    assert execution.wake_at() == 11.0 + IDLE_GRACE_S


def test_what_has_replied_cannot_be_stopped_any_more():
    execution = sent()
    assert execution.stoppable
    play(execution, BUSY, out("a"), IDLE)
    assert execution.stoppable
    execution = sent()
    play(execution, REPLY, out("on its way"))
    assert not execution.stoppable
    play(execution, IDLE)
    assert not execution.stoppable


def test_an_error_message_and_an_error_reply_are_one_error():
    error = {"ename": "E", "evalue": "\x1b[1mv\x1b[0m", "traceback": ["\x1b[31ma\x1b[0m", "b"]}
    failed = ("shell", message("execute_reply", status="error", **error))
    emits = play(sent(), ("iopub", message("error", **error)), failed, IDLE)
    assert kinds(emits) == ["started", "error", "end"]
    assert emits[1][1] == {"error": {"name": "E", "value": "v", "traceback": "a\nb"}}
    assert emits[-1][1]["status"] == "error"
    # A kernel that sends it in the reply alone (or nothing but "aborted") is understood, too.
    assert kinds(play(sent(), failed, IDLE)) == ["started", "error", "end"]
    aborted = play(sent(), ("shell", message("execute_reply", status="aborted")), IDLE)
    assert (aborted[1][1]["error"]["name"], aborted[-1][1]["status"]) == ("ExecutionAborted", "error")
    coloured = play(sent(ansi=True), failed, IDLE)
    assert coloured[1][1]["error"]["value"] == "\x1b[1mv\x1b[0m"


def test_a_timeout_is_named_as_such_and_not_as_the_interrupt():
    execution = sent(timeout_s=5)
    execution.stop = "timeout"
    interrupted = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
    emits = play(
        execution, ("iopub", message("error", **interrupted)), ("shell", message("execute_reply", status="error", **interrupted)), IDLE
    )
    assert [emit[1]["error"]["name"] for emit in emits if emit[0] == "error"] == ["ExecutionTimeout"]
    assert (emits[-1][1]["status"], emits[-1][1]["timeout"]) == ("timeout", {"after_s": 5, "action": "interrupt"})
    execution = sent(timeout_s=5)
    execution.stop, execution.restarted = "timeout", True
    emits = execution.lost(Death("restarted", message="m"), 9.0)
    assert (emits[-1][1]["status"], emits[-1][1]["timeout"]["action"], emits[-1][1]["death"]["reason"]) == (
        "timeout",
        "restart",
        "restarted",
    )


@pytest.mark.parametrize(("stop", "name"), [("interrupted", "KeyboardInterrupt"), ("cancelled", "ExecutionCancelled")])
def test_who_stopped_it_is_its_status(stop, name):
    execution = Execution("e", "c")
    execution.stop = stop
    emits = execution.finish(1.0)
    assert (emits[0][1]["error"]["name"], emits[-1][1]["status"], emits[-1][1]["execution_time"]) == (name, stop, 0.0)
    # Code that caught the interrupt and ended well is well.
    execution = sent()
    execution.stop = stop
    assert play(execution, REPLY, IDLE)[-1][1]["status"] == "ok"


def test_a_kernel_that_dies_ends_it_from_any_state():
    death = Death("exited", exit_code=3, message="gone")
    for steps in ((), (BUSY,), (BUSY, out("a")), (REPLY,), (IDLE,)):
        execution = sent()
        play(execution, *steps)
        emits = execution.lost(death, 2.0)
        assert kinds(emits) == ["error", "end"]
        assert (emits[-1][1]["status"], emits[-1][1]["death"]["exit_code"]) == ("kernel_died", 3)
        assert execution.lost(death, 3.0) == []


def test_late_output_is_marked_and_nothing_else_comes_late():
    execution = sent()
    play(execution, REPLY, IDLE)
    emits = play(
        execution,
        out("late"),
        ("iopub", message("error", ename="E")),
        REPLY,
        IDLE,
        INPUT,
        ("iopub", message("display_data", data={"text/plain": "x"})),
    )
    assert [(kind, fields["late"]) for kind, fields in emits] == [("stdout", True), ("result", True)]


def test_input_requests():
    execution = sent()
    assert play(execution, ("stdin", message("input_request", prompt="?", password=True))) == [
        ("input_request", {"prompt": "?", "password": True})
    ]
    assert execution.waiting_for_input
    assert play(execution, ("stdin", message("input_request"))) == [("input_request", {"prompt": "", "password": False})]
    play(execution, REPLY, IDLE)
    assert not execution.waiting_for_input


def test_an_exit_is_seen_in_the_reply():
    for payload, exits in (
        ([{"source": "ask_exit", "keepkernel": False}], True),
        ([{"source": "ask_exit", "keepkernel": True}], False),
        ([], False),
        ("x", False),
        ([5], False),
    ):
        execution = sent()
        play(execution, ("shell", message("execute_reply", status="ok", payload=payload)), IDLE)
        assert execution.exits is exits


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"name": 5, "text": None},
        {"data": []},
        {"execution_count": "x"},
        {"execution_state": []},
        {"traceback": "x"},
        {"transient": 5},
        {"wait": "x"},
    ],
)
def test_messages_with_wrong_contents_break_nothing(content):
    execution = sent()
    for msg_type in (
        "stream",
        "display_data",
        "execute_result",
        "update_display_data",
        "clear_output",
        "error",
        "status",
        "execute_input",
        "unheard_of",
    ):
        play(execution, ("iopub", message(msg_type, **content)))
    play(execution, ("stdin", message("input_request", **content)), ("shell", message("execute_reply", **content)))
    assert kinds(play(execution, IDLE))[-1] == "end"


# -- any order of anything --

events = st.one_of(
    st.sampled_from([REPLY, IDLE, BUSY, INPUT]),
    st.builds(out, st.text(max_size=40), st.sampled_from(["stdout", "stderr"])),
    st.builds(
        lambda size: ("iopub", message("display_data", data={"text/plain": "x" * size}, transient={"display_id": "d"})), st.integers(0, 60)
    ),
    st.builds(
        lambda size: ("iopub", message("update_display_data", data={"text/plain": "x" * size}, transient={"display_id": "d"})),
        st.integers(0, 60),
    ),
    st.just(("iopub", message("clear_output", wait=True))),
    st.just(("iopub", message("error", ename="E", evalue="v", traceback=[]))),
    st.just(("shell", message("execute_reply", status="error", ename="E"))),
    st.just(("stdin", message("input_request", prompt="?"))),
    st.sampled_from(["die", "wake", "timeout", "interrupted", "cancelled", "reply_lost"]),
)


@settings(max_examples=500)
@given(st.lists(events, max_size=40), st.integers(0, 100), st.integers(0, 100))
def test_any_order_ends_exactly_once_and_keeps_its_limits(steps, output_bytes, result_bytes):
    execution = Execution("e", "c", limits=Limits(output_bytes, result_bytes), timeout_s=1)
    execution.sent("m", 0.0)
    emits, given_bytes, now = [], 0, 0.0
    for step in [*steps, "die"]:
        now += 1.0
        if step == "die":
            emits += execution.lost(Death("exited", exit_code=1), now)
        elif step == "wake":
            emits += execution.wake(now)
        elif step == "reply_lost":
            emits += [] if execution.done else execution.reply_lost(now)
        elif isinstance(step, str):
            execution.stop = execution.stop or step
        else:
            if step[1].msg_type == "stream":
                given_bytes += utf8_bytes(step[1].content["text"])
            emits += execution.message(*step, now)
    names = kinds(emits)
    assert names.count("end") == 1
    assert execution.done
    after = emits[names.index("end") + 1 :]
    assert all(fields.get("late") for _, fields in after)
    assert names.count("started") <= 1
    texts = [fields["text"] for kind, fields in emits if kind in ("stdout", "stderr")]
    kept = sum(map(utf8_bytes, texts))
    assert kept <= output_bytes
    # Nothing is lost in silence: what is not there was counted.
    assert kept + execution._cut["stdout_bytes"] + execution._cut["stderr_bytes"] == given_bytes
    shown = sum(
        len(fields["result"]["text"])
        for kind, fields in emits
        if kind in ("result", "update") and not fields["result"]["text"].startswith("[a result")
    )
    assert shown <= result_bytes
    end = emits[names.index("end")][1]
    assert end["status"] in ("ok", "error", "timeout", "interrupted", "cancelled", "kernel_died", "lost")
    assert end["success"] == (end["status"] == "ok")
    assert (end["status"] == "ok") == ("error" not in names[: names.index("end")]) or end["status"] in ("ok", "error")


@given(st.text(max_size=3000), st.integers(0, 500), st.lists(st.integers(1, 700), max_size=8))
def test_a_cut_text_keeps_head_and_tail_however_it_is_split(text, limit, cuts):
    execution = sent(limits=Limits(limit, 0))
    emits, at = [], 0
    for cut in [*cuts, len(text)]:
        emits += play(execution, out(text[at : at + cut]))
        at += cut
    emits += play(execution, REPLY, IDLE)
    head, tail, cut_seen = "", "", False
    for kind, fields in emits:
        if kind == "truncated":
            cut_seen = True
        elif kind == "stdout" and cut_seen:
            tail += fields["text"]
        elif kind == "stdout":
            head += fields["text"]
    if utf8_bytes(text) <= limit:
        assert (head, cut_seen) == (text, False)
    else:
        assert cut_seen
        assert text.startswith(head)
        assert text.endswith(tail)
        # A character that does not fit may cost up to three bytes at each of the two edges.
        assert limit - 6 <= utf8_bytes(head) + utf8_bytes(tail) <= limit


def test_a_large_limit_keeps_a_tail_of_its_own():
    execution = sent(limits=Limits(1_000_000, 0))
    emits = play(execution, *[out("x" * 10_000) for _ in range(200)], out("the end"), REPLY, IDLE)
    tail = "".join(fields["text"] for kind, fields in emits[kinds(emits).index("truncated") :] if kind == "stdout")
    assert (len(tail), tail[-7:]) == (TAIL_BYTES, "the end")
    assert emits[-1][1]["truncated"] == {"stdout_bytes": 2_000_007 - 1_000_000, "stderr_bytes": 0, "result_bytes": 0}


def test_long_text_comes_in_steps():
    emits = play(sent(), out("x" * (TEXT_EVENT_CHARS * 2 + 5)))
    assert [len(fields["text"]) for kind, fields in emits if kind == "stdout"] == [TEXT_EVENT_CHARS, TEXT_EVENT_CHARS, 5]


def test_events_without_content_have_an_end(monkeypatch):
    monkeypatch.setattr(machine, "MAX_EVENTS", 20)
    execution = sent()
    clear = ("iopub", message("clear_output", wait=False))
    update = ("iopub", message("update_display_data", data={}, transient={"display_id": "d"}))
    assert len(play(execution, *[clear] * 100, *[update] * 100)) == 20
    emits = play(execution, *[out("ab")] * 100, REPLY, IDLE)
    assert [fields["text"] for kind, fields in emits if kind == "stdout"] == ["ab" * 100]
    assert emits[-1][1]["truncated"]["result_bytes"] > 0
    assert emits[-1][1]["limit"] == "output"
    assert play(execution, *[clear] * 100, *[out("late")] * 100) == []


def test_only_some_errors_are_kept():
    execution = sent()
    emits = play(execution, *[("iopub", message("error", ename="E", evalue="x" * (5 << 20), traceback=[]))] * 100)
    assert kinds(emits) == ["started", *["error"] * machine.MAX_ERRORS]
    assert len(emits[-1][1]["error"]["value"]) == machine.MAX_ERROR_CHARS
