from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernelgate.protocol.result import Fold, timestamp


def fold(*events):
    made = Fold()
    for seq, (kind, fields) in enumerate(events, 1):
        made.feed({"seq": seq, "execution_id": "e", "type": kind, "time": 100.0 + seq, **fields})
    return made.result()


def result(text, *, main=False, display_id=None):
    return ("result", {"result": {"is_main_result": main, "text": text}, **({"display_id": display_id} if display_id else {})})


QUEUED = ("queued", {"context_id": "c", "language": "python", "code": "x", "position": 2, "request_id": "r", "session_id": "s"})
END = (
    "end",
    {"status": "ok", "success": True, "execution_count": 1, "execution_time": 0.5, "truncated": None, "timeout": None, "death": None},
)


def test_from_the_queue_to_the_end():
    made = fold(QUEUED)
    assert (made["state"], made["queue_position"], made["context_id"], made["created_at"]) == ("queued", 2, "c", "1970-01-01T00:01:41.000Z")
    made = fold(QUEUED, ("started", {"execution_count": 1, "fresh_kernel": "why"}))
    assert (made["state"], made["queue_position"], made["started_at"], made["fresh_kernel"]) == (
        "running",
        None,
        "1970-01-01T00:01:42.000Z",
        "why",
    )
    made = fold(QUEUED, ("started", {"execution_count": 1, "fresh_kernel": None}), ("stdout", {"text": "a"}), END)
    assert (made["state"], made["status"], made["last_seq"], made["logs"], made["text"]) == (
        "done",
        "ok",
        4,
        {"stdout": ["a"], "stderr": []},
        "a",
    )


def test_text_is_the_main_results_or_the_firsts_or_stdout():
    assert fold(("stdout", {"text": "out"}), result("first"), result("main", main=True))["text"] == "main"
    assert fold(("stdout", {"text": "out"}), result("first"), result("second"))["text"] == "first"
    assert fold(("stdout", {"text": "out"}), ("result", {"result": {"is_main_result": True, "png": "x"}}))["text"] == "out"
    assert fold()["text"] == ""


def test_updates_replace_every_display_of_their_id_and_add_none():
    made = fold(
        result("a", display_id="d"), result("other"), result("b", display_id="d", main=True),
        ("update", {"display_id": "d", "result": {"is_main_result": False, "text": "new"}}), ("update", {"display_id": "unknown", "result": {"is_main_result": False, "text": "no"}}),
    )  # fmt: skip
    assert [(item["text"], item["is_main_result"]) for item in made["results"]] == [("new", False), ("other", False), ("new", True)]


def test_clearing_now_and_before_the_next_output():
    outputs = [("stdout", {"text": "a"}), ("stderr", {"text": "b"}), result("c"), ("error", {"error": {"name": "E"}})]
    made = fold(*outputs, ("clear", {"wait": False}))
    assert (made["logs"], made["results"], made["error"]) == ({"stdout": [], "stderr": []}, [], None)
    made = fold(*outputs, ("clear", {"wait": True}))
    assert (made["logs"]["stdout"], len(made["results"])) == (["a"], 1)
    made = fold(*outputs, ("clear", {"wait": True}), ("stdout", {"text": "new"}))
    assert (made["logs"], made["results"], made["error"]) == ({"stdout": ["new"], "stderr": []}, [], None)
    made = fold(*outputs, ("clear", {"wait": True}), END)
    assert made["logs"]["stdout"] == ["a"]


def test_a_cut_is_shown_where_it_is():
    made = fold(("stdout", {"text": "head"}), ("truncated", {"stream": "stdout", "bytes": 5}), ("stdout", {"text": "tail"}))
    assert made["logs"]["stdout"] == ["head\n[... 5 bytes cut ...]\ntail"]


def test_carriage_returns_across_events():
    assert fold(("stdout", {"text": "10%"}), ("stdout", {"text": "\r20%"}), ("stdout", {"text": "\r"}), ("stdout", {"text": "ok!\n"}))[
        "logs"
    ]["stdout"] == ["ok!\n"]


def test_the_first_error_is_the_error():
    assert fold(("error", {"error": {"name": "A"}}), ("error", {"error": {"name": "B"}}))["error"] == {"name": "A"}


kinds = st.sampled_from(
    [
        "stdout",
        "stderr",
        "result",
        "update",
        "clear",
        "error",
        "truncated",
        "started",
        "end",
        "gap",
        "input_request",
        "input_reply",
        "kernel",
        "unheard_of",
    ]
)


@given(st.lists(kinds, max_size=30))
def test_any_row_of_events_makes_a_result(row):
    fields = {
        "text": "t", "result": {"is_main_result": False}, "display_id": "d", "wait": True, "error": {"name": "E"}, "stream": "stdout", "bytes": 1, "execution_count": None, "fresh_kernel": None,
    }  # fmt: skip
    made = fold(QUEUED, *((kind, fields) for kind in row))
    assert made["last_seq"] == len(row) + 1
    assert set(made["logs"]) == {"stdout", "stderr"}
    assert isinstance(made["text"], str)


def test_times():
    assert timestamp(None) is None
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1700000000.1234) == "2023-11-14T22:13:20.123Z"
