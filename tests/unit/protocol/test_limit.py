"""Which limit an error speaks of, and which one a result names."""

from __future__ import annotations

import pytest

from kernelgate.protocol import limit
from kernelgate.protocol.execution import Death, Execution
from kernelgate.protocol.jupyter import Message


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("OSError", "[Errno 27] File too large", "file_size"),
        ("OSError", "[Errno 24] Too many open files: '/dev/null'", "open_files"),
        ("RuntimeError", "can't start new thread", "processes"),
        ("MemoryError", "", "memory"),
        ("Error", "cannot allocate vector of size 7.5 Gb", "memory"),
        ("OutOfMemoryError", "Java heap space", "memory"),
        ("OSError", "[Errno 122] Disk quota exceeded", "workspace"),
        ("ValueError", "math domain error", None),
        ("OSError", "[Errno 28] No space left on device", None),
    ],
)
def test_the_words_of_an_error(name, value, wanted):
    assert limit.of_error(name, value) == wanted
    assert wanted is None or wanted in limit.NAMES


def ended(death: Death | None = None, **fields) -> dict:
    execution = Execution("e", "c", timeout_s=3, cpu_time_s=2)
    execution.sent("m", 0.0)
    for name, value in fields.items():
        setattr(execution, name, value)
    return execution.finish(1.0, death)[-1][1]


def test_what_ended_it_is_named():
    assert ended(Death("out_of_memory", limit="memory"))["limit"] == "memory"
    assert ended(Death("exited"))["limit"] is None
    assert ended(stop="timeout")["limit"] == "wall_time"
    over = ended(stop="cpu_time")
    assert (over["status"], over["limit"], over["timeout"]) == ("timeout", "cpu_time", {"after_s": 2, "action": "interrupt"})
    assert ended(stop="interrupted")["limit"] is None


def test_an_error_that_the_code_caught_is_none():
    execution = Execution("e", "c")
    execution.sent("m", 0.0)
    content = {"ename": "MemoryError", "evalue": "", "traceback": []}
    execution.message("iopub", Message("error", "id", "", {}, {}, {}, content), 0.1)
    execution._reply = {"status": "ok"}
    assert execution.finish(1.0)[-1][1]["limit"] is None
