from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernelgate.protocol import event as events

any_text = st.text(alphabet=st.characters())  # half surrogates, too
ids = st.none() | st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)


@given(st.integers(1, 2**53), ids, st.sampled_from(["stdout", "end", "queued"]), any_text)
@example(1, None, "stdout", "\u2028\u2029\x85\x0b\x0c\r\n")
@example(1, "a", "stdout", "\\ud800 \ud83c\udf88 \U0001f388 \ud800\\")
def test_a_line_is_ascii_and_comes_back(seq, execution_id, kind, text):
    line = events.encode(seq, execution_id, kind, 1234.5678901, {"text": text})
    assert line.isascii()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert len(line.splitlines()) == 1
    decoded = events.decode(line)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert decoded == {"seq": seq, "execution_id": execution_id, "type": kind, "time": 1234.56789, "text": whole}
    # Strict readers take it as well.
    json.dumps(decoded, ensure_ascii=False).encode("utf-8")
    assert events.seq_of(line) == seq
    assert events.type_of(line) == kind
    if execution_id is not None:
        assert events.belongs(line, events.marker(execution_id))
        assert not events.belongs(line, events.marker(execution_id + "x"))


def test_ids_that_begin_alike_are_told_apart():
    line = events.encode(7, "ab", "end", 0, {})
    assert not events.belongs(line, events.marker("a"))
    assert not events.belongs(events.encode(7, None, "kernel", 0, {"text": ',"execution_id":"a","'}), events.marker("a"))


def test_numbers_that_json_has_not_become_null():
    line = events.encode(1, None, "result", 0, {"a": [float("nan"), (float("inf"), 1.5)], "b": {1: -float("inf")}})
    assert events.decode(line) | {"time": 0} == {
        "seq": 1,
        "execution_id": None,
        "type": "result",
        "time": 0,
        "a": [None, [None, 1.5]],
        "b": {"1": None},
    }


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"[]\n", b"{}\n", b'{"seq":"1","type":"end"}\n', b'{"seq":1}\n', b"nonsense", b'{"seq":1,"type":"end"']
)
def test_what_is_no_event(line):
    with pytest.raises(ValueError):  # noqa: PT011
        events.decode(line)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"type":"end","seq":1}', b'{"seq":x,', b'{"seq":' + b"1" * 100])
def test_what_has_no_number(line):
    with pytest.raises(ValueError):  # noqa: PT011
        events.seq_of(line)
    assert events.type_of(line) == ""
