import pytest

from kernelgate.sdk import events
from kernelgate.sdk.artifacts import Artifact, Artifacts
from kernelgate.sdk.models import Death, ExecutionError, TimedOut, Truncated

COMMON = {"seq": 4, "execution_id": "x", "time": 1.5}


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        (
            {"type": "queued", "context_id": "python", "language": "python", "code": "1", "position": 2, "timeout_s": 60},
            events.Queued(seq=4, context_id="python", language="python", code="1", position=2, timeout_s=60),
        ),
        ({"type": "started", "execution_count": 1, "fresh_kernel": None}, events.Started(seq=4, execution_count=1)),
        ({"type": "stdout", "text": "a"}, events.Stdout(seq=4, text="a")),
        ({"type": "stderr", "text": "a", "late": True}, events.Stderr(seq=4, text="a", late=True)),
        ({"type": "clear", "wait": True}, events.Clear(seq=4, wait=True)),
        (
            {"type": "error", "error": {"name": "E", "value": "v", "traceback": "t"}},
            events.ErrorRaised(seq=4, error=ExecutionError(name="E", value="v", traceback="t")),
        ),
        ({"type": "input_request", "prompt": "? ", "password": True}, events.InputRequest(seq=4, prompt="? ", password=True)),
        ({"type": "input_reply"}, events.InputReply(seq=4)),
        ({"type": "gap", "reason": "host died"}, events.Gap(seq=4, reason="host died")),
        ({"type": "truncated", "stream": "stdout", "bytes": 5}, events.Cut(seq=4, stream="stdout", size_bytes=5)),
        (
            {
                "type": "artifacts",
                "files": [{"name": "a", "path": "/a", "size": 1}],
                "truncated": True,
                "error": {"code": "c", "message": "m"},
            },
            events.ArtifactsFound(seq=4, artifacts=Artifacts(files=[Artifact(name="a", path="/a", size=1)], truncated=True, error="m")),
        ),
        (
            {"type": "kernel", "context_id": "r", "event": "died", "death": {"reason": "exited", "exit_code": 1}},
            events.KernelChanged(seq=4, context_id="r", event="died", death=Death(reason="exited", exit_code=1)),
        ),
        (
            {
                "type": "end",
                "status": "timeout",
                "success": False,
                "execution_count": 2,
                "execution_time": 1.0,
                "truncated": {"stdout_bytes": 1},
                "timeout": {"after_s": 1, "action": "interrupt"},
                "death": None,
            },
            events.End(
                seq=4,
                status="timeout",
                execution_count=2,
                execution_time=1.0,
                truncated=Truncated(stdout_bytes=1),
                timeout=TimedOut(after_s=1, action="interrupt"),
            ),
        ),
    ],
)
def test_each_kind_has_its_class_and_fields(raw, event):
    made = events.from_wire({**raw, **COMMON})
    assert type(made) is type(event)
    assert made.type == raw["type"]
    assert {**vars(made), "raw": None} == {**vars(event), "execution_id": "x", "time": 1.5, "raw": None}
    assert made.to_dict() == {**raw, **COMMON}


@pytest.mark.parametrize(("kind", "cls"), [("result", events.Shown), ("update", events.Updated)])
def test_shown_things_come_with_their_display_id(kind, cls):
    event = events.from_wire({**COMMON, "type": kind, "result": {"text": "t", "is_main_result": True}, "display_id": "d"})
    assert type(event) is cls
    assert event.display_id == "d"
    assert event.result.text == "t"
    assert event.result.is_main_result


def test_a_kind_of_a_newer_server_is_a_plain_event():
    event = events.from_wire({**COMMON, "type": "hologram", "volume": 3})
    assert type(event) is events.Event
    assert event.to_dict()["volume"] == 3


def test_every_kind_of_the_api_has_a_class():
    assert set(events._KINDS) == {
        "queued",
        "started",
        "stdout",
        "stderr",
        "result",
        "update",
        "clear",
        "error",
        "input_request",
        "input_reply",
        "gap",
        "truncated",
        "artifacts",
        "kernel",
        "end",
    }
