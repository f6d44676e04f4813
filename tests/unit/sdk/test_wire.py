import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.sdk import _wire, errors

TEXT = "line\u2028separator, next\u0085line, tab\tand é"


def fed(*pieces):
    records = _wire.Records()
    return [record for piece in pieces for record in records.feed(piece)]


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=20), max_size=3), max_size=6),
    st.lists(st.integers(1, 30), max_size=40),
)
def test_records_come_whole_however_the_bytes_are_cut(records, cuts):
    data = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(data[start : start + cut])
        start += cut
    assert fed(*pieces, data[start:]) == records


def test_only_a_newline_ends_a_record():
    assert fed(json.dumps({"text": TEXT}, ensure_ascii=False).encode() + b"\n") == [{"text": TEXT}]


def test_a_record_without_its_newline_is_not_given():
    assert fed(b'{"a": 1}\n{"b": 2}') == [{"a": 1}]


def test_empty_lines_are_skipped():
    assert fed(b'\n\r\n{"a": 1}\n\n') == [{"a": 1}]


@pytest.mark.parametrize("line", [b"<html>", b"[1]", b'{"a": ', b"\xff"])
def test_a_line_that_is_no_record_is_not_from_kernelgate(line):
    with pytest.raises(errors.UnexpectedAnswer):
        fed(line + b"\n")


def test_an_answer_is_its_object():
    assert _wire.decode(b'{"a": 1}', status=200, request_id="r") == {"a": 1}
    assert _wire.decode(b"", status=204, request_id="r") == {}


def test_an_error_answer_raises_what_it_says():
    body = b'{"error": {"code": "session_not_found", "message": "no", "request_id": "r-9"}}'
    with pytest.raises(errors.SessionNotFound) as caught:
        _wire.decode(body, status=404, request_id="mine")
    assert caught.value.request_id == "r-9"


@pytest.mark.parametrize(
    ("content", "status", "cls"),
    [
        (b"<html>bad gateway</html>", 502, errors.ServerUnavailable),
        (b"<html>not here</html>", 404, errors.UnexpectedAnswer),
        (b'{"detail": "x"}', 400, errors.UnexpectedAnswer),
        (b"[1, 2]", 200, errors.UnexpectedAnswer),
        (b"hello", 200, errors.UnexpectedAnswer),
    ],
)
def test_an_answer_of_someone_else_is_told_as_such(content, status, cls):
    with pytest.raises(cls):
        _wire.decode(content, status=status, request_id="r")


def test_query_leaves_out_what_is_none():
    assert _wire.query({"a": None, "wait": False, "n": 3, "label": ["x=1", "y=2"]}) == {
        "wait": ["false"],
        "n": ["3"],
        "label": ["x=1", "y=2"],
    }


def test_an_id_cannot_lead_out_of_its_place_in_the_path():
    assert _wire.quoted("a/../b?c#d e") == "a%2F..%2Fb%3Fc%23d%20e"
    for bad in ("", ".", ".."):
        with pytest.raises(errors.InvalidUse):
            _wire.quoted(bad)


def test_ids_are_new_and_fit_for_the_server():
    made = {_wire.new_id("x-") for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(one) == 34 and one.startswith("x-") for one in made)
